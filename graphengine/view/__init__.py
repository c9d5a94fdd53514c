"""A graph, for people to read."""

from graphengine.view.lint import Finding, lint
from graphengine.view.summary import Row, Summary, summarize

__all__ = ["Finding", "Row", "Summary", "lint", "summarize"]
