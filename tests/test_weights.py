"""Weights: drawn when they are first needed, and each the same whoever asks first."""

import tracemalloc
from threading import Thread

import numpy as np
import pytest

import graphengine as ge
from graphengine.ir.init import Initializer


def net() -> ge.Graph:
    g = ge.Graph("net")
    x = g.input("x", ("batch", 4))
    apart = ge.sum(g.parameter("c", (5, 5)))
    g.output("loss", ge.mean((x @ g.parameter("a", (4, 3))) @ g.parameter("b", (3, 2))) + apart)
    g.output("apart", apart)
    return g


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is drawn from here on."""
    names: list[str] = []
    draw = Initializer.draw

    def noted(self: Initializer, seed: int, name: str, *rest: object) -> np.ndarray:
        names.append(name)
        return draw(self, seed, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Initializer, "draw", noted)
    return names


def test_nothing_is_drawn_until_it_is_needed(drawn: list[str]) -> None:
    exe = ge.compile(net(), loss="loss", optimizer=ge.Adam(0.1))
    exe.cost(batch=8), exe.plan(batch=8), exe.audit(), repr(exe.parameters), list(exe.parameters)
    assert drawn == []
    exe.forward({}, ["apart"])
    assert drawn == ["c"]
    exe.parameters["b"]
    exe.parameters["b"]
    assert drawn == ["c", "b"]
    exe.parameters["a"] = np.ones((4, 3))
    exe.step({"x": np.ones((2, 4), np.float32)})
    assert {"a", "b", "c"}.isdisjoint(drawn[2:])  # slots alone
    assert drawn[2:]


def test_the_order_in_which_they_are_needed_changes_nothing() -> None:
    one, other = ge.compile(net(), seed=3), ge.compile(net(), seed=3)
    first = {name: one.parameters[name] for name in ("a", "b", "c")}
    other.forward({"x": np.ones((1, 4), np.float32)})
    assert all((other.parameters[name] == first[name]).all() for name in ("c", "b", "a"))


def test_inference_sees_what_is_set_before_anything_is_drawn() -> None:
    g = ge.Graph()
    g.output("y", ge.dropout(g.input("x", (4,)) * g.parameter("w", (4,), init=ge.init.Ones()), 0.5))
    exe = ge.compile(g)
    assert exe.inference is not exe
    exe.parameters["w"] = [1, 2, 3, 4]
    assert (exe.inference.forward({"x": np.ones(4, np.float32)})["y"] == [1, 2, 3, 4]).all()
    assert (exe.inference.parameters["w"] == exe.parameters["w"]).all()


def test_threads_that_draw_at_once_get_one_array() -> None:
    weights = ge.compile(net()).programs.weights
    found: list[np.ndarray] = []
    threads = [Thread(target=lambda: found.append(weights["c"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(array is found[0] for array in found)


def test_a_float32_parameter_is_drawn_in_its_own_memory() -> None:
    nbytes = 4 * 2**21
    tracemalloc.start()
    try:
        array = ge.init.GlorotNormal().draw(0, "w", (2**11, 2**10), "float32")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert array.nbytes == nbytes
    assert peak < 1.5 * nbytes


def test_what_cannot_be_drawn_is_told_when_it_is_compiled() -> None:
    g = ge.Graph()
    g.output("y", ge.sum(g.parameter("b", (6,), init=ge.init.LSTMBias())))
    with pytest.raises(ge.AttributeValueError, match="a vector of four equal parts"):
        ge.compile(g)
