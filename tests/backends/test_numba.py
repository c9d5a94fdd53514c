"""The backend that compiles, against the one that does not: values, gradients, updates, faults, and the same bits."""

from __future__ import annotations

import sys
import threading
import warnings

import numpy as np
import pytest

pytest.importorskip("numba", reason="the backend compiles by numba")

import graphengine as ge
from graphengine import zoo
from graphengine.backends.native.threads.team import team
from graphengine.backends.numba import NativeProgram
from graphengine.errors import CompileError, ValueRangeError
from tests.random_graphs import SEED, SEEDS, grow

NETWORKS = {
    "digits": zoo.digits_network,
    "lstm": zoo.digits_lstm,
    "gru": zoo.digits_gru,
    "lenet": zoo.lenet,
    "autoencoder": zoo.convolutional_autoencoder,
}


def feeds_of(graph: ge.Graph, batch: int, dtype: str | None = None) -> dict[str, np.ndarray]:
    """Numbers of [0, 1), and labels 0 and 1."""
    generator = np.random.default_rng(0)
    feeds = {}
    for node in graph.inputs:
        shape = [size if isinstance(size, int) else batch for size in node.shape]
        if node.type.is_float:
            feeds[node.name] = generator.random(shape).astype(dtype or node.dtype)
        else:
            feeds[node.name] = generator.integers(0, 2, shape)
    return feeds


def mlp() -> ge.Graph:
    graph = ge.Graph("mlp")
    x, y = graph.input("x", ("batch", 12)), graph.input("y", ("batch",), dtype="int64")
    hidden = ge.relu(ge.layers.dense(x, 32, name="hidden"))
    graph.output("loss", ge.cross_entropy(ge.layers.dense(hidden, 5, name="head"), y))
    return graph


def loaded(executable: ge.Executable) -> NativeProgram:
    """The program that was last run."""
    runnable = executable.programs.latest.runnable
    assert isinstance(runnable, NativeProgram)
    return runnable


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_train_as_they_do_by_numpy(name: str) -> None:
    graph = NETWORKS[name]()
    assert graph.training is not None
    assert graph.training.loss is not None
    feeds = feeds_of(graph, 6)
    losses = {}
    for backend in ("numpy", "numba"):
        executable = ge.compile(
            graph, loss=graph.training.loss, optimizer=graph.training.optimizer, backend=backend, seed=3
        )
        losses[backend] = [executable.step(feeds) for _ in range(3)]
    np.testing.assert_allclose(losses["numba"], losses["numpy"], rtol=2e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_graphs_have_the_values_and_gradients_of_numpy(seed: int) -> None:
    sample = grow(seed)
    results = []
    for backend in ("numpy", "numba"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ge.UnreachedParameterWarning)
            executable = ge.compile(sample.graph, loss="loss", backend=backend, seed=SEED)
        results.append({**executable.forward(sample.feeds), **executable.backward()})
    for name, value in results[0].items():
        np.testing.assert_allclose(results[1][name], value, rtol=1e-8, atol=1e-10, err_msg=name)


def test_the_same_input_gives_the_same_bits() -> None:
    feeds = feeds_of(mlp(), 200)
    runs = []
    for _ in range(3):
        executable = ge.compile(mlp(), loss="loss", optimizer=ge.Adam(learning_rate=0.01), backend="numba")
        losses = [executable.step(feeds) for _ in range(5)]
        runs.append((losses, {name: value.tobytes() for name, value in executable.parameters.items()}))
    assert runs[0] == runs[1] == runs[2]


def test_a_run_that_goes_alone_gives_the_bits_of_all_threads() -> None:
    g = ge.Graph("layer")
    x = g.input("x", ("batch", 96))
    h = ge.tanh(ge.layers.dense(ge.tanh(ge.layers.dense(x, 256, name="first")), 40, name="second"))
    g.output("loss", ge.mean(ge.square(h)))
    feeds = {"x": np.random.default_rng(0).standard_normal((300, 96)).astype(np.float32)}

    def trained() -> dict[str, np.ndarray]:
        exe = ge.compile(g, loss="loss", optimizer=ge.SGD(learning_rate=0.5), backend="numba", seed=3)
        for _ in range(3):
            exe.step(feeds)
        return dict(exe.parameters)

    together = trained()
    with team()._taken:  # as if another run had the threads
        alone = trained()
    for name, value in together.items():
        np.testing.assert_array_equal(alone[name], value, err_msg=name)


def test_a_program_whose_ops_all_have_loops_is_one_call() -> None:
    executable = ge.compile(mlp(), loss="loss", optimizer=ge.SGD(learning_rate=0.1), backend="numba")
    executable.step(feeds_of(mlp(), 4))
    assert loaded(executable)._alone[0, len(executable.program.instructions)] is not None


def test_forward_and_backward_are_two_calls_of_one_program() -> None:
    feeds = feeds_of(mlp(), 4)
    ours, reference = (ge.compile(mlp(), loss="loss", backend=backend) for backend in ("numba", "numpy"))
    for executable in (ours, reference):
        executable.forward(feeds)
    expected = reference.backward()
    for name, gradient in ours.backward().items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-5, atol=1e-6)
    assert len(loaded(ours)._alone) == 2


def test_a_label_out_of_range_is_refused_as_by_numpy_and_nothing_is_updated() -> None:
    messages = []
    for backend in ("numpy", "numba"):
        executable = ge.compile(mlp(), loss="loss", optimizer=ge.SGD(learning_rate=0.1), backend=backend)
        before = {name: value.copy() for name, value in executable.parameters.items()}
        feeds = feeds_of(mlp(), 4)
        good = executable.forward(feeds)["loss"]
        feeds["y"] = np.array([0, 1, 7, 0])
        with pytest.raises(ValueRangeError) as refused:
            executable.step(feeds)
        messages.append(str(refused.value))
        assert all(np.array_equal(executable.parameters[name], value) for name, value in before.items())
        feeds["y"] = feeds_of(mlp(), 4)["y"]
        assert executable.forward(feeds)["loss"] == good
    assert "7" in messages[0]
    assert messages[0].splitlines()[0] == messages[1].splitlines()[0]
    assert "test_numba.py" in messages[1]


def test_not_a_number_and_infinity_pass_through() -> None:
    graph = ge.Graph("special", dtype="float32")
    x = graph.input("x", ("n",))
    graph.output("y", ge.maximum(ge.tanh(x) * 2.0, ge.exp(x)) - ge.relu(x))
    feeds = {"x": np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 100.0], "float32")}
    ours, theirs = (ge.compile(graph, backend=backend).forward(feeds)["y"] for backend in ("numba", "numpy"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_a_short_last_batch_compiles_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphengine.backends.native.compile import store

    executable = ge.compile(mlp(), loss="loss", optimizer=ge.SGD(learning_rate=0.1), backend="numba")
    executable.step(feeds_of(mlp(), 32))
    monkeypatch.setattr(store, "_compile", lambda *_: pytest.fail("compiled again"))
    executable.step(feeds_of(mlp(), 31))


def test_executables_run_in_several_threads_at_once() -> None:
    graph = ge.Graph("wide")
    x = graph.input("x", (128, 128))
    graph.output("y", ge.tanh(x @ graph.parameter("w", (128, 128))))
    feeds = {"x": np.random.default_rng(0).random((128, 128), "float32")}
    expected = ge.compile(graph, backend="numba").forward(feeds)["y"]
    wrong: list[int] = []

    def work() -> None:
        executable = ge.compile(graph, backend="numba")
        for turn in range(30):
            if not np.array_equal(executable.forward(feeds)["y"], expected):
                wrong.append(turn)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_auto_takes_it_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    executable = ge.compile(mlp(), backend="auto")
    assert executable.programs.settings.backend.name == "numba"
    monkeypatch.setattr(sys.modules["graphengine.backends.installed"], "find_spec", lambda _: None)
    assert ge.compile(mlp(), backend="auto").programs.settings.backend.name == "numpy"
    with pytest.raises(CompileError, match=r"needs numba: pip install"):
        ge.compile(mlp(), backend="numba")
