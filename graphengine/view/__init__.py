"""A graph, for people to read."""

from graphengine.view.summary import Row, Summary, summarize

__all__ = ["Row", "Summary", "summarize"]
