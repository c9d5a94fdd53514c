"""From the attributes of a node, or the fields of a section, to the frozen object that they configure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails

from graphengine.errors import SpecError
from graphengine.ir.graph import Graph
from graphengine.ir.init import usual
from graphengine.ir.leaf import Constant, Parameter
from graphengine.ir.op import Op, plain
from graphengine.ir.spec.document import Place, check_keys, expect, shown
from graphengine.ir.tagged import Configuration, Tagged
from graphengine.ir.types import Array, DType


def _given(value: Any, info: ValidationInfo) -> Any:
    return (info.context or {}).get(info.field_name, value)


InnerGraph = Annotated[Graph, BeforeValidator(_given), PlainSerializer(lambda graph: graph.name)]
"""A graph as an attribute, as the body of a loop is. It is in the document's `graphs`, and here by its name."""

_MAX_LENGTH = 2**18
"""The maximum length of a node's attributes, as text; what is longer is a constant."""

Fields = TypeVar("Fields", bound=Configuration)
Size = Annotated[int, Field(ge=0)]


class StoredConstant(Configuration):
    """A constant whose elements are in the file beside the document."""

    dtype: DType
    shape: tuple[Size, ...]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class EmptyConstant(Configuration):
    """A constant without elements, of which nested lists would not tell the shape."""

    dtype: DType
    shape: tuple[Size, ...]
    value: tuple[()]


@cache  # by classes
def graph_fields(kind: type[Configuration]) -> tuple[str, ...]:
    """The attributes that are graphs."""
    return tuple(name for name, field in kind.model_fields.items() if field.annotation is Graph)


def read_op(
    kind: type[Op], attributes: dict[str, Any], place: Place, array: Array | None, graphs: Mapping[str, Graph]
) -> Op:
    """The op of these attributes; `graphs` are those that are graphs, `array` is from the file beside the document."""
    name = kind.model_fields["kind"].default
    if not attributes and _field_names(kind) == ((), ()):
        return plain(name)
    what = f"op {name!r}"
    if kind is Constant and "sha256" in attributes:
        return _stored(read_fields(StoredConstant, attributes, place, what), array, place)
    if kind is Constant and "shape" in attributes:
        return _empty(read_fields(EmptyConstant, attributes, place, what), place)
    if kind is Parameter and "init" not in attributes:
        shape = expect(attributes.get("shape", []), list, place, "shape")
        attributes = {**attributes, "init": {"kind": usual(shape).kind}}
    return read_fields(kind, attributes, place, what, graphs)


def read_fields(
    kind: type[Fields], values: Any, place: Place, what: str, graphs: Mapping[str, Graph] | None = None
) -> Fields:
    """An instance of `kind` with these fields; the SpecError of wrong ones names the deepest place at fault."""
    required, optional = _field_names(kind)
    check_keys(values, required, optional, place, what)
    text = json.dumps({**values, **dict.fromkeys(graphs)} if graphs else values)
    if len(text) > _MAX_LENGTH and kind is not Constant:
        raise place.fault(f"the attributes take {len(text):,} characters", "hold large arrays as constants")
    try:
        return kind.from_json_text(text, graphs)
    except ValidationError as error:
        raise _first_fault(error, values, place, what) from None


@cache  # by classes
def _field_names(kind: type[Configuration]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = [name for name in kind.model_fields if name != "kind" or not issubclass(kind, Tagged)]
    required = tuple(name for name in names if kind.model_fields[name].is_required())
    return required, tuple(name for name in names if name not in required)


def _stored(stored: StoredConstant, array: Array | None, place: Place) -> Constant:
    remedy = "save the graph again, which writes the document and the file of its constants together"
    if array is None:
        raise (place / "sha256").fault("its elements are not beside the document", remedy)
    if (array.dtype.name, array.shape) != (stored.dtype, stored.shape):
        actual = f"{array.dtype.name}{list(array.shape)}"
        message = f"the file beside the document holds {actual}, and not {stored.dtype}{list(stored.shape)}"
        raise (place / "shape").fault(message, remedy)
    op = Constant(value=array, dtype=stored.dtype)
    if op.digest() != stored.sha256:
        message = f"the file beside the document holds elements of SHA-256 {op.digest()}, and not {stored.sha256}"
        raise (place / "sha256").fault(message, remedy)
    return op


def _empty(empty: EmptyConstant, place: Place) -> Constant:
    if 0 not in empty.shape:
        message = f"no elements are given, and shape {list(empty.shape)} has some"
        raise (place / "shape").fault(message, "leave the shape out, and write the elements")
    try:
        return Constant(value=np.empty(empty.shape), dtype=empty.dtype)
    except ValueError as error:
        raise (place / "shape").fault(f"no array has this shape: {error}", "write a smaller shape") from None


def _first_fault(error: ValidationError, values: Any, place: Place, what: str) -> SpecError:
    """The fault that lies deepest; of a value that may be several things, what each would need to be."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    found = [(*_descend(values, place, detail["loc"]), detail) for detail in details]
    value, at, _ = max(found, key=lambda fault: fault[1].pointer.count("/"))
    said = dict.fromkeys(_say(detail) for _, place, detail in found if place == at)
    message = f"{what}: {', or '.join(list(said)[:3])}; it is {shown(value)}"
    return at.fault(message, "`graphengine schema` describes what may stand here")


def _descend(value: Any, place: Place, path: tuple[int | str, ...]) -> tuple[Any, Place]:
    """As far into `value` as `path` leads; pydantic puts the alternatives that it has tried into it, too."""
    for step in path:
        if step in value if isinstance(value, dict) else isinstance(value, list) and isinstance(step, int):
            value, place = value[step], place / step
    return value, place


def _say(detail: ErrorDetails) -> str:
    if detail["type"] == "missing":
        return f"it lacks the field {detail['loc'][-1]!r}"
    if detail["type"] == "extra_forbidden":
        return "there is no such field"
    return detail["msg"].removeprefix("Value error, ").replace("Input should be", "it should be")
