"""Weights from one network to another: by the names they have there, all or none."""

from __future__ import annotations

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import NamingError, TrainingError
from graphengine.executable import Executable
from graphengine.ir.types import Array
from graphengine.weights import Held
from tests.arrays import f64


def network(*prefixes: str, width: int = 4, dtype: str = "float64") -> ge.Graph:
    """A layer under each prefix, and a head; each layer counts its runs and keeps a mean."""
    graph = ge.Graph("network", dtype=dtype)
    x = graph.input("x", ("batch", 3))
    for prefix in prefixes:
        w = graph.parameter(f"{prefix}w", (int(x.shape[1]), width))
        x = ge.tanh(x @ w + graph.parameter(f"{prefix}b", (width,), init=ge.init.Normal()))
        mean = graph.state(f"{prefix}mean", (width,), init=ge.init.Ones())
        graph.update(mean, mean * 0.9 + ge.mean(x, axis=0) * 0.1)
    graph.output("loss", ge.mean(ge.square(x @ graph.parameter("head", (width,)) - 1.0)))
    return graph


def trained(graph: ge.Graph, seed: int) -> Executable:
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1, momentum=0.9), seed=seed)
    for _ in range(3):
        exe.step({"x": f64(5, 3)})
    return exe


def test_equal_networks_transfer_as_they_are() -> None:
    source, target = trained(network("a."), seed=1), trained(network("a."), seed=2)
    assert ge.transfer(source, target) == ["a.w", "a.b", "head", "a.mean"]
    feeds = {"x": f64(6, 3, seed=5)}
    assert source.forward(feeds)["loss"] == target.forward(feeds)["loss"]
    np.testing.assert_array_equal(target.state["a.mean"], source.state["a.mean"])


def test_only_what_is_transferred_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = trained(network("a.", "b."), seed=1), trained(network("a."), seed=2)
    read: list[str] = []
    get = Held.__getitem__

    def noted(held: Held, name: str) -> Array:
        read.append(name)
        return get(held, name)

    monkeypatch.setattr(Held, "__getitem__", noted)
    names = ge.transfer(source, target, {"b.": None})
    assert sorted(read) == sorted(names)


def test_the_slots_of_optimizers_stay_where_they_are() -> None:
    source, target = trained(network("a."), seed=1), trained(network("a."), seed=2)
    before = dict(target.state)
    ge.transfer(source, target)
    assert [name for name in before if not np.array_equal(before[name], target.state[name])] == ["a.mean"]


def test_prefixes_and_names_are_changed_on_the_way() -> None:
    source, target = trained(network("a.", width=3), seed=1), trained(network("left.", "right.", width=3), seed=2)
    rename = {"a.": "right.", "a.mean": None, "head": None}
    kept = target.parameters["left.w"]
    assert ge.transfer(source, target, rename, strict=False) == ["right.w", "right.b"]
    np.testing.assert_array_equal(target.parameters["right.w"], source.parameters["a.w"])
    np.testing.assert_array_equal(target.parameters["left.w"], kept)
    assert not np.array_equal(target.state["right.mean"], source.state["a.mean"])


def test_the_empty_prefix_stands_before_every_name() -> None:
    inside = network("a.")
    graph = ge.Graph("around", dtype="float64")
    graph.output("loss", graph.import_graph(inside, "model", {"x": graph.input("x", ("batch", 3))})["loss"])
    source, target = trained(inside, seed=1), ge.compile(graph)
    assert ge.transfer(source, target, {"": "model."}) == ["model.a.w", "model.a.b", "model.head", "model.a.mean"]
    feeds = {"x": f64(6, 3)}
    assert source.forward(feeds)["loss"] == target.forward(feeds)["loss"]
    back = ge.compile(inside)
    ge.transfer(target, back, {"model.": ""})
    assert back.forward(feeds)["loss"] == target.forward(feeds)["loss"]


def test_a_longer_prefix_goes_before_a_shorter_one_and_a_name_before_both() -> None:
    source, target = trained(network("a.b.", width=3), seed=1), trained(network("p.", "q.", width=3), seed=2)
    rename = {"": "none.", "a.b.": "q.", "a.b.w": "p.w"}
    assert ge.transfer(source, target, rename, strict=False) == ["p.w", "q.b", "q.mean"]


def test_nothing_is_set_when_something_does_not_fit() -> None:
    source, target = trained(network("a.", width=5), seed=1), trained(network("a.", "b."), seed=2)
    before = {**target.parameters, **target.state}
    with pytest.raises(TrainingError) as caught:
        ge.transfer(source, target, {"head": "last"})
    assert str(caught.value).splitlines() == [
        "'network' does not fit 'network'; nothing was set",
        "  missing: b.w, float64[4, 4]",
        "  missing: b.b, float64[4]",
        "  missing: head, float64[4]",
        "  missing: b.mean, float64[4]",
        "  unexpected: last, float64[5] (from head)",
        "  of another type: a.w is float64[3, 4], and float64[3, 5] is given",
        "  of another type: a.b is float64[4], and float64[5] is given",
        "  of another type: a.mean is float64[4], and float64[5] is given",
    ]
    for name, value in {**target.parameters, **target.state}.items():
        np.testing.assert_array_equal(value, before[name])


def test_another_dtype_is_another_type_even_where_names_may_differ() -> None:
    source, target = trained(network("a.", dtype="float32"), seed=1), trained(network("a."), seed=2)
    with pytest.raises(TrainingError, match=r"a\.w is float64\[3, 4\], and float32\[3, 4\]"):
        ge.transfer(source, target, strict=False)


def test_a_rename_that_means_nothing_is_refused() -> None:
    source, target = trained(network("a."), seed=1), trained(network("a."), seed=2)
    with pytest.raises(NamingError, match=r"rename: 'network' has no weights 'heads'; did you mean 'head'\?"):
        ge.transfer(source, target, {"heads": "head"})
    with pytest.raises(NamingError, match=r"rename: 'network' has no weights 'b\.'"):
        ge.transfer(source, target, {"b.": "a."})
    with pytest.raises(NamingError, match=r"rename: 'a\.w' and 'head' would both become 'head'"):
        ge.transfer(source, target, {"a.w": "head"})


@pytest.mark.parametrize("rename", [["a."], "a.", {"a.": 1}, {1: "a."}, {None: "a."}, {"a.": b"x"}, 5, {("a",): "b"}])
def test_a_rename_of_another_kind_is_refused(rename: object) -> None:
    source, target = trained(network("a."), seed=1), trained(network("a."), seed=2)
    with pytest.raises(NamingError, match=r"rename (is a mapping of names|maps names to names)"):
        ge.transfer(source, target, rename)  # type: ignore[arg-type]


def test_a_transfer_of_nothing_is_told() -> None:
    source, target = trained(network("a."), seed=1), trained(network("b."), seed=2)
    with pytest.warns(UserWarning, match=r"nothing was set: given is a\.w, a\.b, a\.mean, wanted b\.w, b\.b") as told:
        assert ge.transfer(source, target, {"head": None}, strict=False) == []
    assert told[0].filename == __file__


def test_training_goes_on_after_a_transfer() -> None:
    source, target = trained(network("a."), seed=1), trained(network("a."), seed=2)
    ge.transfer(source, target)
    losses = [target.step({"x": f64(5, 3)}) for _ in range(20)]
    assert losses[-1] < losses[0]
