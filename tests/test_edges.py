"""At the edges: random graphs of extreme values, of sizes 0 and 1, in either float dtype, on every backend.

What a program must give there, and where that can be said, `tests/expected.py` tells. Here are few seeds, the same in
every run. To try more, name them: `GRAPHENGINE_SEEDS=1000:1400 pytest tests/test_edges.py`. A failure names its seed;
`grow_wild(seed)` is the graph. A new op is tried here as soon as it has a recipe in `tests/random_graphs.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import numpy as np
import pytest

import graphengine as ge
from graphengine.compile import installed_backends
from graphengine.executable import Executable
from graphengine.ir.graph import Graph
from tests.expected import Expected, expect
from tests.random_graphs import RECIPES, Sample, grow, seeds, wild

SIZE = 2
"""Recipes of a graph: few, so that one NaN does not hide all else."""

every_seed = pytest.mark.parametrize("seed", seeds(-(-len(RECIPES) // SIZE)))

REWRITES = tuple(ge.rewrites())
ALONE = [(name,) for name in REWRITES]
LEFT_OUT = [tuple(name for name in REWRITES if name != other) for other in REWRITES]


def grow_wild(seed: int) -> Sample:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of means of no elements
        return grow(seed, SIZE, wild(seed))


def compiled(sample: Sample, **options: object) -> Executable:
    """The graph compiled by all its float leaves, with the values of the sample."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ge.UnreachedParameterWarning)  # not every graph has grown from every leaf
        exe = ge.compile(sample.graph, loss="loss", wrt=sample.float_leaves, **options)
    return holding(exe, sample)


def holding(exe: Executable, sample: Sample) -> Executable:
    """`exe`, with the parameters and states of the sample."""
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
    bars = {f"bar {name}": node for name, node in exe.programs.training.gradients.items()}
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
            if not exe.programs.training.stabilized:
                agrees(actual, expected, what)
            else:  # safe forms are finite where those written out, or their adjoints, are not
                agrees(actual, {name: only_finite(value) for name, value in expected.items()}, what)
                agrees(actual, results_expected(exe, sample, seed), what)


def only_finite(expected: Expected) -> Expected:
    """What is expected where that is finite; elsewhere nothing."""
    runs = np.array(expected.runs)
    runs[0] = np.where(np.isfinite(expected.exact), runs[0], 0)  # of another kind, so that nothing is decided there
    return Expected(expected.exact, runs, expected.dtype)


def same_bits(actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], what: str) -> None:
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        assert value.tobytes() == expected[name].tobytes(), f"{what}: {name} is {value}, not {expected[name]}"


def tightest(sample: Sample, peak: int, **options: object) -> Executable:
    """The graph compiled for as little memory as a few tries find."""
    least, most = 0, peak
    while most - least > peak / 16:
        budget = (least + most) // 2
        try:
            compiled(sample, memory_budget=budget, **options).plan(**sample.binding)
        except ge.CompileError:
            least = budget
        else:
            most = budget
    return compiled(sample, memory_budget=most, **options)


@every_seed
@pytest.mark.parametrize("rewrites", [None, ()], ids=["rewritten", "plain"])
def test_the_least_memory_gives_the_same_bits(seed: int, rewrites: tuple[str, ...] | None) -> None:
    sample = grow_wild(seed)
    whole = compiled(sample, rewrites=rewrites)
    exe = tightest(sample, whole.cost(**sample.binding).peak_bytes, rewrites=rewrites)
    same_bits(results(exe, sample.feeds), results(whole, sample.feeds), "gradients")
    for name in sample.graph.outputs:
        with np.errstate(all="ignore"), suppress(ge.CompileError):  # with other outputs it may take more
            same_bits(exe.forward(sample.feeds, [name]), whole.forward(sample.feeds, [name]), "forward")


def derived(sample: Sample) -> Graph:
    """The graph of an executable that trains, with gradients and next values as outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ge.UnreachedParameterWarning)
        exe = ge.compile(sample.graph, loss="loss", optimizer=ge.SGD(learning_rate=0.5, momentum=0.5), rewrites=())
    graph = exe.graph.copy()
    for name, node in exe.programs.training.gradients.items():
        graph.output(f"bar_{name}", graph[node.name])
    for leaf, node in exe.graph.updates.items():
        graph.output(f"next_{leaf.name}", graph[node.name])
    return graph


def imported(graph: Graph) -> Graph:
    around = Graph("around", graph.dtype)
    for name, node in around.import_graph(graph, "", {}).items():
        around.output(name, node)
    return around


@every_seed
@pytest.mark.parametrize(
    "remade", [Graph.copy, lambda graph: Graph.from_json(graph.to_json()), imported], ids=["copy", "document", "import"]
)
def test_programs_of_an_executables_graph_give_what_its_nodes_say(seed: int, remade: Callable[[Graph], Graph]) -> None:
    sample = grow_wild(seed)
    sample.graph = remade(derived(sample))
    slots = [node for node in sample.graph.states if node.name not in sample.given]
    sample.given |= {node.name: np.full(node.type.static_shape, 0.5, node.dtype) for node in slots}
    for backend in installed_backends() if seed % 4 == 0 else ["numpy"]:
        exe = holding(ge.compile(sample.graph, backend=backend), sample)
        with np.errstate(all="ignore"):
            values = exe.forward(sample.feeds)
        agrees(values, expect(sample.graph.outputs, sample.given, sample.binding, seed), backend)
