"""How properties are tried: slowness is no fault, and where CI is set the same examples are tried each time."""

import os
import signal

from hypothesis import settings

os.environ.pop("COLUMNS", None)  # pytest-xdist sets it: what is shown has the width that a pipe has
settings.register_profile("graphengine", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("graphengine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell; tests and their processes send it
    signal.signal(signal.SIGINT, signal.default_int_handler)
