"""Each rule alone, and all rewrites together, on random graphs around its pattern: values, types and gradients stay."""

from __future__ import annotations

import numpy as np
import pytest

import graphengine as ge
from graphengine.ir.graph import Graph
from graphengine.transform.rewrite import additions, matrix_chain, stabilization
from graphengine.transform.rewrite.arithmetic import ARITHMETIC
from graphengine.transform.rewrite.arrangement import ARRANGEMENT
from graphengine.transform.rewrite.check import check_rewrite
from graphengine.transform.rewrite.cse import merge_common_subexpressions
from graphengine.transform.rewrite.passes import REWRITES, stages
from graphengine.transform.rewrite.reductions import REDUCTIONS
from graphengine.transform.rewrite.walk import Rules, Table, apply_rules
from tests.random_graphs import evaluate
from tests.transform.rewrite.patterns import RULES, Draw

TABLES: list[Table] = [
    ARITHMETIC,
    ARRANGEMENT,
    REDUCTIONS,
    *(
        table
        for rules in (matrix_chain._RULES, additions._PRODUCTS, additions._SLICES, stabilization._RULES)
        for table in rules._tables
    ),
]
ALONE = {
    name: Rules(
        *(
            {kind: [rule for rule in rules if rule.__name__ == name] for kind, rules in table.items()}
            for table in TABLES
        )
    )
    for name in {rule.__name__ for table in TABLES for rules in table.values() for rule in rules}
}
"""Each rule by itself, for all ops that it is for."""

DTYPES = ("float64", "float32", "int32", "uint8")
TOLERANCE = {"float64": 1e-11, "float32": 2e-5}


def drawn(name: str, seed: int) -> Draw | None:
    """A graph around the pattern of a rule, its gradient beside it; None where the pattern refuses what it is drawn."""
    d = Draw(seed, DTYPES[seed % 8 if seed % 8 < 4 else 0], extremes=name not in FINITE and seed % 3 == 0)
    try:
        y = RULES[name](d)
        result = d.read(y)
    except (ge.DTypeError, ge.ShapeError, OverflowError):
        return None
    d.graph.output("y", y)
    d.graph.output("result", result)
    for node in d.graph.nodes:
        if not node.is_leaf and d.random.random() < 0.05:
            d.graph.output(f"also_{node.index}", node)
    floats = [node for node in d.graph.inputs if node.type.is_float]
    if result.type.is_float and floats and not d.extremes:
        loss = ge.sum(result * d.any(result.type.static_shape))
        for node, bar in zip(floats, ge.grad(loss, floats), strict=True):
            d.graph.output(f"{node.name}_bar", bar)
    return d


STABLE = {rule.__name__ for table in stabilization._RULES._tables for rules in table.values() for rule in rules}
FINITE = {"cheaper_order", "descent_by_product", "sum_of_products"} | STABLE
"""Rules whose other order of sums has NaN for other infinities, and those that are there to have none."""


def results(d: Draw, graph: Graph) -> dict[str, np.ndarray]:
    with np.errstate(all="ignore"):
        values = evaluate(graph.nodes, d.given, {})
    return {name: np.asarray(values[node.name]) for name, node in graph.outputs.items()}


def assert_same(d: Draw, after: Graph) -> None:
    check_rewrite(d.graph, after)
    actual, expected = results(d, after), results(d, d.graph)
    for name, value in expected.items():
        tolerance = TOLERANCE.get(str(value.dtype), 0)
        assert actual[name].dtype == value.dtype
        assert actual[name].shape == value.shape
        scale = np.max(np.abs(value), initial=1.0, where=np.isfinite(value)) if value.dtype.kind == "f" else 1.0
        np.testing.assert_allclose(actual[name], value, rtol=tolerance, atol=tolerance * min(scale, 1e3), err_msg=name)


def test_every_rule_has_a_pattern() -> None:
    assert set(RULES) == set(ALONE)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_changes_no_value_type_or_gradient(name: str) -> None:
    fired = 0
    for seed in range(40):
        d = drawn(name, seed)
        if d is not None:
            after = d.graph.copy()
            merge_common_subexpressions(after)
            fired += apply_rules(after, ALONE[name])
            assert_same(d, after)
            assert_same(d, stages(d.graph, tuple(REWRITES))[-1])
    assert fired
