"""What becomes one region, what does not, and that nothing else changes by it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest

import graphengine as ge
from graphengine.executable import Executable
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node, Phase, apply
from graphengine.ir.op import Op
from graphengine.ir.types import TensorType
from graphengine.ops.fusion import numpy as fused_blocks
from graphengine.ops.fusion.fused import Fused
from graphengine.transform.extract import extract
from graphengine.transform.rewrite.check import check_rewrite
from graphengine.transform.rewrite.fuse import MOST_MEMBERS, fuse
from graphengine.transform.rewrite.passes import on_copy
from tests.random_graphs import BATCH, SEED, SEEDS, Sample, grow
from tests.schedule.replay import prove_plan
from tests.transform.rewrite.rewriting import Leaves, Write, assert_same_values, of

OTHERS = ("algebra", "cse")


def fused(graph: Graph) -> Graph:
    """`graph` after the rewrite, which is checked, and finds nothing more to do in what it has made."""
    after = on_copy(fuse, graph)
    check_rewrite(graph, after)
    assert on_copy(fuse, after) is after
    return after


def regions(graph: Graph) -> list[list[str]]:
    """The kinds of the ops of every region, in order."""
    return [[node.op.kind for node in op.region.members] for op in ops(graph)]


def ops(graph: Graph) -> list[Fused]:
    return [node.op for node in graph.nodes if isinstance(node.op, Fused)]


def regions_of(write: Write) -> list[list[str]]:
    before = of(write)
    after = fused(before)
    assert_same_values(before, after)
    return regions(after)


def test_a_chain_is_one_node_of_its_last_ones_name() -> None:
    before = of(lambda g: ge.tanh(g.x * g.v + 1.0))
    after = fused(before)
    assert regions(after) == [["multiply", "add", "tanh"]]
    result = after.outputs["result"]
    assert (result.name, result.where) == (before.outputs["result"].name, before.outputs["result"].where)
    assert [parent.name for parent in result.parents] == ["x", "v"]


def test_equal_regions_share_one_body_and_keep_their_names() -> None:
    def write(g: Leaves) -> Node:
        first = ge.tanh(g.a * g.v + 1.0)
        second = ge.tanh(first @ g.b * g.v + 1.0)
        return ge.tanh(second @ g.b * g.v + 2.0)

    before = of(write)
    after = fused(before)
    first, second, third = ops(after)
    assert first.region is second.region
    assert third.region is not first.region  # another number
    for op in (first, second, third):
        assert [before[name].op.kind for name, _ in op.computes] == ["multiply", "add", "tanh"]
    assert len({name for op in (first, second, third) for name, _ in op.computes}) == 9
    assert_same_values(before, after)


@pytest.mark.parametrize(
    "other",
    [
        lambda g, y: ge.tanh(g.v * y - y),
        lambda g, y: ge.tanh(y * g.b - y),
        lambda g, y: ge.tanh(g.v - y * g.v),
        lambda g, y: ge.sigmoid(y * g.v - y),
        lambda g, y: ge.sum(ge.tanh(y * g.v - y), 0),
        lambda g, y: ge.tanh((y * g.v - y)[:2]),
    ],
    ids=["order", "type", "wiring", "op", "reduced", "space"],
)
def test_other_regions_have_other_bodies(other: Callable[[Leaves, Node], Node]) -> None:
    def write(g: Leaves) -> Node:
        return ge.sum(other(g, ge.tanh(g.a * g.v - g.a) @ g.b))

    before = of(write)
    after = fused(before)
    bodies = [op.region for op in ops(after)]
    assert len(bodies) >= 2
    assert len(set(bodies)) == len(bodies)
    assert_same_values(before, after)


def test_a_zero_among_attributes_keeps_its_sign() -> None:
    graph = ge.Graph("zeros")
    x, w = graph.input("x", (4,)), graph.input("w", (4,))
    graph.output("plus", 1.0 / ge.clip(x, 0.0, 1.0))
    graph.output("minus", 1.0 / ge.clip(w, -0.0, 1.0))
    graph.output("same", 1.0 / ge.clip(x, -0.0, 1.0))
    feeds = {"x": -np.ones(4), "w": -np.ones(4)}
    plain, spared = (ge.compile(graph, rewrites=names).forward(feeds) for names in ((), ("cse", "fuse")))
    for name, value in plain.items():
        np.testing.assert_array_equal(spared[name], value, err_msg=name)


def test_a_bound_body_is_made_once() -> None:
    graph = ge.Graph("named")
    x, w = graph.input("x", ("batch", 4)), graph.parameter("w", (4, 4))
    h = ge.tanh(x @ w * 2.0)
    graph.output("y", ge.tanh(h @ w * 2.0))
    exe = ge.compile(graph)
    bodies = [step.op.region for step in exe.plan(batch=3).instructions if isinstance(step.op, Fused)]
    assert len(bodies) == 2
    assert bodies[0] is bodies[1]
    assert bodies[0].inputs[0].shape == (3, 4)


def test_an_op_without_a_hash_is_fused_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Op, "registry", dict(Op.registry))

    class Scaled(Op):
        """x times the sum of some factors."""

        kind: Literal["scaled_by_list"] = "scaled_by_list"
        factors: list[float]

        __hash__ = None

        def infer(self, x: TensorType) -> TensorType:
            return x

        def eval(self, xp: object, x: np.ndarray) -> np.ndarray:
            return x * sum(self.factors)

        def scalar(self, *operands: str) -> str:
            return f"{operands[0]} * {sum(self.factors)!r}"

    graph = ge.Graph("own", "float64")
    x = graph.input("x", (3,))
    graph.output("y", ge.tanh(apply(Scaled(factors=[1.0, 2.0]), x)))
    assert regions(on_copy(fuse, graph)) == [["scaled_by_list", "tanh"]]
    np.testing.assert_allclose(ge.compile(graph).forward({"x": np.ones(3)})["y"], np.tanh(3 * np.ones(3)))


def test_numbers_are_part_of_the_region_and_arrays_are_operands() -> None:
    (op,) = ops(fused(of(lambda g: g.x * 2.0 + np.ones(3))))
    assert [node.op.kind for node in op.region.graph.nodes].count("constant") == 1
    assert len(op.region.inputs) == 2


def test_one_op_alone_stays_as_it_is() -> None:
    graph = of(lambda g: ge.tanh(g.x) @ g.a)
    assert on_copy(fuse, graph) is graph


def test_scalars_stay_as_they_are() -> None:
    graph = of(lambda g: ge.tanh(g.s * 2.0 + 1.0))
    assert on_copy(fuse, graph) is graph


def test_what_the_outside_reads_are_results_of_a_bundle() -> None:
    def write(g: Leaves) -> Node:
        y = ge.tanh(g.x + g.v)
        g.graph.output("first", y)
        return ge.sigmoid(y) * 2.0

    before = of(write)
    after = fused(before)
    assert regions(after) == [["add", "tanh", "sigmoid", "multiply"]]
    names = {name: node.name for name, node in before.outputs.items()}
    assert {name: node.name for name, node in after.outputs.items()} == names
    assert {node.op.kind for node in after.outputs.values()} == {"item"}


def test_ops_that_read_the_same_array_are_one_region() -> None:
    assert regions_of(lambda g: ge.sum(ge.exp(g.a) @ ge.sin(g.a))) == [["exp", "sin"]]
    assert regions_of(lambda g: ge.exp(g.a * g.v) @ ge.sin(g.b * g.v)) == [["multiply", "exp"], ["multiply", "sin"]]


def test_regions_that_an_op_reads_both_are_one() -> None:
    kinds = regions_of(lambda g: ge.exp(g.x * 2.0) + ge.sin(g.y * 3.0))
    assert kinds == [["multiply", "exp", "multiply", "sin", "add"]]


def test_a_reader_outside_ends_a_region() -> None:
    def write(g: Leaves) -> Node:
        h = ge.tanh(g.a * 2.0)
        return (h @ g.b) * h + 1.0

    assert regions_of(write) == [["multiply", "tanh"], ["multiply", "add"]]


def test_reductions_stand_at_the_ends_of_a_region() -> None:
    assert regions_of(lambda g: ge.sum(ge.square(g.x - g.v))) == [["subtract", "square", "sum"]]
    assert regions_of(lambda g: ge.max(ge.exp(g.x), 0) * ge.mean(g.x * g.x, 0)) == [["exp", "max", "multiply", "mean"]]
    assert regions_of(lambda g: ge.logsumexp(g.x * 2.0 + 1.0)) == [["multiply", "add"]]


def test_what_reads_a_reduction_is_another_region() -> None:
    def softmax(g: Leaves) -> Node:
        powers = ge.exp(g.x - g.v)
        return powers / ge.sum(powers, 1, keepdims=True) + 1.0

    assert regions_of(softmax) == [["subtract", "exp", "sum"], ["divide", "add"]]


def test_a_smaller_shape_is_another_region() -> None:
    assert regions_of(lambda g: ge.tanh(g.x * ge.exp(g.v * 2.0))) == [["multiply", "exp"], ["multiply", "tanh"]]


def test_other_floats_and_ints_are_other_regions() -> None:
    def write(g: Leaves) -> Node:
        h = ge.cast(ge.exp(g.x) * 2.0, "float32")
        return ge.cast(ge.cast(h * h, "int32") + 1, "float32") * h

    before = of(write)
    after = fused(before)
    assert regions(after) == [["exp", "multiply"], ["cast", "multiply"]]
    assert_same_values(before, after)


def test_bools_between_floats_are_part_of_a_region() -> None:
    kinds = regions_of(lambda g: ge.where(ge.logical_and(g.x > 0.5, g.y > g.x), g.x, g.y))
    assert kinds == [["greater", "greater", "logical_and", "where"]]


def test_a_region_has_no_more_members_than_are_compiled_quickly() -> None:
    def write(g: Leaves) -> Node:
        y = g.x
        for _ in range(MOST_MEMBERS + 10):
            y = ge.tanh(y)
        return y

    assert [len(kinds) for kinds in regions_of(write)] == [MOST_MEMBERS, 10]


def test_the_body_of_a_scan_has_regions_too() -> None:
    graph = ge.Graph("recurrent", "float64")
    h, x = graph.input("h", ("batch", 3)), graph.input("x", ("time", "batch", 3))
    h, y = ge.scan(lambda h, x: ((gate := ge.sigmoid(h + x)) * h, ge.tanh(gate * x)), h, x)
    graph.output("loss", ge.sum(h) + ge.sum(y))
    feeds = {"h": np.ones((2, 3)), "x": np.linspace(-1, 1, 24).reshape(4, 2, 3)}
    values = []
    for rewrites in ((), ("fuse",)):
        exe = ge.compile(graph, loss="loss", wrt=["h", "x"], rewrites=rewrites)
        values.append({**exe.forward(feeds), **exe.backward()})
        prove_plan(exe, "gradient", batch=2, time=4)
    assert_close(*values)
    loops = [step.loop for step in exe.program.instructions if step.loop]
    found = [[step.op.kind for step in loop.body.instructions if not step.is_view] for loop in loops]
    assert found == [["fused"], ["fused"]]


def test_phases_are_apart_but_for_forward_and_backward_in_a_step() -> None:
    graph = ge.Graph("net", "float64")
    x, w = graph.input("x", ("batch", 3)), graph.parameter("w", (3,))
    graph.output("loss", ge.sum(ge.tanh(x * w)))
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1, momentum=0.9), rewrites=["fuse"])
    for which, expected in [("gradient", [Phase.FORWARD, Phase.BACKWARD]), ("step", [Phase.BACKWARD, Phase.UPDATE])]:
        steps = exe.plan(which, batch=4).instructions
        assert [step.phase for step in steps if isinstance(step.op, Fused)] == expected
        prove_plan(exe, which, batch=4)
    feeds = {"x": np.linspace(-1, 1, 12).reshape(4, 3)}
    plain = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1, momentum=0.9), rewrites=[])
    for _ in range(3):
        assert exe.step(feeds) == plain.step(feeds)
    assert exe.cost(batch=4).total_flops == plain.cost(batch=4).total_flops


@pytest.mark.parametrize(
    "optimizer",
    [ge.Adam(), ge.AdamW(), ge.RMSProp(centered=True, momentum=0.5), ge.SGD(learning_rate=0.1, momentum=0.5)],
    ids=lambda optimizer: optimizer.kind,
)
def test_a_parameter_and_its_slots_are_written_where_they_stand_by_one_instruction(optimizer: ge.Optimizer) -> None:
    exe = ge.compile(network(), loss="loss", optimizer=optimizer)
    program = exe.program
    assert "copy" not in {step.op.kind for step in program.instructions}
    for name in exe.parameters:
        own = {name, *(slot for slot in exe.state if slot.startswith(f"{name}."))}
        writers = [step for step in program.instructions if not step.is_view and own & written(step)]
        assert [own & written(step) for step in writers] == [own]
    prove_plan(exe, "step", batch=1)


def written(step: object) -> set[str | None]:
    return {buffer.leaf for buffer in (step.out, *step.out.parts.values())} - {None}


def network() -> Graph:
    graph = ge.Graph("net", "float64")
    h = ge.tanh(graph.input("x", ("batch", 3)) @ graph.parameter("w", (3, 4)) + graph.parameter("b", (4,)))
    graph.output("loss", ge.sum(ge.square(h @ graph.parameter("v", (4, 4)))))
    return graph


def test_no_parameter_is_written_before_the_values_of_the_results_are_there() -> None:
    graph = network()
    labels = graph.input("labels", ("batch",), "int64")
    graph.outputs["loss"] = ge.cross_entropy(graph.outputs["loss"].parents[0], labels) + 0.0
    exe = ge.compile(graph, loss="loss", optimizer=ge.Adam())
    before = {name: value.copy() for name, value in (*exe.parameters.items(), *exe.state.items())}
    with pytest.raises(ge.ValueRangeError, match="label 9"):
        exe.step({"x": np.ones((2, 3)), "labels": [0, 9]})
    for name, value in (*exe.parameters.items(), *exe.state.items()):
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_the_audit_counts_every_value_once_though_some_are_fused() -> None:
    counts = {
        rewrites: ge.compile(network(), loss="loss", optimizer=ge.Adam(), rewrites=rewrites).audit()
        for rewrites in ((), ("fuse",))
    }
    assert counts[()] == counts[("fuse",)]
    assert counts[()].ok


def lines_run(act: Callable[[], object]) -> int:
    """How many lines of Python `act` runs: a measure of its work that is the same on every machine."""
    count = 0

    def trace(_frame: object, event: str, _argument: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return count


def test_a_long_chain_is_fused_with_work_that_grows_with_its_length() -> None:
    def work_on(length: int) -> int:
        graph = ge.Graph("long")
        x = graph.input("x", (2, 2))
        for place in range(length):
            x = x @ x if place % 9 == 8 else ge.tanh(x)
        graph.output("y", x)
        work = lines_run(lambda: fuse(graph))
        assert len(ops(graph)) == length // 9 + 1
        return work

    assert work_on(3_602) < 4.4 * work_on(902)


def compiled(sample: Sample, **options: object) -> Executable:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ge.UnreachedParameterWarning)  # not every graph has grown from every leaf
        return ge.compile(sample.graph, loss="loss", seed=SEED, **options)


@pytest.mark.parametrize("nbytes", [1, 2**19], ids=["small blocks", "one block"])
@pytest.mark.parametrize("seed", SEEDS)
def test_random_graphs_have_the_same_values_gradients_and_steps(
    seed: int, nbytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_blocks, "BLOCK_BYTES", nbytes)
    sample = grow(seed)
    options = {"wrt": sample.float_leaves, "optimizer": ge.Adam(learning_rate=0.01)}
    plain, spared = (compiled(sample, rewrites=rewrites, **options) for rewrites in ((), ("fuse",)))
    for what in ("forward", "backward"):
        feeds = [sample.feeds] if what == "forward" else []
        assert_close(getattr(spared, what)(*feeds), getattr(plain, what)(*feeds))
    for _ in range(2):
        assert_close({"loss": spared.step(sample.feeds)}, {"loss": plain.step(sample.feeds)})
    assert_close(dict(spared.parameters), dict(plain.parameters))
    assert_close(dict(spared.state), dict(plain.state))


def assert_close(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_fused_program_loses_a_value_before_its_last_reader(seed: int) -> None:
    sample = grow(seed)
    exe = compiled(sample, wrt=sample.float_leaves, optimizer=ge.Adam(), rewrites=["fuse"])
    for which in ("forward", "gradient", "step"):
        prove_plan(exe, which, batch=BATCH)
    assert exe.audit().ok


def test_random_graphs_are_still_graphs() -> None:
    for seed in SEEDS:
        graph = grow(seed).graph
        fused(extract(graph, graph.outputs.values(), {}))
