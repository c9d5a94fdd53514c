"""Every optimizer against the formula of its paper, step by step."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphengine as ge
from graphengine.compile import installed_backends
from graphengine.errors import AttributeValueError, GraphError, UnknownAttributeError
from graphengine.ir.node import Phase
from graphengine.ir.training import Optimizer, Training
from tests.optim import references

STEPS = 25


def at(alpha: float) -> Callable[[int], float]:
    return lambda _: alpha


def halving(t: int) -> float:
    return 0.05 * 0.5 ** (t // 4)


HALVING = ge.StepDecay(initial=0.05, factor=0.5, every=4)

CASES: list[tuple[Optimizer, references.Rule, Callable[..., Any]]] = [
    (ge.GD(learning_rate=0.02), references.sgd(at(0.02)), dict),
    (ge.GD(learning_rate=HALVING), references.sgd(halving), dict),
    (ge.GD(learning_rate=0.1, clip=ge.ClipByValue(0.5)), references.sgd(at(0.1)), references.by_value(0.5)),
    (ge.SGD(learning_rate=0.02), references.sgd(at(0.02)), dict),
    (ge.SGD(learning_rate=0.02, momentum=0.9), references.sgd(at(0.02), 0.9), dict),
    (ge.SGD(learning_rate=0.02, momentum=0.9, nesterov=True), references.sgd(at(0.02), 0.9, True), dict),
    (ge.SGD(learning_rate=0.02, weight_decay=0.3), references.sgd(at(0.02), weight_decay=0.3), dict),
    (
        ge.SGD(
            learning_rate=HALVING, momentum=0.8, nesterov=True, weight_decay=0.1, clip=ge.ClipByGlobalNorm(limit=3.0)
        ),
        references.sgd(halving, 0.8, True, 0.1),
        references.by_global_norm(3.0),
    ),
    (ge.Adam(), references.adam(at(0.001)), dict),
    (
        ge.Adam(learning_rate=HALVING, beta1=0.7, beta2=0.95, epsilon=1e-3),
        references.adam(halving, 0.7, 0.95, 1e-3),
        dict,
    ),
    (ge.Adam(beta1=0.0, beta2=0.0, epsilon=0.1), references.adam(at(0.001), 0.0, 0.0, 0.1), dict),
    (ge.AdamW(learning_rate=0.05), references.adam(at(0.05), decay=0.01), dict),
    (
        ge.AdamW(learning_rate=HALVING, weight_decay=0.4, clip=ge.ClipByGlobalNorm(limit=0.7)),
        references.adam(halving, decay=0.4),
        references.by_global_norm(0.7),
    ),
    (ge.RMSProp(), references.rmsprop(at(0.001)), dict),
    (
        ge.RMSProp(learning_rate=0.01, decay=0.8, epsilon=0.1, momentum=0.5, centered=True),
        references.rmsprop(at(0.01), 0.8, 0.1, 0.5, True),
        dict,
    ),
    (
        ge.RMSProp(learning_rate=HALVING, centered=True, epsilon=1e-2),
        references.rmsprop(halving, epsilon=1e-2, centered=True),
        dict,
    ),
    (ge.Adagrad(), references.adagrad(at(0.01)), dict),
    (
        ge.Adagrad(learning_rate=HALVING, initial_accumulator=0.1, epsilon=1e-3),
        references.adagrad(halving, 0.1, 1e-3),
        dict,
    ),
]
OPTIMIZERS = [optimizer for optimizer, _, _ in CASES]


def trained(optimizer: Optimizer, dtype: str, steps: int = STEPS) -> Any:
    exe = ge.compile(references.problem(dtype), loss="loss", optimizer=optimizer)
    for name, value in references.first_weights().items():
        exe.parameters[name] = value
    for t in range(steps):
        exe.step(references.feeds(t))
    return exe


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize(("optimizer", "rule", "clip"), CASES, ids=lambda value: getattr(value, "kind", ""))
def test_rule_follows_the_formula_of_its_paper(
    optimizer: Optimizer, rule: references.Rule, clip: Callable[..., Any], dtype: str, tolerance: float
) -> None:
    exe = trained(optimizer, dtype)
    weights, slots = references.descend(rule, clip, STEPS)
    for name, expected in weights.items():
        np.testing.assert_allclose(exe.parameters[name], expected, rtol=tolerance, atol=tolerance, err_msg=name)
    for state, value in exe.state.items():
        if state != "optimizer.step":
            name, slot = state.split(".")
            np.testing.assert_allclose(value, slots[name][slot], rtol=tolerance, atol=tolerance, err_msg=state)


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [
        (ge.GD(learning_rate=0.1), []),
        (ge.SGD(learning_rate=0.1), []),
        (ge.SGD(learning_rate=0.1, momentum=0.9), ["velocity"]),
        (ge.Adam(), ["mean", "mean_square"]),
        (ge.AdamW(), ["mean", "mean_square"]),
        (ge.RMSProp(), ["mean_square"]),
        (ge.RMSProp(momentum=0.9, centered=True), ["mean_square", "mean", "velocity"]),
        (ge.Adagrad(), ["sum_square"]),
    ],
)
def test_slots_are_states_of_the_type_of_their_parameter(optimizer: Optimizer, slots: list[str]) -> None:
    exe = ge.compile(references.problem("float32"), loss="loss", optimizer=optimizer)
    wanted = {f"{name}.{slot}" for name in ("w", "b", "s") for slot in slots}
    assert set(exe.state) - {"optimizer.step"} == wanted
    for name in wanted:
        assert exe.graph[name].type == exe.graph[name.split(".")[0]].type


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer.kind)
def test_weights_and_slots_are_written_where_they_stand(optimizer: Optimizer) -> None:
    exe = ge.compile(references.problem(), loss="loss", optimizer=optimizer)
    program = exe.program
    outs = [part for step in program.instructions for part in (step.out, *step.out.parts.values()) if not step.is_view]
    assert {out.leaf for out in outs if out.leaf is not None} == {*exe.parameters, *exe.state}
    is_gradient = getattr(optimizer, "beta1", None) == 0  # the mean is then the gradient itself, which others read too
    assert is_gradient or "copy" not in {step.op.kind for step in program.instructions}


def stepped(optimizer: Optimizer, slopes: list[float], backend: str, dtype: str = "float32") -> list[float]:
    """Where w, 0 at first, stands after each of steps with these gradients."""
    graph = ge.Graph("slopes", dtype=dtype)
    slope, w = graph.input("slope", (1,)), graph.parameter("w", (1,), init=ge.init.Zeros())
    graph.output("loss", ge.sum(w * slope))
    exe = ge.compile(graph, loss="loss", optimizer=optimizer, backend=backend)
    places = []
    for value in slopes:
        exe.step({"slope": [value]})
        places.append(float(exe.parameters["w"][0]))
    return places


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize(
    "optimizer",
    [
        ge.RMSProp(1.0, decay=0.0),
        ge.Adam(1.0, beta1=0.0, beta2=0.0),
        ge.AdamW(1.0, beta1=0.0, beta2=0.0, weight_decay=0.0),
        ge.RMSProp(1.0, decay=1e-9),
        ge.Adam(1.0, beta1=0.0, beta2=1e-9),
    ],
    ids=lambda optimizer: optimizer.kind,
)
def test_small_square_after_a_large_one_is_not_lost(optimizer: Optimizer, backend: str) -> None:
    first, second = stepped(optimizer, [1.0, 1e-3], backend)
    assert second - first == pytest.approx(-1.0, rel=0.01)


@pytest.mark.parametrize("backend", installed_backends())
def test_slot_of_decay_0_forgets_what_overflowed(backend: str) -> None:
    _, second, third = stepped(ge.RMSProp(1.0, decay=0.0), [1e30, 1.0, 1.0], backend)
    assert third - second == pytest.approx(-1.0, rel=1e-6)


def test_decayed_velocity_takes_no_memory_before_its_gradient_is_there() -> None:
    def peak(momentum: float) -> int:
        graph = ge.Graph("deep", dtype="float64")
        h = graph.input("x", (1, 64))
        for depth in range(8):
            h = ge.sin(h @ graph.parameter(f"w{depth}", (64, 64)))
        graph.output("loss", ge.sum(h))
        optimizer = ge.SGD(learning_rate=0.1, momentum=momentum)
        return ge.compile(graph, loss="loss", optimizer=optimizer).program.peak_bytes

    assert peak(0.9) - peak(0.0) <= 2 * 64 * 64 * 8


def test_counter_stands_in_the_graph_only_where_a_rule_reads_it() -> None:
    def states(optimizer: Optimizer) -> set[str]:
        return set(ge.compile(references.problem(), loss="loss", optimizer=optimizer).state)

    assert "optimizer.step" not in states(ge.SGD(learning_rate=0.1, momentum=0.9))
    assert states(ge.SGD(learning_rate=HALVING)) == {"optimizer.step"}
    assert int(trained(ge.SGD(learning_rate=HALVING), "float32", steps=5).state["optimizer.step"]) == 5


def test_scalars_are_emitted_once_for_all_parameters() -> None:
    def scalars(count: int) -> int:
        graph = ge.Graph("wide")
        nodes = [graph.parameter(f"w{i}", (2, 2)) for i in range(count)]
        graph.output("loss", sum((ge.sum(w * w) for w in nodes[1:]), start=ge.sum(nodes[0])))
        exe = ge.compile(graph, loss="loss", optimizer=ge.AdamW(learning_rate=HALVING))
        return sum(1 for node in exe.graph.nodes if node.phase is Phase.UPDATE and not node.is_leaf and not node.shape)

    assert scalars(6) == scalars(2)


def test_parameters_of_two_dtypes_train_in_one_graph() -> None:
    graph = ge.Graph("mixed")
    single = graph.parameter("single", (2,), init=ge.init.Ones(), dtype="float32")
    double = graph.parameter("double", (2,), init=ge.init.Ones(), dtype="float64")
    graph.output("loss", ge.sum(double * double) + ge.cast(ge.sum(single * single), "float64"))
    optimizer = ge.AdamW(learning_rate=ge.CosineDecay(0.1, steps=20), clip=ge.ClipByGlobalNorm(1.0))
    exe = ge.compile(graph, loss="loss", optimizer=optimizer)
    for _ in range(10):
        exe.step({})
    np.testing.assert_allclose(exe.parameters["single"], exe.parameters["double"], rtol=1e-6)
    assert exe.parameters["double"][0] < 0.7
    assert exe.state["single.mean"].dtype == np.float32
    assert exe.state["double.mean"].dtype == np.float64


@pytest.mark.parametrize(
    "optimizer",
    [
        ge.GD(learning_rate=0.3),
        ge.SGD(learning_rate=0.05, momentum=0.9, nesterov=True),
        ge.Adam(learning_rate=ge.ExponentialDecay(0.3, 0.98)),
        ge.AdamW(learning_rate=ge.ExponentialDecay(0.3, 0.98), weight_decay=0.0),
        ge.RMSProp(learning_rate=ge.ExponentialDecay(0.1, 0.97)),
        ge.Adagrad(learning_rate=1.0),
    ],
    ids=lambda optimizer: optimizer.kind,
)
def test_optimizer_finds_the_minimum_of_a_quadratic(optimizer: Optimizer) -> None:
    graph = ge.Graph("bowl", dtype="float64")
    w = graph.parameter("w", (2,), init=ge.init.Zeros())
    apart = w - np.array([1.0, -2.0])
    graph.output("loss", ge.sum(apart * apart * np.array([1.0, 3.0])) * 0.5)
    exe = ge.compile(graph, loss="loss", optimizer=optimizer)
    for _ in range(400):
        exe.step({})
    np.testing.assert_allclose(exe.parameters["w"], [1.0, -2.0], atol=1e-3)


@pytest.mark.parametrize("optimizer", [ge.Adam(), ge.RMSProp(centered=True), ge.Adagrad()], ids=lambda o: o.kind)
def test_gradient_of_zero_moves_nothing(optimizer: Optimizer) -> None:
    graph = ge.Graph("flat")
    w = graph.parameter("w", (3,), init=ge.init.Ones())
    graph.output("loss", ge.sum(w * 0.0))
    exe = ge.compile(graph, loss="loss", optimizer=optimizer)
    exe.step({})
    np.testing.assert_array_equal(exe.parameters["w"], np.ones(3))


def test_centered_rmsprop_survives_a_gradient_that_never_changes() -> None:
    graph = ge.Graph("slope")
    w = graph.parameter("w", (50,), init=ge.init.Zeros())
    graph.output("loss", ge.sum(w * np.linspace(0.1, 7.0, 50)))
    exe = ge.compile(graph, loss="loss", optimizer=ge.RMSProp(decay=0.5, centered=True))
    for _ in range(200):
        exe.step({})
    assert np.isfinite(exe.parameters["w"]).all()  # m^2 comes to stand above the mean of squares, by rounding


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer.kind)
def test_optimizer_comes_back_from_json(optimizer: Optimizer) -> None:
    assert Optimizer.of_kind(optimizer.model_dump(mode="json")) == optimizer
    assert Optimizer.of_kind(optimizer.model_dump(mode="json", exclude_defaults=True)) == optimizer
    training = Training(loss="loss", optimizer=optimizer)
    assert Training(**training.to_dict()) == training


def test_rate_reads_in_json_as_a_number_or_as_an_object() -> None:
    assert ge.SGD(learning_rate=0.1).model_dump(mode="json", exclude_defaults=True) == {
        "kind": "sgd",
        "learning_rate": 0.1,
    }
    warm = ge.Adam(learning_rate=ge.Warmup(5, then=ge.CosineDecay(0.1, steps=10)))
    assert warm.model_dump(mode="json", exclude_defaults=True) == {
        "kind": "adam",
        "learning_rate": {
            "kind": "warmup",
            "steps": 5,
            "then": {"kind": "cosine_decay", "initial": 0.1, "steps": 10},
        },
    }


def test_fields_may_be_given_by_position() -> None:
    assert ge.SGD(0.1) == ge.SGD(learning_rate=0.1)
    assert ge.ClipByValue(2.0) == ge.ClipByValue(limit=2.0)
    with pytest.raises(AttributeValueError, match="learning_rate is given both by position and by name"):
        ge.SGD(0.1, learning_rate=0.1)
    with pytest.raises(AttributeValueError, match="ClipByValue takes limit by position, and 2 values are given"):
        ge.ClipByValue(1.0, 2.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ge.SGD(learning_rate=-0.1), r"SGD: learning_rate: .*at least 0.* \(was -0.1\)"),
        (lambda: ge.SGD(learning_rate=math.nan), r"SGD: learning_rate: .*\(was nan\)"),
        (lambda: ge.SGD(learning_rate=10**400), r"SGD: learning_rate: .*a finite number"),
        (lambda: ge.SGD(learning_rate="0.1"), r"SGD: learning_rate: .*\(was '0.1'\)"),
        (lambda: ge.SGD(learning_rate=True), r"SGD: learning_rate: .*\(was True\)"),
        (lambda: ge.SGD(learning_rate={"kind": "steps"}), "no kind 'steps'; there are constant, cosine_decay"),
        (lambda: ge.SGD(), r"SGD: learning_rate is missing"),
        (lambda: ge.SGD(learning_rate=0.1, momentum=1.0), r"SGD: momentum: .*less than 1 \(was 1.0\)"),
        (lambda: ge.SGD(learning_rate=0.1, nesterov=True), "SGD: nesterov: nesterov needs a momentum above 0"),
        (lambda: ge.SGD(learning_rate=0.1, weight_decay=-1.0), r"SGD: weight_decay: .*\(was -1.0\)"),
        (lambda: ge.SGD(learning_rate=0.1, speed=3), r"SGD: there is no argument .speed."),
        (lambda: ge.GD(learning_rate=0.1, momentum=0.9), r"GD: there is no argument .momentum."),
        (lambda: ge.Adam(beta1=1.0), r"Adam: beta1: .*\(was 1.0\)"),
        (lambda: ge.Adam(beta2=-0.1), r"Adam: beta2: .*\(was -0.1\)"),
        (lambda: ge.Adam(epsilon=0.0), r"Adam: epsilon: .*greater than 0 \(was 0.0\)"),
        (lambda: ge.AdamW(weight_decay=-1), r"AdamW: weight_decay: .*\(was -1\)"),
        (lambda: ge.RMSProp(decay=1.5), r"RMSProp: decay: .*\(was 1.5\)"),
        (lambda: ge.Adagrad(initial_accumulator=-1.0), r"Adagrad: initial_accumulator: .*\(was -1.0\)"),
        (lambda: ge.Adam(clip=1.0), r"Adam: clip: a clip or an object with a \"kind\" is needed \(was 1.0\)"),
    ],
)
def test_value_that_an_optimizer_cannot_have_is_refused(make: Callable[[], Optimizer], message: str) -> None:
    with pytest.raises(AttributeValueError, match=message):
        make()


def test_configuration_does_not_change() -> None:
    optimizer = ge.SGD(learning_rate=0.1)
    with pytest.raises(UnknownAttributeError, match="SGD never changes"):
        optimizer.learning_rate = 0.2


def test_slot_gives_way_to_a_name_of_the_user() -> None:
    graph = references.problem()
    graph.state("w.velocity", (1,))
    graph.state("optimizer.step", ())
    optimizer = ge.SGD(learning_rate=HALVING, momentum=0.9)
    exe = ge.compile(graph, loss="loss", optimizer=optimizer)
    assert {"w.velocity_2", "b.velocity", "optimizer.step_2"} <= set(exe.state)


def test_parameter_with_the_longest_name_has_slots_too() -> None:
    graph = ge.Graph("long", dtype="float64")
    w = graph.parameter("w" * 128, (2,))
    graph.output("loss", ge.sum(w * w))
    exe = ge.compile(graph, loss="loss", optimizer=ge.Adam())
    assert set(exe.state) == {"parameter_0.mean", "parameter_0.mean_square", "optimizer.step"}


def test_parameter_with_an_update_of_its_own_cannot_be_trained() -> None:
    graph = ge.Graph("own")
    w = graph.parameter("w", (2,))
    graph.output("loss", ge.sum(w * w))
    graph.update(w, w * 0.5)
    with pytest.raises(GraphError, match="'w' has an update already"):
        ge.compile(graph, loss="loss", optimizer=ge.GD(learning_rate=0.1))


def test_frozen_parameter_stays_and_has_no_slots() -> None:
    graph = ge.Graph("half")
    w = graph.parameter("w", (2,), init=ge.init.Ones())
    frozen = graph.parameter("frozen", (2,), init=ge.init.Ones(), trainable=False)
    graph.output("loss", ge.sum(w * frozen))
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1, momentum=0.9))
    exe.step({})
    np.testing.assert_array_equal(exe.parameters["frozen"], np.ones(2))
    assert set(exe.state) == {"w.velocity"}


def test_update_nodes_say_where_their_parameter_was_declared() -> None:
    exe = ge.compile(references.problem(), loss="loss", optimizer=ge.SGD(learning_rate=0.1, momentum=0.9))
    update = exe.graph.updates[exe.graph["w.velocity"]]
    assert (update.phase, update.of, update.where) == (Phase.UPDATE, "w", exe.graph["w"].where)
