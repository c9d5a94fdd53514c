"""The page docs/ops.md, from the registry: `python -m tests.ops_page > docs/ops.md`."""

from __future__ import annotations

import inspect
import pkgutil
import sys
from textwrap import fill

import graphengine
from graphengine.backends.native.lowering.registry import lowering_of
from graphengine.errors import AttributeValueError
from graphengine.ir.op import Op
from graphengine.ops.support.form import recorded
from graphengine.ops.support.pointwise import Elementwise, Pointwise

HEAD = """# Ops

Every kind of node. This page is written by `python -m tests.ops_page > docs/ops.md`, from the classes.

- Operands: their names, and the attributes in brackets. The shapes are in the docstring of the class.
- Derivative: whether a gradient passes; and the kinks, where it takes the value that the docstring names.
- FLOPs: for one element; "own" where they depend on shapes or attributes.
- Kernels: "form" where they are made from the formula, "own" for kernels of the op's own, "eval" where the value that
  `eval` makes is copied; "NumPy" where numba has no kernel and NumPy's is called.

| kind | formula | operands | derivative | FLOPs | NumPy | numba |
|---|---|---|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    kinds = [kind for kind, op in Op.registry.items() if op.__module__.startswith("graphengine.") and not op.is_leaf]
    rows = "".join(f"| {' | '.join(row(kind, Op.registry[kind]))} |\n" for kind in sorted(kinds))
    names = fill(", ".join(f"`{name}`" for name in functions()), 120)
    return f"{HEAD}{rows}\n## Functions\n\nThese make nodes of ops, and are public in `ge`.\n\n{names}\n"


def functions() -> list[str]:
    """The public names of the op files."""
    files = [f"graphengine.ops.{module.name}" for module in pkgutil.iter_modules(graphengine.ops.__path__)]
    return sorted(name for file in files for name in getattr(sys.modules[file], "__all__", ()))


def row(kind: str, op: type[Op]) -> list[str]:
    """The cells of one op."""
    formula = (inspect.getdoc(op) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
    names = [name for name in inspect.signature(op.infer).parameters if name not in ("self", "_")]
    if issubclass(op, Pointwise):
        names = [name for name in inspect.signature(op.form).parameters if name != "self"]
    attributes = [name for name in op.model_fields if name != "kind"]
    operands = ", ".join(names) + (f" [{', '.join(attributes)}]" if attributes else "")
    passes = "yes" if op.vjp is not Op.vjp else "none"
    kinks = ", ".join(map(str, op.kinks)) if issubclass(op, Elementwise) else ""
    derivative = f"{passes}; kinks {kinks}" if kinks else passes
    return [f"`{kind}`", formula, operands, derivative, *kernels(op, len(names))]


def kernels(op: type[Op], arity: int) -> list[str]:
    """FLOPs, NumPy kernel and numba kernel."""
    if op.is_view:
        return ["0", "view", "view"]
    if issubclass(op, Pointwise):
        return [flops(op, arity), "form", "form"]
    numpy = "eval" if op.bind is Op.bind and op.calls is Op.calls else "own"
    return [
        "0" if op.flops is Op.flops else "own",
        numpy,
        "own" if lowering_of(op)[0] else "NumPy",
    ]


def flops(op: type[Pointwise], arity: int) -> str:
    """The FLOPs for an element, if no attribute has to be given."""
    try:
        return str(sum(step.cost for step in recorded(op(), arity).steps))
    except AttributeValueError:
        return "own"


if __name__ == "__main__":
    print(page(), end="")
