"""A step in two halves: `gradients` and `update` do together what `step` does, to the last bit."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphengine as ge
from graphengine.compile import installed_backends
from graphengine.errors import DTypeError, ExecutionError, FeedError, NamingError, ShapeError
from graphengine.executable import Executable
from graphengine.ir.training import Optimizer
from graphengine.transform.rewrite.passes import REWRITES
from tests.random_graphs import Setting, grow, seeds

OPTIMIZERS = {
    "momentum": ge.SGD(learning_rate=ge.CosineDecay(0.1, steps=5), momentum=0.9, weight_decay=0.01),
    "adam": ge.Adam(learning_rate=ge.Warmup(steps=2, then=0.01), clip=ge.ClipByGlobalNorm(0.1)),
    "adamw": ge.AdamW(clip=ge.ClipByValue(0.01)),
    "rmsprop": ge.RMSProp(momentum=0.5, centered=True),
    "adagrad": ge.Adagrad(),
}


def network(dtype: str = "float32", rate: float = 0.3) -> ge.Graph:
    """A classifier whose training draws, and keeps statistics."""
    graph = ge.Graph("network", dtype)
    x, labels = graph.input("x", ("batch", 4)), graph.input("labels", ("batch",), dtype="int64")
    hidden = ge.layers.batch_norm(ge.layers.dense(x, 6, name="one"), name="norm")
    logits = graph.output("logits", ge.layers.dense(ge.dropout(ge.relu(hidden), rate), 3, name="two"))
    graph.output("loss", ge.cross_entropy(logits, labels))
    return graph


def feeds(batch: int = 4, seed: int = 0, dtype: str = "float32") -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {"x": generator.normal(size=(batch, 4)).astype(dtype), "labels": generator.integers(0, 3, batch)}


def trained(optimizer: Optimizer = OPTIMIZERS["adam"], graph: ge.Graph | None = None, **options: object) -> Executable:
    return ge.compile(graph or network(), loss="loss", optimizer=optimizer, seed=3, **options)


def held(exe: Executable) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in {**exe.parameters, **exe.state}.items()}


def assert_halves_are_a_step(whole: Executable, halves: Executable, batches: list[dict[str, np.ndarray]]) -> None:
    for place, batch in enumerate(batches):
        loss = whole.step(batch)
        gradients = halves.gradients(batch, copy=place % 2 == 0)
        halves.update(gradients)
        assert gradients.loss == loss
        assert held(halves) == held(whole)


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("rewrites", [None, ()], ids=["rewritten", "as declared"])
def test_two_halves_are_a_step(optimizer: Optimizer, backend: str, rewrites: tuple[str, ...] | None) -> None:
    whole, halves = (trained(optimizer, backend=backend, rewrites=rewrites) for _ in range(2))
    assert_halves_are_a_step(whole, halves, [feeds(4, 0), feeds(7, 1), feeds(4, 2)])


def scaled() -> ge.Graph:
    """A loss whose gradient has a constant factor."""
    graph = ge.Graph("scaled")
    h = graph.input("x", ("batch", 4)) @ graph.parameter("w", (4, 3)) * graph.parameter("scale", (3,), ge.init.Ones())
    graph.output("loss", ge.sum(ge.square(h)) * 0.3)
    return graph


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("network", [network, scaled])
@pytest.mark.parametrize("optimizer", [ge.GD(learning_rate=0.1), ge.SGD(learning_rate=0.1)], ids=["gd", "sgd"])
def test_plain_descent_may_differ_by_rounding_where_rewrites_join_the_gradient_with_its_update(
    optimizer: Optimizer, network: Callable[[], ge.Graph], backend: str
) -> None:
    whole, halves = (trained(optimizer, network(), backend=backend) for _ in range(2))
    batches = [{name: feeds(4, seed)[name] for name in whole.needs()} for seed in range(2)]
    for batch in batches:
        loss, gradients = whole.step(batch), halves.gradients(batch)
        halves.update(gradients)
        assert gradients.loss == pytest.approx(loss, rel=1e-5)
    for name, value in whole.parameters.items():
        np.testing.assert_allclose(halves.parameters[name], value, rtol=1e-4, atol=1e-6)
    apart = [name for name in REWRITES if name not in ("products", "algebra")]
    assert_halves_are_a_step(
        *(trained(optimizer, network(), backend=backend, rewrites=apart) for _ in range(2)), batches
    )


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("seed", seeds(12))
def test_two_halves_of_any_graph_are_a_step(seed: int, backend: str) -> None:
    sample = grow(seed, 4, Setting(dtype=("float32", "float64")[seed % 2]))
    optimizer = list(OPTIMIZERS.values())[seed % len(OPTIMIZERS)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ge.UnreachedParameterWarning)
        whole, halves = (trained(optimizer, sample.graph, backend=backend) for _ in range(2))
    with np.errstate(all="ignore"):
        assert_halves_are_a_step(whole, halves, [sample.feeds, sample.feeds])


def test_the_first_half_is_what_forward_and_backward_give() -> None:
    exe = trained(graph=network(rate=0.0))
    exe.forward(feeds())
    expected = exe.backward()
    gradients = exe.gradients(feeds())
    assert list(gradients) == list(exe.parameters)
    for name, value in gradients.items():
        np.testing.assert_array_equal(value, expected[name])


def test_each_half_advances_what_is_its_own() -> None:
    exe = trained()
    before = held(exe)
    exe.gradients(feeds())
    exe.gradients(feeds())
    between = held(exe)
    advanced = {name for name in before if before[name] != between[name]}
    assert advanced == {"norm.running_mean", "norm.running_variance", "random.step"}
    assert exe.state["random.step"] == 2
    exe.update(exe.gradients(feeds(), copy=False))
    last = held(exe)
    assert {name for name in before if before[name] != last[name]} == set(before) - {"random.seed"}
    assert exe.state["optimizer.step"] == 1


def test_gradients_of_parts_of_a_batch_are_averaged_by_the_caller() -> None:
    graph = ge.Graph("line", "float64")
    u = ge.layers.dense(graph.input("x", ("batch", 3)), 2, name="dense")
    graph.output("loss", ge.mean(ge.square(u)))
    whole, parts = (trained(graph=graph) for _ in range(2))
    x = np.random.default_rng(0).normal(size=(8, 3))
    whole.step({"x": x})
    one, two = parts.gradients({"x": x[:4]}), parts.gradients({"x": x[4:]})
    parts.update({name: (one[name] + two[name]) / 2 for name in one})
    for name, value in whole.parameters.items():
        np.testing.assert_allclose(parts.parameters[name], value, rtol=1e-12)


def test_what_is_returned_is_the_callers_own_and_one_block() -> None:
    exe = trained()
    gradients = exe.gradients(feeds())
    kept = {name: value.copy() for name, value in gradients.items()}
    exe.update(gradients)
    exe.gradients(feeds(seed=1))
    assert gradients.block.shape == (sum(value.size for value in kept.values()),)
    assert gradients.block.dtype == np.float32
    for name, value in gradients.items():
        np.testing.assert_array_equal(value, kept[name])
        assert np.shares_memory(value, gradients.block)


def test_without_a_copy_the_block_is_that_which_update_reads() -> None:
    one, two = trained(), trained()
    views, copies = one.gradients(feeds(), copy=False), two.gradients(feeds())
    views.block *= 0.5
    one.update(views)
    two.update({name: value * np.float32(0.5) for name, value in copies.items()})
    assert held(one) == held(two)
    again = one.gradients(feeds(seed=1), copy=False)
    assert np.shares_memory(again.block, views.block)


def test_views_of_the_block_may_be_given_for_one_another() -> None:
    graph = ge.Graph("two")
    x = graph.input("x", ("n", 3))
    weights = [graph.parameter(name, (3,)) for name in "vw"]
    graph.output("loss", ge.mean(ge.square(x * weights[0]) + ge.exp(x * weights[1])))
    one, two = (ge.compile(graph, loss="loss", optimizer=ge.SGD(0.1)) for _ in range(2))
    for exe, is_copied in ((one, True), (two, False)):
        found = exe.gradients({"x": np.ones((2, 3), "float32")}, copy=is_copied)
        exe.update({"v": found["w"], "w": found["v"]})
    for name in "vw":
        np.testing.assert_array_equal(one.parameters[name], two.parameters[name])


def test_gradients_of_several_dtypes_stand_in_one_block_of_bytes() -> None:
    graph = ge.Graph("mixed")
    v, w = graph.parameter("v", (3,), dtype="float32"), graph.parameter("w", (5,), dtype="float64")
    graph.output("loss", ge.sum(ge.square(w)) + ge.cast(ge.sum(ge.square(v)), "float64"))
    whole, halves = trained(graph=graph), trained(graph=graph)
    assert_halves_are_a_step(whole, halves, [{}, {}])
    gradients = halves.gradients({})
    assert gradients.block.nbytes == 3 * 4 + 5 * 8
    assert all(value.flags.aligned for value in gradients.values())


def test_gradients_go_to_other_processes_and_back() -> None:
    exe, other = trained(), trained()
    gradients = exe.gradients(feeds())
    for again in (pickle.loads(pickle.dumps(gradients)), copy.deepcopy(gradients), gradients.copy()):
        assert again.loss == gradients.loss
        assert not np.shares_memory(again.block, gradients.block)
        assert all(np.shares_memory(value, again.block) for value in again.values())
        assert {name: value.tobytes() for name, value in again.items()} == {
            name: value.tobytes() for name, value in gradients.items()
        }
    other.update(pickle.loads(pickle.dumps(gradients)))
    exe.update(gradients)
    assert all(np.array_equal(other.parameters[name], value) for name, value in exe.parameters.items())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda g: g.pop("one.bias"), NamingError, r"the gradient of 'one.bias' is not given; it is float32\[6\]"),
        (
            lambda g: g.update({"one.bais": g["one.bias"]}),
            NamingError,
            "no gradient 'one.bais'; did you mean 'one.bias'",
        ),
        (
            lambda g: g.update({"one.bias": np.ones(3)}),
            ShapeError,
            r"'one.bias' is float32\[6\], and the value has shape",
        ),
        (lambda g: g.update({"one.bias": np.ones(6, complex)}), DTypeError, "and the value is complex128"),
        (lambda g: g.update({"one.bias": np.full(6, 1e300)}), DTypeError, "does not fit float32"),
    ],
)
def test_gradients_that_do_not_fit_are_refused(change: Callable, error: type[Exception], message: str) -> None:
    exe = trained()
    gradients = exe.gradients(feeds(), copy=False)
    block, before = gradients.block.copy(), held(exe)
    given = {name: value + 1 for name, value in gradients.items()}
    change(given)
    with pytest.raises(error, match=message):
        exe.update(given)
    assert held(exe) == before
    np.testing.assert_array_equal(gradients.block, block)


@pytest.mark.parametrize("given", [None, 0.1, [np.ones(3)]])
def test_gradients_that_are_no_mapping_are_refused(given: Any) -> None:
    exe = trained()
    before = held(exe)
    with pytest.raises(ExecutionError, match=rf"by the names of parameters .*one.bias.*, not a {type(given).__name__}"):
        exe.update(given)
    assert held(exe) == before


def test_lists_and_other_dtypes_are_given_where_they_fit() -> None:
    one, two = trained(), trained()
    gradients = one.gradients(feeds())
    two.gradients(feeds())
    one.update(gradients)
    two.update({name: value.astype("float64").tolist() for name, value in gradients.items()})
    assert held(one) == held(two)


def test_halves_need_an_optimizer() -> None:
    exe = ge.compile(network(), loss="loss")
    with pytest.raises(ExecutionError, match="gradients needs an optimizer"):
        exe.gradients(feeds())
    with pytest.raises(ExecutionError, match="update needs an optimizer"):
        exe.update({})
    with pytest.raises(ExecutionError, match="gradients needs a loss"):
        ge.compile(network()).plan("gradients", batch=2)


def test_feeds_are_held_to_their_types() -> None:
    with pytest.raises(FeedError, match="input 'labels' is not fed"):
        trained().gradients({"x": np.ones((2, 4))})


def test_backward_needs_a_forward_after_either_half() -> None:
    exe = trained()
    gradients = exe.gradients(feeds())
    for half in (lambda: exe.gradients(feeds()), lambda: exe.update(gradients)):
        exe.forward(feeds())
        half()
        with pytest.raises(ExecutionError, match="call forward first"):
            exe.backward()


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_updates_that_stand_in_a_graph_have_halves_too(name: str, backend: str) -> None:
    document = trained(OPTIMIZERS[name]).graph.to_json()
    whole, halves = (ge.compile(ge.Graph.from_json(document), loss="loss", seed=3, backend=backend) for _ in range(2))
    assert list(halves.gradients(feeds())) == list(halves.parameters)
    whole.gradients(feeds())
    assert_halves_are_a_step(whole, halves, [feeds(4, 0), feeds(7, 1)])


def test_parameters_of_one_gradient_are_updated_by_what_is_given_for_each() -> None:
    graph = ge.Graph("sum", "float64")
    v, w = graph.parameter("v", (3,), ge.init.Ones()), graph.parameter("w", (3,), ge.init.Ones())
    bare = graph.parameter("bare", (), ge.init.Ones())
    graph.output("loss", ge.sum(ge.square(v + w)) + bare)
    exe, whole = (trained(ge.SGD(learning_rate=0.5), graph) for _ in range(2))
    assert_halves_are_a_step(whole, exe, [{}])
    before = {name: np.array(value) for name, value in exe.parameters.items()}
    exe.update({"v": np.ones(3), "w": np.zeros(3), "bare": 4.0})
    np.testing.assert_array_equal(exe.parameters["v"], before["v"] - 0.5)
    np.testing.assert_array_equal(exe.parameters["w"], before["w"])
    assert exe.parameters["bare"] == before["bare"] - 2.0


def test_a_parameter_that_no_gradient_reaches_has_none() -> None:
    graph = network()
    graph.parameter("forgotten", (2,))
    with pytest.warns(ge.UnreachedParameterWarning):
        exe = trained(graph=graph)
    gradients = exe.gradients(feeds())
    assert set(exe.parameters) - set(gradients) == {"forgotten"}
    exe.update(gradients)


def test_updates_by_hand_have_no_halves() -> None:
    graph = ge.Graph("hand", "float64")
    w = graph.parameter("w", (3,))
    loss = graph.output("loss", ge.sum(ge.square(w)))
    (w_bar,) = ge.grad(loss, [w])
    graph.update(w, w - 0.1 * w_bar)
    exe = ge.compile(graph, loss="loss")
    exe.step({})
    with pytest.raises(ExecutionError, match=r"has no two halves: .* 'w', .*test_halves.py:\d+, is no optimizer"):
        exe.gradients({})


def test_halves_are_planned_costed_explained_and_audited() -> None:
    exe = trained()
    exe.step(feeds(6))
    step, first, second = (exe.cost(which, batch=6) for which in ("step", "gradients", "update"))
    assert first.flops["BACKWARD"] == step.flops["BACKWARD"] > 0
    assert second.flops["FORWARD"] == second.flops["BACKWARD"] == 0 < second.flops["UPDATE"]
    assert first.total_flops + second.total_flops == step.total_flops
    assert exe.plan("gradients", batch=6).binding == {"batch": 6}
    assert exe.plan("update", batch=6).inputs == ()
    for which in ("gradients", "update"):
        assert exe.explain(which).program == which
        assert exe.audit(which).ok
    exe.update(exe.gradients(feeds(5)))
    assert exe.program.binding == {"batch": 5}


def test_halves_keep_to_a_memory_budget() -> None:
    plain = trained(graph=network(rate=0.0))
    budget = plain.cost(batch=32).peak_bytes
    whole, halves = (trained(memory_budget=budget) for _ in range(2))
    assert_halves_are_a_step(whole, halves, [feeds(32)])
    assert halves.plan("gradients", batch=32).peak_bytes <= budget
