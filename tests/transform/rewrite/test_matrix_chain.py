"""The order of products: the cheapest there is, taken only where it is cheaper for every size."""

from __future__ import annotations

from functools import cache, reduce
from itertools import pairwise

import numpy as np
import pytest

import graphengine as ge
from graphengine.transform.rewrite.matrix_chain import MOST_FACTORS
from graphengine.transform.rewrite.passes import REWRITES, on_copy
from tests.transform.rewrite.rewriting import assert_same_values, rewritten, text

Dim = int | str


def chain(dims: list[Dim], constants: bool = False) -> ge.Graph:
    """A product of matrices with these dims, from left to right; `constants` says whether all but the first are."""
    g = ge.Graph("g", "float64")
    leaves = [g.input("m0", dims[:2])]
    for place, (rows, columns) in enumerate(pairwise(dims[1:]), 1):
        if constants:
            value = np.random.default_rng(place).normal(size=(rows, columns))
            leaves.append(g.constant(f"m{place}", value))
        else:
            leaves.append(g.input(f"m{place}", (rows, columns)))
    g.output("y", reduce(ge.matmul, leaves))
    return g


def flops(graph: ge.Graph, **sizes: int) -> int:
    return ge.compile(graph, rewrites=()).cost(**sizes).total_flops


def least(dims: list[int]) -> int:
    """The fewest operations, by trying every order."""

    @cache
    def best(start: int, stop: int) -> int:
        if stop - start == 1:
            return 0
        return min(
            best(start, k) + best(k, stop) + dims[start] * dims[stop] * (2 * dims[k] - 1)
            for k in range(start + 1, stop)
        )

    return best(0, len(dims) - 1)


@pytest.mark.parametrize("seed", range(12))
def test_the_order_is_the_cheapest_of_all(seed: int) -> None:
    generator = np.random.default_rng(seed)
    dims = [int(dim) for dim in generator.integers(1, 30, generator.integers(4, 8))]
    before = chain(dims)
    after = rewritten("matrix_chain", before)
    assert flops(after) == least(dims)
    assert_same_values(before, after, 1e-11)


def test_an_order_that_is_the_cheapest_stays() -> None:
    g = chain([2, 3, 4, 5])
    assert on_copy(REWRITES["matrix_chain"], g) is g


def test_a_product_with_another_reader_is_kept() -> None:
    g = chain([30, 2, 30, 2])
    g.output("first", g["matmul_1"])
    assert on_copy(REWRITES["matrix_chain"], g) is g


def test_an_order_that_is_better_for_every_size_is_taken() -> None:
    g = chain([100, 2, 100, "batch"])
    after = rewritten("matrix_chain", g)
    assert text(after.outputs["y"]) == "matmul(m0, matmul(m1, m2))"
    assert flops(after, batch=1) < flops(g, batch=1)
    assert flops(after, batch=50) < flops(g, batch=50)


def test_an_order_that_is_better_for_large_batches_only_is_not_taken() -> None:
    g = chain(["batch", 8, 64, 8])
    assert least([1000, 8, 64, 8]) < flops(g, batch=1000)
    assert on_copy(REWRITES["matrix_chain"], g) is g


def test_constants_are_multiplied_now() -> None:
    g = chain(["batch", 8, 64, 8], constants=True)
    after = rewritten("matrix_chain", g)
    assert [node.op.kind for node in after.nodes if not node.is_leaf] == ["matmul"]
    assert_same_values(g, after)


def test_constants_whose_product_is_large_stay() -> None:
    g = chain(["batch", 100, 2, 100], constants=True)
    assert on_copy(REWRITES["matrix_chain"], g) is g


def test_vectors_stand_at_the_ends() -> None:
    g = ge.Graph("g", "float64")
    a, b, v = g.input("a", (20, 30)), g.input("b", (30, 40)), g.input("v", (40,))
    u = g.input("u", (20,))
    g.output("right", (a @ b) @ v)
    g.output("left", u @ (a @ b))
    g.output("both", (u @ a) @ (b @ v))
    after = rewritten("matrix_chain", g)
    assert text(after.outputs["right"]) == "matmul(a, matmul(b, v))"
    assert text(after.outputs["left"]) == "matmul(matmul(u, a), b)"
    assert_same_values(g, after)


def test_a_vector_that_turns_from_a_column_into_a_row_is_not_regrouped() -> None:
    g = ge.Graph("g", "float64")
    a, b, v = g.input("a", (30, 4)), g.input("b", (30, 50)), g.input("v", (4,))
    g.output("y", (a @ v) @ b)
    assert on_copy(REWRITES["matrix_chain"], g) is g


def test_stacks_of_matrices_stay() -> None:
    g = ge.Graph("g", "float64")
    a, b, c = g.input("a", (7, 20, 2)), g.input("b", (2, 20)), g.input("c", (20, 1))
    g.output("y", (a @ b) @ c)
    assert on_copy(REWRITES["matrix_chain"], g) is g


def test_a_long_chain_is_ordered_in_part() -> None:
    dims = [2 + place % 5 for place in range(4 * MOST_FACTORS)]
    before = chain(dims)
    after = rewritten("matrix_chain", before)
    assert flops(after) < flops(before)
    assert_same_values(before, after, 1e-9)


def test_a_collapsed_network_is_one_map() -> None:
    g = ge.Graph("g")
    x = g.input("x", ("batch", 8))
    g.output("y", x @ g.parameter("w", (8, 8)) @ g.parameter("v", (8, 8)))
    exe = ge.compile(g)
    small = ge.compile(ge.collapse(g, exe.parameters))
    assert len(small.program.instructions) == 1
