"""How far sums, means, variances and norms are from the right ones, over long axes, beside NumPy and PyTorch.

    python -m benchmarks.accuracy [--full]

Errors are in units u of rounding, 2^-24 for float32 and 2^-53 for float64: of a sum or a mean over u times that of |x|,
of a variance and a norm over u times itself, of a normalized row over u times its greatest. The worst over all axes is
shown, for each set of values; with --full, every axis has a line. What is right is computed in the next wider float.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np

import graphengine as ge
from benchmarks.worker.case import Array
from graphengine.ir.node import Node

SHAPES = [
    ((1_000_000,), (0,)),
    ((10_000_000,), (0,)),
    ((1_000_000, 10), (0,)),
    ((10, 1_000_000), (1,)),
    ((250_000, 2, 2), (0, (0, 1), (0, 2), None)),
    ((2, 250_000, 2), (1, (0, 1), (1, 2))),
    ((2, 2, 250_000), (2, (0, 2), (1, 2))),
]
VALUES: dict[str, Callable[[np.random.Generator, tuple[int, ...], type], Array]] = {
    "mean 100": lambda draw, shape, dtype: 100 + draw.random(shape, dtype),
    "mixed signs": lambda draw, shape, dtype: draw.standard_normal(shape, dtype),
    "sorted": lambda draw, shape, dtype: np.sort(draw.random(shape, dtype), axis=None).reshape(shape),
}
NAMES = ("sum", "mean", "variance", "norm", "layer norm", "batch norm")
ENGINES = ("numpy backend", "numba backend", "NumPy", "PyTorch")
ROW = "{:<9}{:<13}{:<12}" + "{:>15}" * len(ENGINES)

Axis = int | tuple[int, ...] | None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true", help="a line for every shape and axis")
    full = parser.parse_args().full
    print(ROW.format("dtype", "values", "of", *ENGINES))
    for dtype in (np.float32, np.float64):
        for values in VALUES:
            worst: dict[tuple[str, str], float] = {}
            for shape, axes in SHAPES:
                x = VALUES[values](np.random.default_rng(0), shape, dtype)
                for axis in axes:
                    found = dict(errors(x, axis))
                    worst = {key: max(found.get(key, 0.0), worst.get(key, 0.0)) for key in (*worst, *found)}
                    if full:
                        show(dtype.__name__, f"{values} {shape} {axis}", found)
            show(dtype.__name__, values, worst)


def show(dtype: str, values: str, found: dict[tuple[str, str], float]) -> None:
    """A line for each reduction."""
    for name in NAMES:
        cells = [f"{found[name, engine]:.2f}" if (name, engine) in found else "-" for engine in ENGINES]
        print(ROW.format(dtype, values, name, *cells), flush=True)


def errors(x: Array, axis: Axis) -> Iterator[tuple[tuple[str, str], float]]:
    """The errors of all reductions by all engines."""
    right, size = references(x, axis)
    for engine, compute in (("numpy backend", graph_on("numpy")), ("numba backend", graph_on("numba"))):
        yield from far(engine, compute(x, axis), right, size)
    yield from far("NumPy", by_numpy(x, axis), right, size)
    yield from far("PyTorch", by_torch(x, axis), right, size)


def far(
    engine: str, found: dict[str, Array], right: dict[str, Array], size: dict[str, Array]
) -> Iterator[tuple[tuple[str, str], float]]:
    """How far what was found is from what is right, in roundings of the size."""
    for name, y in found.items():
        unit = np.finfo(y.dtype).eps / 2
        yield (name, engine), float(np.max(np.abs(y - right[name]) / size[name]) / unit)


def references(x: Array, axis: Axis) -> tuple[dict[str, Array], dict[str, Array]]:
    """The right results, and what their errors are measured by."""
    wide = x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)
    centered = wide - wide.mean(axis, keepdims=True)
    variance = np.square(centered).mean(axis, keepdims=True)
    normalized = centered / np.sqrt(variance)
    total, size = wide.sum(axis), np.abs(wide).sum(axis)
    norm, one = np.sqrt(np.square(wide).sum(axis)), np.max(np.abs(normalized))
    right = {"sum": total, "mean": wide.mean(axis), "variance": variance.reshape(total.shape), "norm": norm}
    sizes = {"sum": size, "mean": np.abs(wide).mean(axis), "variance": right["variance"], "norm": norm}
    of_norms = dict.fromkeys(("layer norm", "batch norm"), normalized)
    # One rounding of the mean, and of x, moves what is normalized by this much.
    spread = (np.max(np.abs(wide)) / np.sqrt(np.min(variance))) + one
    return {**right, **of_norms}, {**sizes, **dict.fromkeys(of_norms, np.asarray(spread))}


def graph_on(backend: str) -> Callable[[Array, Axis], dict[str, Array]]:
    """The reductions by this engine."""

    def compute(x: Array, axis: Axis) -> dict[str, Array]:
        graph = ge.Graph("accuracy", dtype=x.dtype.name)
        for name, y in reductions(graph.input("x", x.shape), axis):
            graph.output(name.replace(" ", "_"), y)
        found = ge.compile(graph, backend=backend).forward({"x": x})
        return {name.replace("_", " "): y for name, y in found.items()}

    return compute


def reductions(x: Node, axis: Axis) -> Iterator[tuple[str, Node]]:
    """The nodes of the reductions."""
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
    yield "sum", ge.sum(x, axis)
    yield "mean", ge.mean(x, axis)
    yield "variance", ge.variance(x, axis)
    yield "norm", ge.sqrt(ge.sum(ge.square(x), axis))
    if axes == tuple(range(x.ndim))[-len(axes) :]:
        size = x.shape[-len(axes) :]
        scale, shift = (x.graph.constant(None, np.full(size, k, x.dtype)) for k in (1.0, 0.0))
        yield "layer norm", ge.layer_norm(x, scale, shift, 0.0)
    if len(axes) == x.ndim - 1:
        (channel,) = set(range(x.ndim)) - set(axes)
        channels = int(x.shape[channel])
        mean, variance = (x.graph.state(name, (channels,)) for name in ("m", "v"))
        scale, shift = (x.graph.constant(None, np.full(channels, k, x.dtype)) for k in (1.0, 0.0))
        yield "batch norm", ge.batch_norm(x, scale, shift, mean, variance, axis=channel, epsilon=0.0)


def by_numpy(x: Array, axis: Axis) -> dict[str, Array]:
    """The same by NumPy in the dtype of x."""
    found = {"sum": x.sum(axis), "mean": x.mean(axis), "variance": x.var(axis), "norm": np.sqrt(np.square(x).sum(axis))}
    return {name: np.asarray(y) for name, y in found.items()}


def by_torch(x: Array, axis: Axis) -> dict[str, Array]:
    """The same by PyTorch, if it is installed."""
    try:
        import torch
    except ImportError:
        return {}
    t, axes = torch.from_numpy(x), tuple(range(x.ndim)) if axis is None else axis
    found = {
        "sum": t.sum(axes),
        "mean": t.mean(axes),
        "variance": t.var(axes, correction=0),
        "norm": torch.linalg.vector_norm(t, dim=axes),
    }
    return {name: y.numpy() for name, y in found.items()}


if __name__ == "__main__":
    main()
