"""Every schedule as nodes, as plain numbers, and as a formula written out here."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import Field

import graphengine as ge
from graphengine.errors import AttributeValueError
from graphengine.ir.training import Schedule

LONG = 2**24 + 1  # the first whole number that a float32 lacks

CASES: list[tuple[Schedule, Callable[[int], float]]] = [
    (ge.schedules.Constant(0.3), lambda _: 0.3),
    (ge.StepDecay(0.3, factor=0.5, every=10), lambda t: 0.3 * 0.5 ** math.floor(t / 10)),
    (ge.StepDecay(0.3, factor=0.9, every=1), lambda t: 0.3 * 0.9**t),
    (ge.ExponentialDecay(0.3, rate=0.97), lambda t: 0.3 * 0.97**t),
    (ge.ExponentialDecay(0.3, rate=0.5, every=20), lambda t: 0.3 * math.exp(math.log(0.5) * t / 20)),
    (ge.InverseTimeDecay(0.3, rate=0.1), lambda t: 0.3 / (1 + 0.1 * t)),
    (ge.CosineDecay(0.3, steps=30), lambda t: 0.15 * (1 + math.cos(math.pi * t / 30)) if t < 30 else 0.0),
    (
        ge.CosineDecay(0.3, steps=30, final=0.1),
        lambda t: 0.1 + 0.2 * (1 + math.cos(math.pi * t / 30)) / 2 if t < 30 else 0.1,
    ),
    (ge.Warmup(8, then=0.3), lambda t: 0.3 * (t + 1) / 8 if t < 8 else 0.3),
    (
        ge.Warmup(8, then=ge.StepDecay(0.3, factor=0.5, every=10)),
        lambda t: 0.3 * (t + 1) / 8 if t < 8 else 0.3 * 0.5 ** ((t - 8) // 10),
    ),
    (ge.Piecewise([5, 20], [0.3, 0.2, 0.1]), lambda t: 0.3 if t < 5 else 0.2 if t < 20 else 0.1),
    (ge.Piecewise([], [0.3]), lambda _: 0.3),
]
IDS = [f"{schedule.kind}-{number}" for number, (schedule, _) in enumerate(CASES)]


def emitted(schedule: Schedule) -> Callable[[int], float]:
    graph = ge.Graph("rate", dtype="float64")
    graph.output("alpha", schedule.at(graph.input("t", ())))
    exe = ge.compile(graph)
    return lambda t: float(exe.forward({"t": float(t)})["alpha"])


@pytest.mark.parametrize(("schedule", "formula"), CASES, ids=IDS)
def test_schedule_is_its_formula_in_nodes_and_in_numbers(schedule: Schedule, formula: Callable[[int], float]) -> None:
    at = emitted(schedule)
    for t in [*range(50), 1000]:
        assert schedule.value(t) == pytest.approx(formula(t), rel=1e-12, abs=1e-16)
        assert at(t) == pytest.approx(schedule.value(t), rel=1e-12, abs=1e-16)


@pytest.mark.parametrize(("schedule", "formula"), CASES, ids=IDS)
def test_optimizer_takes_the_rate_of_each_step(schedule: Schedule, formula: Callable[[int], float]) -> None:
    graph = ge.Graph("slope", dtype="float32")
    w = graph.parameter("w", (), init=ge.init.Zeros())
    graph.output("loss", w * 1.0)
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=schedule))
    for t in range(25):
        exe.parameters["w"] = 0.0
        exe.step({})
        assert -float(exe.parameters["w"]) == pytest.approx(formula(t), rel=1e-6)


def test_steps_beyond_what_a_float32_counts_are_told_apart() -> None:
    graph = ge.Graph("slope", dtype="float32")
    w = graph.parameter("w", (), init=ge.init.Zeros())
    graph.output("loss", w * 1.0)
    schedule = ge.Piecewise([LONG], [1.0, 0.5])
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=schedule))
    exe.state["optimizer.step"] = LONG - 1
    rates = []
    for _ in range(3):
        before = float(exe.parameters["w"])
        exe.step({})
        rates.append(before - float(exe.parameters["w"]))
    assert rates == [1.0, 0.5, 0.5]


@pytest.mark.parametrize("every", [3, 7, 49, 1000])
def test_stairs_fall_exactly_at_their_multiples(every: int) -> None:
    at = emitted(ge.StepDecay(1.0, factor=0.5, every=every))
    for stair in range(1, 30):
        assert at(stair * every) == 0.5**stair
        assert at(stair * every - 1) == 0.5 ** (stair - 1)


@pytest.mark.parametrize(("schedule", "_"), CASES, ids=IDS)
def test_schedule_comes_back_from_json(schedule: Schedule, _: object) -> None:
    assert Schedule.of_kind(schedule.model_dump(mode="json")) == schedule
    assert Schedule.of_kind(schedule.model_dump(mode="json", exclude_defaults=True)) == schedule


def test_every_schedule_is_tried() -> None:
    assert {schedule.kind for schedule, _ in CASES} == set(Schedule.registry)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ge.schedules.Constant(-1.0), r"Constant: alpha: .*\(was -1.0\)"),
        (lambda: ge.StepDecay(0.1, factor=0.0, every=5), r"StepDecay: factor: .*\(was 0.0\)"),
        (lambda: ge.StepDecay(0.1, factor=10.0, every=5), r"StepDecay: factor: .*\(was 10.0\)"),
        (lambda: ge.StepDecay(0.1, factor=0.5, every=0), r"StepDecay: every: .*\(was 0\)"),
        (lambda: ge.StepDecay(0.1, factor=0.5, every=2.5), r"StepDecay: every: .*\(was 2.5\)"),
        (lambda: ge.ExponentialDecay(0.1, rate=1.01), r"ExponentialDecay: rate: .*\(was 1.01\)"),
        (lambda: ge.InverseTimeDecay(0.1, rate=-0.1), r"InverseTimeDecay: rate: .*\(was -0.1\)"),
        (lambda: ge.CosineDecay(np.inf, steps=5), r"CosineDecay: initial: .*\(was inf\)"),
        (lambda: ge.Warmup(0, then=0.1), r"Warmup: steps: .*\(was 0\)"),
        (lambda: ge.Warmup(5, then=-0.1), r"Warmup: then: .*\(was -0.1\)"),
        (lambda: ge.Piecewise([5, 5], [1, 2, 3]), r"Piecewise: boundaries: boundaries ascend \(was \[5, 5\]\)"),
        (lambda: ge.Piecewise([0], [1, 2]), r"Piecewise: boundaries.0: .*\(was 0\)"),
        (lambda: ge.Piecewise([5], [1]), r"Piecewise: values: 2 values are needed, one more than boundaries"),
    ],
)
def test_value_that_a_schedule_cannot_have_is_refused(make: Callable[[], Schedule], message: str) -> None:
    with pytest.raises(AttributeValueError, match=message):
        make()


@pytest.mark.parametrize("before_the_end", [1, 10])
def test_last_rates_of_a_long_wave_are_as_exact_as_the_first(before_the_end: int) -> None:
    steps = 10**6
    schedule = ge.CosineDecay(1.0, steps=steps)
    expected = math.sin(math.pi / 2 * before_the_end / steps) ** 2
    for rate in (schedule.value, emitted(schedule)):
        assert rate(steps - before_the_end) == pytest.approx(expected, rel=1e-12)


def test_wave_that_rises_begins_at_a_rate_that_the_last_one_swallows() -> None:
    schedule = ge.CosineDecay(1e-20, steps=10, final=1.0)
    assert schedule.value(0) == emitted(schedule)(0) == 1e-20
    assert schedule.value(10) == emitted(schedule)(10) == 1.0


def test_a_schedule_of_a_users_own_may_have_types_that_a_function_defines() -> None:
    Rate = Annotated[float, Field(gt=0)]

    class Halving(Schedule):
        kind: Literal["halving"]  # without a default it is not registered
        rate: Rate

    assert str(inspect.signature(Halving)) == "(rate: float)"
    assert inspect.signature(ge.StepDecay).parameters["every"].annotation is int
