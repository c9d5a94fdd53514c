"""What holds for every graph: gradients, plans, copies and documents, over random graphs of all ops."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

import graphengine as ge
from graphengine.compile import installed_backends
from graphengine.executable import Executable
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ir.subgraph import needed_nodes
from graphengine.ops.support import form
from graphengine.ops.support.pointwise import UnaryOp
from graphengine.schedule.memory import plan
from graphengine.transform.adjoint import differentiate
from tests.random_graphs import BATCH, EXCLUDED, LEAVES, RECIPES, SEED, SEEDS, Sample, evaluate, grow, recipe_of
from tests.schedule.replay import named, prove, prove_plan

SAMPLES = {seed: grow(seed) for seed in SEEDS}

every_sample = pytest.mark.parametrize("sample", SAMPLES.values(), ids=[f"seed{seed}" for seed in SAMPLES])

ENGINE = {kind for kind, op in Op.registry.items() if op.__module__.startswith("graphengine.")}
"""The kinds of the package; tests and readers of the docs may have registered others."""


def compiled(sample: Sample, **options: object) -> Executable:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ge.UnreachedParameterWarning)  # not every graph has grown from every leaf
        return ge.compile(sample.graph, loss="loss", seed=SEED, **options)


def naive(nodes: list[Node], given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with np.errstate(all="ignore"):
        return evaluate(needed_nodes(nodes), given, {"batch": BATCH})


def test_every_kind_has_a_recipe_or_a_reason_for_having_none() -> None:
    assert set(RECIPES) | LEAVES | set(EXCLUDED) == ENGINE


def test_the_samples_hold_every_kind_that_has_a_recipe() -> None:
    assert set.union(*(sample.kinds for sample in SAMPLES.values())) >= set(RECIPES) | LEAVES


def test_every_kind_has_cases_that_hold_it_to_the_op_contract() -> None:
    checked: set[str] = set()
    for path in sorted((Path(__file__).parent / "ops").glob("test_*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        if "check_op" in names:
            checked |= names
    checked.add("Scan")  # whose tests hold it to the same loop written out
    unchecked = {kind for kind in ENGINE - LEAVES - set(EXCLUDED) if Op.registry[kind].__name__ not in checked}
    assert not unchecked, f"no row of cases in tests/ops for {sorted(unchecked)}"


def test_an_op_from_outside_the_package_is_grown_differentiated_saved_and_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Op, "registry", dict(Op.registry))

    class Bent(UnaryOp):
        """y = x / (1 + |x|)."""

        kind: Literal["bent"] = "bent"

        def form(self, x: form.Scalar) -> form.Scalar:
            return x / (1.0 + form.absolute(x))

        def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node]:
            return (y_bar / ge.square(1.0 + ge.abs(x)),)

    monkeypatch.setitem(RECIPES, "bent", recipe_of(Bent))
    sample = next(sample for seed in SEEDS if "bent" in (sample := grow(seed)).kinds)
    assert Graph.from_json(sample.graph.to_json()) == sample.graph
    expected = naive(list(sample.graph.outputs.values()), sample.given)
    for backend in installed_backends():
        values = compiled(sample, backend=backend).forward(sample.feeds)
        for name, node in sample.graph.outputs.items():
            np.testing.assert_allclose(values[name], expected[node.name], rtol=1e-9, atol=1e-11, err_msg=name)
    ge.gradcheck(sample.graph, "loss", sample.feeds, seed=SEED, wrt=sample.float_leaves, samples=12)


@every_sample
def test_gradients_agree_with_central_differences(sample: Sample) -> None:
    ge.gradcheck(sample.graph, "loss", sample.feeds, seed=SEED, wrt=sample.float_leaves, samples=12)


@every_sample
def test_what_is_planned_computes_what_eval_says(sample: Sample) -> None:
    exe = compiled(sample, wrt=sample.float_leaves)
    expected = naive(list(sample.graph.outputs.values()), sample.given)
    values = exe.forward(sample.feeds)
    for name, node in sample.graph.outputs.items():
        np.testing.assert_allclose(values[name], expected[node.name], rtol=1e-10, atol=1e-12, err_msg=name)
    bars = exe.programs.training.gradients
    expected = naive(list(bars.values()), sample.given)
    for name, value in exe.backward().items():
        np.testing.assert_allclose(value, expected[bars[name].name], rtol=1e-9, atol=1e-12, err_msg=name)


@every_sample
def test_no_program_loses_a_value_before_its_last_reader(sample: Sample) -> None:
    exe = compiled(sample, wrt=sample.float_leaves, optimizer=ge.SGD(learning_rate=0.01, momentum=0.9))
    for which in ("forward", "gradient", "step"):
        prove_plan(exe, which, batch=BATCH)
    assert exe.audit().ok


@every_sample
def test_a_step_moves_every_parameter_against_its_gradient(sample: Sample) -> None:
    exe = compiled(sample, optimizer=ge.SGD(learning_rate=0.125))
    before = dict(exe.parameters)
    exe.forward(sample.feeds)
    gradients = exe.backward()
    exe.step(sample.feeds)
    for name, value in exe.parameters.items():
        expected = before[name] - 0.125 * gradients[name]
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12, err_msg=name)


@every_sample
def test_gradients_by_grad_and_by_compile_are_the_same(sample: Sample) -> None:
    graph = sample.graph.copy()
    leaves = [graph[name] for name in sample.float_leaves]
    bars = ge.grad(graph.outputs["loss"], leaves)
    expected = naive(bars, sample.given)
    exe = compiled(sample, wrt=sample.float_leaves)
    exe.forward(sample.feeds)
    for leaf, (name, value) in zip(bars, exe.backward().items(), strict=True):
        np.testing.assert_allclose(value, expected[leaf.name], rtol=1e-9, atol=1e-12, err_msg=name)


@every_sample
def test_a_copy_is_equal_and_its_own(sample: Sample) -> None:
    twin = sample.graph.copy()
    assert twin == sample.graph
    twin.output("more", twin.outputs["loss"] * 2.0)
    assert twin != sample.graph
    assert "more" not in sample.graph.outputs


@every_sample
def test_a_graph_survives_its_document(sample: Sample) -> None:
    text = sample.graph.to_json()
    again = Graph.from_json(text)
    assert again == sample.graph
    assert again.to_json() == text
    assert again.hash() == sample.graph.hash()


@every_sample
def test_a_graph_of_gradients_survives_its_document(sample: Sample) -> None:
    graph = sample.graph.copy()
    leaves = [graph[name] for name in sample.float_leaves]
    for leaf, bar in zip(leaves, ge.grad(graph.outputs["loss"], leaves), strict=True):
        graph.output(f"{leaf.name}_bar", bar)
    assert Graph.from_json(graph.to_json()) == graph


@pytest.mark.parametrize("seed", range(0, len(SAMPLES), 3))
def test_adjoints_of_adjoints_are_planned_like_anything_else(seed: int) -> None:
    graph = SAMPLES[seed].graph.copy()
    leaves = [graph[name] for name in SAMPLES[seed].float_leaves]
    bars = ge.grad(graph.outputs["loss"], leaves)
    total = ge.sum(bars[0] * bars[0])
    for bar in bars[1:]:
        total = total + ge.sum(bar * bar)
    second = differentiate(total, leaves)
    asked = [second.of(leaf) for leaf in leaves]
    prove(plan("second", named(asked), {}, {"batch": BATCH}), graph, asked, {})
    ge.gradcheck(graph, total, SAMPLES[seed].feeds, seed=SEED, wrt=leaves, samples=6, tolerance=1e-5)
