"""Python runs this at its start where this folder is in PYTHONPATH: child processes get the stand-in's names of hosts."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("_stand_in_names", Path(__file__).parents[1] / "names.py")
assert _spec is not None and _spec.loader is not None
_names = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_names)
_names.install()
