"""The exception tree, and what every error tells: what went wrong, the node, its operands, and where they stand."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import graphengine as ge
from graphengine import errors

HERE = Path(__file__).name


def classes() -> list[type[errors.GraphEngineError]]:
    members = vars(errors).values()
    return [value for value in members if inspect.isclass(value) and issubclass(value, Exception)]


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    drawn = re.findall(r"^    ([│├└─ ]*)([A-Za-z]+Error)", errors.__doc__, re.MULTILINE)
    parents: dict[int, str] = {}
    tree = {}
    for stem, name in drawn:
        depth = len(stem) // 4
        parents[depth] = name
        tree[name] = parents.get(depth - 1, "Exception") if depth else "Exception"
    assert tree == {error.__name__: error.__bases__[0].__name__ for error in classes()}


def test_every_error_is_documented_and_exported() -> None:
    assert set(errors.__all__) == {error.__name__ for error in classes()}
    assert all(error.__doc__ for error in classes())


def test_an_error_without_context_says_the_line_that_led_to_it() -> None:
    line = inspect.currentframe().f_lineno + 2
    with pytest.raises(ge.NamingError) as caught:
        ge.Graph("1x")
    assert re.search(rf"\n  at .*{HERE}:{line}$", str(caught.value))


def test_an_error_is_printable_and_bounded() -> None:
    error = errors.GraphError("\x1b[31m" + "x" * 10_000)
    error.quote("a\x07b" + "y" * 10_000)
    assert str(error).startswith(r"\x1b[31mxxx")
    assert r"a\x07b" in str(error)
    assert len(str(error)) < 5000


def test_the_context_nearest_to_the_fault_stays() -> None:
    error = errors.GraphError("wrong")
    error.quote("near")
    error.quote("far")
    assert str(error) == "wrong\n  near"


def network() -> ge.Graph:
    graph = ge.Graph("network")
    graph.input("x", ("batch", 784))
    graph.parameter("w", (128, 10))
    return graph


def test_a_shape_error_quotes_the_node_and_both_operands_with_their_places() -> None:
    graph = network()
    line = inspect.currentframe().f_lineno + 2
    with pytest.raises(ge.ShapeError) as caught:
        ge.matmul(graph["x"], graph["w"], name="logits")
    message, *context = str(caught.value).splitlines()
    assert message == "inner sizes differ: float32[batch, 784] @ float32[128, 10]"
    assert context[0] == "  node  logits = matmul(x, w)"
    assert re.fullmatch(rf"  declared at .*{HERE}:{line}", context[1])
    assert re.fullmatch(rf"  x is float32\[batch, 784\], declared at .*{HERE}:\d+", context[2])
    assert re.fullmatch(rf"  w is float32\[128, 10\], declared at .*{HERE}:\d+", context[3])


def test_an_operand_that_stands_twice_is_quoted_once() -> None:
    graph = network()
    with pytest.raises(ge.ShapeError) as caught:
        graph["w"] @ graph["w"]
    assert str(caught.value).count("w is float32[128, 10]") == 1


def test_a_dtype_error_says_both_dtypes_and_the_remedy() -> None:
    graph = network()
    n = graph.input("n", ("batch", 784), dtype="int64")
    with pytest.raises(ge.DTypeError, match=r"dtypes differ: float32\[batch, 784\] and int64\[batch, 784\]; cast one"):
        graph["x"] + n


def test_a_failed_declaration_leaves_the_graph_as_it_was() -> None:
    graph = network()
    before = graph.copy()
    for attempt in (
        lambda: graph["x"] @ graph["w"],
        lambda: graph.input("x", (3,)),
        lambda: graph.parameter("v", ("batch",)),
        lambda: graph["x"] + "text",
        lambda: graph["x"] @ 3.0,
        lambda: graph["x"] + np.ones((5, 7)),
    ):
        with pytest.raises(ge.GraphError):
            attempt()
    assert graph == before
    assert (graph["x"] * graph["x"]).name == "multiply_1"


@pytest.mark.parametrize(
    "name", ["", "1x", "a b", "a..b", ".a", "a.", "a-b", "été", "__class__", "a.__init__.b", 3, None]
)
def test_a_malformed_name_is_refused(name: object) -> None:
    with pytest.raises(ge.NamingError):
        ge.Graph("names").output(name, network()["x"])
    with pytest.raises(ge.NamingError):
        ge.Graph(name)


def test_a_name_has_at_most_128_characters() -> None:
    graph = ge.Graph("names")
    graph.input("a" * 128, (1,))
    with pytest.raises(ge.NamingError, match="at most 128 characters"):
        graph.input("b" * 129, (1,))


def test_a_name_given_twice_says_what_bears_it_already_and_where() -> None:
    graph = network()
    with pytest.raises(ge.NamingError, match=rf"the name 'x' is taken by x = input\(\): .*declared at .*{HERE}:\d+"):
        graph.parameter("x", (1,))
    graph.output("y", graph["x"])
    with pytest.raises(ge.NamingError, match="output 'y' is declared twice"):
        graph.output("y", graph["w"])


def test_a_name_made_from_the_kind_steps_aside_for_a_given_one() -> None:
    graph = network()
    taken = ge.exp(graph["x"], name="exp_1")
    assert ge.exp(taken).name == "exp_2"


def test_an_unknown_node_is_told_the_nearest_name() -> None:
    graph = network()
    graph.parameter("head.weight", (3,))
    with pytest.raises(ge.NamingError, match=r"no node 'head\.wieght'; did you mean 'head\.weight'"):
        graph["head.wieght"]


def test_nodes_of_two_graphs_do_not_mix() -> None:
    with pytest.raises(ge.GraphError, match="belongs to graph 'network', not to 'other'"):
        ge.Graph("other").input("x", ("batch", 784)) + network()["x"]


@pytest.mark.parametrize("shape", [(-1,), (2.5,), (True,), ("2*batch",), ("a b",), (None,)])
def test_a_dim_is_a_size_or_a_name(shape: tuple) -> None:
    with pytest.raises(ge.GraphError):
        ge.Graph("dims").input("x", shape)


@pytest.mark.parametrize("dtype", ["float16", "complex64", "text", object(), np.uint64])
def test_a_dtype_is_one_of_those_there_are(dtype: object) -> None:
    with pytest.raises(ge.DTypeError, match="no such dtype"):
        ge.Graph("dtypes", dtype=dtype)


def test_a_number_that_does_not_fit_the_nodes_dtype_is_refused() -> None:
    graph = ge.Graph("numbers")
    whole, small = graph.input("n", (2,), dtype="int32"), graph.input("u", (2,), dtype="uint8")
    with pytest.raises(ge.DTypeError, match=r"add: 0.5 does not fit int32"):
        whole + 0.5
    with pytest.raises(ge.DTypeError, match=rf"add: {2**40} does not fit int32"):
        whole + 2**40
    with pytest.raises(ge.DTypeError, match="multiply: -1 does not fit uint8"):
        small * -1
    with pytest.raises(ge.DTypeError, match="add: 1e"):
        graph.input("x", (2,)) + 1e300
    assert (small + 255).dtype == "uint8"


def test_a_node_is_no_condition_and_no_sequence() -> None:
    x = network()["x"]
    with pytest.raises(TypeError, match=r"ge\.where"):
        bool(x > 0.0)
    with pytest.raises(TypeError, match="index it"):
        list(x)


@pytest.mark.parametrize(
    ("update", "error", "message"),
    [
        (lambda g: g.update(g["x"], g["x"]), ge.GraphError, "only parameters and states have updates"),
        (lambda g: g.update(g["w"], g["x"]), ge.ShapeError, r"next value of 'w' is float32\[batch, 784\]"),
        (lambda g: g.update(g["w"], network()["w"]), ge.GraphError, "belongs to graph"),
    ],
)
def test_an_update_that_does_not_fit_is_refused(update, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        update(network())
