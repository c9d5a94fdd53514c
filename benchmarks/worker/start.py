"""The script that an interpreter is started with: `python start.py PEER [THREADS]`."""

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    folder = Path(__file__).resolve().parent
    # The package is found by its folder, and what stands beside it is not: a peer may have modules of the same names.
    sys.path[0] = str(folder.parent)
    package = importlib.import_module(folder.name)
    del sys.path[0]
    importlib.import_module(f"{package.__name__}.serve").main(*sys.argv[1:])
