"""Attention: its contract, the published formula, what it may not see, and blocks that change nothing but memory."""

from __future__ import annotations

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError, FeedError, ShapeError
from graphengine.ops.attention import Attention, AttentionAdjoint
from graphengine.testing import check_op
from tests.arrays import boolean, f64

HEADS = (2, 3)
Q, K, V = f64(*HEADS, 5, 4), f64(*HEADS, 6, 4, seed=1), f64(*HEADS, 6, 3, seed=2)
MASK = boolean(5, 6)

CASES = [
    (Attention(), (Q, K, V)),
    (Attention(causal=True), (Q, K, V)),
    (Attention(causal=True), (K, Q, Q)),
    (Attention(scale=0.3), (Q, K, V, MASK)),
    (Attention(causal=True), (Q, K, V, MASK)),
    (Attention(), (Q, K, V, boolean(6))),
    (Attention(), (Q, K, V, boolean(2, 1, 1, 6, seed=1))),
    (Attention(), (Q, K, V, boolean(3, 5, 1))),
    (Attention(), (Q, K, V, np.array(False))),
    (Attention(block=2), (Q, K, V)),
    (Attention(block=1, causal=True), (K, Q, Q)),
    (Attention(block=2, causal=True), (Q, K, V, boolean(2, 1, 5, 6, seed=1))),
    (Attention(block=3), (Q, K, V, boolean(3, 1, 6))),
    (Attention(block=100), (Q, K, V, boolean(5, 1))),
    (Attention(), (f64(1, 1), f64(1, 1), f64(1, 1))),
    (Attention(causal=True), (f64(4, 2), f64(7, 2), f64(7, 1))),
]


def adjoint_operands(q: np.ndarray, k: np.ndarray, v: np.ndarray, *mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """Operands of any values: the adjoint is a function of each."""
    rows = q.shape[:-1]
    return (f64(*rows, v.shape[-1], seed=3), q, k, v, f64(*rows, seed=4) + 1.0, f64(*rows, seed=5), *mask)


@pytest.mark.parametrize(("op", "operands"), CASES)
def test_attention_keeps_the_op_contract(op: Attention, operands: tuple[np.ndarray, ...]) -> None:
    check_op(op, *operands, differentiable=True)


@pytest.mark.parametrize(("op", "operands"), CASES)
def test_the_adjoint_of_attention_keeps_the_op_contract(op: Attention, operands: tuple[np.ndarray, ...]) -> None:
    op = AttentionAdjoint(causal=op.causal, scale=op.scale, block=op.block)
    check_op(op, *adjoint_operands(*operands), tolerance=1e-5)


def reference(q: np.ndarray, k: np.ndarray, v: np.ndarray, allowed: np.ndarray | bool = True) -> np.ndarray:
    """Row by row, as the paper has it."""
    y = np.zeros((*q.shape[:-1], v.shape[-1]))
    allowed = np.broadcast_to(allowed, (*q.shape[:-1], k.shape[-2]))
    for place in np.ndindex(q.shape[:-1]):
        ahead, seen = place[:-1], np.flatnonzero(allowed[place])
        weights = np.exp([q[place] @ k[ahead][j] / np.sqrt(q.shape[-1]) for j in seen])
        for weight, j in zip(weights, seen, strict=True):
            y[place] += weight / weights.sum() * v[ahead][j]
    return y


def run(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None, **options: object) -> np.ndarray:
    graph = ge.Graph("run", dtype="float64")
    nodes = [graph.constant(None, array) for array in (q, k, v)]
    graph.output("y", ge.attention(*nodes, mask, **options))
    return ge.compile(graph).forward({})["y"]


CAUSAL = np.tri(5, 6, dtype=bool)

same = np.testing.assert_allclose


@pytest.mark.parametrize("block", [None, 1, 2, 5, 9])
def test_attention_is_the_published_formula(block: int | None) -> None:
    same(run(Q, K, V, block=block), reference(Q, K, V), rtol=1e-12)
    same(run(Q, K, V, causal=True, block=block), reference(Q, K, V, CAUSAL), rtol=1e-12)


@pytest.mark.parametrize("shape", [(5, 6), (6,), (5, 1), (3, 1, 6), (2, 1, 1, 6), (2, 3, 5, 6)])
def test_a_mask_says_which_keys_a_query_sees(shape: tuple[int, ...]) -> None:
    mask = boolean(*shape, seed=3)
    same(run(Q, K, V, mask), reference(Q, K, V, mask), rtol=1e-12)
    same(run(Q, K, V, mask, causal=True, block=2), reference(Q, K, V, mask & CAUSAL), rtol=1e-12)


def test_weights_are_one_in_all_whatever_the_scores() -> None:
    huge = run(1e4 * Q, 1e4 * K, np.ones_like(V))
    same(huge, 1.0, rtol=1e-12)


def test_keys_of_equal_scores_share_evenly() -> None:
    same(run(np.zeros_like(Q), K, V), np.broadcast_to(V.mean(-2, keepdims=True), (*HEADS, 5, 3)), rtol=1e-12)


def test_the_scale_is_what_it_is_said_to_be() -> None:
    same(run(Q, K, V, scale=0.25), run(Q * 0.5, K, V), rtol=1e-12)


@pytest.mark.parametrize("block", [None, 2])
def test_a_query_that_sees_no_key_gets_zeros_and_passes_none_but_zero_adjoints(block: int | None) -> None:
    mask = np.ones((5, 6), bool)
    mask[3] = False
    graph, feeds = network(block=block, masked=True), {"q": Q, "k": K, "v": V, "mask": mask}
    exe = ge.compile(graph, loss="loss", wrt=["q", "k", "v"])
    values, bars = exe.forward(feeds), exe.backward()
    assert not values["y"][..., 3, :].any()
    assert not bars["q"][..., 3, :].any()
    assert all(np.isfinite(bar).all() for bar in bars.values())
    assert bars["q"][..., :3, :].all()


def network(block: int | None = None, causal: bool = False, masked: bool = False, dtype: str = "float64") -> ge.Graph:
    """Attention of fed queries, keys and values, all of whose sizes but the last are named."""
    graph = ge.Graph("attending", dtype=dtype)
    q, k = graph.input("q", ("batch", 3, "time", 4)), graph.input("k", ("batch", 3, "source", 4))
    v = graph.input("v", ("batch", 3, "source", 3))
    mask = graph.input("mask", ("time", "source"), dtype="bool") if masked else None
    y = graph.output("y", ge.attention(q, k, v, mask, causal=causal, block=block, name="attended"))
    graph.output("loss", ge.sum(y * y * (y + 1.0)))
    return graph


@pytest.mark.parametrize("block", [None, 2])
def test_the_future_has_no_influence_on_the_past(block: int | None) -> None:
    graph = ge.Graph("causal", dtype="float64")
    q, k, v = (graph.input(name, (5, 4)) for name in "qkv")
    y = ge.attention(q, k, v, causal=True, block=block)
    graph.output("past", ge.sum(y[:3] * y[:3]))
    feeds = {name: f64(5, 4, seed=seed) for seed, name in enumerate("qkv")}
    exe = ge.compile(graph, loss="past", wrt=["q", "k", "v"])
    exe.forward(feeds)
    for name, bar in exe.backward().items():
        assert not bar[3:].any(), name
        assert bar[:3].any(), name


@pytest.mark.parametrize("sizes", [(2, 5, 6), (1, 7, 3), (3, 1, 1)])
@pytest.mark.parametrize("causal", [False, True])
def test_blocks_change_neither_values_nor_gradients(sizes: tuple[int, int, int], causal: bool) -> None:
    batch, time, source = sizes
    feeds = {"q": f64(batch, 3, time, 4), "k": f64(batch, 3, source, 4, seed=1), "v": f64(batch, 3, source, 3, seed=2)}
    feeds["mask"] = boolean(time, source)
    found = []
    for block in (None, 1, 2, 4):
        exe = ge.compile(network(block, causal, masked=True), loss="loss", wrt=["q", "k", "v"])
        found.append({**exe.forward(feeds), **exe.backward()})
    for other in found[1:]:
        for name, value in found[0].items():
            same(other[name], value, rtol=1e-12, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"block": 2}, {"block": 2, "causal": True, "masked": True}])
def test_gradients_of_gradients_are_those_of_the_formula(options: dict[str, object]) -> None:
    graph = network(**options)
    leaves = [graph[name] for name in "qkv"]
    bars = ge.grad(graph.outputs["loss"], leaves)
    graph.output("second", ge.sum(bars[0] * bars[0]) + ge.sum(bars[1] * bars[1]) + ge.sum(bars[2] * bars[2]))
    feeds = {"q": f64(1, 3, 4, 4), "k": f64(1, 3, 5, 4, seed=1), "v": f64(1, 3, 5, 3, seed=2)}
    if "masked" in options:
        feeds["mask"] = boolean(4, 5)
    ge.gradcheck(graph, "second", feeds, wrt=leaves, samples=30)


def peak(time: int, block: int | None) -> int:
    graph = network(block, dtype="float32")
    exe = ge.compile(graph, loss="loss", wrt=["q", "k", "v"])
    return exe.cost(batch=1, time=time, source=time).peak_bytes


def test_the_memory_of_blocks_grows_with_the_time_and_not_with_its_square() -> None:
    whole, blocks = [peak(time, None) for time in (1024, 2048, 4096)], [peak(time, 32) for time in (1024, 2048, 4096)]
    assert whole[1] - whole[0] < 0.3 * (whole[2] - whole[1])
    assert blocks[2] - blocks[1] == 2 * (blocks[1] - blocks[0])
    assert blocks[2] < whole[2] / 20
    heads = 3
    assert blocks[2] < 4 * heads * 4096 * (2 * 32 + 60)  # the scores and their adjoints, and some vectors


def test_the_scores_are_not_kept_for_the_backward_pass() -> None:
    exe = ge.compile(network(dtype="float32"), loss="loss", wrt=["q", "k", "v"])
    cost = exe.cost(batch=1, time=1024, source=1024)
    assert cost.retained_bytes < 4 * 3 * 1024 * 16 < 4 * 3 * 1024 * 1024 < cost.peak_bytes


def test_causal_blocks_skip_the_keys_that_none_of_their_queries_sees() -> None:
    def flops(block: int | None) -> int:
        graph = network(block, causal=True)
        return ge.compile(graph).cost(batch=1, time=512, source=512).total_flops

    assert flops(16) / flops(512) == pytest.approx(0.5, abs=0.02)


# Bad input


def declare(*types: tuple[tuple[int, ...], str], **options: object) -> ge.Node:
    graph = ge.Graph("bad", dtype="float64")
    return ge.attention(*(graph.input(f"x{i}", *type_) for i, type_ in enumerate(types)), **options)


F = "float64"


@pytest.mark.parametrize(
    ("error", "message", "types"),
    [
        (ShapeError, r"one size, at least 1: these are float64\[5, 4\] and float64\[6, 3\]", [(5, 4), (6, 3), (6, 2)]),
        (ShapeError, r"one size, at least 1", [(5, 0), (6, 0), (6, 2)]),
        (ShapeError, r"every key has a value: these are float64\[6, 4\] and float64\[7, 2\]", [(5, 4), (6, 4), (7, 2)]),
        (ShapeError, r"alike in the axes ahead, not float64\[2, 5, 4\]", [(2, 5, 4), (3, 6, 4), (2, 6, 2)]),
        (ShapeError, r"queries \[..., t, d\], keys \[..., s, d\]", [(4,), (4,), (4,)]),
    ],
)
def test_queries_keys_and_values_that_do_not_fit_are_named(
    error: type[Exception], message: str, types: list[tuple[int, ...]]
) -> None:
    with pytest.raises(error, match=message):
        declare(*((shape, F) for shape in types))


def test_a_mask_of_another_dtype_is_refused_by_its_type() -> None:
    types = [((5, 4), F), ((6, 4), F), ((6, 2), F)]
    with pytest.raises(DTypeError, match=r"the mask of attention is of bools.*, not int64\[5, 6\]"):
        declare(*types, ((5, 6), "int64"))
    with pytest.raises(DTypeError, match=r"not float64\[5, 6\]"):
        declare(*types, mask=np.ones((5, 6)))


def test_a_mask_of_another_shape_is_refused() -> None:
    types = [((5, 4), F), ((6, 4), F), ((6, 2), F)]
    with pytest.raises(ShapeError, match=r"the mask bool\[2, 5, 6\] does not broadcast to the scores"):
        declare(*types, ((2, 5, 6), "bool"))
    with pytest.raises(ShapeError, match=r"\[6, 5\] and \[5, 6\]"):
        declare(*types, ((6, 5), "bool"))


def test_integers_and_mixed_dtypes_are_refused() -> None:
    with pytest.raises(DTypeError, match=r"attention takes floats, not int64\[5, 4\]"):
        declare(((5, 4), "int64"), ((6, 4), "int64"), ((6, 2), "int64"))
    with pytest.raises(DTypeError, match="dtypes differ"):
        declare(((5, 4), F), ((6, 4), "float32"), ((6, 2), F))


@pytest.mark.parametrize("block", [0, -1, 1.5])
def test_a_block_has_at_least_one_query(block: float) -> None:
    with pytest.raises(AttributeValueError, match="block"):
        declare(((5, 4), F), ((6, 4), F), ((6, 2), F), block=block)


def test_feeds_that_do_not_fit_each_other_are_refused_when_they_arrive() -> None:
    exe = ge.compile(network(masked=True))
    feeds = {"q": Q, "k": K, "v": V, "mask": boolean(5, 5)}
    with pytest.raises(FeedError, match="source = 6"):
        exe.forward(feeds, outputs=["y"])


def test_an_adjoint_that_is_not_of_this_attention_is_refused() -> None:
    graph = ge.Graph("bad", dtype="float64")
    leaves = [graph.input(f"x{i}", x.shape) for i, x in enumerate(adjoint_operands(Q, K, V))]
    with pytest.raises(ShapeError, match=r"are not of the attention of float64\[2, 3, 5, 4\]"):
        graph.add(AttentionAdjoint(), [leaves[1], *leaves[1:]])
