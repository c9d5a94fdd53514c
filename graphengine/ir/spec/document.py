"""A document, strictly: from text to JSON values, or one SpecError that says where, in which node, and what to do."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import accumulate
from operator import truediv
from typing import Any

from graphengine.errors import SpecError
from graphengine.file_kinds import what_it_is
from graphengine.ir.limits import Limits
from graphengine.ir.names import did_you_mean
from graphengine.where import Where
from graphengine.wording import cut, printable

FORMAT = "graphengine"
VERSION = 1

_NODE = re.compile("(/graphs/[^/]*)?/nodes/")
_MESSAGE_LENGTH = 400
_VALUE_LENGTH = 80
_OPEN_AND_CLOSED = dict(zip(b"[{]}", (1, 1, -1, -1), strict=True))
_ALL_ELSE = bytes(set(range(256)) - set(_OPEN_AND_CLOSED))


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a document: the file, a JSON pointer into it (RFC 6901), and the node that is there."""

    file: str
    pointer: str = ""
    node: str | None = None

    def __truediv__(self, token: str | int) -> Place:
        escaped = str(token).replace("~", "~0").replace("/", "~1")
        return Place(self.file, f"{self.pointer}/{escaped}", self.node)

    def __str__(self) -> str:
        return f"{self.file}#{printable(self.pointer)}"

    def where(self) -> Where:
        """This place, as nodes that are declared here have it."""
        return Where(self.file, self.pointer)

    def fault(self, message: str, remedy: str, context: Sequence[str] = ()) -> SpecError:
        """The error of a wrong value at this place."""
        error = SpecError(cut(printable(message), _MESSAGE_LENGTH))
        node = [] if context or self.node is None else [f"node  {printable(self.node)}"]
        lines = [*node, *context, f"at {self}", f"remedy: {remedy}"]
        error.quote(*(cut(line, _MESSAGE_LENGTH) for line in lines))
        return error


def parse(text: object, place: Place, limits: Limits) -> Any:
    """The values of a JSON text, all of them what the text says: no key twice, no NaN, no number beyond 64 bits."""
    text = _decode(text, place, limits)
    parts = re.sub(r"\\.", "", text, flags=re.DOTALL).split('"')  # every second one is a string
    _check_structure("".join(parts[::2]), place, limits)
    has_long_text = max(map(len, parts[1::2]), default=0) > limits.text_length
    hooks = _Hooks(limits)
    try:
        value = json.loads(
            text,
            object_pairs_hook=hooks.read_object,
            parse_float=hooks.read_float,
            parse_int=hooks.read_int,
            parse_constant=hooks.read_constant,
        )
    except json.JSONDecodeError as error:
        _check_kind(text.encode(), place)
        at = f"line {error.lineno}, column {error.colno}"
        raise place.fault(f"not JSON: {error.msg}, at {at}", f"correct the text at {at}") from None
    if hooks.faults or has_long_text or r"\u" in text or not text.isascii():
        _raise_first_fault(value, place, limits)
    return value


def expect(value: Any, kind: type[Any], place: Place, *tokens: str | int) -> Any:
    """`value`, found at `tokens` below `place`, which must be exactly of the JSON type of `kind`."""
    if type(value) is not kind:
        name = {dict: "an object", list: "a list", str: "a string", int: "an integer"}[kind]
        raise reduce(truediv, tokens, place).fault(f"{name} is needed, not {shown(value)}", f"write {name} here")
    return value


def check_keys(value: Any, required: Iterable[str], optional: Iterable[str], place: Place, what: str) -> None:
    """Raise unless `value` is an object with all of the `required` keys, and no others than the `optional` ones."""
    expect(value, dict, place)
    required = list(required)
    known = [*required, *optional]
    for key in value:
        if key not in known:
            message = f"{what} has no field {shown(key)}{did_you_mean(key, known)}"
            raise (place / key).fault(message, "correct the name, or take the field out")
    for key in required:
        if key not in value:
            raise place.fault(f"{what} lacks its field {key!r}", f"add {key!r}")


def shown(value: Any) -> str:
    """A JSON value in a message: on one line, and not at length."""
    return cut(json.dumps(value, default=repr), _VALUE_LENGTH)


@dataclass(slots=True)
class _Fault:
    """What replaces a value that is no value, until its pointer is known."""

    message: str
    remedy: str


@dataclass(slots=True)
class _Hooks:
    """What `json` calls for the values that it would take too lightly."""

    limits: Limits
    faults: list[_Fault] = field(default_factory=list)

    def read_object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            count = Counter(key for key, _ in pairs)
            twice = next(key for key, _ in pairs if count[key] > 1)
            result[twice] = self._fault(f"the key {shown(twice)} stands twice in one object", "keep one of the two")
        return result

    def read_float(self, text: str) -> Any:
        refusal = self.limits.refusal("number_length", len(text))
        if refusal:
            return self._fault(*refusal)
        value = float(text)
        return value if math.isfinite(value) else self._beyond(text)

    def read_int(self, text: str) -> Any:
        refusal = self.limits.refusal("number_length", len(text))
        if refusal:
            return self._fault(*refusal)
        value = int(text) if len(text) <= 20 else 2**64
        return value if -(2**63) <= value < 2**63 else self._beyond(text)

    def read_constant(self, text: str) -> Any:
        return self._fault(f"{text} is not JSON", f'write it as the string "{text}", in the value of a float constant')

    def _beyond(self, text: str) -> _Fault:
        message = f"the number {cut(text, 30)} is beyond 64 bits"
        return self._fault(message, "write a number that an int64 or a float64 holds")

    def _fault(self, message: str, remedy: str) -> _Fault:
        self.faults.append(_Fault(message, remedy))
        return self.faults[-1]


def _decode(text: object, place: Place, limits: Limits) -> str:
    if not isinstance(text, str | bytes):
        raise place.fault(f"a document is text, not {type(text).__name__}", "give the JSON text as str or bytes")
    if len(text) > limits.document_bytes:  # a file that is longer is not read to its end
        _check_kind(text[:16] if isinstance(text, bytes) else text[:16].encode(), place)
        check_limit(limits, "document_bytes", None, place)
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
    except UnicodeDecodeError as error:
        _check_kind(error.object, place)
        message = f"not UTF-8: byte {error.object[error.start]:#04x} at offset {error.start}"
        raise place.fault(message, "save the document as UTF-8") from None
    if decoded.startswith("\ufeff"):
        raise place.fault("the document begins with a byte order mark", "save it as UTF-8 without one")
    if not decoded.strip():
        raise place.fault("the document is empty", "write a graph to it by Graph.save")
    return decoded


def check_limit(limits: Limits, name: str, found: int | None, place: Place) -> None:
    """Raise if `found` is over the limit `name`, as None is over every limit."""
    refusal = limits.refusal(name, found)
    if refusal:
        raise place.fault(*refusal)


def _check_kind(text: bytes, place: Place) -> None:
    """Raise if what is no document is known to be something else."""
    kind = None if text.lstrip()[:1] == b"{" else what_it_is(place.file, text[:16])
    if kind:
        raise place.fault(
            f"the file is no document of a graph: it is {kind}", "give a document, as Graph.save writes it"
        )


def _check_structure(outside: str, place: Place, limits: Limits) -> None:
    """Raise before the text is parsed if that would take much memory, or recur deeply; strings are left out of it."""
    check_limit(limits, "values", sum(map(outside.count, "[{,")), place)
    brackets = outside.encode("utf-8", "replace").translate(None, _ALL_ELSE)
    depth = max(accumulate(map(_OPEN_AND_CLOSED.__getitem__, brackets)), default=0)
    check_limit(limits, "depth", depth, place)


def _raise_first_fault(value: Any, place: Place, limits: Limits) -> None:
    """Walk the values in the order of the text, without recursion, and raise at the first that is a fault."""
    pending: list[tuple[Any, Place]] = [(value, place)]
    while pending:
        value, place = pending.pop()
        if isinstance(value, _Fault):
            raise place.fault(value.message, value.remedy)
        if isinstance(value, str):
            _check_string(value, place, limits)
        elif isinstance(value, list):
            pending += reversed([(item, place / index) for index, item in enumerate(value)])
        elif isinstance(value, dict):
            if _NODE.match(place.pointer) and place.node is None and isinstance(value.get("name"), str):
                place = Place(place.file, place.pointer, value["name"])
            for key in value:
                _check_string(key, place, limits)
            pending += reversed([(item, place / key) for key, item in value.items()])


def _check_string(text: str, place: Place, limits: Limits) -> None:
    check_limit(limits, "text_length", len(text), place)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise place.fault(f"{shown(text)} holds half of a surrogate pair", "write whole characters")
