"""Names of weights in one place, and what they are in another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphengine.errors import NamingError
from graphengine.ir.names import did_you_mean
from graphengine.wording import shown

Rename = Mapping[str, str | None]
"""What a name becomes, or None for what is left out. A key that ends in a dot, or the empty one, is a prefix."""


def renamed(names: Sequence[str], rename: Rename, owner: str) -> dict[str, str]:
    """Those of `names`, which `owner` has, by what they become; a whole name goes before a prefix, a long before a
    short one.
    """
    for key in rename:
        if not any(_matches(key, name) for name in names):
            raise NamingError(f"rename: {owner!r} has no weights {shown(key)}{did_you_mean(key, names)}")
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
