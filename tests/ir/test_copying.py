"""Copying nodes: what is replaced, renamed and kept."""

import pytest

import graphengine as ge
from graphengine.errors import GraphError, NamingError
from graphengine.ir.copying import as_input, copy_nodes
from graphengine.ir.names import free_name
from graphengine.ir.node import Phase
from graphengine.ops.elementwise import Exp, Sin


def small() -> ge.Graph:
    g = ge.Graph("small")
    x = g.input("x", ("batch", 2))
    with g.emitting(Phase.BACKWARD, x):
        g.output("y", ge.exp(ge.sin(x, name="s"), name="e"))
    return g


def test_a_copy_is_what_the_node_was() -> None:
    g, h = small(), ge.Graph("other")
    copies = copy_nodes(g.nodes, h)
    for node, copy in copies.items():
        assert copy.graph is h
        assert (copy.name, copy.op, copy.type) == (node.name, node.op, node.type)
        assert (copy.phase, copy.where, copy.of) == (node.phase, node.where, node.of)
        assert copy.parents == tuple(copies[parent] for parent in node.parents)


def test_without_its_phase_a_copy_has_that_of_what_is_added() -> None:
    g, h = small(), ge.Graph("other")
    copies = copy_nodes(g.nodes, h, keep_phase=False)
    assert {(copy.phase, copy.of) for copy in copies.values()} == {(Phase.FORWARD, None)}
    assert [copy.where for copy in copies.values()] == [node.where for node in g.nodes]


def test_a_node_an_op_and_a_name_are_replaced() -> None:
    g, h = small(), ge.Graph("other")
    z = h.input("z", (3, 2))
    copies = copy_nodes(
        g.nodes,
        h,
        {g["x"]: z},
        replace=lambda node: (Sin(), [g["x"]]) if isinstance(node.op, Exp) else None,
        rename=lambda node: None if node.name == "s" else node.name,
    )
    assert (copies[g["s"]].name, copies[g["e"]].parents) == ("sin_1", (z,))
    assert str(copies[g["e"]].type) == "float32[3, 2]"
    assert copy_nodes([g["s"]], h, {}, replace=lambda _: z) == {g["s"]: z}


def test_an_input_takes_the_place_of_a_node() -> None:
    g, h = small(), ge.Graph("other")
    (copy,) = copy_nodes([g["s"]], h, replace=as_input, keep_phase=False).values()
    assert (copy.op.kind, copy.name, copy.type) == ("input", "s", g["s"].type)


def test_a_parent_is_read_where_it_is() -> None:
    g = small()
    copies = copy_nodes([g["e"]], g, rename=lambda _: None)
    assert copies[g["e"]].parents == (g["s"],)
    with pytest.raises(GraphError, match="belongs to graph 'small'"):
        copy_nodes([g["e"]], ge.Graph("other"))


def test_a_name_is_not_given_twice() -> None:
    g = small()
    with pytest.raises(NamingError, match="the name 's' is taken"):
        copy_nodes([g["s"]], g)


def test_the_first_free_name_is_found() -> None:
    assert free_name("a", ["b"]) == "a"
    assert free_name("a", ["a", "a_2"]) == "a_3"
    assert free_name("a", ["a"], 1) == "a_1"
    assert free_name("a", ["a_1"], 1, bare=False) == "a_2"
