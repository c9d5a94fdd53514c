"""The JSON form of a graph."""
