"""The graph under declaration: names, outputs, updates, equality."""

import copy
import random

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphengine as ge
from graphengine.errors import GraphError, NamingError, ShapeError
from graphengine.ir.order import parents_first


@pytest.mark.parametrize("name", ["x", "_", "_x1", "a.b", "layer.0.weight", "A9_", "a._b", "x" * 128, "__x", "x__"])
def test_these_are_names(name: str) -> None:
    assert ge.Graph().input(name, ()).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "1",
        "a b",
        "a-b",
        ".a",
        "a.",
        "a..b",
        "x" * 129,
        "__x__",
        "a.__b__",
        "____",
        "é",
        "a\n",
        "a/b",
        "\0",
        3,
    ],
)
def test_these_are_not(name: object) -> None:
    g = ge.Graph()
    with pytest.raises(NamingError):
        g.input(name, ())
    with pytest.raises(NamingError):
        ge.Graph(name)
    with pytest.raises(NamingError):
        g.output(name, g.input("x", ()))
    assert [node.name for node in g.nodes] == ["x"]


def test_a_name_given_twice_is_an_error_that_tells_who_has_it() -> None:
    g = ge.Graph()
    g.input("x", (3,))
    with pytest.raises(
        NamingError, match=r"(?s)'x' is taken by x = input\(\): float32\[3\], declared at .*test_graph.py"
    ):
        g.input("x", (4,))
    assert len(g) == 1


def test_a_name_left_out_is_made_from_the_kind_and_steps_over_those_that_are_taken() -> None:
    g = ge.Graph()
    x = g.input("exp_2", (3,))
    assert [ge.exp(x).name for _ in range(3)] == ["exp_1", "exp_3", "exp_4"]


def test_names_made_after_loading_step_over_those_in_the_document() -> None:
    g = ge.Graph()
    ge.exp(ge.exp(g.input("x", (3,))))
    read = ge.Graph.from_json(g.to_json())
    assert ge.exp(read["x"]).name == "exp_3"


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    g = ge.Graph("net")
    g.input("hidden", (3,))
    with pytest.raises(NamingError, match="graph 'net' has no node 'hiden'; did you mean 'hidden'"):
        g["hiden"]
    assert "hidden" in g
    assert "hiden" not in g


def test_an_output_name_is_given_once() -> None:
    g = ge.Graph()
    x = g.output("x", g.input("x", ()))
    with pytest.raises(NamingError, match="output 'x' is declared twice"):
        g.output("x", x)


def test_a_node_of_another_graph_is_refused() -> None:
    x = ge.Graph("one").input("x", ())
    other = ge.Graph("other")
    with pytest.raises(GraphError, match="belongs to graph 'one', not to 'other'"):
        other.output("x", x)
    with pytest.raises(GraphError, match="belongs to graph"):
        x + other.input("y", ())


def test_updates_are_of_parameters_and_states_once_and_of_their_type() -> None:
    g = ge.Graph()
    x, s = g.input("x", (3,)), g.state("s", (3,))
    with pytest.raises(GraphError, match="'x' is a"):
        g.update(x, s)
    with pytest.raises(ShapeError, match=r"the next value of 's' is float32\[\], but it is float32\[3\]"):
        g.update(s, ge.sum(x))
    g.update(s, s + x)
    with pytest.raises(GraphError, match="has an update already"):
        g.update(s, x)


def small(dtype: str = "float32") -> ge.Graph:
    g = ge.Graph("small", dtype)
    x = g.input("x", (3,))
    g.output("y", ge.sum(x, axis=0) * 2.0)
    return g


def test_graphs_are_equal_by_what_they_declare() -> None:
    assert small() == small()
    assert small() != small("float64")
    assert small() != "small"
    for change in (lambda g: g.output("z", g["x"]), lambda g: g.input("z", ()), lambda g: setattr(g, "name", "other")):
        other = small()
        change(other)
        assert small() != other
        assert small().hash() != other.hash()


def test_graphs_that_give_their_outputs_in_another_order_differ_as_their_documents_do() -> None:
    g, other = small(), small()
    g.output("x", g["x"])
    other.outputs = {"x": other["x"], "y": other.outputs["y"]}
    assert g != other
    assert g.hash() != other.hash()


def test_a_graph_is_no_key() -> None:
    with pytest.raises(TypeError):
        hash(small())


def test_a_copy_can_grow_without_its_original() -> None:
    g = small()
    twin = g.copy()
    assert twin == g
    ge.exp(twin["x"])
    assert len(twin) == len(g) + 1
    assert [node.name for node in copy.copy(g.nodes)] == [node.name for node in small().nodes]


def test_a_mistake_is_an_error_on_the_line_that_made_it_and_leaves_the_graph_as_it_was() -> None:
    g = ge.Graph()
    x, w = g.input("x", ("batch", 784)), g.parameter("w", (128, 10))
    with pytest.raises(ShapeError) as caught:
        ge.matmul(x, w, name="logits")
    assert str(caught.value).splitlines()[:2] == [
        "inner sizes differ: float32[batch, 784] @ float32[128, 10]",
        "  node  logits = matmul(x, w)",
    ]
    assert str(caught.value).count("declared at tests/ir/test_graph.py:") == 3
    assert len(g) == 2


def test_a_circle_is_written_out() -> None:
    with pytest.raises(ge.CycleError, match="in a cycle: b -> c -> b") as caught:
        parents_first({"a": [], "b": ["a", "c"], "c": ["b"]}, rank=lambda name: (ord(name),))
    assert set(caught.value.circle) == {"b", "c"}


def test_parents_come_first_and_the_lowest_rank_of_what_may_go() -> None:
    parents = {"d": ["c", "a"], "c": ["b"], "b": [], "a": []}
    assert parents_first(parents, rank=lambda name: (ord(name),)) == ["a", "b", "c", "d"]
    assert parents_first(parents, rank=lambda name: (-ord(name),)) == ["b", "c", "a", "d"]


@given(st.integers(0, 2**32 - 1))
def test_the_order_is_the_one_that_networkx_finds_by_rank(seed: int) -> None:
    draw = random.Random(seed)
    count = draw.randrange(1, 12)
    parents = {node: draw.sample(range(node), draw.randrange(min(node, 3) + 1)) for node in range(count)}
    ranks = draw.choice([list(range(count)), draw.sample(range(count), count)])
    whole = nx.DiGraph((parent, node) for node, found in parents.items() for parent in found)
    whole.add_nodes_from(parents)
    expected = list(nx.lexicographical_topological_sort(whole, key=lambda node: ranks[node]))
    assert parents_first(parents, rank=lambda node: (ranks[node],)) == expected


def test_networkx_sees_both_operands_of_a_square() -> None:
    g = ge.Graph("square")
    x = g.input("x", ())
    ge.multiply(x, x, name="y")
    view = g.to_networkx()
    assert sorted(view.edges(keys=True)) == [("x", "y", 0), ("x", "y", 1)]
    assert view.nodes["y"]["op"] == "multiply"
