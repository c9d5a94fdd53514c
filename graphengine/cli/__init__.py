"""The command line: `graphengine` with the commands `demo`, `reproduce`, `compare`, `train`, `predict`, `evaluate`,
`validate`, `summary`, `lint` and `schema`.
"""

from graphengine.cli.commands import app, main

__all__ = ["app", "main"]
