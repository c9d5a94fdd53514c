"""How properties are tried: slowness is no fault, and where CI is set the same examples are tried each time."""

import os

from hypothesis import settings

os.environ.pop("COLUMNS", None)  # pytest-xdist sets it: what is shown has the width that a pipe has
settings.register_profile("graphengine", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("graphengine")
