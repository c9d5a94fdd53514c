"""Frozen pydantic classes told apart by their `kind`: ops, initializers, optimizers, schedules."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from graphengine.errors import AttributeValueError


class Tagged(BaseModel):
    """The root of a closed family: subclasses that give `kind` a default are registered under it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    registry: ClassVar[dict[str, type[Any]]] = {}
    kind: str

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise AttributeValueError(f"{type(self).__name__}: {first_fault(error)}") from None

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
        return known.model_validate(value)  # type: ignore[no-any-return]


def first_fault(error: ValidationError) -> str:
    """The first thing that pydantic found wrong, as one line: field, what is wrong, the value."""
    fault = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, fault["loc"]))
    value = repr(fault["input"])
    value = value if len(value) <= 60 else value[:57] + "..."
    return f"{place + ': ' if place else ''}{fault['msg']} (was {value})"
