"""The command line: `graphengine demo`, `train`, `predict`, `evaluate`, `validate`, `summary`, `lint`, `schema`."""

from graphengine.cli.commands import app, main

__all__ = ["app", "main"]
