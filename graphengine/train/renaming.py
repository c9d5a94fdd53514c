"""Names of weights in one place, and what they are in another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphengine.errors import NamingError
from graphengine.ir.names import did_you_mean
from graphengine.wording import cut, printable, shown

Rename = Mapping[str, str | None]
"""What a name becomes, or None for what is left out. A key that ends in a dot, or the empty one, is a prefix."""


def renamed(names: Sequence[str], rename: Rename | None, owner: str) -> dict[str, str]:
    """Those of `names`, which `owner` has, by what they become; a whole name goes before a prefix, a long before a
    short one.
    """
    rename = {} if rename is None else rename
    if not isinstance(rename, Mapping):
        raise NamingError(f'rename is a mapping of names, as {{"module.": ""}} is, and not {shown(rename)}')
    for key, new in rename.items():
        if not isinstance(key, str) or not isinstance(new, str | None):
            raise NamingError(f"rename maps names to names or None, and not {shown(key)} to {shown(new)}")
        if not any(_matches(key, name) for name in names):
            known = [printable(cut(name), lines=False) for name in names[:5000]]
            raise NamingError(f"rename: {owner!r} has no weights {shown(key)}{did_you_mean(key, known)}")
    given: dict[str, str] = {}
    for name in names:
        keys = [key for key in rename if _matches(key, name)]
        key = max(keys, key=len, default="")
        new = rename[key] if keys else ""
        if new is None:
            continue
        new += name[len(key) :]
        if new in given:
            raise NamingError(f"rename: {shown(given[new])} and {shown(name)} would both become {shown(new)}")
        given[new] = name
    return given


def _matches(key: str, name: str) -> bool:
    return name == key or ((key.endswith(".") or not key) and name.startswith(key))
