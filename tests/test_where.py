"""Where a node was declared, as errors quote it."""

import os

import graphengine as ge
from graphengine.where import Where, caller


def test_a_node_knows_the_users_line() -> None:
    g = ge.Graph()
    x = g.input("x", (3,))
    y = ge.sigmoid(x + 1.0)
    assert x.where.file == y.where.file == __file__
    assert y.where.place == x.where.place + 1


def test_a_node_made_by_a_derivative_inherits_the_place_of_the_node_that_it_belongs_to() -> None:
    g = ge.Graph()
    x = g.input("x", (3,))
    loss = ge.sum(ge.exp(x))
    (x_bar,) = ge.grad(loss, [x])
    assert x_bar.where.file == __file__
    assert x_bar.where == loss.where


def test_a_place_is_a_line_of_a_file_or_a_pointer_into_a_document() -> None:
    assert str(Where("/elsewhere/train.py", 31)) == "/elsewhere/train.py:31"
    assert str(Where(os.path.join(os.getcwd(), "train.py"), 31)) == "train.py:31"
    assert str(Where("net.json", "/nodes/3")) == "net.json#/nodes/3"


def test_the_caller_is_outside_of_the_package() -> None:
    assert caller().file == __file__
