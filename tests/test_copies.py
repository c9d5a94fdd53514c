"""Copies and pickles: of executables, and of what users hold beside them."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphengine as ge
from graphengine import errors
from graphengine.backends.installed import installed_backends
from graphengine.errors import ExecutionError, PickleError
from graphengine.executable import Executable
from graphengine.ir import pickling
from tests.random_graphs import Setting, grow, seeds


def pickled(protocol: int) -> Callable[[Any], Any]:
    return lambda thing: pickle.loads(pickle.dumps(thing, protocol))


COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "protocol 2": pickled(2), "protocol 5": pickled(5)}
every_copy = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)


def network() -> ge.Graph:
    """A classifier whose training draws, and keeps statistics."""
    graph = ge.Graph("network")
    x, labels = graph.input("x", ("batch", 4)), graph.input("labels", ("batch",), dtype="int64")
    hidden = ge.layers.batch_norm(ge.layers.dense(x, 5, name="one"), name="norm")
    logits = graph.output("logits", ge.layers.dense(ge.dropout(ge.relu(hidden), 0.3), 3, name="two"))
    graph.output("loss", ge.cross_entropy(logits, labels))
    return graph


def feeds(seed: int = 0, batch: int = 6) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(batch, 4)).astype("float32")
    return {"x": x, "labels": generator.integers(0, 3, batch)}


def compiled(**options: Any) -> Executable:
    return ge.compile(network(), loss="loss", optimizer=ge.Adam(0.05), seed=3, **options)


def held(exe: Executable) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in {**exe.parameters, **exe.state}.items()}


def used(exe: Executable) -> None:
    """Run all programs that there are, so that as much as may be is bound."""
    exe.forward(feeds())
    exe.backward()
    exe.inference.forward(feeds(), ["logits"])
    exe.step(feeds())
    exe.update(exe.gradients(feeds(1), copy=False))


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("has_run", [False, True])
def test_copies_go_on_like_their_original_and_apart_from_it(backend: str, has_run: bool) -> None:
    exe = compiled(backend=backend)
    if has_run:
        used(exe)
    copies, before = [copied(exe) for copied in COPIES.values()], held(exe)
    losses, afterwards = [], []
    for other in copies:
        assert held(other) == before
        with pytest.raises(ExecutionError, match="call forward first"):
            other.backward()
        losses.append([other.step(feeds(seed)) for seed in range(2)])
        other.update(other.gradients(feeds(3)))
        afterwards.append(held(other))
        other.parameters["two.bias"] = np.ones(3)
        assert held(exe) == before
    assert losses == [[exe.step(feeds(seed)) for seed in range(2)]] * len(copies)
    exe.update(exe.gradients(feeds(3)))
    assert afterwards == [held(exe)] * len(copies)


@every_copy
def test_a_copy_has_the_recipe_of_its_original(copied) -> None:
    options = {"rewrites": ["cse", "fuse"], "memory_budget": 4000, "backend": installed_backends()[-1]}
    exe = compiled(**options)
    exe.step(feeds())
    other = copied(exe)
    assert other.graph == exe.graph
    assert other.graph.training == exe.graph.training
    assert (other.seed, other.loss, other.unreached) == (exe.seed, exe.loss, exe.unreached)
    assert other.programs.settings.rewrites == ("cse", "fuse")
    assert type(other.programs.settings.backend) is type(exe.programs.settings.backend)
    assert str(other.program) == str(exe.program)
    assert other.audit() == exe.audit()
    assert str(other.explain()) == str(exe.explain())


@every_copy
def test_what_is_held_beside_an_executable_belongs_to_its_copy(copied) -> None:
    exe = compiled()
    used(exe)
    if copied is copy.copy:
        inference, view = copy.copy(exe.inference), copy.copy(exe.parameters)
    else:
        other, view, inference = copied((exe, exe.parameters, exe.inference))
        other.parameters["two.bias"] = np.full(3, 7.0)
        np.testing.assert_array_equal(view["two.bias"], np.full(3, 7.0))
        np.testing.assert_array_equal(inference.parameters["two.bias"], np.full(3, 7.0))
        other.step(feeds())
        np.testing.assert_array_equal(view["two.bias"], other.parameters["two.bias"])
    before = held(exe)
    view["two.bias"] = np.full(3, 8.0)
    inference.parameters["two.bias"] = np.full(3, 9.0)
    assert held(exe) == before
    assert inference.forward(feeds(), ["logits"])["logits"].shape == (6, 3)


def test_the_best_of_a_training_may_be_kept_as_a_copy() -> None:
    exe = compiled()
    kept = []
    for seed in range(4):
        exe.step(feeds(seed))
        kept.append((copy.deepcopy(exe), exe.forward(feeds(9), ["logits"])["logits"]))
    for best, logits in kept:
        np.testing.assert_array_equal(best.forward(feeds(9), ["logits"])["logits"], logits)


@pytest.mark.parametrize("seed", seeds(4))
def test_any_graph_and_its_executable_are_the_same_again(seed: int) -> None:
    sample = grow(seed, 10, Setting())
    assert pickled(5)(sample.graph) == copy.copy(sample.graph) == copy.deepcopy(sample.graph) == sample.graph
    exe = ge.compile(sample.graph, loss="loss", wrt=sample.float_leaves)
    other = pickled(5)(exe)
    assert other.graph == exe.graph
    with np.errstate(all="ignore"):
        exe.forward(sample.feeds), other.forward(sample.feeds)
        first, second = exe.backward(), other.backward()
    assert {name: value.tobytes() for name, value in first.items()} == {n: v.tobytes() for n, v in second.items()}


def test_a_copied_graph_is_added_to_apart_from_its_original() -> None:
    for copied in COPIES.values():
        graph = network()
        graph.training = ge.Training(loss="loss", optimizer=ge.SGD(0.1))
        twin = copied(graph)
        assert twin == graph
        assert twin.hash() == graph.hash()
        assert [node.where for node in twin.nodes] == [node.where for node in graph.nodes]
        twin.output("more", twin.outputs["logits"] * 2.0)
        assert twin.outputs["more"].graph is twin
        assert len(twin) > len(graph)
        assert "more" not in graph.outputs
        assert twin.new_name("relu") == graph.new_name("relu")


def test_a_node_is_copied_with_its_graph() -> None:
    graph = network()
    logits = graph.outputs["logits"]
    assert copy.copy(logits) is logits
    for copied in (copy.deepcopy, pickled(2)):
        twin, node = copied((graph, logits))
        assert node is twin.outputs["logits"]
        alone = copied(logits)
        assert alone.graph == graph
        assert alone.graph.outputs["logits"] is alone


def test_a_deep_graph_needs_no_deep_stack() -> None:
    graph = ge.Graph("deep")
    y = graph.parameter("w", ())
    for _ in range(5000):
        y = y * 1.0001
    graph.output("loss", y)
    for copied in COPIES.values():
        assert copied(y).graph == graph


def test_the_arrays_of_constants_stay_read_only() -> None:
    graph = ge.Graph("constants")
    node = graph.constant("c", [1.0, 2.0])
    assert not pickled(5)(node).op.value.flags.writeable


def beside() -> dict[str, Any]:
    """What users make or are given besides executables, graphs and nodes."""
    exe, data = compiled(), feeds(batch=8)
    history = ge.fit(exe, data, epochs=2, validation=data, progress=False)
    return {
        "gradients": exe.gradients(feeds()),
        "history": history,
        "epoch": history.epochs[0],
        "program": exe.program,
        "cost": exe.cost(batch=8),
        "audit": exe.audit(),
        "explanation": exe.explain(),
        "parameters": exe.parameters,
        "type": exe.graph.outputs["logits"].type,
        "training": ge.Training(loss="loss", optimizer=ge.Adam(ge.CosineDecay(0.1, steps=5)), epochs=3),
        "optimizer": ge.SGD(0.1, momentum=0.9, clip=ge.ClipByGlobalNorm(1.0)),
        "initializer": ge.init.HeNormal(),
        "stopping": ge.EarlyStopping("loss", patience=2),
        "op": exe.graph.outputs["logits"].op,
        "layer": ge.layers.dense,
        "metric": ge.Metric("accuracy", ge.metrics.accuracy),
        "warning": ge.UnreachedParameterWarning("text"),
    }


def test_whatever_users_hold_is_copied_and_pickled() -> None:
    for name, thing in beside().items():
        for copied in COPIES.values():
            twin = copied(thing)
            assert type(twin) is type(thing), name
            if name in ("gradients", "parameters"):
                assert {key: twin[key].tobytes() for key in twin} == {key: thing[key].tobytes() for key in thing}
            elif name in ("stopping", "warning"):
                assert str(vars(twin)) == str(vars(thing))
            elif name in ("program", "explanation"):
                assert str(twin) == str(thing)
            else:
                assert twin == thing, name


def test_every_error_comes_back_whole_from_another_process() -> None:
    for name in errors.__all__:
        error = getattr(errors, name)("what went wrong")
        error.quote("node  h = relu(x)")
        for copied in COPIES.values():
            twin = copied(error)
            assert type(twin) is type(error)
            assert str(twin) == str(error)


def test_a_copy_of_gradients_is_no_view_of_those_that_update_reads() -> None:
    exe = compiled()
    gradients = exe.gradients(feeds(), copy=False)
    kept = copy.copy(gradients)
    values = {name: value.copy() for name, value in kept.items()}
    exe.gradients(feeds(1))
    for name, value in kept.items():
        np.testing.assert_array_equal(value, values[name])


def test_a_pickle_of_another_version_is_refused_before_its_state_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    exe = compiled()
    for thing in (exe, exe.graph, exe.inference):
        for other in ((pickling.FORMAT + 1, pickling.writer()[1]), (pickling.FORMAT, "0.0.7")):
            with monkeypatch.context() as patch:
                for module in ("graphengine.executable.writer", "graphengine.ir.graph.writer"):
                    patch.setattr(module, lambda other=other: other)
                written = pickle.dumps(thing)
            unreadable = written.replace(b"TrainingGraph", b"WasOnceAClass").replace(b"TensorType", b"WasOneOnce")
            with pytest.raises(PickleError, match=rf"by graphengine {other[1]} \(form {other[0]}\), and this is"):
                pickle.loads(unreadable)


@ge.custom_vjp
def rounded(x: ge.Node) -> ge.Node:
    return ge.floor(x)


@rounded.defvjp
def straight_through(_y: ge.Node, y_bar: ge.Node, _x: ge.Node) -> ge.Node:
    return y_bar


def with_rule(function: Callable[[ge.Node], ge.Node]) -> Executable:
    graph = ge.Graph("rule")
    y = graph.output("y", function(graph.input("x", (3,)) * graph.parameter("w", (3,), ge.init.Ones())))
    graph.output("loss", ge.sum(y))
    return ge.compile(graph, loss="loss", optimizer=ge.SGD(0.1))


def test_a_rule_at_the_top_of_a_module_travels() -> None:
    exe = with_rule(rounded)
    for copied in COPIES.values():
        other = copied(exe)
        assert other.step({"x": np.ones(3)}) == 3.0
        np.testing.assert_allclose(other.parameters["w"], 0.9)
        assert other.graph == exe.graph


def test_code_that_has_no_name_is_copied_and_not_pickled() -> None:
    local = ge.custom_vjp(lambda x: ge.floor(x))
    local.defvjp(lambda _y, y_bar, _x: y_bar)
    exe = with_rule(local)
    assert copy.copy(exe).step({"x": np.ones(3)}) == copy.deepcopy(exe).step({"x": np.ones(3)}) == 3.0
    for thing in (exe, exe.graph, exe.graph.outputs["y"]):
        with pytest.raises(PickleError, match="holds code that pickle does not find by its name") as raised:
            pickle.dumps(thing)
        assert "at the top level of a module" in raised.value.message
        assert "declared at" in str(raised.value)


def test_an_op_of_the_users_own_says_whether_it_can_be_pickled() -> None:
    class Doubled(ge.Op):
        kind: str = "doubled"

        def infer(self, x):
            return x

        def eval(self, xp, x):
            return xp.add(x, x)

    try:
        graph = ge.Graph("own")
        graph.output("y", graph.add(Doubled(), [graph.input("x", (2,))]))
        exe = ge.compile(graph)
        np.testing.assert_array_equal(copy.deepcopy(exe).forward({"x": np.ones(2)})["y"], [2, 2])
        with pytest.raises(PickleError, match="Doubled"):
            pickle.dumps(exe)
    finally:
        del ge.Op.registry["doubled"]


@pytest.mark.parametrize("backend", installed_backends())
def test_weights_of_a_pickle_whose_arrays_are_read_only_are_trained(backend: str) -> None:
    exe = compiled(backend=backend)
    used(exe)
    buffers: list[pickle.PickleBuffer] = []
    written = pickle.dumps(exe, 5, buffer_callback=buffers.append)
    other = pickle.loads(written, buffers=[bytes(buffer) for buffer in buffers])
    assert other.step(feeds(1)) == exe.step(feeds(1))
    assert held(other) == held(exe)


def test_joblib_writes_and_reads_executables(tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    exe = compiled()
    used(exe)
    joblib.dump(exe, tmp_path / "model.joblib")
    other = joblib.load(tmp_path / "model.joblib")
    assert other.step(feeds(5)) == exe.step(feeds(5))
    assert held(other) == held(exe)


def stepped(exe: Executable) -> tuple[float, Executable]:
    return exe.step(feeds(5)), exe


def test_executables_go_to_other_processes_and_come_back() -> None:
    exes = [compiled(backend=backend) for backend in installed_backends()]
    for exe in exes:
        used(exe)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        returned = pool.map(stepped, exes)
    for exe, (loss, other) in zip(exes, returned, strict=True):
        assert exe.step(feeds(5)) == loss
        assert held(other) == held(exe)
        assert other.step(feeds(6)) == exe.step(feeds(6))


@pytest.mark.skipif("numba" not in installed_backends(), reason="needs numba")
def test_a_pickle_for_a_backend_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    written = pickle.dumps(compiled(backend="numba"))
    monkeypatch.setattr("graphengine.backends.installed.installed_backends", lambda: ["numpy"])
    with pytest.raises(ge.CompileError, match="needs numba"):
        pickle.loads(written)
