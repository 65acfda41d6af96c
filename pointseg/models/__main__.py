"""List the models: parameters, multiply-adds, time and memory of a scan on this machine, and the paper.

  python -m pointseg.models                                  every option of model=..., each in a process of its own
  python -m pointseg.models measure=false                    parameters and papers alone, at once
  python -m pointseg.models names=[frnet_small,waffleiron_small] points=60000 output=models.json
  python -m pointseg.models --config-dir DIR names=[mine]    a network of your own: DIR/model/mine.yaml
  python -m pointseg.models 'features.use=[x,y,z,remission,range]' features.knots=[]     the inputs of most papers

Weights are drawn at random: what is measured is how a scan is predicted, on the processor, as `predict` does it. The
numbers are of an idle machine only if nothing else runs on it; OMP_NUM_THREADS sets the threads.
"""

from __future__ import annotations

from pointseg.cli import run


def main() -> None:
    """Entry point of `python -m pointseg.models`."""
    run("models", __doc__ or "")


if __name__ == "__main__":
    main()
