"""The command line: `graphengine demo`, `train`, `predict`, `evaluate`, `validate`, `summary`, `schema`."""

from graphengine.cli.commands import app, main

__all__ = ["app", "main"]
