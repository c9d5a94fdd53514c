"""Steps whose loss or gradients are not finite: refused, skipped or made, and always whole."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphengine as ge
from graphengine.backends.installed import installed_backends
from graphengine.errors import CompileError, NonFiniteError, TrainingError
from graphengine.executable import Executable
from tests.random_graphs import Setting, grow, seeds
from tests.test_copies import feeds, held, network

backends = pytest.mark.parametrize("backend", installed_backends())


def compiled(graph: ge.Graph | None = None, optimizer: Any = None, **options: Any) -> Executable:
    return ge.compile(graph or network(), loss="loss", optimizer=optimizer or ge.Adam(0.05), seed=3, **options)


def ruined(value: float = math.nan, **found: np.ndarray) -> dict[str, np.ndarray]:
    found = found or feeds()
    array = found["x"].copy()
    array[(1,) * array.ndim] = value
    return {**found, "x": array}


def recurrent() -> ge.Graph:
    """A loss of a scan, of two dtypes, with dropout whose count of draws is a state."""
    graph = ge.Graph("recurrent")
    x = graph.input("x", ("batch", 3, 2))
    last = ge.layers.lstm(x, 4, name="lstm")
    wide = ge.cast(ge.dropout(last, 0.1), "float64")
    error = ge.mean(ge.square(wide @ graph.parameter("v", (4, 1), dtype="float64")))
    graph.output("loss", ge.cast(error, "float32") + 0.1 * ge.mean(x))
    return graph


def self_trained() -> ge.Graph:
    """Updates that stand in the graph, some of them of the forward pass."""
    graph = ge.Graph("self")
    x, w = graph.input("x", ("batch", 4)), graph.parameter("w", (4, 2))
    count, largest = graph.state("count", (), dtype="int64"), graph.state("largest", ())
    y = x @ w
    graph.update(count, count + 1)
    graph.update(largest, ge.maximum(largest, ge.max(x)))
    loss = graph.output("loss", ge.mean(ge.square(y - 1.0)))
    (gradient,) = ge.grad(loss, [w])
    graph.update(w, w - 0.1 * gradient)
    return graph


EXAMPLES: dict[str, Callable[[], tuple[Executable, dict[str, np.ndarray]]]] = {
    "adam": lambda **o: (compiled(**o), feeds()),
    "momentum": lambda **o: (
        compiled(optimizer=ge.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1), **o),
        feeds(),
    ),
    "plain": lambda **o: (compiled(optimizer=ge.SGD(ge.CosineDecay(0.1, steps=9)), rewrites=(), **o), feeds()),
    "clipped": lambda **o: (compiled(optimizer=ge.RMSProp(clip=ge.ClipByGlobalNorm(0.1), centered=True), **o), feeds()),
    "budget": lambda **o: (compiled(memory_budget=1400, **o), feeds()),
    "scan": lambda **o: (
        compiled(recurrent(), **o),
        {"x": np.random.default_rng(0).normal(size=(3, 3, 2)).astype("f4")},
    ),
    "self": lambda **o: (ge.compile(self_trained(), loss="loss", **o), {"x": feeds()["x"]}),
    "document": lambda **o: (ge.compile(ge.Graph.from_json(compiled().graph.to_json()), loss="loss", **o), feeds()),
}
examples = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)


@backends
@examples
@pytest.mark.parametrize("gradients", [False, True], ids=["loss", "gradients"])
def test_a_step_whose_loss_is_not_finite_changes_nothing(example, gradients: bool, backend: str) -> None:
    options = {"backend": backend, "non_finite_gradients": gradients}
    (exe, good), (skips, _) = example(**options), example(non_finite="skip", **options)
    exe.step(good), skips.step(good)
    before = held(exe)
    for value in (math.nan, math.inf):
        bad = ruined(value, **good)
        with pytest.raises(NonFiniteError, match=r"^the loss is (nan|inf), so step has changed nothing; input 'x' has"):
            exe.step(bad)
        assert not math.isfinite(skips.step(bad))
        assert held(exe) == held(skips) == before
    assert (exe.skipped, skips.skipped) == (0, 2)
    assert exe.step(good) == skips.step(good)
    assert held(exe) == held(skips) != before


@backends
@pytest.mark.parametrize("gradients", [False, True], ids=["loss", "gradients"])
def test_two_halves_are_refused_and_skipped_as_a_step_is(gradients: bool, backend: str) -> None:
    options = {"backend": backend, "non_finite_gradients": gradients}
    whole, refuses = compiled(**options), compiled(**options)
    skips = compiled(non_finite="skip", **options)
    for batch in (feeds(), ruined(), feeds(1)):
        found = skips.gradients(batch, copy=False)
        skips.update(found)
        if batch["x"][1, 1] == batch["x"][1, 1]:
            whole.step(batch)
            refuses.update(refuses.gradients(batch))
            continue
        before = held(whole)
        assert math.isnan(found.loss)
        assert all(np.isnan(value).all() for value in found.values())
        with pytest.raises(NonFiniteError, match="the loss is nan, so gradients has changed nothing"):
            refuses.gradients(batch)
        with pytest.raises(NonFiniteError, match="the loss of these gradients is nan, so update has changed nothing"):
            refuses.update(found)
        assert held(skips) == held(refuses) == before
    assert held(skips) == held(refuses) == held(whole)
    assert (skips.skipped, refuses.skipped) == (1, 0)


@backends
def test_the_mean_with_a_skipped_batch_is_skipped_by_all(backend: str) -> None:
    workers = [compiled(backend=backend, non_finite="skip") for _ in range(2)]
    for batches in ((feeds(), feeds(1)), (feeds(2), ruined())):
        found = [worker.gradients(batch, copy=False) for worker, batch in zip(workers, batches, strict=True)]
        mean = (found[0].block + found[1].block) / 2
        parameters = [dict(worker.parameters) for worker in workers]
        for worker, gradients in zip(workers, found, strict=True):
            gradients.block[:] = mean
            worker.update(gradients)
    for worker, values in zip(workers, parameters, strict=True):
        assert worker.skipped == 1
        assert all(np.array_equal(worker.parameters[name], value) for name, value in values.items())
    assert not np.array_equal(workers[0].parameters["two.bias"], np.zeros(3))


def infinite_gradient() -> ge.Graph:
    """A loss that is finite where the gradient of w, which is -x there, is not."""
    graph = ge.Graph("root")
    x, w, b = graph.input("x", ("batch", 4)), graph.parameter("w", (4,), ge.init.Zeros()), graph.parameter("b", (4,))
    graph.update(seen := graph.state("seen", ()), seen + ge.mean(x))
    graph.output("loss", ge.mean(ge.sqrt(x + w) + b))
    return graph


@backends
@pytest.mark.parametrize("optimizer", [ge.SGD(0.1), ge.Adam(0.1)], ids=["sgd", "adam"])
def test_gradients_are_checked_where_that_is_asked_for(optimizer: Any, backend: str) -> None:
    good, bad = ({"x": np.full((2, 4), 3.0, np.float32)} for _ in range(2))
    bad["x"][:, 2] = 0.0
    options = {"backend": backend, "non_finite_gradients": True}
    plain = compiled(infinite_gradient(), optimizer, backend=backend)
    plain.step(bad)
    assert (~np.isfinite(plain.parameters["w"])).tolist() == [False, False, True, False]
    exe, halves = (compiled(infinite_gradient(), optimizer, **options) for _ in range(2))
    skips = compiled(infinite_gradient(), optimizer, non_finite="skip", **options)
    for each in (exe, skips, halves):
        each.step(good)
    bad["x"][:, 2] = -exe.parameters["w"][2]
    before = held(exe)
    with pytest.raises(NonFiniteError, match=r"^the gradient of w is (nan|inf) at \[2\], so step has changed nothing"):
        exe.step(bad)
    with pytest.raises(NonFiniteError, match=r"^the gradient of w is (nan|inf) at \[2\], so gradients has changed"):
        halves.gradients(bad)
    with pytest.raises(NonFiniteError, match=r"^the gradient of b is inf at \[0\], so update has changed nothing"):
        halves.update({"w": np.ones(4), "b": [math.inf, 1, 2, 3]})
    assert math.isfinite(skips.step(bad))
    skips.update(skips.gradients(bad))
    assert skips.skipped == 2
    assert held(exe) == held(skips) == held(halves) == before
    assert exe.step(good) == skips.step(good)
    halves.update(halves.gradients(good))
    assert held(exe) == held(skips) == held(halves)


@backends
def test_a_step_that_is_allowed_is_made(backend: str) -> None:
    exe = compiled(backend=backend, non_finite="allow")
    assert math.isnan(exe.step(ruined()))
    assert np.isnan(exe.parameters["two.bias"]).any()
    exe.update(exe.gradients(ruined()))
    assert exe.skipped == 0
    assert "check_finite" not in str(exe.program)


def test_a_finite_loss_that_its_dtype_does_not_hold_is_refused() -> None:
    graph = ge.Graph("large")
    y = graph.input("x", ("batch", 2)) @ graph.parameter("w", (2, 1), ge.init.Ones())
    graph.output("loss", ge.sum(ge.square(y)))
    exe = compiled(graph, ge.SGD(0.1))
    with pytest.raises(NonFiniteError, match="the loss is inf, so step has changed nothing; a lower learning rate"):
        exe.step({"x": np.full((3, 2), 1e30, np.float32)})
    exe.parameters["w"] = [[math.inf], [1.0]]
    with pytest.raises(NonFiniteError, match="; 'w' has elements that are not finite"):
        exe.step({"x": np.ones((3, 2), np.float32)})


@pytest.mark.parametrize("seed", seeds(6))
def test_checks_change_no_bit_of_any_graph_and_take_the_memory_of_what_waits_at_most(seed: int) -> None:
    sample = grow(seed, 8, Setting())
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", ge.UnreachedParameterWarning)
        allowed, checked, both = (
            compiled(sample.graph, ge.Adam(0.01), **options)
            for options in ({"non_finite": "allow"}, {}, {"non_finite_gradients": True})
        )
        before = held(checked)
        loss = allowed.step(sample.feeds)
        for exe in (checked, both) if math.isfinite(loss) and finite(allowed) else ():
            assert exe.step(sample.feeds) == loss
            assert held(exe) == held(allowed) != before
    waiting = sum(max(64, value.nbytes) for value in {**checked.parameters, **checked.state}.values())
    assert allowed.program.peak_bytes <= checked.program.peak_bytes <= allowed.program.peak_bytes + waiting


def finite(exe: Executable) -> bool:
    return all(np.isfinite(value).all() for value in {**exe.parameters, **exe.state}.values())


def test_no_leaf_is_written_before_the_last_check() -> None:
    for make, gradients in itertools.product(EXAMPLES.values(), (False, True)):
        program = make(non_finite_gradients=gradients)[0].program
        places = [number for number, step in enumerate(program.instructions) if step.op.kind == "check_finite"]
        written = [
            number
            for number, step in enumerate(program.instructions)
            for part in step.out.components.values()
            if part.root.leaf is not None and not step.is_view
        ]
        assert places
        assert min(written) > max(places)


def test_what_waits_for_gradients_is_told_by_cost() -> None:
    graph = ge.Graph("wide")
    x = graph.input("x", ("batch", 64))
    for number in range(4):
        x = ge.tanh(ge.layers.dense(x, 64, name=f"layer_{number}"))
    graph.output("loss", ge.mean(ge.square(x)))
    plain, checked = (compiled(graph, non_finite_gradients=gradients) for gradients in (False, True))
    more = checked.cost(batch=2).peak_bytes - plain.cost(batch=2).peak_bytes
    assert 2 * 64 * 64 * 4 <= more <= 5 * 64 * 64 * 4


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(CompileError, match="non_finite is one of raise, skip, allow, not 'ignore'"):
        compiled(non_finite="ignore")
    with pytest.raises(CompileError, match="non_finite_gradients=True checks gradients"):
        compiled(non_finite="allow", non_finite_gradients=True)


def test_skipped_steps_are_counted_in_the_history() -> None:
    data = feeds(batch=24)
    data["x"][5, 0] = math.nan
    exe, alone = compiled(non_finite="skip"), compiled()
    history = ge.fit(exe, data, epochs=3, batch_size=6, shuffle=False, progress=False)
    expected = ge.fit(
        alone, {name: array[6:] for name, array in data.items()}, epochs=3, batch_size=6, shuffle=False, progress=False
    )
    assert history["loss"] == expected["loss"]
    assert held(exe) == held(alone)
    assert history["skipped"] == [1, 1, 1]
    assert history["steps"] == [4, 4, 4]
    assert (history.skipped, exe.skipped) == (3, 3)
    assert "3 of them skipped" in repr(history)
    assert "skipped" in str(history)
    assert "skipped" not in str(expected)
    assert expected["skipped"] == [0, 0, 0]


def test_fit_tells_what_is_not_finite_where_and_leaves_the_weights() -> None:
    data = feeds(batch=12)
    data["x"][7, 0] = math.nan
    exe = compiled()
    with pytest.raises(TrainingError, match="the loss is nan in epoch 1, step 2"):
        ge.fit(exe, data, epochs=1, batch_size=6, shuffle=False, progress=False)
    assert finite(exe)
    allowed = compiled(non_finite="allow")
    assert math.isnan(ge.fit(allowed, data, epochs=1, batch_size=6, shuffle=False, progress=False)["loss"][0])
    skips = compiled(non_finite="skip")
    whole = ge.fit(skips, {name: array[6:] for name, array in data.items()}, epochs=2, progress=False)
    assert whole["skipped"] == [1, 1]
    assert np.isnan(whole["loss"]).all()
