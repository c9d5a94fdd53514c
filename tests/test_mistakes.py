"""What beginners write by mistake, and what they are told: the line, both values, and what to write instead.

A mistake is a program of one line. The message has the error's class, each of the parts, and the line of the mistake.
"""

# ruff: noqa: E501  # a mistake is a line of a table

from __future__ import annotations

import copy
import json
import math
import pickle
import sys

import numpy as np
import pytest

import graphengine as ge
from graphengine import words


def setting() -> dict[str, object]:
    """The names that mistakes use: a graph `g` of a dense layer and its loss, compiled as `exe`."""
    g = ge.Graph("toy")
    x, t = g.input("x", ("batch", 3)), g.input("t", ("batch", 2))
    w, b = g.parameter("w", (3, 2)), g.parameter("b", (2,))
    y = g.output("y", ge.add(x @ w, b, name="y"))
    loss = g.output("loss", ge.squared_error(y, t))
    exe = ge.compile(g, loss="loss", optimizer=ge.SGD(0.1))
    labels, images = g.input("labels", ("batch",), "int64"), g.input("images", ("batch", 28, 28, 3))
    kernel, gray = g.parameter("kernel", (8, 3, 3, 3)), g.input("gray", ("batch", 28, 28, 1))
    return {**locals(), "ge": ge, "np": np, "math": math, "X": np.zeros((4, 3)), "T": np.zeros((4, 2))}


NODES = """
len(x)                  | UsageError | len(x): a node has no value before the graph runs; x.shape[0]
float(y)                | UsageError | float(x): a node has no value | exe.forward(feeds)
int(y)                  | UsageError | int(x): a node has no value | exe.forward(feeds)
round(y)                | UsageError | round(x): a node | write ge.floor
bool(x > 0)             | UsageError | a condition: a node has no value | use ge.where
y and x                 | UsageError | ge.where | ge.logical_and
[v for v in x]          | UsageError | iteration: a node has no value | index it, as x[0]
3 in x                  | UsageError | `in`: a node has no value | ge.equal
sum(x)                  | UsageError | iteration: a node has no value | ge.sum
range(x)                | UsageError | an index or a size: a node has no value | ge.gather
x[0] = 1.0              | UsageError | x[...] = y: a node has no value | ge.where
y(x)                    | UsageError | x(...): a node has no value | ge.layers.dense(x, units)
~(x > 0)                | UsageError | write ge.logical_not(x)
(x > 0) & (x < 1)       | UsageError | write ge.logical_and(x, y)
x // 2                  | UsageError | write ge.floor(x / y)
7 % x                   | UsageError | write x - y * ge.floor(x / y)
np.exp(x)               | UsageError | np.exp: a node has no value | write ge.exp | node  x = input()
np.mean(x, axis=0)      | UsageError | np.mean: a node has no value | write ge.mean
np.concatenate([x, x])  | UsageError | np.concatenate: a node has no value | write ge.concat
np.where(x > 0, x, 0)   | UsageError | np.where: a node has no value | write ge.where
np.maximum(x, 0)        | UsageError | np.maximum: a node has no value | write ge.maximum
np.linalg.norm(x)       | UsageError | np.norm: a node has no value | exe.forward(feeds)
np.asarray(x)           | UsageError | an array: a node has no value | exe.forward(feeds)
math.exp(x)             | UsageError | float(x): a node has no value | ge.exp
X == x                  | UsageError | np.equal: a node has no value | write ge.equal
x + [x, x]              | UsageError | an array: a node has no value | ge.stack
x.mean()                | UnknownAttributeError | x = input(): float32[batch, 3] | 'mean'; write ge.mean(x, ...)
x.reshape(3)            | UnknownAttributeError | no attribute 'reshape'; write ge.reshape(x, ...)
x.numpy()               | UnknownAttributeError | no attribute 'numpy' | forward(feeds)
loss.backward()         | UnknownAttributeError | no attribute 'backward'; write ge.grad(loss, [x])
x.shpae                 | UnknownAttributeError | no attribute 'shpae'; did you mean x.shape?
g.fit(X, T)             | UnknownAttributeError | Graph('toy' | no attribute 'fit' | ge.fit(exe, data, epochs=...)
g.dense(x, 3)           | UnknownAttributeError | no attribute 'dense'; write ge.layers.dense(x, ...)
exe(X)                  | UsageError | an executable is not called; write exe.forward({'x': array, 't': array
exe.fit(X, T)           | UnknownAttributeError | Executable(Graph('toy' | no attribute 'fit'; write ge.fit(exe, ...)
exe.lr                  | UnknownAttributeError | no attribute 'lr'; write ge.compile(graph, loss=..., optimizer=
g[0]                    | UsageError | graph[...] takes the name of a node, not 0; graph.nodes
"""

NAMES = """
ge.mse                  | UnknownAttributeError | ge has no 'mse'; write ge.squared_error
ge.Dense(3)             | UnknownAttributeError | ge has no 'Dense'; write ge.layers.dense
ge.layers.Dense(3)      | UnknownAttributeError | ge.layers has no 'Dense'; write ge.layers.dense
ge.nn.Linear(3, 2)      | UnknownAttributeError | ge has no 'nn'; write ge.layers
ge.CrossEntropyLoss()   | UnknownAttributeError | ge has no 'CrossEntropyLoss'; write ge.cross_entropy
ge.ReLU()               | UnknownAttributeError | ge has no 'ReLU'; write ge.relu
ge.softmx(x)            | UnknownAttributeError | ge has no 'softmx'; write ge.softmax
ge.Variable(3.0)        | UnknownAttributeError | ge has no 'Variable'; write graph.parameter(name, shape)
ge.init.he_normal()     | UnknownAttributeError | ge.init has no 'he_normal'; write ge.init.HeNormal
ge.optim.Adagard(0.1)   | UnknownAttributeError | ge.optim has no 'Adagard'; write ge.optim.Adagrad
ge.metrics.mse          | UnknownAttributeError | ge.metrics has no 'mse'; write ge.metrics.mean_squared_error
ge.frobnicate           | UnknownAttributeError | ge has no 'frobnicate'; dir(ge) lists what there is
"""

CONFIGURATIONS = """
ge.SGD(lr=0.1)          | AttributeValueError | SGD: there is no argument 'lr'; write learning_rate=0.1
ge.Adam(beta_1=0.9)     | AttributeValueError | Adam: there is no argument 'beta_1'; write beta1=0.9
ge.Adam(betas=(.9, .9)) | AttributeValueError | Adam: there is no argument 'betas'; write beta1 and beta2
ge.Adam(foo=0.9)        | AttributeValueError | Adam: there is no argument 'foo'; there are learning_rate, beta1
ge.SGD()                | AttributeValueError | SGD: learning_rate is missing; write learning_rate=...
ge.SGD(10**400)         | AttributeValueError | a finite number of at least 0 | (was an int of about 400 digits)
ge.SGD(10**5000)        | AttributeValueError | a finite number of at least 0 | (was an int of about 5,000 digits)
ge.Adam(0.1, 2.0)       | AttributeValueError | Adam: beta1: it should be less than 1 (was 2.0)
ge.init.Normal(stddev=1)| AttributeValueError | Normal: there is no argument 'stddev'; write std=1
ge.init.Normal(-1.0)    | AttributeValueError | Normal: std: it should be greater than or equal to 0 (was -1.0)
ge.CosineDecay(0.1, T_max=9) | AttributeValueError | CosineDecay: there is no argument 'T_max'; write steps=9
"""


ARGUMENTS = """
ge.relu(3)              | GraphError | relu needs at least one node among its operands, not 3; graph.input
ge.sum(X)               | UsageError | sum: x must be a node, not an array float64[4, 3]; write graph.input
ge.softmax(x, dim=1)    | UsageError | softmax: there is no argument 'dim'; write axis=1
ge.concat(x, x)         | UsageError | concat: nodes must be a list | not x = input() | write [x]
ge.grad(loss, w)        | UsageError | grad: wrt must be a list, each item a node | write [w]
ge.grad("loss", [w])    | UsageError | grad: loss must be a node, not 'loss'; write graph['loss']
ge.where(x == 0, x, x)  | DTypeError | where chooses by a node, not by False | write ge.equal(x, y)
ge.layers.dense(X, 3)   | UsageError | dense: x must be a node, not an array float64[4, 3]
ge.layers.dense(3)      | UsageError | dense: units is missing; write dense(x, units)
ge.layers.dense(x, 3, activation="relu") | UsageError | dense: activation must be a function or None, not 'relu'; write ge.relu
ge.layers.dense(x, 3, init=0.5)          | UsageError | must be an initializer or None, not 0.5; write ge.init.Constant(0.5)
ge.layers.dense(x, 3, use_bias=False)    | UsageError | there is no argument 'use_bias'; write bias=False
ge.layers.sequential(x, 5)               | UsageError | sequential: layers[0] must be a function, not 5
ge.layers.rnn(x, 3, activation="tanh")   | UsageError | rnn: activation must be a function, not 'tanh'; write ge.tanh
g.input("v", 4)         | UsageError | graph.input: shape must be a list | not 4; write (4,)
g.parameter("v", 4)     | UsageError | graph.parameter: shape must be a list, each item an int, not 4; write (4,)
g.parameter("v", (4, 3), init=X)         | UsageError | init must be an initializer or None, not an array float64[4, 3] | exe.parameters[name] = array
g.parameter("v", (3,), init=ge.init.Zeros) | UsageError | not the class Zeros; write ge.init.Zeros(...)
g.constant("c", "abc")  | AttributeValueError | a constant holds numbers or bools, not 'abc'
g.output("o", "y")      | UsageError | graph.output: node must be a node, not 'y'; write graph['y']
g.output("q")           | UsageError | graph.output: node is missing; write graph.output(name, node)
g.update("w", w)        | UsageError | graph.update: target must be a node, not 'w'; write graph['w']
ge.Training(loss="loss", optimizer="adam")          | AttributeValueError | optimizer: an optimizer or an object with a "kind" is needed; write ge.Adam(...)
ge.compile(g, loss="loss", optimizer="adam")        | UsageError | optimizer must be an optimizer or None, not 'adam'; write ge.Adam(...)
ge.compile(g, loss="loss", optimizer=ge.Adam)       | UsageError | not the class Adam; write ge.Adam(...)
ge.compile(g, "loss")   | UsageError | compile: it takes graph by position, and loss=...
ge.compile(g, criterion="loss")          | UsageError | compile: there is no argument 'criterion'; write loss='loss'
ge.compile(exe)         | UsageError | compile: graph must be a graph, not Executable(Graph('toy'
ge.compile(g, loss="loss", wrt=w)        | CompileError | wrt is a list of leaves | write wrt=['w']
ge.compile(g, seed=-1)  | CompileError | seed is an int of at least 0, not -1
ge.compile(g, seed=0.5) | CompileError | seed is an int of at least 0, not 0.5
ge.compile(g, seed=True)                 | CompileError | seed is an int of at least 0, not True
ge.load(exe)            | UsageError | load: path must be a string or a path, not Executable(
ge.load_parameters("weights.safetensors", exe)      | UsageError | exe must be an executable, not 'weights.safetensors'
ge.fit(g, {"x": X}, epochs=1)            | UsageError | fit: exe must be an executable, not Graph('toy' | ge.compile(graph
ge.fit(exe, {"x": X})   | UsageError | fit: epochs is missing; write fit(exe, data, epochs=...)
ge.fit(exe, {"x": X}, n_epochs=2)        | UsageError | fit: there is no argument 'n_epochs'; write epochs=2
exe.forward(X)          | FeedError | feeds must be a dict of arrays | {'x': ..., 't': ...} | not an array float64[4, 3]
exe.step(None)          | FeedError | feeds must be a dict of arrays by the names of inputs, {'x': ..., 't': ...}, and not None
exe.forward({"x": X}, "y")               | NamingError | outputs is a list of names: say outputs=['y']
exe.forward({"x": X}, ["s"])             | NamingError | no output 's'; there are y, loss | graph.output(name, node) before ge.compile
exe.forward({x: X}, ["y"])               | FeedError | no input x = input(): float32[batch, 3]; did you mean 'x'?
exe.forward({"x": X, "z": X}, ["y"])     | FeedError | no input 'z'; there are x, t
ge.Graph("toy").input("x", (3,)) + x     | GraphError | belongs to graph 'toy', not to 'toy' | in the graph made at | graph.import_graph
"""


SIZES = """
g.input("v", (-1, 3))   | AttributeValueError | a dim is at least 0, not -1; write a name, as 'batch'
g.input("v", (None, 3)) | AttributeValueError | a dim is an int or a name, not None; write a name, as 'batch'
g.input("v", ("a b",))  | ShapeError | a dim is an int or a name, not 'a b'
range(x.shape[0])       | UsageError | the size 'batch' is not known before a feed says it
x.shape[0] / 2          | UsageError | the size 'batch' is not known
x.shape[0] > 3          | UsageError | the size 'batch' is not known
x.shape[0] // 2         | ShapeError | batch / 2 is not a size for every size of its names
loss / x.shape[0]       | DTypeError | divide takes nodes and numbers, not 'batch'; ge.mean
x * 10**400             | DTypeError | multiply | an int of about 400 digits
x * "2"                 | DTypeError | multiply takes nodes and numbers, not '2'
ge.layers.conv2d(gray, 8, 3)  | ShapeError | images are [batch, channels, height, width] | ge.transpose(x, (0, 3, 1, 2))
ge.conv2d(images, kernel)     | ShapeError | the images have 28 channels, and the kernel takes 3 | ge.transpose(x, (0, 3, 1, 2))
x @ x                   | ShapeError | inner sizes differ: float32[batch, 3] @ float32[batch, 3] | x is float32[batch, 3]
exe.parameters["b"][0] = 1.0  | UsageError | write w = exe.parameters[name].copy()
exe.parameters["bias"]  | NamingError | no parameter 'bias'; there are w, b
exe.parameters()        | UsageError | write exe.parameters.items()
exe.parameters["b"] = [1.0]   | ShapeError | parameter 'b' is float32[2], and the value has shape [1]
"""

FILES = """
ge.load(path("w.npz", b"PK\\3\\4"))               | SpecError | it is a zip archive | np.load reads .npz, torch.load .pt
ge.load(path("w.npy", b"\\x93NUMPY"))             | SpecError | it is an array of NumPy
ge.load(path("w.pkl", b"\\x80\\4"))               | SpecError | it is a pickle
ge.load(path("w.h5", b"\\x89HDF"))                | SpecError | it is HDF5
ge.load(path("w.png", b"\\x89PNG"))               | SpecError | it is an image, PNG
ge.load(path("w.csv", b"a,b"))                    | SpecError | it is a table
ge.load(path("w.onnx", b"\\x08\\7"))              | SpecError | it is of ONNX
ge.load(path("w", b"\\2" + bytes(7) + b"{}"))     | SpecError | it is of weights | ge.load_parameters(exe, path)
ge.load(path("w", b"\\2" + bytes(7) + b"{}"), limits=ge.Limits(document_bytes=9)) | SpecError | it is of weights
ge.load_parameters(exe, path("w.npz", b"PK\\3\\4" + bytes(9))) | TrainingError | it is a zip archive
ge.load_parameters(exe, path("net.json", b'{ "format": 1}'))   | TrainingError | it is JSON | ge.load(path)
"""


def mistakes(*tables: str) -> list[list[str]]:
    return [[part.strip() for part in line.split("|")] for table in tables for line in table.strip().splitlines()]


@pytest.fixture(scope="module")
def names() -> dict[str, object]:
    return setting()


@pytest.mark.parametrize(
    "mistake", mistakes(NODES, NAMES, CONFIGURATIONS, ARGUMENTS, SIZES), ids=lambda mistake: mistake[0]
)
def test_a_mistake_is_told_with_its_line_and_remedy(mistake: list[str], names: dict[str, object]) -> None:
    code, error, *parts = mistake
    with pytest.raises(ge.GraphEngineError) as caught:
        exec(compile(code, "train.py", "exec"), names)
    told = str(caught.value)
    assert type(caught.value).__name__ == error
    assert not [part for part in parts if part not in told], told
    assert "train.py:1" in told
    assert len(told) < 1000


@pytest.mark.parametrize("mistake", mistakes(FILES), ids=lambda mistake: mistake[1] + mistake[2])
def test_a_file_of_another_kind_is_told_by_what_it_is(mistake: list[str], names: dict[str, object], tmp_path) -> None:
    def path(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    code, error, *parts = mistake
    with pytest.raises(ge.GraphEngineError) as caught:
        eval(code, {**names, "path": path})
    assert type(caught.value).__name__ == error
    assert not [part for part in parts if part not in str(caught.value)], caught.value


def test_the_arithmetic_of_a_named_size_is_that_of_sizes(names: dict[str, object]) -> None:
    batch, features = names["x"].shape
    assert (2 * batch, batch + 1, batch - 1, features * batch, batch * batch // batch) == (
        "2*batch",
        "batch+1",
        "batch-1",
        "3*batch",
        "batch",
    )
    assert ge.reshape(names["x"], (batch * features,)).shape == ("3*batch",)
    assert "size: " + batch == "size: batch"
    assert pickle.loads(pickle.dumps(batch)) == copy.deepcopy(batch) == "batch"
    assert json.dumps(names["x"].shape) == '["batch", 3]'


def test_a_weight_is_changed_in_place_by_assignment() -> None:
    g = ge.Graph("g")
    g.output("y", g.parameter("b", (2,)) + 1.0)
    exe = ge.compile(g)
    exe.parameters["b"] += 3.0
    exe.parameters["b"] /= np.array([1.0, 2.0])
    assert exe.forward({})["y"].tolist() == [4.0, 2.5]
    read = exe.parameters["b"]
    assert type(read * 2) is type(pickle.loads(pickle.dumps(read))) is np.ndarray
    assert repr(read) == "array([3. , 1.5], dtype=float32)"
    assert isinstance(read.sum(), np.float32)


def test_arithmetic_of_an_array_and_a_node_is_a_node(names: dict[str, object]) -> None:
    x, array = names["x"], np.ones((1, 3), "float32")
    assert [(array * x).op.kind, (np.float64(2.0) - x).op.kind, (array < x).op.kind] == ["multiply", "subtract", "less"]
    array += x
    assert array.op.kind == "add"
    assert abs(x).op.kind == "abs"
    with pytest.raises(ge.UsageError):
        np.add.reduce(x)


def test_a_graph_holds_its_nodes_and_their_names(names: dict[str, object]) -> None:
    graph = names["g"]
    assert list(graph) == graph.nodes
    assert "x" in graph
    assert names["x"] in graph
    assert ge.Graph().input("x", ()) not in graph


def test_protocols_that_ask_for_attributes_are_answered(names: dict[str, object]) -> None:
    for value in (names["x"], names["g"], ge, ge.layers):
        assert not hasattr(value, "mean_of_all")
        assert not hasattr(value, "__fspath__")
    assert copy.copy(names["x"]).name == pickle.loads(pickle.dumps(names["x"])).name == "x"
    assert copy.deepcopy(names["g"]) == names["g"]


def test_what_is_suggested_is_there() -> None:
    for path in words._NAMES:
        value: object = sys.modules[__name__]
        for name in path.partition("(")[0].replace("graph.", "ge.Graph.").split("."):
            value = getattr(value, name)


def test_what_a_users_function_raises_stays_as_it_is(names: dict[str, object]) -> None:
    with pytest.raises(KeyError, match="mine"):
        ge.layers.sequential(names["x"], lambda x: {}["mine"] * x)
    with pytest.raises(ZeroDivisionError):
        ge.layers.sequential(names["x"], lambda x: x * (1 / 0))


def test_public_functions_are_pickled_by_name() -> None:
    for function in (ge.relu, ge.concat, ge.fit, ge.layers.dense, ge.metrics.accuracy, ge.zoo.mlp):
        assert pickle.loads(pickle.dumps(function)) is function


def test_a_warning_names_the_users_line() -> None:
    g = ge.Graph()
    g.parameter("idle", (3,))
    loss = g.output("loss", ge.sum(g.parameter("w", (3,))))
    with pytest.warns(ge.UnreachedParameterWarning) as caught:
        ge.compile(g, loss=loss, optimizer=ge.SGD(0.1))
    assert caught[0].filename == __file__
