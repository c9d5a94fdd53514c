"""Pickles: the version that wrote one is checked before anything else of it is read, and code in it is told by name."""

from __future__ import annotations

import pickle
import sys
from functools import cache
from importlib import metadata
from pkgutil import resolve_name
from types import FrameType

from graphengine.errors import PickleError
from graphengine.ir.node import Node, context
from graphengine.ir.op import Op

FORMAT = 1
"""The version of the state of graphs and executables in pickles; it rises when that changes."""


@cache
def writer() -> tuple[int, str]:
    """The versions of this form of pickles and of this graphengine."""
    try:
        return FORMAT, metadata.version("graphengine")
    except metadata.PackageNotFoundError:  # sources that are not installed
        return FORMAT, "unknown"


def blank(name: str, written_by: tuple[int, str]) -> object:
    """An object of the class `graphengine.NAME`, to which a pickle gives its state next.

    Raises PickleError for a pickle of another version, whose state may mean something else.
    """
    if written_by != writer():
        wrote, reads = ("{1} (form {0})".format(*versions) for versions in (written_by, writer()))
        raise PickleError(
            f"this pickle was written by graphengine {wrote}, and this is graphengine {reads}: a pickle is for the "
            "version that wrote it; what graph.save and ge.save_parameters write is read by later ones, too"
        )
    return object.__new__(resolve_name(f"graphengine:{name}"))


def check_code(node: Node) -> None:
    """Raise PickleError for a node whose op is the user's own code, if pickle does not find that by its name."""
    op = node.op
    if Op.registry.get(op.kind) is type(op) and type(op).__module__.startswith("graphengine."):
        return
    try:
        pickle.dumps(op)
    except Exception as error:  # whatever the user's code raises
        if _writes_code():
            return
        raised = PickleError(
            f"{node.name!r} holds code that pickle does not find by its name ({error}); define the function or the "
            "class at the top level of a module"
        )
        raised.quote(*context(node.name, op, node.parents, node.where))
        raise raised from None


def _writes_code() -> bool:
    """Whether a pickler is at work that writes functions and classes themselves, as that of joblib's workers does."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not {"cloudpickle", "dill"}.isdisjoint(frame.f_globals.get("__name__", "").split(".")):
            return True
        frame = frame.f_back
    return False
