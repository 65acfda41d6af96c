"""`pointseg.core.errors`, under the name by which the code of models registered with version 0.1.0 knows it."""

from pointseg.core.errors import *  # noqa: F403
from pointseg.core.errors import __all__ as __all__
