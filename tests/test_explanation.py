"""What `explain` says: each rewrite with what it changed and spared, and each kernel with its backend."""

from __future__ import annotations

import numpy as np
import pytest

import graphengine as ge
from graphengine.backends.backend import KernelUse
from graphengine.compile import BACKENDS
from graphengine.transform.rewrite.passes import REWRITES


def classifier(**options: object) -> ge.Executable:
    """A loss written out by hand, of a network with something to spare."""
    g = ge.Graph("classifier", "float64")
    x, labels = g.input("x", ("batch", 4)), g.input("labels", ("batch",), "int64")
    p = ge.softmax(ge.tanh(x @ g.parameter("w", (4, 3)) * 2.0 * 3.0))
    g.output("most_likely", ge.argmax(p, -1))
    g.output("loss", -ge.mean(ge.sum(ge.one_hot(labels, 3, dtype="float64") * ge.log(p), -1)))
    return ge.compile(g, loss="loss", optimizer=ge.SGD(learning_rate=0.1), **options)


def test_every_rewrite_is_told_in_order_with_what_it_changed() -> None:
    explanation = classifier().explain(batch=8)
    assert [rewrite.name for rewrite in explanation.rewrites] == [*REWRITES]
    algebra = next(rewrite for rewrite in explanation.rewrites if rewrite.name == "algebra")
    assert {change.node for change in algebra.changes if change.what == "gone"} >= {
        "multiply_1 = multiply(matmul_1, constant_1)"
    }
    assert algebra.spared["FLOPs"] > 0
    assert all(change.where.file == __file__ for rewrite in explanation.rewrites for change in rewrite.changes)


def test_costs_before_and_after_are_those_of_the_plans() -> None:
    explanation = classifier().explain(batch=8)
    assert explanation.rewrites[0].before == classifier(rewrites=["stabilization"]).cost(batch=8)
    assert explanation.rewrites[-1].after == explanation.cost == classifier().cost(batch=8)
    for earlier, later in zip(explanation.rewrites, explanation.rewrites[1:], strict=False):
        assert earlier.after == later.before


def test_what_was_made_safe_before_differentiating_is_told() -> None:
    declared = classifier().explain(batch=8).declared
    assert {change.node.split(" = ")[1] for change in declared if change.what == "new"} == {
        "cross_entropy(tanh_1, labels)"
    }
    assert classifier(rewrites=[]).explain(batch=8).declared == ()


def test_what_a_program_does_not_need_is_told() -> None:
    exe = classifier(rewrites=[])
    assert exe.explain("step", batch=2).left_out == ("argmax_1",)
    assert "subtract_1" in exe.explain("forward", batch=2).left_out


def test_sizes_are_those_of_the_last_run_or_those_given() -> None:
    exe = classifier()
    assert exe.explain().binding == {"batch": 1}
    exe.step({"x": np.ones((5, 4)), "labels": np.zeros(5, np.int64)})
    assert exe.explain().binding == {"batch": 5}
    assert exe.explain(batch=7).binding == {"batch": 7}
    with pytest.raises(ge.FeedError, match="sizes of the named dims"):
        exe.explain(time=3)


def test_every_instruction_has_a_kernel_or_is_a_view() -> None:
    exe = classifier()
    program = exe.plan(batch=8)
    uses = exe.explain(batch=8).kernels
    told = dict.fromkeys(use.instruction for use in uses)
    assert list(told) == [str(step) for step in program.instructions]
    views = {str(step) for step in program.instructions if step.is_view}
    assert {use.instruction for use in uses if not use.backend} == views
    assert {use.backend for use in uses} == {"numpy", ""}
    assert KernelUse("matmul_1 = matmul(x, w)", "numpy", "numpy.dot") in uses


def test_kernels_have_the_names_by_which_they_are_found() -> None:
    g = ge.Graph("g")
    x = g.input("x", ("batch", 3))
    g.output("total", ge.sum(x))
    g.output("rows", ge.gather(x, g.input("row", ("batch",), dtype="int64")))
    g.output("labels", ge.cast(x, "int64"))
    g.output("size", ge.mean(x) / ge.sum(ge.broadcast_to(g.scalar(1.0, "float32"), ("batch",))))
    names = {use.instruction.split()[0]: use.kernel for use in ge.compile(g, rewrites=[]).explain().kernels}
    assert names["sum_1"] == "numpy.add.reduce"
    assert names["gather_1"] == "ops.index._gather"
    assert names["cast_1"] == "numpy.copyto"


def test_the_steps_of_a_scan_are_told_once() -> None:
    g = ge.Graph("g")
    xs = g.input("x", ("time", 3))
    last, _ = ge.scan(lambda h, x: (ge.tanh(h + x), None), g.input("h", (3,)), xs, name="loop")
    g.output("last", last)
    for names in ([], None):
        uses = ge.compile(g, rewrites=names).explain(time=50).kernels
        body = [use for use in uses if use.instruction.startswith("  ")]
        assert 1 <= len(body) <= 3
        assert uses[0].instruction.startswith("loop = scan")


def test_changes_in_the_body_of_a_scan_are_told() -> None:
    g = ge.Graph("g")
    xs = g.input("x", ("time", 3))
    last, _ = ge.scan(lambda h, x: (ge.tanh(h * 1.0 + x), None), g.input("h", (3,)), xs, name="loop")
    g.output("last", last)
    (algebra,) = ge.compile(g, rewrites=["algebra"]).explain(time=5).rewrites
    (change,) = algebra.changes
    assert str(change).startswith(
        "gone    multiply_1 = multiply(carry_0, constant_1), in the body of loop, declared at"
    )


def test_the_text_caps_what_is_long() -> None:
    g = ge.Graph("g")
    y = g.input("x", ())
    for _ in range(20):
        y = ge.sin(y) * 1.0
    g.output("y", y)
    text = str(ge.compile(g, rewrites=["algebra"]).explain())
    assert "and 14 more" in text
    assert "algebra       20" in text


@pytest.mark.parametrize("backend", [*BACKENDS])
def test_sources_stand_at_the_end_where_they_are_asked_for(backend: str) -> None:
    if backend == "numba":
        pytest.importorskip("numba")
    exe = classifier(backend=backend)
    plain, with_sources = exe.explain(batch=4), exe.explain(batch=4, source=True)
    assert str(with_sources).startswith(str(plain))
    assert all(source.rstrip() in str(with_sources) for source in with_sources.sources)
    assert bool(with_sources.sources) == (backend == "numba")


def test_rewrites_are_listed_with_a_line_on_each() -> None:
    assert [*ge.rewrites()] == [*REWRITES]
    assert all(len(line) > 20 for line in ge.rewrites().values())
