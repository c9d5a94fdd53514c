"""What nodes, outputs and graphs may be called, and what to say of a name that nothing has."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from heapq import nlargest
from itertools import count, islice
from typing import Any, NoReturn

from graphengine.errors import NamingError, UnknownAttributeError
from graphengine.wording import shown

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
NAME_LENGTH = 128

_COMPARED = 16
"""How many names are compared with one that is not known, letter by letter."""


def check_name(name: object) -> str:
    """`name`, if nodes, outputs and graphs may have it; raise NamingError otherwise."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise NamingError(f"not a name: {name!r}; letters, digits and _ in parts joined by dots, a letter or _ first")
    if len(name) > NAME_LENGTH:
        raise NamingError(f"a name has at most {NAME_LENGTH} characters, and {name[:20]}... has {len(name)}")
    if "__" in name and any(part.startswith("__") and part.endswith("__") for part in name.split(".")):
        raise NamingError(f"a name has no part in double underscores, as {name!r} has")
    return name


def did_you_mean(name: str, known: Mapping[str, object] | Sequence[str]) -> str:
    """What to say after a name that is not known: the nearest that is, or all when they are few."""
    if len(str(name)) > NAME_LENGTH:
        return ""
    near = difflib.get_close_matches(str(name), _likely(str(name), known), n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; there are {', '.join(known)}" if 0 < len(known) <= 12 else ""


def _likely(name: str, known: Iterable[str]) -> list[str]:
    """Those of the first 5,000 `known` names with most of the letters of `name`: to compare two takes long."""
    letters = Counter(name)

    def alike(other: str) -> float:
        return (letters & Counter(other)).total() / (len(name) + len(other))

    return nlargest(_COMPARED, (other for other in islice(known, 5000) if 0 < len(other) <= NAME_LENGTH), key=alike)


def instead_of_argument(name: str, value: object, known: Sequence[str]) -> str:
    """What to say after the name of an argument that is not among the `known` ones."""
    from graphengine.words import for_argument

    ours = for_argument(name[:NAME_LENGTH], known)
    if len(ours) == 1:
        return f"; write {ours[0]}={shown(value)}"
    return f"; write {' and '.join(ours)}" if ours else did_you_mean(name, known)


def unknown_in(module: str) -> Callable[[str], NoReturn]:
    """The `__getattr__` of a public module, `ge` itself for "", which says what to write for a name that it lacks."""

    def refuse(name: str) -> NoReturn:
        if name.startswith("_"):  # asked for by Python and by tools, to see whether it is there
            raise AttributeError(f"{module!r} has no attribute {name!r}")
        from graphengine.words import no_attribute

        raise UnknownAttributeError(no_attribute(module, name))

    return refuse


class Suggesting:
    """An object that says, of an attribute that it lacks, or that is not to be set, what to write."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if hasattr(type(self), name):  # a property, within which an attribute is missing
            return object.__getattribute__(self, name)
        if name.startswith("_"):  # asked for by Python and by tools, to see whether it is there
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise UnknownAttributeError(f"{shown(self)}: there is no attribute {shown(name)}{self._remedy(name)}")

    def __setattr__(self, name: str, value: object) -> None:
        try:
            object.__setattr__(self, name, value)
        except AttributeError:
            remedy = self._remedy(name, is_set=True)
            raise UnknownAttributeError(f"{shown(self)}: {shown(name)} cannot be set{remedy}") from None

    def _remedy(self, name: str, *, is_set: bool = False) -> str:
        from graphengine.words import remedy_of_object

        own = [known for known in dir(self) if not known.startswith("_")]
        return remedy_of_object(type(self), name, own, is_set=is_set) if len(name) <= NAME_LENGTH else ""


def free_name(stem: str, taken: Container[str], first: int = 2, *, bare: bool = True) -> str:
    """`stem` if it is not among `taken`, or the first of stem_`first`, ... that is not; without `bare` these alone."""
    if bare and stem not in taken:
        return stem
    return next(name for number in count(first) if (name := f"{stem}_{number}") not in taken)


def stream_of(name: str) -> int:
    """The number of the stream from which a node of this name draws; below 2^48, so that two are hardly ever equal."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6])
