"""Frozen pydantic classes told apart by their `kind`: ops, initializers, optimizers, schedules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer
from pydantic_core import PydanticCustomError

from graphengine.errors import AttributeValueError


class Configuration(BaseModel):
    """Frozen fields; a wrong value raises AttributeValueError."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        defer_build=True,  # a class is built when first used, which makes the import of a hundred of them quick
    )

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise AttributeValueError(f"{type(self).__name__}: {first_fault(error)}") from None

    @classmethod
    def from_json_text(cls, fields: str, given: Mapping[str, object] | None = None) -> Self:
        """An instance from a JSON object of its fields, in which nothing is coerced: a bool is no int, "1" no number.

        `given` is the context of the validators, for fields that JSON does not hold as they are.
        Raises pydantic's ValidationError, which knows the place of the fault; `__init__` makes one message of it.
        """
        instance = cls.__new__(cls)
        cls.__pydantic_validator__.validate_json(fields, strict=True, context=given, self_instance=instance)
        return instance


class Tagged(Configuration):
    """The root of a closed family: subclasses that give `kind` a default are registered under it."""

    registry: ClassVar[dict[str, type[Any]]] = {}
    kind: str

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if Tagged in cls.__bases__:
            cls.registry = {}
        kind = cls.model_fields["kind"].default
        if not isinstance(kind, str):
            return
        taken = cls.registry.get(kind)
        if taken is not None and taken.__qualname__ != cls.__qualname__:
            raise TypeError(f"kind {kind!r} is taken by {taken.__name__}")
        cls.registry[kind] = cls

    @classmethod
    def of_kind(cls, value: Any) -> Self:
        """An instance from {"kind": ..., fields}; a pydantic validator for fields that hold a member of the family."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict) or "kind" not in value:
            raise PydanticCustomError("tagged", 'an object with a "kind" is needed')
        known = cls.registry.get(value["kind"]) if isinstance(value["kind"], str) else None
        if known is None:
            kinds = ", ".join(sorted(cls.registry))
            raise PydanticCustomError("kind", f"no kind {value['kind']!r}; there are {kinds}")
        try:
            text = json.dumps(value)
        except (TypeError, ValueError):
            raise PydanticCustomError("tagged", "JSON values are needed, or an instance") from None
        return known.from_json_text(text)  # type: ignore[no-any-return]  # the registry holds no types

    @model_serializer(mode="wrap")
    def _with_kind(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The fields with `kind` among them, though it is a default and defaults are left out."""
        return {"kind": self.kind, **handler(self)}


def first_fault(error: ValidationError) -> str:
    """The first thing that pydantic found wrong, as one line: field, what is wrong, the value."""
    fault = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, fault["loc"]))
    value = repr(fault["input"])
    value = value if len(value) <= 60 else value[:57] + "..."
    return f"{place + ': ' if place else ''}{fault['msg'].removeprefix('Value error, ')} (was {value})"
