"""One gradient, computed in several ways: all at once by backpropagation, and number by number in three others."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from graphengine.baselines.one_by_one import (
    Differences,
    Element,
    ForwardMode,
    OneByOne,
    every_element,
    loss_alone,
    sample_elements,
)
from graphengine.baselines.unshared import Unshared
from graphengine.compile import compile
from graphengine.errors import ExecutionError
from graphengine.ir.graph import Graph
from graphengine.ir.types import Array

WAYS: Mapping[str, Callable[[Graph, str, int], OneByOne]] = MappingProxyType(
    {"central differences": Differences, "forward mode": ForwardMode, "chain rule, unshared": Unshared}
)
"""The ways to go number by number: each is made of a graph, the name of its loss, and the seed of its parameters."""

_RUNS = 5
"""Times in a row that each way differentiates by a parameter."""
_LEAST = 3
"""Parameters that are differentiated however long it takes; few of them are taken again and again, so many times."""


@dataclass(frozen=True, slots=True)
class Way:
    """What the gradient with respect to all parameters takes in one way."""

    seconds: float
    flops: int
    """Counted from the programs, for all parameters and all paths; exact."""
    sample: int
    """How many parameters were differentiated; the seconds are scaled from these to all."""
    scaled: bool
    """Whether the seconds are of a part of the work: of some parameters, or of some paths."""
    difference: float | None = None
    """The largest difference from backpropagation on the sample; None if no derivative of it was computed whole."""
    disagreement: float | None = None
    """The same, relative to the sample's largest derivative."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the gradient of one loss takes in several ways, and the loss itself."""

    parameters: int
    """How many numbers the gradient has."""
    forward_seconds: float
    forward_flops: int
    backprop: Way
    others: Mapping[str, Way]
    """By the names of `WAYS`."""
    elements: tuple[Element, ...]
    """The parameters that were differentiated one by one, in order of declaration."""
    largest: float
    """The largest derivative by one of these, without its sign."""

    def slowdown(self, way: str) -> float:
        """How many times as long this one of the others takes as backpropagation."""
        return self.others[way].seconds / self.backprop.seconds


def compare(
    graph: Graph,
    loss: str,
    feeds: Mapping[str, npt.ArrayLike],
    samples: int = 200,
    seed: int = 0,
    ways: Sequence[str] = tuple(WAYS),
    seconds: float = math.inf,
) -> Comparison:
    """Measure `ways` on `graph`, best in float64, at its first parameters under `seed`; `loss` is a scalar output.

    Each runs programs of its own, of the loss alone. At most `samples` parameters are differentiated one by one, each
    in all ways in turn, so that what slows down the machine slows down all of them; after `seconds` no more are begun,
    once there are a few.
    """
    race = _Race(loss_alone(graph, loss), loss, feeds, seed, ways)
    if not race.count:
        raise ExecutionError(f"graph {graph.name!r} has no parameter with an element to differentiate by")
    elements = race.run(sample_elements(every_element(race.gradients), samples, seed), seconds)
    forward, backprop = (exe.cost(**race.binding).total_flops for exe in (race.forward, race.trainer))
    rank = {name: index for index, name in enumerate(race.gradients)}
    return Comparison(
        parameters=race.count,
        forward_seconds=race.median("forward"),
        forward_flops=forward,
        backprop=Way(race.median("backprop"), backprop, race.count, scaled=False),
        others={name: race.way(name, elements) for name in ways},
        elements=tuple(sorted(elements, key=lambda element: (rank[element.parameter], element.place))),
        largest=max(abs(race.gradient(element)) for element in elements),
    )


def random_feeds(graph: Graph, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Array]:
    """An array for every input, with `sizes` of the named dims: floats uniform in [0, 1), all others 0 or 1.

    So integers are valid as classes and as indices wherever there are two or more of these.
    """
    draw = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for node in graph.inputs:
        shape = node.type.bind(sizes).static_shape
        values = draw.random(shape) if node.type.is_float else draw.integers(0, 2, shape)
        feeds[node.name] = values.astype(node.dtype)
    return feeds


class _Race:
    """The programs of all ways, what they took, and what they gave."""

    def __init__(
        self, graph: Graph, loss: str, feeds: Mapping[str, npt.ArrayLike], seed: int, ways: Sequence[str]
    ) -> None:
        self.feeds = feeds
        self.forward = compile(graph, seed=seed)
        self.trainer = compile(graph, loss=loss, seed=seed)
        self.others = {name: WAYS[name](graph, loss, seed) for name in ways}
        self.gradients = self.backprop()
        self.binding = self.trainer.program.binding
        self.count = sum(gradient.size for gradient in self.gradients.values())
        self.derivatives: dict[tuple[str, Element], float] = {}
        self._seconds: dict[Hashable, list[float]] = defaultdict(list)

    def backprop(self) -> dict[str, Array]:
        self.trainer.forward(self.feeds)
        return self.trainer.backward()

    def gradient(self, element: Element) -> float:
        return float(self.gradients[element.parameter].flat[element.place])

    def run(self, elements: Sequence[Element], seconds: float) -> list[Element]:
        """Let every way differentiate by each of `elements`, and take the time; those that there was time for."""
        end = time.perf_counter() + seconds
        order = random.Random(0).sample(elements, len(elements))  # any part of them is a fair sample
        done: list[Element] = []
        for element in order * -(-_LEAST // len(order)):
            if len(done) >= _LEAST and time.perf_counter() > end:
                break
            done.append(element)
            for name, way in self.others.items():
                self.derivatives[name, element] = way.derivative(self.feeds, element)  # and plan its program
            self._time("forward", partial(self.forward.forward, self.feeds))
            self._time("backprop", self.backprop)
            for name, way in self.others.items():
                self._time((name, element), partial(way.derivative, self.feeds, element))
        return list(dict.fromkeys(done))

    def _time(self, key: Hashable, run: Callable[[], object]) -> None:
        """A few runs in a row: the first finds in the caches what the way before has left there."""
        for _ in range(_RUNS):
            start = time.perf_counter()
            run()
            self._seconds[key].append(time.perf_counter() - start)

    def median(self, key: Hashable) -> float:
        """The seconds of one run, which the first or one that was interrupted does not move."""
        return statistics.median(self._seconds[key])

    def way(self, name: str, elements: Sequence[Element]) -> Way:
        followed = {element: _part_followed(self.others[name], element) for element in elements}
        whole = [element for element, part in followed.items() if part == 1]
        flops = self.others[name].flops(self.binding)
        return Way(
            seconds=self.count * statistics.fmean(self._all_paths(name, *pair) for pair in followed.items()),
            flops=sum(flops[weight] * gradient.size for weight, gradient in self.gradients.items() if gradient.size),
            sample=len(elements),
            scaled=len(elements) < self.count or len(whole) < len(elements),
            **self._apart(name, whole),
        )

    def _all_paths(self, name: str, element: Element, part: Fraction) -> float:
        """The seconds of one element, scaled from the `part` of the paths that was followed to all."""
        forward, measured = self.median("forward"), self.median((name, element))
        if part == 1:
            return measured
        along = max(measured - forward, 0.0)
        return forward + (along / float(part) if float(part) else math.inf)  # more paths than the maximum float

    def _apart(self, name: str, elements: Sequence[Element]) -> dict[str, float]:
        """How far the derivatives by `elements` are from those of backpropagation."""
        if not elements:
            return {}
        expected = np.array([self.gradient(element) for element in elements])
        given = np.array([self.derivatives[name, element] for element in elements])
        with np.errstate(invalid="ignore"):  # of infinities
            apart, largest = float(np.abs(given - expected).max()), float(np.abs(expected).max())
        return {"difference": apart, "disagreement": apart / max(largest, float(np.finfo(np.float64).tiny))}


def _part_followed(way: OneByOne, element: Element) -> Fraction:
    paths = way.paths(element.parameter)
    return Fraction(way.followed(element.parameter), paths) if paths else Fraction(1)  # 1 where there is none to follow
