"""compile: what it refuses, what it warns of, and that the declared graph stays as it is."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import graphengine as ge
from graphengine.compile import installed_backends
from graphengine.errors import CompileError, DTypeError, GraphError, NamingError, ShapeError
from graphengine.ir.training import Optimizer
from graphengine.view import summarize


def neuron() -> ge.Graph:
    graph = ge.Graph("neuron", dtype="float64")
    x, y = graph.input("x", ("batch", 3)), graph.input("y", ("batch", 1))
    w, b = graph.parameter("w", (3, 1)), graph.parameter("b", (1,))
    error = x @ w + b - y
    graph.output("prediction", x @ w + b)
    graph.output("loss", ge.sum(error * error))
    return graph


SGD = ge.SGD(learning_rate=0.1)


@pytest.mark.parametrize("seed", [1.5, "1", None, -1, True])
def test_a_seed_that_is_no_int_is_refused(seed: object) -> None:
    graph = ge.Graph("seeded")
    graph.output("y", ge.identity(graph.parameter("w", (2,))))
    with pytest.raises(CompileError, match="seed is an int of at least 0, not"):
        ge.compile(graph, seed=seed)


def test_a_seed_of_numpy_is_a_seed() -> None:
    graph = ge.Graph("seeded")
    graph.output("y", ge.dropout(graph.input("x", (2,)), 0.5))
    assert ge.compile(graph, seed=np.int64(3)).state["random.seed"] == ge.compile(graph, seed=3).state["random.seed"]


def test_the_declared_graph_is_unchanged() -> None:
    graph = neuron()
    before, size, names = graph.copy(), len(graph), [node.name for node in graph.nodes]
    exe = ge.compile(graph, loss="loss", optimizer=SGD)
    exe.step({"x": np.ones((2, 3)), "y": np.ones((2, 1))})
    assert graph == before
    assert len(graph) == size
    assert [node.name for node in graph.nodes] == names
    assert not graph.updates
    assert len(exe.graph) > size


def test_nodes_declared_after_compile_do_not_reach_the_executable() -> None:
    graph = neuron()
    exe = ge.compile(graph)
    graph.output("more", graph["x"] * 2.0)
    with pytest.raises(NamingError, match="no output 'more'"):
        exe.forward({}, outputs=["more"])


def test_a_loss_may_be_an_output_a_node_or_a_node_s_name() -> None:
    graph = neuron()
    feeds = {"x": np.ones((2, 3)), "y": np.ones((2, 1))}
    node = graph.outputs["loss"]
    for loss in ("loss", node, node.name):
        exe = ge.compile(graph, loss=loss)
        exe.forward(feeds)
        assert set(exe.backward()) == {"w", "b"}


def test_wrt_takes_leaves_by_name_or_node_and_keeps_its_order() -> None:
    graph = neuron()
    exe = ge.compile(graph, loss="loss", wrt=["x", graph["w"], "x"])
    exe.forward({"x": np.ones((2, 3)), "y": np.ones((2, 1))})
    gradients = exe.backward()
    assert {name: array.shape for name, array in gradients.items()} == {"x": (2, 3), "w": (3, 1)}


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("optimizer", [SGD, ge.Adam(0.1, clip=ge.ClipByGlobalNorm(1.0))], ids=["sgd", "adam"])
def test_an_optimizer_trains_just_what_wrt_names(optimizer: Optimizer, backend: str) -> None:
    graph, options = neuron(), {"loss": "loss", "seed": 3, "backend": backend}
    feeds = {"x": np.random.default_rng(0).normal(size=(4, 3)), "y": np.ones((4, 1))}
    exe = ge.compile(graph, optimizer=optimizer, wrt=["x", graph["b"], "b"], **options)
    twins = [ge.compile(again, **options) for again in (exe.graph, ge.Graph.from_json(exe.graph.to_json()))]
    halves = ge.compile(graph, optimizer=optimizer, wrt=["b"], **options)
    before = exe.parameters["w"]
    assert not [name for name in exe.state if name.startswith("w")]
    for _ in range(2):
        losses = [each.step(feeds) for each in (exe, *twins)]
        gradients = halves.gradients(feeds)
        halves.update(gradients)
        assert list(gradients) == ["b"]
        assert {*losses, gradients.loss} == {losses[0]}
    ge.fit(exe, feeds, epochs=1, progress=False)
    [each.step(feeds) for each in (halves, *twins)]
    for each in (exe, halves, *twins):
        np.testing.assert_array_equal(each.parameters["w"], before)
        np.testing.assert_array_equal(each.parameters["b"], exe.parameters["b"])
        assert each.parameters["b"] != 0
    exe.forward(feeds)
    assert list(exe.backward()) == ["x", "b"]


def test_wrt_without_a_parameter_for_the_optimizer_is_refused() -> None:
    graph = neuron()
    graph.output("more", graph.parameter("fixed", (), trainable=False) * 1.0)
    with pytest.raises(CompileError, match="the parameters that wrt names, and there is none among these: x"):
        ge.compile(graph, loss="loss", optimizer=SGD, wrt=["x"])
    with pytest.raises(CompileError, match=r"'fixed', which no optimizer trains: .* trainable=False at .*\.py"):
        ge.compile(graph, loss="loss", optimizer=SGD, wrt=["w", "fixed"])


def test_wrt_means_the_leaf_even_where_an_output_has_its_name() -> None:
    graph = ge.Graph("names", dtype="float64")
    w = graph.parameter("w", ())
    graph.output("w", w * w)
    exe = ge.compile(graph, loss="w", wrt=["w"])
    exe.parameters["w"] = 3.0
    exe.forward({})
    assert exe.backward()["w"] == 6.0


def test_a_parameter_that_is_not_trainable_is_left_alone() -> None:
    graph = ge.Graph("frozen", dtype="float64")
    w = graph.parameter("w", (), init=ge.init.Ones())
    frozen = graph.parameter("frozen", (), init=ge.init.Constant(2.0), trainable=False)
    graph.output("loss", w * frozen)
    exe = ge.compile(graph, loss="loss", optimizer=SGD)
    exe.step({})
    assert (exe.parameters["w"], exe.parameters["frozen"]) == (0.8, 2.0)
    exe.forward({})
    assert set(exe.backward()) == {"w"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"loss": "los"}, NamingError, "did you mean 'loss'"),
        ({"loss": "prediction"}, ShapeError, "a loss is a scalar"),
        ({"loss": "loss", "wrt": ["v"]}, NamingError, "no node 'v'"),
        ({"loss": "loss", "wrt": ["add_1"]}, CompileError, "wrt names leaves"),
        ({"loss": "loss", "wrt": []}, CompileError, "no trainable parameter"),
        ({"loss": "loss", "wrt": "w"}, CompileError, r"a list of leaves, not 'w'; write wrt=\['w'\]"),
        ({"optimizer": SGD}, CompileError, "needs a loss"),
        ({"wrt": ["w"]}, CompileError, "needs a loss"),
        ({"backend": "abacus"}, CompileError, "no backend 'abacus'; there are numpy"),
    ],
)
def test_what_cannot_be_compiled_is_refused(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ge.compile(neuron(), **options)


def test_a_loss_of_integers_is_refused() -> None:
    graph = ge.Graph("counting")
    graph.output("loss", graph.input("n", (), dtype="int64") + 1)
    with pytest.raises(DTypeError, match="a loss is a float"):
        ge.compile(graph, loss="loss")


def test_a_graph_without_outputs_is_refused() -> None:
    graph = ge.Graph("mute")
    graph.input("x", ())
    with pytest.raises(CompileError, match="has no outputs"):
        ge.compile(graph)


def test_a_graph_without_trainable_parameters_is_refused_for_training() -> None:
    graph = ge.Graph("fixed")
    graph.output("loss", ge.sum(graph.input("x", (3,))))
    with pytest.raises(CompileError, match="no trainable parameter"):
        ge.compile(graph, loss="loss")


def test_a_node_of_another_graph_is_refused_though_its_name_is_known() -> None:
    stranger = neuron()
    with pytest.raises(GraphError, match="belongs to graph 'neuron'"):
        ge.compile(neuron(), loss=stranger.outputs["loss"])
    with pytest.raises(GraphError, match="belongs to graph 'neuron'"):
        ge.compile(neuron(), loss="loss", wrt=[stranger["w"]])


def test_a_dim_that_no_input_has_is_refused() -> None:
    graph = ge.Graph("dims")
    graph.output("y", ge.broadcast_to(graph.parameter("w", (3,)), ("rows", 3)))
    with pytest.raises(CompileError, match="no input has a dim 'rows'"):
        ge.compile(graph)


def unreached(graph: ge.Graph, **options: object) -> str:
    with pytest.warns(ge.UnreachedParameterWarning) as caught:
        ge.compile(graph, loss="loss", **options)
    (warning,) = caught
    assert warning.filename == __file__
    return str(warning.message)


def test_a_parameter_behind_sign_is_reported_with_the_node_that_blocks_it() -> None:
    graph = ge.Graph("perceptron", dtype="float64")
    w, v = graph.parameter("w", (3,)), graph.parameter("v", (3,))
    graph.output("loss", ge.sum(ge.sign(w, name="hard") * v))
    message = unreached(graph)
    assert "no gradient reaches w: " in message
    assert "hard" in message
    assert "test_compile.py:" in message
    assert "reaches v" not in message


def test_a_parameter_behind_stop_gradient_is_reported() -> None:
    graph = ge.Graph("stopped", dtype="float64")
    w, v = graph.parameter("w", (3,)), graph.parameter("v", (3,))
    graph.output("loss", ge.sum(ge.stop_gradient(w) * v))
    assert "stop_gradient" in unreached(graph)


def test_a_parameter_that_the_loss_does_not_depend_on_is_reported() -> None:
    graph = neuron()
    graph.parameter("forgotten", (2,))
    message = unreached(graph)
    assert "no gradient reaches forgotten: the loss" in message
    assert "does not depend on it" in message


def test_a_parameter_behind_a_comparison_is_reported() -> None:
    graph = neuron()
    t = graph.parameter("threshold", ())
    graph.output("gated", ge.sum(ge.where(graph["x"] > t, graph["x"], 0.0 * graph["x"])))
    loss = graph.outputs["loss"] + graph.outputs["gated"]
    del graph.outputs["loss"]
    graph.output("loss", loss)
    assert "threshold: every path to the loss passes a value that is not a float" in unreached(graph)


def test_the_unreached_stay_as_they_are_and_have_zero_gradients() -> None:
    graph = neuron()
    graph.parameter("forgotten", (2,), init=ge.init.Ones())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ge.UnreachedParameterWarning)
        exe = ge.compile(graph, loss="loss", optimizer=SGD)
    feeds = {"x": np.ones((2, 3)), "y": np.ones((2, 1))}
    exe.step(feeds)
    exe.forward(feeds)
    np.testing.assert_array_equal(exe.backward()["forgotten"], [0.0, 0.0])
    np.testing.assert_array_equal(exe.parameters["forgotten"], [1.0, 1.0])
    assert list(exe.unreached) == ["forgotten"]


def test_zero_gradients_of_an_unreached_input_have_the_size_of_its_feed() -> None:
    graph = ge.Graph("aside", dtype="float64")
    graph.input("x", ("batch", 2))
    w = graph.parameter("w", (), init=ge.init.Ones())
    graph.output("loss", w * w)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ge.UnreachedParameterWarning)
        exe = ge.compile(graph, loss="loss", wrt=["x", "w"])
    exe.forward({"x": np.ones((5, 2))})
    gradients = exe.backward()
    np.testing.assert_array_equal(gradients["x"], np.zeros((5, 2)))
    assert gradients["w"] == 2.0


def test_no_warning_where_every_parameter_is_reached() -> None:
    ge.compile(neuron(), loss="loss", optimizer=SGD)  # warnings are errors here


def test_declared_updates_and_the_optimizer_s_stand_side_by_side() -> None:
    graph = neuron()
    seen = graph.state("seen", ())
    graph.update(seen, seen + 1.0)
    exe = ge.compile(graph, loss="loss", optimizer=SGD)
    for _ in range(3):
        exe.step({"x": np.ones((2, 3)), "y": np.ones((2, 1))})
    assert exe.state["seen"] == 3.0


def test_an_update_of_a_parameter_that_the_optimizer_trains_too_is_refused() -> None:
    graph = neuron()
    graph.update(graph["w"], graph["w"] * 0.5)
    with pytest.raises(GraphError, match="'w' has an update already"):
        ge.compile(graph, loss="loss", optimizer=SGD)


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("rewrites", [None, []])
@pytest.mark.parametrize("optimizer", [ge.SGD(learning_rate=0.1, momentum=0.9), ge.Adam()], ids=["sgd", "adam"])
def test_the_graph_of_an_executable_is_trained_by_the_updates_that_stand_in_it(
    optimizer: Optimizer, rewrites: list[str] | None, backend: str
) -> None:
    graph = ge.Graph("g")
    x = graph.input("x", ("batch", 6))
    hidden = ge.dropout(ge.layers.batch_norm(ge.layers.dense(x, 8, name="one"), name="norm"), 0.3)
    chances = ge.exp(ge.layers.dense(hidden, 3, name="two"))  # a form that is made safe before it is differentiated
    graph.output("loss", -ge.mean(ge.log((chances / ge.sum(chances, axis=1, keepdims=True))[:, 0])))
    options = {"loss": "loss", "rewrites": rewrites, "backend": backend, "seed": 3}
    first = ge.compile(graph, optimizer=optimizer, **options)
    for again in (first.graph, ge.Graph.from_json(first.graph.to_json())):
        whole, exe = ge.compile(graph, optimizer=optimizer, **options), ge.compile(again, **options)
        for seed in range(3):
            feeds = {"x": np.random.default_rng(seed).normal(size=(5, 6)).astype("float32")}
            assert exe.step(feeds) == whole.step(feeds)
            exe.forward(feeds), whole.forward(feeds)
            assert all(np.array_equal(found, exe.backward()[name]) for name, found in whole.backward().items())
        held = {**whole.parameters, **whole.state}
        assert all(np.array_equal({**exe.parameters, **exe.state}[name], value) for name, value in held.items())
        with pytest.raises(GraphError, match=r"has an update already, .* leave the optimizer out"):
            ge.compile(again, optimizer=optimizer, **options)


def test_a_graph_that_trains_itself_is_cross_validated_and_summed_up_by_its_own_updates() -> None:
    graph = neuron()
    graph.training = ge.Training(loss="loss", optimizer=SGD)
    data = {"x": np.random.default_rng(0).normal(size=(8, 3)), "y": np.ones((8, 1))}
    whole = ge.cross_validate(graph, data, folds=2, epochs=2, progress=False)
    again = ge.Graph.from_json(ge.compile(graph, loss="loss", optimizer=SGD).graph.to_json())
    assert ge.cross_validate(again, data, folds=2, epochs=2, progress=False).scores == whole.scores
    assert summarize(again).step == summarize(graph).step
