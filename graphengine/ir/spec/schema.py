"""The JSON Schema of documents, generated from the ops, initializers, optimizers and schedules that there are."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from graphengine.ir.leaf import Constant, Leaf, Parameter
from graphengine.ir.names import NAME, NAME_LENGTH
from graphengine.ir.op import Op
from graphengine.ir.spec.attributes import EmptyConstant, StoredConstant, graph_fields
from graphengine.ir.spec.document import FORMAT, VERSION
from graphengine.ir.spec.reader import GRAPH_SECTIONS, OPTIONAL_SECTIONS, PHASES, SECTIONS
from graphengine.ir.tagged import Configuration, Settings, Tagged
from graphengine.ir.training import Training
from graphengine.ir.types import DTYPES

Schema = dict[str, Any]

_NAME: Schema = {"$ref": "#/$defs/name"}
_NAME_SCHEMA: Schema = {"type": "string", "pattern": f"^{NAME.pattern}$", "maxLength": NAME_LENGTH}
_NAMES_OF_NODES: Schema = {"type": "object", "propertyNames": _NAME, "additionalProperties": _NAME}
_GRAPH: Schema = {
    "dtype": {"enum": sorted(DTYPES)},
    "nodes": {"type": "array", "items": {"$ref": "#/$defs/node"}},
    "outputs": _NAMES_OF_NODES,
}
_ELEMENTS: Schema = {
    "anyOf": [
        {"type": ["number", "boolean"]},
        {"enum": ["NaN", "Infinity", "-Infinity"]},
        {"type": "array", "items": {"$ref": "#/$defs/elements"}},
    ]
}


def json_schema() -> Schema:
    """The schema, of draft 2020-12: what it refuses is no graph; of what it admits, names and types must yet fit."""
    sections: Schema = {
        "format": {"const": FORMAT},
        "version": {"const": VERSION},
        "name": _NAME,
        **_GRAPH,
        "graphs": {"type": "object", "propertyNames": _NAME, "additionalProperties": {"$ref": "#/$defs/graph"}},
        "updates": _NAMES_OF_NODES,
        "training": {"$ref": "#/$defs/Training"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A graph of {FORMAT}, version {VERSION}",
        **_object({name: sections[name] for name in (*SECTIONS, *OPTIONAL_SECTIONS)}, list(SECTIONS)),
        "$defs": _definitions(),
    }


class _Generator(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        """A field is its own title."""
        return False

    def is_instance_schema(self, schema: Any) -> Schema:
        """An attribute that is no JSON value is a graph, as the body of a loop is."""
        return {}


def _definitions() -> Schema:
    families: list[type[Any]] = Settings.__subclasses__()
    members = [member for family in families for member in family.registry.values()]
    classes = [Training, *families, *members]
    keys, generated = models_json_schema([(cls, "validation") for cls in classes], schema_generator=_Generator)
    refs = {cls: reference for (cls, _), reference in keys.items()}
    defs: Schema = generated["$defs"]
    for member in members:
        schema = defs[_key(refs[member])]
        schema["properties"]["kind"] = {"const": _kind(member)}
        schema["required"] = ["kind", *schema.get("required", ())]
    for family in families:
        defs[_key(refs[family])] = {"anyOf": [refs[member] for _, member in sorted(family.registry.items())]}
    defs |= {f"op_{kind}": _op(op) for kind, op in sorted(Op.registry.items())}
    node = {"anyOf": [{"$ref": f"#/$defs/op_{kind}"} for kind in sorted(Op.registry)]}
    graph = _object(_GRAPH, list(GRAPH_SECTIONS))
    return {**defs, "graph": graph, "node": node, "name": _NAME_SCHEMA, "elements": _ELEMENTS}


def _op(op: type[Op]) -> Schema:
    """A node of this op: its name, its operands, its attributes."""
    node = _node(op, op)
    if op is not Constant:
        return node
    node["properties"]["value"] = {"$ref": "#/$defs/elements"}
    return {"anyOf": [node, _node(op, EmptyConstant), _node(op, StoredConstant)]}


def _node(op: type[Op], form: type[Configuration]) -> Schema:
    """A node of this op with its attributes in this form."""
    attributes = form.model_json_schema(schema_generator=_Generator)
    minimum, maximum = op.arity()
    inputs: Schema = {"type": "array", "items": _NAME, "minItems": minimum}
    properties: Schema = {"name": _NAME, "op": {"const": _kind(op)}}
    properties["inputs"] = inputs if maximum is None else {**inputs, "maxItems": maximum}
    properties["phase"] = {"enum": list(PHASES)}
    for name, schema in attributes["properties"].items():
        if name != "kind":
            properties[name] = _NAME if name in graph_fields(form) else schema
    given = {"kind"} | ({"dtype"} if issubclass(op, Leaf) else set()) | ({"init"} if op is Parameter else set())
    required = [name for name in attributes.get("required", ()) if name not in given]
    schema = _object(properties, ["name", "op", *(["inputs"] if minimum else []), *required])
    return {"description": (op.__doc__ or "").partition("\n")[0], **schema}


def _object(properties: Schema, required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _kind(member: type[Tagged]) -> str:
    return str(member.model_fields["kind"].default)


def _key(reference: Schema) -> str:
    return str(reference["$ref"]).rpartition("/")[2]
