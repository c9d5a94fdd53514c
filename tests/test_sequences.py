"""Whatever was done before, an executable does what a fresh one does: random sequences of all that one can ask of it.

After every action its results, parameters and states are those, to the last bit, of a new executable that was given the
same parameters and states and did only this. To try more sequences, name their seeds:
`GRAPHENGINE_SEEDS=100:300 pytest tests/test_sequences.py`. A new way of using an executable is an entry of `ACTIONS`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphengine as ge
from graphengine.compile import installed_backends
from graphengine.executable import Executable
from graphengine.ir.graph import Graph
from tests.random_graphs import Setting, grow, seeds

LENGTH = 30
"""Actions of a sequence."""

Values = dict[str, np.ndarray]
Does = Callable[[Executable], Mapping[str, Any]]


class Situation:
    """A graph, how it is compiled, and where files go; `random` is what actions are drawn from."""

    def __init__(self, seed: int, backend: str, folder: Path) -> None:
        self.random = np.random.default_rng(seed)
        self.folder = folder
        self.graph = (
            network() if seed % 3 == 0 else grow(seed, 3, Setting(dtype=("float32", "float64")[seed % 2])).graph
        )
        optimizer = self.choose([ge.SGD(learning_rate=0.01, momentum=0.9), ge.Adam(), ge.RMSProp(learning_rate=0.01)])
        rewrites = self.choose([None, None, (), ("fuse",)])
        self.options = {"loss": "loss", "optimizer": optimizer, "rewrites": rewrites, "backend": backend}

    def choose(self, options: Any) -> Any:
        return options[self.random.integers(len(options))]

    def fresh(self) -> Executable:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ge.UnreachedParameterWarning)
            return ge.compile(self.graph, seed=1, **self.options)

    def feeds(self) -> Values:
        """Of one of a few sizes of the batch; at times in another layout, or another dtype that holds the numbers."""
        binding = {"batch": int(self.random.integers(1, 6))}
        feeds = {}
        for node in self.graph.inputs:
            sizes = node.type.bind(binding).static_shape
            is_float = node.type.is_float
            value = self.random.uniform(-1.5, 1.5, sizes) if is_float else self.random.integers(0, 3, sizes)
            layout = self.choose("CF")
            feeds[node.name] = np.asarray(value, self.choose([node.dtype, node.dtype, value.dtype]), order=layout)
        return feeds

    def outputs(self) -> list[str] | None:
        names = list(self.graph.outputs)
        return self.choose([None, ["loss"], [name for name in names if self.random.integers(2)] or names])


def network() -> Graph:
    """A classifier whose training draws, and keeps statistics."""
    graph = ge.Graph("network")
    x, labels = graph.input("x", ("batch", 4)), graph.input("labels", ("batch",), dtype="int64")
    hidden = ge.layers.batch_norm(ge.layers.dense(x, 6, name="one"), name="norm")
    logits = graph.output("logits", ge.layers.dense(ge.dropout(ge.relu(hidden), 0.3), 3, name="two"))
    graph.output("likeliest", ge.argmax(logits, axis=1))
    graph.output("loss", ge.cross_entropy(logits, labels))
    return graph


def forward(at: Situation) -> Does:
    feeds, outputs = at.feeds(), at.outputs()
    return lambda exe: exe.forward(feeds, outputs)


def gradient(at: Situation) -> Does:
    """Forward and backward, with something in between that must not matter."""
    feeds, outputs, between = at.feeds(), at.choose([None, ["loss"]]), at.choose([look, nothing])(at)

    def does(exe: Executable) -> Mapping[str, Any]:
        values = exe.forward(feeds, outputs)
        between(exe)
        bars = exe.backward()
        again = exe.backward()
        return {
            **values,
            **{f"bar {name}": bar for name, bar in bars.items()},
            **{f"{n} again": b for n, b in again.items()},
        }

    return does


def step(at: Situation) -> Does:
    batches = [at.feeds() for _ in range(at.random.integers(1, 4))]
    return lambda exe: {f"loss {place}": np.array(exe.step(feeds)) for place, feeds in enumerate(batches)}


def assign(at: Situation) -> Does:
    nodes = [node for node in (*at.graph.parameters, *at.graph.states) if node.type.is_float]
    node = at.choose(nodes)
    value = at.random.uniform(0.5, 1.5, node.type.static_shape)

    def does(exe: Executable) -> Mapping[str, Any]:
        held = exe.parameters if node.name in exe.parameters else exe.state
        held[node.name] = value
        return {"read": held[node.name]}

    return does


def look(at: Situation) -> Does:
    size = int(at.random.integers(1, 6))
    sizes = {"batch": size}
    which = at.choose(["forward", "gradient", "step", "gradients", "update"])
    return lambda exe: {
        "plan": str(exe.plan(which, **sizes)),
        "cost": str(exe.cost(**sizes)),
        "explanation": str(exe.explain(which, **sizes)),
    }


def nothing(at: Situation) -> Does:  # noqa: ARG001  # as all actions are given it
    return lambda _: {}


def infer(at: Situation) -> Does:
    feeds = at.feeds()
    outputs = at.outputs() or list(at.graph.outputs)
    return lambda exe: exe.inference.forward({name: feeds[name] for name in exe.inference.needs(outputs)}, outputs)


def return_to(at: Situation) -> Does:
    """Save, step on, and load again."""
    path, feeds, is_whole = at.folder / "saved.safetensors", at.feeds(), at.choose([True, False])

    def does(exe: Executable) -> Mapping[str, Any]:
        (ge.save_checkpoint if is_whole else ge.save_parameters)(exe, path)
        loss = exe.step(feeds)
        (ge.load_checkpoint if is_whole else ge.load_parameters)(exe, path)
        return {"loss": np.array(loss), **exe.forward(feeds)}

    return does


def transfer(at: Situation) -> Does:
    """Take the weights of another executable of the same graph."""
    feeds = at.feeds()

    def does(exe: Executable) -> Mapping[str, Any]:
        other = at.fresh()
        other.step(feeds)
        ge.transfer(other, exe)
        return {}

    return does


def halves(at: Situation) -> Does:
    """Step in two halves, by gradients of one batch or two."""
    batches, is_view = [at.feeds() for _ in range(at.random.integers(1, 3))], at.choose([True, False])

    def does(exe: Executable) -> Mapping[str, Any]:
        gradients = [dict(exe.gradients(feeds).copy()) for feeds in batches]
        exe.update(exe.gradients(batches[0], copy=False) if is_view else gradients[-1])
        return gradients[0]

    return does


def stumble(at: Situation) -> Does:
    """Be refused: before anything runs, or halfway."""
    feeds = at.feeds()
    name = at.choose(list(feeds))
    feeds[name] = at.choose([feeds[name][:0], np.full_like(feeds[name], 99), feeds[name].astype(complex)])
    run = at.choose([Executable.forward, Executable.step, Executable.gradients])

    def does(exe: Executable) -> Mapping[str, Any]:
        try:
            run(exe, feeds)
        except ge.GraphEngineError as error:
            return {"error": error.message}
        return {}

    return does


ACTIONS = [forward, gradient, step, assign, look, infer, return_to, transfer, halves, stumble]


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("seed", seeds(8))
def test_a_sequence_of_actions_leaves_nothing_behind_but_parameters_and_states(
    seed: int, backend: str, tmp_path: Path
) -> None:
    at = Situation(seed, backend, tmp_path)
    exe = at.fresh()
    done = []
    for _ in range(LENGTH if backend == "numpy" else LENGTH // 3):
        action = at.choose(ACTIONS)
        done.append(action.__name__)
        does, twin = action(at), at.fresh()
        same_held(twin, exe, copy=True)
        with np.errstate(all="ignore"):
            actual, expected = does(exe), does(twin)
        assert actual.keys() == expected.keys(), done
        for name, value in actual.items():
            assert same(value, expected[name]), f"{name} after {done}: {value}, of a fresh executable {expected[name]}"
        same_held(twin, exe)


def same(left: Any, right: Any) -> bool:
    return left == right if isinstance(left, str) else left.tobytes() == right.tobytes()


def same_held(twin: Executable, exe: Executable, copy: bool = False) -> None:
    """Hold the parameters and states of both to each other, or copy them to `twin`."""
    for mine, other in ((twin.parameters, exe.parameters), (twin.state, exe.state)):
        for name, value in other.items():
            if copy:
                mine[name] = value
            assert same(mine[name], value), name
