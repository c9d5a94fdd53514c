"""The public surface, name by name: what is added or taken away is done so here too, in sight of who reviews it."""

from __future__ import annotations

import pydoc
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import GraphEngineError

PAGE = (Path(__file__).parents[1] / "docs" / "ops.md").read_text()
OPS = " ".join(
    re.findall(r"`(\w+)`", PAGE.split("## Functions\n\nThese make nodes of ops, and are public in `ge`.")[1])
)
"""Those of ops are on a page that is made from the classes."""

ERRORS = """
    AttributeValueError CompileError CycleError DTypeError ExecutionError FeedError GradientError GraphEngineError
    GraphError NamingError NonFiniteError OneByOneWarning PickleError ShapeError SpecError TrainingError
    UnknownAttributeError UnreachedParameterWarning UsageError ValueRangeError
"""

REST = """
    Adagrad Adam AdamW Callback Checkpoint CheckpointWarning ClipByGlobalNorm ClipByValue CosineDecay
    CrossValidation EarlyStopping Epoch Executable
    ExponentialDecay Fold GD Gradients Graph History InverseTimeDecay Limits Metric Node Op Piecewise RMSProp SGD
    StepDecay TensorType Training Warmup collapse compile confusion_matrix cross_validate evaluate fit for_inference
    grad get_threads gradcheck hessian hvp jacobian jvp load load_checkpoint load_parameters per_example_grad predict
    rewrites save_checkpoint save_parameters set_threads transfer
"""


MODULES = "data init layers metrics optim schedules zoo"


def public() -> dict[str, object]:
    return {name: value for name, value in vars(ge).items() if not name.startswith("_")}


def test_the_public_names_are_these() -> None:
    names = {name for name, value in public().items() if not isinstance(value, types.ModuleType)}
    assert names == {*OPS.split(), *ERRORS.split(), *REST.split()}


def test_the_submodules_that_users_name_are_there() -> None:
    assert all(isinstance(getattr(ge, name), types.ModuleType) for name in MODULES.split())


def test_dir_lists_what_is_public_and_nothing_else() -> None:
    listed = set(python("import graphengine as ge; print(*dir(ge))").split())
    assert listed == {*OPS.split(), *ERRORS.split(), *REST.split(), *MODULES.split()}
    for module in (ge.init, ge.optim, ge.schedules, ge.layers, ge.data, ge.zoo, ge.metrics):
        assert dir(module) == sorted(module.__all__)


def test_a_typed_script_of_a_user_runs_and_passes_pyright() -> None:
    """Mypy checks the script with the package; pyright is asked where it is installed."""
    script = Path(__file__).with_name("user_script.py")
    subprocess.run([sys.executable, script], check=True)
    if pyright := shutil.which("pyright"):
        done = subprocess.run([pyright, "--pythonpath", sys.executable, script], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_help_on_a_configuration_is_about_it_alone() -> None:
    told = pydoc.render_doc(ge.Adam, renderer=pydoc.plaintext)
    assert len(told.splitlines()) < 60
    assert "Adam(learning_rate:" in re.sub(r"[\s|]", "", told)  # Python 3.13 writes an argument to a line
    assert "model_" not in told


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ge.SGD(0.1, mommentum=0.9), "SGD: there is no argument 'mommentum'; did you mean 'momentum'?"),
        (lambda: ge.SGD(), "SGD: learning_rate is missing"),
        (lambda: ge.SGD(0.1, 0.9, False, 0.0, 1.0), "SGD takes learning_rate, momentum, nesterov, weight_decay by"),
        (lambda: ge.SGD(0.1, learning_rate=0.1), "SGD: learning_rate is given both by position and by name"),
        (lambda: ge.init.Normal(-1.0), "Normal: std: it should be greater than or equal to 0 (was -1.0)"),
    ],
)
def test_wrong_arguments_of_a_configuration_name_the_argument(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ge.AttributeValueError, match=re.escape(message)):
        make()


def test_every_public_name_is_documented() -> None:
    bare = [name for name, value in public().items() if callable(value) and not (value.__doc__ or "").strip()]
    assert not bare


def test_every_error_is_of_the_one_tree() -> None:
    for name in ERRORS.split():
        assert issubclass(getattr(ge, name), GraphEngineError | UserWarning)


def test_nothing_public_is_one_of_our_own_files_by_accident() -> None:
    """`ge.compile` is the function, though a file has the same name."""
    assert callable(ge.compile)
    assert callable(ge.load)


def test_the_contract_s_example_runs() -> None:
    graph = ge.Graph("neuron", dtype="float64")
    x, y = graph.input("x", ("batch", 3)), graph.input("y", ("batch", 1))
    w, b = graph.parameter("w", (3, 1), init=ge.init.Normal(std=0.1)), graph.parameter("b", (1,), init=ge.init.Zeros())
    graph.constant("c", np.eye(3))
    u = ge.sigmoid(x @ w + b)
    loss = ge.half_squared_error(u, y) + 0.01 * ge.l2(w)
    graph.output("prediction", u)
    graph.output("loss", loss)
    optimizer = ge.SGD(learning_rate=0.1)
    exe = ge.compile(graph, loss="loss", optimizer=optimizer, backend="numpy", seed=0)
    feeds = {"x": np.ones((4, 3)), "y": np.zeros((4, 1))}
    assert set(exe.forward(feeds)) == {"prediction", "loss"}
    assert set(exe.forward({"x": feeds["x"]}, outputs=["prediction"])) == {"prediction"}
    first = float(exe.forward(feeds)["loss"])
    assert set(exe.backward()) == {"w", "b"}
    assert exe.step(feeds) == first
    exe.parameters["w"] = exe.parameters["w"] * 0.5
    assert "FORWARD" in str(exe.program)
    assert exe.cost(batch=128).total_flops > 0
    assert exe.audit().ok
    (w_bar,) = ge.grad(loss, [w])
    ge.grad(ge.sum(w_bar), [w])
    assert ge.Graph.from_json(graph.to_json()) == graph
    assert len(graph.hash()) == 64
    assert graph.to_networkx().number_of_nodes() == len(graph)
    ge.gradcheck(graph, loss="loss", feeds=feeds, seed=0)


def test_a_graph_is_saved_and_loaded(tmp_path) -> None:
    graph = ge.Graph("saved")
    graph.output("y", ge.relu(graph.input("x", ("batch", 2))))
    graph.save(tmp_path / "saved.json")
    assert ge.load(tmp_path / "saved.json") == graph


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_loads_neither_the_command_line_nor_another_engine() -> None:
    heavy = "('typer', 'rich', 'jax', 'torch', 'networkx', 'numba', 'llvmlite', 'graphengine.cli')"
    assert python(f"import sys, graphengine; print([name for name in {heavy} if name in sys.modules])") == "[]"
