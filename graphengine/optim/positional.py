"""Configurations whose fields may also be given by position."""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = ["Positional"]


class Positional:
    """A mixin for configurations: values without a name go to the fields in the order in which these are declared."""

    model_fields: ClassVar[dict[str, Any]]

    def __init__(self, *values: Any, **fields: Any) -> None:
        names = [name for name in type(self).model_fields if name != "kind"]
        if len(values) > len(names):
            raise TypeError(f"{type(self).__name__} takes {', '.join(names)}, and {len(values)} values are given")
        twice = fields.keys() & names[: len(values)]
        if twice:
            raise TypeError(f"{type(self).__name__}: {min(twice)} is given both by position and by name")
        super().__init__(**dict(zip(names, values, strict=False)), **fields)
