"""The template of CONTRIBUTING's section on docstrings, held for every public name."""

from __future__ import annotations

import builtins
import doctest
import inspect
import random
import re
import types
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import GraphEngineError, NamingError
from graphengine.ir.node import Node

MODULES = {
    "": ge,
    **{f"{name}.": getattr(ge, name) for name in ("init", "optim", "schedules", "layers", "data", "zoo", "metrics")},
}


def public() -> Iterator[tuple[str, object]]:
    """Every public function and class once, by the first name under which it is found."""
    seen: set[int] = set()
    for prefix, module in MODULES.items():
        for name in dir(module):
            value = getattr(module, name)
            if inspect.isclass(value) or (callable(value) and not isinstance(value, types.GenericAlias)):
                if id(value) in seen or getattr(value, "__module__", "") == "typing":
                    continue
                seen.add(id(value))
                yield f"{prefix}{name}", value


PUBLIC = dict(public())
FUNCTIONS = {name: value for name, value in PUBLIC.items() if not inspect.isclass(value)}
ERRORS = {name: value for name, value in vars(ge).items() if inspect.isclass(value) and issubclass(value, Exception)}
GENERAL = NamingError
"""Any function may refuse its `name`; CONTRIBUTING says so once."""


def paragraphs(value: object) -> str:
    return inspect.cleandoc(value.__doc__ or "")


def raised_by(doc: str) -> set[str]:
    """The errors that the sentences with "Raises" or "raises" name."""
    sentences = re.findall(r"[Rr]aises\b(.*?)(?:\.(?:\s|$)|$)", doc, re.DOTALL)
    return {name for sentence in sentences for name in re.findall(r"\b[A-Z]\w*Error\b", sentence)}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_docstring_begins_with_one_sentence_and_names_what_exists(name: str) -> None:
    doc = paragraphs(PUBLIC[name])
    assert doc.partition("\n\n")[0][-1:] in {".", ":"}, "a sentence comes first"
    for reference in re.findall(r"\bge((?:\.\w+)+)", doc):
        target: object = ge
        for part in reference[1:].split("."):
            target = getattr(target, part)
    for target in re.findall(r"\bsee (?:also )?`?([a-z_]\w*|[A-Z]\w*)`?", doc):
        assert target in {"docs", "ge", "the"} or target in PUBLIC, target
    for error in raised_by(doc):
        assert error in ERRORS or hasattr(builtins, error), f"{error} is no error"


@pytest.mark.parametrize("name", [name for name, value in PUBLIC.items() if issubclass(type(value), type(ge.Adam))])
def test_a_configuration_names_its_arguments_and_what_it_raises(name: str) -> None:
    doc = paragraphs(PUBLIC[name])
    if arguments := set(inspect.signature(PUBLIC[name]).parameters) - {"learning_rate", "clip"}:
        inherited = " ".join(paragraphs(base) for base in (ge.Adam, ge.SGD)) if "those of `Adam`" in doc else ""
        assert not {argument for argument in arguments if not re.search(rf"\b{argument}\b", doc + inherited)}
        assert "aises" in doc


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_takes_returns_and_raises(name: str) -> None:
    doc = paragraphs(FUNCTIONS[name])
    if inspect.signature(FUNCTIONS[name]).parameters:
        assert raised_by(doc) or "Raises nothing" in doc, "the errors are missing"
        assert re.search(r"\b[Rr]eturns?\b|\b[Gg]ives\b|^[A-Z]\w+ .*node", doc), "what comes out is missing"


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_in_docstrings_run(name: str) -> None:
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner(verbose=False)
    for example in finder.find(PUBLIC[name], name, globs={"ge": ge}):
        assert not runner.run(example).failed


def operands() -> dict[str, list[object]]:
    """Good and bad arguments for the parameters of ops, by the parameter's name; every other name gets nodes."""
    graph = ge.Graph("operands")
    shapes: list[tuple[object, ...]] = [(3, 4), (4,), (), ("batch", 4), (2, 3, 4), (2, 4, 6, 6)]
    nodes: list[object] = [
        graph.input(f"x{i}_{dtype}", shape, dtype=dtype)
        for i, shape in enumerate(shapes)
        for dtype in ("float32", "float64", "int64", "bool")
    ]
    small = [0, 1, 2, -1, 9]
    return {
        "": nodes,
        "axis": [*small, (0, 0), (0, 1)],
        "shape": [(3, 4), (5,), (-1, -1), (12,), -2, (2, -3)],
        "start": [(0, 0), (1,), (9, 9)],
        "axes": [None, 1, 2, 9, (1, 0), (0, 0), (5, 1)],
        "parts": small,
        "key": [0, 9, slice(1), (0, 0, 0, 0, 0), "x", slice(None, None, 0)],
        "widths": [[(1, 1)], [(0, 1), (1, 0)], [(-1, 0), (0, 0)]],
        "value": [0.0, "x"],
        "dtype": ["float32", "int64", "floaty"],
        "depth": small,
        "size": small,
        "indices": nodes,
        "reduction": ["mean", "none", "some"],
        "delta": [1.0, -1.0],
        "ratio": [0.5, 2.0],
        "rate": [0.5, 1.5],
        "slope": [0.1, -1.0, float("inf")],
        "alpha": [1.0, float("nan")],
        "approximate": ["none", "tanh", "about"],
        "epsilon": [1e-5, -1.0],
        "momentum": [0.1, 2.0],
        "groups": small,
        "window": [1, 2, 0, 9],
        "stride": [1, 2, 0],
        "padding": [0, 1, "same", "valid", -1, "full"],
        "output_padding": [0, 3],
        "dilation": [1, 0],
        "keepdims": [False, True],
        "count_include_pad": [False],
        "causal": [False, True],
        "scale": [1.0],
        "factor": [1.0],
        "block": [None, 0, 2],
        "low": [0.0, None, 2.0],
        "high": [1.0, None, float("nan")],
        "mask": [None, *nodes],
        "nodes": [nodes[:2], nodes[:1] * 2, []],
        "units": [0, 2],
        "channels": [0, 2],
        "heads": [0, 2, 3],
        "hidden": [0, 2],
        "count": [0, 3],
        "max_length": [0, 3, 9],
    }


OPS = [
    name
    for name, function in FUNCTIONS.items()
    if inspect.unwrap(function).__module__.startswith(("graphengine.ops.", "graphengine.layers."))
    and name not in ("scan", "custom_vjp", "layers.sequential")
]


@cache
def raised_when_tried(function: Callable[..., object], tries: int = 150) -> set[type[BaseException]]:
    """The errors of calls with arguments that often do not fit, drawn from a fixed seed."""
    known = operands()
    parameters = inspect.signature(function).parameters
    draw = random.Random(0)
    raised: set[type[BaseException]] = set()
    for number in range(tries):
        given: dict[str, object] = {}
        for parameter in parameters.values():
            if parameter.name == "scale" and parameter.default is parameter.empty:
                given["scale"] = draw.choice(known[""])
            elif parameter.default is parameter.empty or (parameter.name in known and draw.random() < 0.3):
                choices = known.get(parameter.name, known[""])
                if parameter.annotation == "int":
                    choices = [value for value in choices if isinstance(value, int)]
                elif str(parameter.annotation).startswith("Sequence"):
                    choices = [value for value in choices if isinstance(value, tuple | list)]
                given[parameter.name] = draw.choice(choices)
        if number % 2 and isinstance(first := next(iter(given.values())), Node):  # every other time of one dtype
            for name, value in given.items():
                if isinstance(value, Node):
                    given[name] = draw.choice([node for node in known[""] if node.dtype == first.dtype])  # type: ignore[attr-defined]
        try:
            function(**given)
        except GraphEngineError as error:
            raised.add(type(error))
    return raised


@pytest.mark.parametrize("name", OPS)
def test_an_op_says_all_errors_that_it_raises_for_arguments_that_do_not_fit(name: str) -> None:
    said = raised_by(paragraphs(FUNCTIONS[name]))
    raised = {error.__name__ for error in raised_when_tried(FUNCTIONS[name])} - {GENERAL.__name__}
    assert raised <= said, f"not said: {sorted(raised - said)}"


def test_ops_raise_what_they_say() -> None:
    """Of the errors that ops name, most are met by arguments drawn at random."""
    named = met = 0
    for name in OPS:
        said = raised_by(paragraphs(FUNCTIONS[name]))
        named += len(said)
        met += len(said & {error.__name__ for error in raised_when_tried(FUNCTIONS[name])})
    assert met > 0.8 * named


METHODS = {
    f"{cls.__name__}.{name}": getattr(cls, name)
    for cls, names in {
        ge.Graph: ("input", "parameter", "state", "constant", "output", "update"),
        ge.Executable: ("forward", "backward", "step", "plan", "cost"),
    }.items()
    for name in names
}


def mistakes() -> list[tuple[str, Callable[[ge.Graph], object]]]:
    """Functions and methods by name, with a call of each that fails."""
    one = np.ones
    return [
        ("Graph", lambda _: ge.Graph("not a name")),
        ("Graph", lambda _: ge.Graph(dtype="floaty")),
        ("Graph.input", lambda g: g.input("x", (2,))),
        ("Graph.input", lambda g: g.input("z", ("not a dim",))),
        ("Graph.input", lambda g: g.input("z", (-2,))),
        ("Graph.input", lambda g: g.input("z", (2,), dtype="floaty")),
        ("Graph.parameter", lambda g: g.parameter("x", (2,))),
        ("Graph.parameter", lambda g: g.parameter("v", ("n",))),
        ("Graph.parameter", lambda g: g.parameter("v", (2,), dtype="floaty")),
        ("Graph.state", lambda g: g.state("x", (2,))),
        ("Graph.state", lambda g: g.state("s", ("n",))),
        ("Graph.state", lambda g: g.state("s", (2,), dtype="floaty")),
        ("Graph.constant", lambda g: g.constant("x", 1.0)),
        ("Graph.constant", lambda g: g.constant("c", 300, dtype="uint8")),
        ("Graph.output", lambda g: g.output("not a name", g["x"])),
        ("Graph.output", lambda g: g.output("y", ge.Graph().input("x", (2,)))),
        ("Graph.update", lambda g: g.update(g["x"], g["x"])),
        ("Graph.update", lambda g: g.update(g["w"], g["w"][:1])),
        ("Graph.update", lambda g: g.update(g["w"], ge.cast(g["w"], "float64"))),
        ("Executable.forward", lambda g: ge.compile(g).forward({"q": [1.0]})),
        ("Executable.forward", lambda g: ge.compile(g).forward({}, ["q"])),
        ("Executable.backward", lambda g: ge.compile(g).backward()),
        ("Executable.backward", lambda g: ge.compile(g, loss="loss").backward()),
        ("Executable.step", lambda g: ge.compile(g, loss="loss").step({})),
        ("Executable.step", lambda g: ge.compile(g, loss="loss", optimizer=ge.GD(0.1)).step({"q": 1.0})),
        ("Executable.plan", lambda g: ge.compile(g).plan(n=3)),
        ("Executable.cost", lambda g: ge.compile(g).cost(n=3)),
        ("compile", lambda g: ge.compile(g, backend="abacus")),
        ("compile", lambda g: ge.compile(g, loss="q")),
        ("compile", lambda g: ge.compile(g, loss=g["w"])),
        ("compile", lambda g: ge.compile(g, loss="loss", wrt=["ids"])),
        ("grad", lambda g: ge.grad(g["w"], [g["w"]])),
        ("grad", lambda g: ge.grad(g["loss"], [g["ids"]])),
        ("grad", lambda g: ge.grad(g["loss"], [ge.Graph().input("x", (2,))])),
        ("jvp", lambda g: ge.jvp([g["loss"]], [g["w"]], [])),
        ("jvp", lambda g: ge.jvp([g["loss"]], [g["w"]], [g["loss"]])),
        ("jvp", lambda g: ge.jvp([g["loss"]], [g["ids"]], [g["ids"]])),
        ("hvp", lambda g: ge.hvp(g["loss"], [g["w"]], [])),
        ("hvp", lambda g: ge.hvp(g["w"], [g["w"]], [g["w"]])),
        ("hessian", lambda g: ge.hessian(g["w"], g["w"])),
        ("hessian", lambda g: ge.hessian(g["loss"], g["ids"])),
        ("jacobian", lambda g: ge.jacobian(g["w"], g["w"], mode="sideways")),
        ("jacobian", lambda g: ge.jacobian(g["w"], g["ids"])),
        ("collapse", lambda g: ge.collapse(g, {})),
        ("collapse", lambda g: ge.collapse(g, {"w": one(9)})),
        ("load", lambda _: ge.load(ge.data.__file__)),
        ("load_parameters", lambda g: ge.load_parameters(ge.compile(g), "there is none.safetensors")),
        ("load_checkpoint", lambda g: ge.load_checkpoint(ge.compile(g), "there is none.safetensors")),
        ("evaluate", lambda g: ge.evaluate(ge.compile(g), {"q": one((3, 2))})),
        ("predict", lambda g: ge.predict(ge.compile(g), {"q": one((3, 2))})),
        ("set_threads", lambda _: ge.set_threads(0)),
        ("confusion_matrix", lambda _: ge.confusion_matrix([0.5], [[1, 2]])),
        ("metrics.accuracy", lambda _: ge.metrics.accuracy(one((2, 3)), one((4, 5)))),
        ("metrics.mean_squared_error", lambda _: ge.metrics.mean_squared_error(one(2), one(3))),
        ("metrics.mean_absolute_error", lambda _: ge.metrics.mean_absolute_error(one(2), one(3))),
        ("data.windows", lambda _: ge.data.windows(np.arange(3), 9)),
        ("zoo.mlp", lambda _: ge.zoo.mlp([3])),
        ("zoo.mlp", lambda _: ge.zoo.mlp([3, 2], "sharp")),
        ("zoo.three_layer", lambda _: ge.zoo.three_layer(3, (2, 2), 1, "sharp")),
        ("zoo.linear_network", lambda _: ge.zoo.linear_network([3])),
        ("zoo.linear_regression", lambda _: ge.zoo.linear_regression(-1)),
        ("zoo.logistic_regression", lambda _: ge.zoo.logistic_regression(3, dtype="floaty")),
        ("zoo.perceptron", lambda _: ge.zoo.perceptron(3, dtype="floaty")),
        ("zoo.neuron", lambda _: ge.zoo.neuron(dtype="floaty")),
        ("zoo.character_transformer", lambda _: ge.zoo.character_transformer(5, units=3, heads=2)),
        ("zoo.convolutional_autoencoder", lambda _: ge.zoo.convolutional_autoencoder(0)),
        ("layers.sequential", lambda g: ge.layers.sequential(g["x"], lambda _: None)),
    ]


@pytest.mark.parametrize("number", range(len(mistakes())), ids=lambda number: mistakes()[number][0])
def test_a_mistake_raises_an_error_that_the_docstring_names(number: int) -> None:
    name, call = mistakes()[number]
    graph = ge.Graph("mistakes")
    graph.input("x", (2,))
    graph.input("ids", (2,), dtype="int64")
    w = graph.parameter("w", (2,))
    graph.output("loss", ge.sum(w * w, name="loss"))
    with pytest.raises(GraphEngineError) as caught:
        call(graph)
    said = raised_by(paragraphs({**PUBLIC, **METHODS}[name]))
    assert {error.__name__ for error in type(caught.value).__mro__} & said, f"{caught.value!r} is not in {said}"
