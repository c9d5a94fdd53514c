"""Multi-head attention and the transformer block, against their formulas in NumPy."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError, ShapeError
from graphengine.layers import multi_head_attention, transformer_block
from tests.arrays import boolean, f64

UNITS, HEADS = 6, 3


def softmax(z: np.ndarray) -> np.ndarray:
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, allowed: np.ndarray | bool = True) -> np.ndarray:
    """Head by head: the units of each stand together."""
    size = q.shape[-1] // heads
    found = []
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        z = q[..., part] @ np.swapaxes(k[..., part], -1, -2) / np.sqrt(size)
        seen = allowed if isinstance(allowed, bool) else allowed[..., min(h, allowed.shape[-3] - 1), :, :]
        found.append(softmax(np.where(seen, z, -np.inf)) @ v[..., part])
    return np.concatenate(found, axis=-1)


def by_hand(exe: ge.Executable, x: np.ndarray, allowed: np.ndarray | bool = True, name: str = "a") -> np.ndarray:
    weights = exe.parameters
    maps = x @ weights[f"{name}.qkv.weight"] + weights[f"{name}.qkv.bias"]
    found = attended(*np.split(maps, 3, axis=-1), HEADS, allowed)
    return found @ weights[f"{name}.output.weight"] + weights[f"{name}.output.bias"]


def build(shape: tuple[int | str, ...] = ("batch", "time", UNITS), **options: object) -> ge.Graph:
    graph = ge.Graph("heads", dtype="float64")
    mask = graph.input("mask", options.pop("mask"), "bool") if "mask" in options else None
    y = multi_head_attention(graph.input("x", shape), HEADS, name="a", mask=mask, **options)
    graph.output("y", y)
    graph.output("loss", ge.sum(y * y * (y + 1.0)))
    return graph


def shaken(exe: ge.Executable) -> ge.Executable:
    """With biases too, which start at zeros."""
    for number, name in enumerate(exe.parameters):
        exe.parameters[name] = f64(*exe.parameters[name].shape, low=-0.7, high=0.7, seed=number)
    return exe


@pytest.mark.parametrize("sizes", [(2, 5), (1, 1), (3, 4)])
def test_multi_head_attention_is_its_formula_at_any_size(sizes: tuple[int, int]) -> None:
    exe, x = shaken(ge.compile(build())), f64(*sizes, UNITS)
    np.testing.assert_allclose(exe.forward({"x": x})["y"], by_hand(exe, x), rtol=1e-11, atol=1e-13)


def test_axes_ahead_are_any_number() -> None:
    for ahead in ((), (2,), (2, 3)):
        exe, x = shaken(ge.compile(build((*ahead, 5, UNITS)))), f64(*ahead, 5, UNITS)
        np.testing.assert_allclose(exe.forward({"x": x})["y"], by_hand(exe, x), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("block", [None, 2])
def test_masks_and_the_causal_one_say_what_is_seen(block: int | None) -> None:
    x, causal = f64(2, 5, UNITS), np.tri(5, dtype=bool)[None]
    exe = shaken(ge.compile(build(causal=True, block=block)))
    np.testing.assert_allclose(exe.forward({"x": x})["y"], by_hand(exe, x, causal), rtol=1e-11, atol=1e-13)
    padding = np.array([[True] * 5, [True, True, True, False, False]])[:, None, None]
    exe = shaken(ge.compile(build(mask=("batch", 1, 1, "time"), block=block)))
    y = exe.forward({"x": x, "mask": padding})["y"]
    np.testing.assert_allclose(y, by_hand(exe, x, padding), rtol=1e-11, atol=1e-13)
    per_head = boolean(2, HEADS, 5, 5) | np.eye(5, dtype=bool)
    exe = shaken(ge.compile(build(mask=("batch", HEADS, "time", "time"), block=block)))
    y = exe.forward({"x": x, "mask": per_head})["y"]
    np.testing.assert_allclose(y, by_hand(exe, x, per_head), rtol=1e-11, atol=1e-13)


def test_a_context_is_where_keys_and_values_come_from() -> None:
    graph = ge.Graph("cross", dtype="float64")
    x, context = graph.input("x", ("batch", "time", UNITS)), graph.input("context", ("batch", "source", 4))
    graph.output("y", multi_head_attention(x, HEADS, name="a", context=context))
    exe, fed, source = shaken(ge.compile(graph)), f64(2, 3, UNITS), f64(2, 7, 4, seed=1)
    weights = exe.parameters
    assert {name: array.shape for name, array in weights.items()} == {
        "a.query.weight": (6, 6),
        "a.query.bias": (6,),
        "a.key_value.weight": (4, 12),
        "a.key_value.bias": (12,),
        "a.output.weight": (6, 6),
        "a.output.bias": (6,),
    }
    q = fed @ weights["a.query.weight"] + weights["a.query.bias"]
    k, v = np.split(source @ weights["a.key_value.weight"] + weights["a.key_value.bias"], 2, axis=-1)
    expected = attended(q, k, v, HEADS) @ weights["a.output.weight"] + weights["a.output.bias"]
    np.testing.assert_allclose(exe.forward({"x": fed, "context": source})["y"], expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"causal": True, "block": 2}])
def test_gradients_agree_with_differences(options: dict[str, object]) -> None:
    graph = build(**options)
    leaves = [graph["x"], *graph.parameters]
    ge.gradcheck(graph, "loss", {"x": f64(2, 5, UNITS, low=-1, high=1)}, wrt=leaves, samples=25)


def test_the_future_has_no_influence_on_the_past() -> None:
    graph = build((5, UNITS), causal=True)
    graph.output("past", ge.sum(graph.outputs["y"][:3] ** 2.0))
    exe = ge.compile(graph, loss="past", wrt=["x"])
    exe.forward({"x": f64(5, UNITS)})
    bar = exe.backward()["x"]
    assert bar[:3].all()
    assert not bar[3:].any()


def test_each_map_starts_as_wide_as_if_it_stood_alone() -> None:
    graph = ge.Graph("wide")
    multi_head_attention(graph.input("x", ("batch", "time", 64)), 4, name="a")
    weights = ge.compile(build_output(graph)).parameters
    for name in ("a.qkv.weight", "a.output.weight"):
        assert np.abs(weights[name]).max() == pytest.approx(np.sqrt(6 / 128), rel=0.01)


def build_output(graph: ge.Graph) -> ge.Graph:
    graph.output("y", graph["a.output"])
    return graph


def test_without_bias_there_are_two_matrices() -> None:
    names = [node.name for node in build(bias=False).parameters]
    assert names == ["a.qkv.weight", "a.output.weight"]


def test_heads_are_split_and_merged_without_copies_but_one() -> None:
    exe = ge.compile(build((2, 5, UNITS)))
    copies = [step.name for step in exe.program.instructions if step.op.kind == "reshape" and not step.is_view]
    assert len(copies) == 1


# The transformer block


def layer_norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def block(dropout: float = 0.0, dtype: str = "float64", **options: object) -> ge.Graph:
    graph = ge.Graph("transformer", dtype=dtype)
    x = graph.input("x", ("batch", "time", UNITS))
    y = transformer_block(x, HEADS, 11, name="b", causal=True, dropout=dropout, **options)
    graph.output("y", y)
    graph.output("loss", ge.mean(y * y))
    return graph


def test_a_transformer_block_is_its_formula() -> None:
    exe, x = shaken(ge.compile(block(activation=ge.tanh))), f64(2, 5, UNITS)
    w = exe.parameters
    normed = layer_norm(x) * w["b.attention_norm.weight"] + w["b.attention_norm.bias"]
    h = x + by_hand(exe, normed, np.tri(5, dtype=bool)[None], "b.attention")
    normed = layer_norm(h) * w["b.hidden_norm.weight"] + w["b.hidden_norm.bias"]
    hidden = np.tanh(normed @ w["b.hidden.weight"] + w["b.hidden.bias"])
    expected = h + hidden @ w["b.output.weight"] + w["b.output.bias"]
    np.testing.assert_allclose(exe.forward({"x": x})["y"], expected, rtol=1e-11, atol=1e-12)


def test_the_gradients_of_a_block_agree_with_differences() -> None:
    graph = block()
    feeds = {"x": f64(2, 4, UNITS)}
    ge.gradcheck(graph, "loss", feeds, wrt=[graph["x"], *graph.parameters], samples=8)


def test_dropout_drops_in_training_and_is_gone_for_inference() -> None:
    x = {"x": f64(2, 4, UNITS)}
    dropping, plain = ge.compile(block(dropout=0.5)), ge.compile(block())
    assert set(dropping.parameters) == set(plain.parameters)
    assert not np.allclose(dropping.forward(x)["y"], plain.forward(x)["y"])
    inference = ge.compile(ge.for_inference(block(dropout=0.5)))
    np.testing.assert_allclose(inference.forward(x)["y"], plain.forward(x)["y"], rtol=1e-13)


def test_a_block_learns_to_look_back() -> None:
    graph = ge.Graph("echo")
    ids, before = graph.input("ids", ("batch", 8), "int64"), graph.input("before", ("batch", 7), "int64")
    x = ge.layers.embedding(ids, 5, 16, name="token")
    x = transformer_block(x + ge.layers.sinusoidal_positions(x), 2, 32, name="block", causal=True)
    logits = ge.layers.dense(x, 5, name="logits")
    graph.output("loss", ge.cross_entropy(logits[:, 1:], before))
    exe = ge.compile(graph, loss="loss", optimizer=ge.Adam(learning_rate=0.01))
    generator = np.random.default_rng(0)
    losses = []
    for _ in range(120):
        tokens = generator.integers(0, 5, (16, 8))
        losses.append(exe.step({"ids": tokens, "before": tokens[:, :-1]}) / 7)
    assert losses[0] > 1.5
    assert np.mean(losses[-5:]) < 0.3


@pytest.mark.parametrize("size", [None, 8])
def test_a_steady_step_of_a_block_allocates_no_array(size: int | None) -> None:
    exe = ge.compile(block(dtype="float32", block=size), loss="loss", optimizer=ge.SGD(learning_rate=0.01))
    feeds = {"x": f64(4, 64, UNITS).astype(np.float32)}
    tracemalloc.start()
    try:
        for _ in range(100):  # until the small memory that NumPy keeps for itself is full
            exe.step(feeds)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(10):
            exe.step(feeds)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 6200  # x takes 6144 bytes, the scores take 32 times that
    assert after - before < 512


def test_the_document_of_a_block_gives_it_back() -> None:
    graph = block(dropout=0.1)
    assert ge.Graph.from_json(graph.to_json()) == graph


# Bad input


def test_heads_that_do_not_divide_the_units_are_refused_before_anything_is_declared() -> None:
    graph = ge.Graph("bad")
    x = graph.input("x", (2, 5, UNITS))
    for layer in (lambda: multi_head_attention(x, 4, name="a"), lambda: transformer_block(x, 4, 8, name="a")):
        with pytest.raises(AttributeValueError, match=r"4 heads do not divide the 6 units of float32\[2, 5, 6\]"):
            layer()
    with pytest.raises(AttributeValueError, match="heads of an attention are an int of at least 1, not 0"):
        multi_head_attention(x, 0)
    assert len(graph) == 1


def test_a_mask_of_the_wrong_type_is_refused_before_anything_is_declared() -> None:
    graph = ge.Graph("bad")
    x, mask = graph.input("x", ("batch", "time", UNITS)), graph.input("mask", ("batch", "time"), "float32")
    with pytest.raises(DTypeError, match=r"mask of attention is of bools.*, not float32\[batch, time\]") as caught:
        multi_head_attention(x, HEADS, name="a", mask=mask)
    assert "a = multi_head_attention(x, mask)" in str(caught.value)
    with pytest.raises(ShapeError, match=r"\[batch, 3, time, time\]"):
        multi_head_attention(x, HEADS, name="a", mask=graph.input("wrong", ("batch", "time"), "bool"))
    assert not graph.parameters


def test_a_context_of_other_axes_or_dtype_is_refused() -> None:
    graph = ge.Graph("bad")
    x = graph.input("x", ("batch", "time", UNITS))
    with pytest.raises(ShapeError, match="alike in the axes ahead"):
        multi_head_attention(x, HEADS, context=graph.input("other", (3, "source", 4)))
    with pytest.raises(DTypeError, match="dtypes differ"):
        multi_head_attention(x, HEADS, context=graph.input("wide", ("batch", "source", 4), "float64"))
    with pytest.raises(ShapeError, match=r"\[..., time, units\] is needed, units being a number, not float32\[time\]"):
        multi_head_attention(graph.input("flat", ("time",)), 1)
