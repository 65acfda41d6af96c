"""Makes the keys of pointseg's configurations known to every process that uses Hydra: Hydra imports this package's modules.

So `hydra.compose` in a notebook, or a program of your own, composes `configs/train.yaml` without calling pointseg first.
"""

from pointseg.cli.schema import register_schema

register_schema()
