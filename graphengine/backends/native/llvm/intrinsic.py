"""Names that stand for LLVM code, which is written where a kernel calls them.

numba has a decorator of the same name. For every call of what it makes, numba looks through all that it knows of arrays
and other libraries for news; here the type of a name is all that there is to know of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import models, register_model, typeof_impl

Typed = tuple[Any, Callable[..., Any]]
"""What a call is: numba's signature, and what writes the code, of (numba's context, builder, *values)."""


class Intrinsic:
    """A name of kernels: `typed` says for the types of the arguments what a call is."""

    def __init__(self, name: str, typed: Callable[..., Typed]) -> None:
        self.name = name
        self.type = IntrinsicType(name, typed)

    def __call__(self, *arguments: Any) -> Any:
        """Kernels, which alone call it, are compiled."""
        raise NotImplementedError(f"{self.name} is a name of kernels alone")


def intrinsic(typed: Callable[..., Typed]) -> Intrinsic:
    """An intrinsic with the name of the function that types it."""
    return Intrinsic(typed.__name__, typed)


class IntrinsicType(types.Callable, types.Opaque):  # type: ignore[misc]  # numba has no types
    """What numba takes an intrinsic for: a type of its own for each."""

    def __init__(self, name: str, typed: Callable[..., Typed]) -> None:
        super().__init__(f"intrinsic {name}")
        self._typed = typed

    @property
    def key(self) -> Any:
        """What says that two are the same."""
        return self._typed

    def get_call_type(self, context: Any, arguments: Any, named: Any) -> Any:
        """The signature of a call."""
        return self._typed(*map(types.unliteral, arguments))[0]

    def get_call_signatures(self) -> tuple[list[Any], bool]:
        """No list of them: they follow from the arguments."""
        return [], True

    def get_impl_key(self, signature: Any) -> Any:
        """What the code of such a call is found by, among what numba keeps; nothing is kept there."""
        return self.key

    def writer(self, context: Any, signature: Any) -> Callable[[ir.IRBuilder, Any, Any], Any]:
        """What writes the code of a call for its values."""
        _, write = self._typed(*signature.args)

        def written(builder: ir.IRBuilder, values: Any, _: Any) -> Any:
            value = write(context, builder, *values)
            return context.get_dummy_value() if value is None else value

        return written


@typeof_impl.register(Intrinsic)
def _type_of(value: Intrinsic, _: Any) -> IntrinsicType:
    return value.type


register_model(IntrinsicType)(models.OpaqueModel)
