"""The JSON form of a graph."""

from graphengine.ir.spec.io import digest, from_json, json_schema, load, save, to_json

__all__ = ["digest", "from_json", "json_schema", "load", "save", "to_json"]
