"""At the edges: random graphs of extreme values, of sizes 0 and 1, in either float dtype, on every backend.

What a program must give there, and where that can be said, `tests/expected.py` tells. Here are few seeds, the same in
every run. To try more, name them: `GRAPHENGINE_SEEDS=1000:1400 pytest tests/test_edges.py`. A failure names its seed;
`grow_wild(seed)` is the graph. A new op is tried here as soon as it has a recipe in `tests/random_graphs.py`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

import graphengine as ge
from graphengine.compile import installed_backends
from graphengine.executable import Executable
from tests.expected import Expected, expect
from tests.random_graphs import RECIPES, Sample, grow, wild

SIZE = 3
"""Recipes of a graph: few, so that one NaN does not hide all else."""

FIRST, _, LAST = os.environ.get("GRAPHENGINE_SEEDS", f"0:{-(-len(RECIPES) // SIZE)}").partition(":")
every_seed = pytest.mark.parametrize("seed", range(int(FIRST), int(LAST)))

REWRITES = tuple(ge.rewrites())
ALONE = [(name,) for name in REWRITES]
LEFT_OUT = [tuple(name for name in REWRITES if name != other) for other in REWRITES]


def grow_wild(seed: int) -> Sample:
    with np.errstate(all="ignore"):
        return grow(seed, SIZE, wild(seed))


def compiled(sample: Sample, **options: object) -> Executable:
    """The graph compiled by all its float leaves, with the values of the sample."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ge.UnreachedParameterWarning)  # not every graph has grown from every leaf
        exe = ge.compile(sample.graph, loss="loss", wrt=sample.float_leaves, **options)
    for held in (exe.parameters, exe.state):
        for name in set(held) & set(sample.given):
            held[name] = sample.given[name]
    return exe


def results(exe: Executable, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs and gradients, by name."""
    with np.errstate(all="ignore"):
        values = exe.forward(feeds)
        return {**values, **{f"bar {name}": bar for name, bar in exe.backward().items()}}


def results_expected(exe: Executable, sample: Sample, seed: int) -> dict[str, Expected]:
    bars = {f"bar {name}": node for name, node in exe._recipe.gradients.items()}
    return expect({**exe.graph.outputs, **bars}, sample.given, sample.binding, seed)


def agrees(actual: Mapping[str, np.ndarray], expected: Mapping[str, Expected], what: str) -> None:
    for name, value in actual.items():
        missed = expected[name].missed(value)
        if missed.any():
            place = tuple(np.argwhere(missed)[0].tolist())
            exact, runs = expected[name].exact[place], expected[name].runs[:, *place]
            raise AssertionError(f"{what}: {name}{list(place)} is {value[place]!r}, not {exact!r}, shaken {runs}")


def subsets(backend: str, seed: int) -> list[Sequence[str] | None]:
    """Rewrites to make: all, none, each alone and each left out; where compiling takes long, in turn."""
    some = [*ALONE, *LEFT_OUT]
    return [None, (), *(some if backend == "numpy" else [some[seed % len(some)]])]


@every_seed
def test_values_and_gradients_are_what_exact_arithmetic_gives(seed: int) -> None:
    sample = grow_wild(seed)
    plain = compiled(sample, rewrites=())
    expected = results_expected(plain, sample, seed)
    for backend in installed_backends():
        for rewrites in subsets(backend, seed):
            exe = compiled(sample, rewrites=rewrites, backend=backend)
            actual, what = results(exe, sample.feeds), f"{backend}, rewrites {rewrites}"
            if exe._recipe.declared is None:
                agrees(actual, expected, what)
            else:  # safe forms are finite where those written out, or their adjoints, are not
                agrees(actual, {name: only_finite(value) for name, value in expected.items()}, what)
                agrees(actual, results_expected(exe, sample, seed), what)


def only_finite(expected: Expected) -> Expected:
    """What is expected where that is finite; elsewhere nothing."""
    is_open = ~np.isfinite(expected.exact)
    runs = np.array(expected.runs)
    runs[0][is_open] = 0
    return Expected(expected.exact, runs, expected.dtype)
