"""Arguments of public functions: a plain Python error that a wrong one leads to becomes an error that names it.

Nothing is checked before a function fails, so checking takes no time. Then its arguments are held against its
annotations; if all of them fit, the error is another's, a user's function for example, and stays as it is.
"""

from __future__ import annotations

import collections.abc
import inspect
import os
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from itertools import islice
from numbers import Integral, Real
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from graphengine.errors import GraphEngineError, UnknownAttributeError, UsageError
from graphengine.ir.dims import Dim
from graphengine.ir.names import instead_of_argument
from graphengine.ir.node import Node, Operand
from graphengine.wording import shown

_Function = TypeVar("_Function", bound=Callable[..., Any])

_LOOKED_AT = 20
"""How many elements of a list are held against its annotation."""

_WORDS: dict[object, str] = {
    Operand: "a node, a number or an array",
    Dim: "an int or the name of a dim",
    int: "an int",
    float: "a number",
    str: "a string",
    bool: "True or False",
    type(None): "None",
    os.PathLike: "a path",
}


def checked(function: _Function) -> _Function:
    """`function`, which says of a wrong argument what is needed; as a decorator, too."""

    @wraps(function)
    def call(*values: Any, **named: Any) -> Any:
        try:
            return function(*values, **named)
        except (GraphEngineError, TypeError, AttributeError, ValueError, LookupError, ArithmeticError) as error:
            is_plain = not isinstance(error, GraphEngineError) or isinstance(error, UsageError | UnknownAttributeError)
            fault = _first_fault(function, values, named, is_plain)
            if fault is None:
                raise
        raise fault

    return call  # type: ignore[return-value]  # it takes and returns what the function does


_public: dict[Callable[..., Any], Callable[..., Any]] = {}
"""By function what is public: the same object in all modules that have it."""


def check_public(module: dict[str, Any], names: Iterable[str]) -> None:
    """Let those of `names` that are functions of `module` be checked, wherever they are defined."""
    for name in names:
        function = module[name]
        if isinstance(function, types.FunctionType) and "__wrapped__" not in vars(function):
            module[name] = _public.setdefault(function, checked(function))
            module[name].__module__ = module["__name__"]  # where pickle finds it


def _first_fault(
    function: Callable[..., Any], values: Sequence[Any], named: Mapping[str, Any], is_plain: bool
) -> UsageError | None:
    """What is wrong with the arguments, None if they are what the annotations say.

    Where the error is not a plain one of Python, it is told instead, unless an argument is no object of ours.
    """
    signature = inspect.signature(function)
    what = function.__qualname__.replace("Graph.", "graph.").replace("Executable.", "exe.")
    try:
        given = signature.bind(*values, **named).arguments
    except TypeError:
        return UsageError(f"{what}: {_unbound(what, signature, values, named)}")
    try:
        hints = get_type_hints(function)
    except NameError:  # an annotation of a name that only type checkers see
        return None
    for name, value in given.items():
        hint, several = hints.get(name, Any), signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
        for place, one in enumerate(value if several else [value]):
            if (is_plain or _is_ours(hint)) and not _fits(one, hint):
                place_name = f"{name}[{place}]" if several else name
                return UsageError(
                    f"{what}: {place_name} must be {_described(hint)}, not {shown(one)}{_remedy(one, hint)}"
                )
    return None


def _is_ours(hint: Any) -> bool:
    """Whether an annotation asks for objects of this package, or for functions, and for nothing else."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return all(
        option is type(None)
        or get_origin(option) is collections.abc.Callable
        or getattr(option, "__module__", "").startswith("graphengine.")
        for option in options
    )


def _unbound(what: str, signature: inspect.Signature, values: Sequence[Any], named: Mapping[str, Any]) -> str:
    """What is wrong with the number or the names of the arguments."""
    parameters = {name: one for name, one in signature.parameters.items() if name != "self"}
    for name, value in named.items():
        if name not in parameters:
            return f"there is no argument {shown(name)}{instead_of_argument(name, value, list(parameters))}"
    by_position = [name for name, one in parameters.items() if one.kind < inspect.Parameter.VAR_POSITIONAL]
    given = by_position[: len(values) - ("self" in signature.parameters)]
    needed = [name for name, one in parameters.items() if one.default is one.empty and one.kind != one.VAR_POSITIONAL]
    missing = [name for name in needed if name not in (*given, *named)]
    if missing:
        call = ", ".join(name if name in by_position else f"{name}=..." for name in needed)
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; write {what}({call})"
    twice = [name for name in given if name in named]
    if twice:
        return f"{twice[0]} is given both by position and by name"
    rest = [f"{name}=..." for name in parameters if name not in by_position]
    return f"it takes {', '.join(by_position)} by position, and {', '.join(rest) or 'nothing'} by name"


def _fits(value: Any, hint: Any) -> bool:
    """Whether `value` is what the annotation `hint` says; True where that cannot be told."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any or isinstance(hint, TypeVar):
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Annotated:
        return _fits(value, inner[0])
    if origin is Literal:
        return any(value is one or (type(value) is type(one) and value == one) for one in inner)
    if origin is collections.abc.Callable or hint is Callable:
        return callable(value) and not isinstance(value, Node)
    if isinstance(origin, type):
        return isinstance(value, origin) and not isinstance(value, str | Node) and _holds(value, origin, inner)
    if hint is None:
        return value is None
    if not isinstance(hint, type) or getattr(hint, "_is_protocol", False):
        return True
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    return isinstance(value, hint) or (hint is bool and isinstance(value, np.bool_))


def _holds(value: Any, origin: type, inner: Sequence[Any]) -> bool:
    """Whether the first elements of a list, a tuple or a mapping are what the annotation says."""
    if issubclass(origin, Mapping):
        return all(_fits(key, inner[0]) and _fits(one, inner[1]) for key, one in islice(value.items(), _LOOKED_AT))
    if origin is tuple and inner[-1:] != (...,):
        return len(value) == len(inner) and all(map(_fits, value, inner))
    return not isinstance(value, Sequence) or all(_fits(one, inner[0]) for one in value[:_LOOKED_AT])


def _described(hint: Any) -> str:
    """What an annotation asks for, for people."""
    origin, inner = get_origin(hint), get_args(hint)
    word = next((text for known, text in _WORDS.items() if known == hint), None)
    if word or origin is os.PathLike:
        return word or _WORDS[os.PathLike]
    if origin in (Union, types.UnionType):
        told = [one for one in inner if not getattr(get_origin(one) or one, "_is_protocol", False)]
        words = list(dict.fromkeys(map(_described, told)))
        words = [text for text in words if text != "None"] + ["None"] * ("None" in words)
        return ", ".join(words[:-1]) + f" or {words[-1]}" if len(words) > 1 else words[0]
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin is collections.abc.Callable or hint is Callable:
        return "a function"
    if isinstance(origin, type):
        return "a mapping by name" if issubclass(origin, Mapping) else f"a list, each item {_described(inner[0])}"
    name = getattr(hint, "__name__", str(hint)).lower()
    return f"{'an' if name[0] in 'aeio' else 'a'} {name}"


def _remedy(value: Any, hint: Any) -> str:
    """What to write instead of a value that does not fit."""
    from graphengine.words import for_value

    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next(filter(None, (for_value(value, option) for option in options)), "")
