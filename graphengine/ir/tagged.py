"""Frozen pydantic classes told apart by their `kind`: ops, initializers, optimizers, schedules."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from inspect import Parameter, Signature
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer
from pydantic_core import PydanticCustomError

from graphengine.errors import AttributeValueError, UnknownAttributeError
from graphengine.ir.names import did_you_mean, instead_of_argument
from graphengine.wording import shown


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
            raise AttributeValueError(f"{type(self).__name__}: {_first_fault(error, arguments(type(self)))}") from None

    def __setattr__(self, name: str, value: object) -> None:
        cls, known = type(self).__name__, arguments(type(self))
        remedy = f"; make another, {cls}(..., {name}=...)" if name in known else did_you_mean(name, known)
        raise UnknownAttributeError(f"{cls} never changes: {shown(name)} cannot be set{remedy}")

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
        if cls.__base__.__module__ == __name__:  # the root of a family
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
            raise PydanticCustomError("tagged", _needed(cls, value))
        known = cls.registry.get(value["kind"]) if isinstance(value["kind"], str) else None
        if known is None:
            kinds = sorted(cls.registry)
            near = did_you_mean(value["kind"], kinds) or f"; there are {', '.join(kinds)}"
            raise PydanticCustomError("kind", f"no kind {shown(value['kind'])}{near}")
        try:
            text = json.dumps(value)
        except (TypeError, ValueError):
            raise PydanticCustomError("tagged", "JSON values are needed, or an instance") from None
        return known.from_json_text(text)  # type: ignore[no-any-return]  # the registry holds no types

    @model_serializer(mode="wrap")
    def _with_kind(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The fields with `kind` among them, though it is a default and defaults are left out."""
        return {"kind": self.kind, **handler(self)}


class _SettingsType(type(BaseModel)):  # type: ignore[misc]  # the metaclass is not public in pydantic
    """Shows of a class what is its own: `help` and completion do not list pydantic's methods."""

    def __dir__(cls) -> list[str]:
        own = {k: v for base in cls.__mro__[: cls.__mro__.index(Settings)] for k, v in vars(base).items()}
        methods = [name for name in own if callable(own[name]) and not name.startswith(("_", "model_"))]
        return [*arguments(cls), *methods]

    @property
    def __signature__(cls) -> Signature:
        fields = cls.model_fields  # which know types that a function has defined; get_type_hints strips Annotated
        hints = get_type_hints(SimpleNamespace(__annotations__={name: fields[name].annotation for name in fields}))
        parameters = []
        for name in arguments(cls):
            kind = Parameter.KEYWORD_ONLY if fields[name].kw_only else Parameter.POSITIONAL_OR_KEYWORD
            default = Parameter.empty if fields[name].is_required() else fields[name].default
            parameters.append(Parameter(name, kind, annotation=hints[name], default=default))
        return Signature(parameters)

    @__signature__.setter
    def __signature__(cls, _: object) -> None:
        """Pydantic's own has keywords only, and `kind` among them."""


if TYPE_CHECKING:
    from typing_extensions import dataclass_transform  # typing's own knows frozen_default from Python 3.12 on

    @dataclass_transform(frozen_default=True, field_specifiers=(Field,))
    class Settings:
        """What type checkers see of the class below: fields, also by position, and not pydantic's own keywords."""

        registry: ClassVar[dict[str, type[Any]]]
        kind: str = Field(init=False)

        @classmethod
        def of_kind(cls, value: Any) -> Self:
            """An instance from {"kind": ..., fields}."""

        def model_dump(self, **how: Any) -> dict[str, Any]:
            """The fields as JSON values."""

else:

    class Settings(Tagged, metaclass=_SettingsType):
        """A tagged configuration whose fields are given by name, or by position in the order of declaration."""

        def __init__(self, *values: Any, **fields: Any) -> None:
            cls, known = type(self).__name__, type(self).model_fields
            names = [name for name in arguments(type(self)) if not known[name].kw_only]
            if len(values) > len(names):
                taken = ", ".join(names)
                raise AttributeValueError(f"{cls} takes {taken} by position, and {len(values)} values are given")
            twice = fields.keys() & names[: len(values)]
            if twice:
                raise AttributeValueError(f"{cls}: {min(twice)} is given both by position and by name")
            super().__init__(**dict(zip(names, values, strict=False)), **fields)


def arguments(cls: type[Any]) -> list[str]:
    """The names of the fields that a user gives, those that have no position last."""
    fields = cls.model_fields
    return sorted((name for name in fields if name != "kind"), key=lambda name: bool(fields[name].kw_only))


def _needed(family: type[Any], value: object) -> str:
    """What is needed where `value` is, which is no member of a family."""
    from graphengine.words import for_value

    if isinstance(value, dict):
        return 'an object with a "kind" is needed'
    name = family.__name__.lower()
    article = "an" if name[0] in "aeiou" else "a"
    return f'{article} {name} or an object with a "kind" is needed{for_value(value, family)}'


def _first_fault(error: ValidationError, known: Sequence[str]) -> str:
    """The first thing that pydantic found wrong, as one line: field, what is wrong, the value, the remedy."""
    faults = error.errors(include_url=False, include_context=False)
    fault = min(faults, key=lambda fault: fault["type"] != "extra_forbidden")  # one that is missing may be meant by it
    place = ".".join(map(str, fault["loc"]))
    if fault["type"] == "missing":
        return f"{place} is missing; write {place}=..."
    if fault["type"] == "extra_forbidden":
        return f"there is no argument {shown(place)}{instead_of_argument(place, fault['input'], known)}"
    told = fault["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    return f"{place + ': ' if place else ''}{told} (was {shown(fault['input'])})"
