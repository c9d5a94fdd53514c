"""What is provably odd in a graph: found where it is, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import graphengine as ge
from graphengine.ir.node import Node
from graphengine.layers.norm import batch_norm
from graphengine.view import Finding, lint
from tests.cli.run import run


def rules(graph: ge.Graph) -> list[tuple[str, str]]:
    return [(finding.rule, finding.node) for finding in lint(graph)]


def only(graph: ge.Graph) -> Finding:
    (finding,) = lint(graph)
    return finding


@pytest.mark.parametrize(
    "graph",
    [
        ge.zoo.digits_network(),
        ge.zoo.mlp([4, 8, 8, 3]),
        ge.zoo.linear_regression(3),
        ge.zoo.logistic_regression(3),
        ge.zoo.perceptron(3),
        ge.zoo.neuron(),
    ],
    ids=lambda graph: graph.name,
)
def test_nothing_is_found_in_the_networks_of_the_lecture(graph: ge.Graph) -> None:
    assert lint(graph) == []


def test_matrices_in_a_row_are_one_map_whose_rank_is_bounded() -> None:
    finding = only(ge.zoo.linear_network([8, 16, 16, 4]))
    assert (finding.rule, finding.node) == ("linear-chain", "matmul_3")
    assert finding.message == (
        "matmul_1, matmul_2, matmul_3 (8 -> 16 -> 16 -> 4) have no nonlinearity between them: one linear map, of rank "
        "at most 4; ge.collapse computes it with 60 FLOPs an example instead of 860"
    )
    assert "test_lint.py:" in finding.where


def test_a_narrow_map_is_said_to_be_cheaper_as_it_stands() -> None:
    message = only(ge.zoo.linear_network([100, 2, 100])).message
    assert "of rank at most 2" in message
    assert message.endswith("as one it would take 19,900 FLOPs an example instead of 698")


def test_biases_and_identities_between_matrices_are_no_nonlinearity() -> None:
    g = ge.Graph("biased")
    h = ge.identity(g.input("x", ("batch", 4)) @ g.parameter("w1", (4, 8)) + g.parameter("b1", (8,)))
    g.output("y", h @ g.parameter("w2", (8, 4)) + g.parameter("b2", (4,)))
    assert only(g).message.startswith("matmul_1, matmul_2 (4 -> 8 -> 4) have no nonlinearity")


def test_values_on_the_way_may_be_read_elsewhere() -> None:
    g = ge.zoo.linear_network([8, 2, 8])
    g.output("code", g["matmul_1"])
    g.output("other", ge.tanh(g["matmul_1"]))
    message = only(g).message
    assert message.startswith("matmul_1, matmul_2 (8 -> 2 -> 8) have no nonlinearity between them")
    assert message.endswith("of rank at most 2; ge.collapse keeps a value between them, which is read elsewhere too")


def test_a_chain_that_branches_is_two() -> None:
    g = ge.Graph("branching")
    h = g.input("x", ("batch", 4)) @ g.parameter("w1", (4, 3))
    g.output("a", h @ g.parameter("w2", (3, 5)))
    g.output("b", h @ g.parameter("w3", (3, 6)) @ g.parameter("w4", (6, 2)))
    assert rules(g) == [("linear-chain", "matmul_2"), ("linear-chain", "matmul_4")]


def test_a_chain_of_many_matrices_is_said_by_its_ends() -> None:
    message = only(ge.zoo.linear_network([4] * 50)).message
    assert message.startswith("matmul_1, matmul_2, matmul_3, ..., matmul_47, matmul_48, matmul_49 (4 -> 4 -> 4 -> ...")


def test_a_parameter_that_no_gradient_reaches_is_found_with_the_reason() -> None:
    g = ge.Graph("blocked")
    x, w, v = g.input("x", ("batch", 3)), g.parameter("w", (3, 2)), g.parameter("v", (2, 1))
    frozen = g.parameter("frozen", (2,), trainable=False)
    g.output("loss", ge.mean(ge.sign(x @ w, name="signs") * ge.sign(frozen) @ v))
    finding = only(g)
    assert (finding.rule, finding.node) == ("no-gradient", "w")
    assert finding.message.startswith("no gradient of 'loss' reaches w: no gradient passes signs = sign(...)")


def test_the_loss_is_that_of_the_training_section() -> None:
    g = ge.Graph("two_losses")
    w, v = g.parameter("w", (3,)), g.parameter("v", (3,))
    other = g.output("other", ge.l2(w))
    g.output("loss", other + ge.l2(v))
    assert lint(g) == []
    g.training = ge.Training(loss="other", optimizer=ge.GD(learning_rate=0.1))
    assert rules(g) == [("no-gradient", "v")]


def test_without_a_scalar_loss_nothing_is_said_of_gradients() -> None:
    g = ge.Graph("no_loss")
    g.output("loss", ge.sign(g.parameter("w", (3,))))
    assert lint(g) == []


def test_what_no_output_depends_on_is_found() -> None:
    g = ge.Graph("unused")
    x = g.input("x", ("batch", 3))
    g.input("spare", ("batch", 3))
    w = g.parameter("w", (3,))
    ge.exp(ge.square(w, name="half"), name="dead")
    g.output("y", ge.tanh(x))
    assert rules(g) == [("unused", "spare"), ("unused", "w"), ("unused", "dead")]
    assert lint(g)[0].message == "no output depends on spare = input(...)"


def test_what_an_update_needs_is_used() -> None:
    g = ge.Graph("counting")
    g.output("y", ge.tanh(g.input("x", (3,))))
    count = g.state("count", ())
    g.update(count, count + 1.0)
    assert lint(g) == []


def test_an_input_that_only_tells_a_size_is_used() -> None:
    g = ge.Graph("sized")
    g.input("like", ("batch",))
    g.output("y", ge.broadcast_to(g.parameter("b", (3,)), ("batch", 3)))
    assert lint(g) == []


def test_a_result_of_many_that_nobody_wants_is_not_found() -> None:
    g = ge.Graph("scanning")

    def body(carry: Node, x: Node) -> tuple[Node, Node]:
        return carry + x, carry * x

    _, products = ge.scan(body, ge.sum(g.parameter("first", (3,))), g.input("xs", ("time",)))
    g.output("y", products)
    assert lint(g) == []


def test_what_is_computed_twice_is_found() -> None:
    g = ge.Graph("twice")
    x = g.input("x", ("batch", 3))
    a, b = ge.softmax(x, axis=0, name="a"), ge.softmax(x, axis=0, name="b")
    g.output("y", a * b + ge.softmax(x, axis=1) + ge.dropout(x, 0.5) + ge.dropout(x, 0.5))
    finding = only(g)
    assert (finding.rule, finding.node) == ("repeated", "b")
    assert finding.message.startswith("b computes what a, declared at ")


@pytest.mark.parametrize(
    ("loss", "squash"),
    [
        (ge.cross_entropy, ge.softmax),
        (ge.cross_entropy, ge.log_softmax),
        (ge.binary_cross_entropy, ge.sigmoid),
    ],
)
def test_a_probability_taken_for_a_logit_is_found(loss: object, squash: object) -> None:
    g = ge.Graph("squashed")
    z = g.input("z", ("batch", 3))
    target = g.input("t", ("batch",), "int64") if loss is ge.cross_entropy else g.input("t", ("batch", 3))
    g.output("loss", loss(squash(z, name="p"), target, name="e"))
    finding = only(g)
    assert (finding.rule, finding.node) == ("squashed-twice", "e")
    assert "takes logits, and p is a" in finding.message
    g = ge.Graph("right")
    z = g.input("z", ("batch", 3))
    target = g.input("t", ("batch",), "int64") if loss is ge.cross_entropy else g.input("t", ("batch", 3))
    g.output("loss", loss(z, target))
    g.output("p", squash(z))
    assert lint(g) == []


@pytest.mark.parametrize("image", [False, True])
def test_a_bias_that_a_batch_norm_subtracts_is_found(image: bool) -> None:
    g = ge.Graph("normalized")
    x = g.input("x", ("batch", 4, 5, 5) if image else ("batch", 4))
    bias = ge.reshape(g.parameter("b", (4,)), (4, 1, 1) if image else (4,))
    g.output("y", batch_norm(ge.tanh(x) + bias, name="norm"))
    finding = only(g)
    assert (finding.rule, finding.node) == ("idle-bias", "b")
    assert "a batch normalization, which subtracts it" in finding.message


def test_a_bias_that_differs_within_a_channel_or_is_read_elsewhere_is_no_idle_one() -> None:
    g = ge.Graph("within")
    x = g.input("x", ("batch", 4, 5, 5))
    g.output("y", batch_norm(ge.tanh(x) + g.parameter("b", (4, 5, 5)), name="norm"))
    assert lint(g) == []
    g = ge.Graph("elsewhere")
    h = g.input("x", ("batch", 4)) + g.parameter("b", (4,))
    g.output("y", batch_norm(h, name="norm") + ge.tanh(h))
    assert lint(g) == []


def test_findings_stand_in_order_of_the_nodes_and_leave_the_graph_as_it_is() -> None:
    g = ge.zoo.linear_network([4, 8, 2])
    g.input("spare", ())
    before = g.to_json()
    assert [finding.rule for finding in lint(g)] == ["linear-chain", "unused"]
    assert g.to_json() == before


def test_the_command_prints_a_line_a_finding_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    ge.zoo.linear_network([4, 8, 2]).save(path)
    result = run("lint", path)
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    assert line.startswith(f"{path}#/nodes/5: linear-chain: matmul_1, matmul_2 (4 -> 8 -> 2) have no nonlinearity")
    assert run("lint", path, "--check").exit_code == 1
    (finding,) = json.loads(run("lint", path, "--json").stdout)["findings"]
    assert finding["rule"] == "linear-chain"
    assert finding["node"] == "matmul_2"


def test_the_command_says_that_nothing_is_found(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    ge.zoo.digits_network().save(path)
    result = run("lint", path, "--check")
    assert result.exit_code == 0
    assert result.stdout == f"{path}: nothing found\n"
