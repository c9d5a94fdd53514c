"""The programs of a training graph: each rewritten, planned, and bound to memory when it is first asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np

from graphengine.backends.backend import Backend, Runnable
from graphengine.backends.installed import BACKENDS
from graphengine.backends.memory import taking
from graphengine.feeds import Feeds, checked_feeds, sizes_of
from graphengine.gradients import Gradients
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ir.types import Array
from graphengine.schedule.budget import plan_within
from graphengine.schedule.demand import demand, greatest
from graphengine.schedule.program import Program, headline
from graphengine.transform.guard import add_checks
from graphengine.transform.rewrite.passes import REWRITES, stages
from graphengine.transform.training_graph import HALVES, ProgramName, TrainingGraph
from graphengine.weights import Weights

CACHED = 16
"""How many programs are cached, those used last; each may be bound, and then has an arena of its own."""

NonFinite = Literal["raise", "skip", "allow"]
"""What becomes of a step whose loss is not finite: an error, no step, or a step like any other."""

Asked = tuple[ProgramName, tuple[str, ...]]
"""The kind of a program, and the outputs that it computes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How programs are made."""

    backend: Backend
    rewrites: tuple[str, ...] = ()
    memory_budget: int | None = None
    non_finite: NonFinite = "raise"
    non_finite_gradients: bool = False

    def __reduce__(self) -> tuple[object, ...]:
        """A backend goes by its name, which another machine may lack."""
        return _settings, (self.backend.name, *(getattr(self, field.name) for field in fields(self)[1:]))


def _settings(backend: str, *others: Any) -> Settings:
    return Settings(BACKENDS[backend](), *others)


class Part:
    """What a program computes, whatever the sizes of named dims."""

    def __init__(self, training: TrainingGraph, asked: Asked, settings: Settings) -> None:
        self.asked = asked
        self.needs = training.needs(*asked)
        """The inputs that are fed."""
        self.dims = dict.fromkeys(dim for type_ in self.needs.values() for dim in type_.shape if isinstance(dim, str))
        self._training, self._settings = training, settings

    @cached_property
    def graph(self) -> Graph:
        """The part of the training graph, after all rewrites."""
        graph = self._declared()
        for name in self._settings.rewrites:
            REWRITES[name](graph)
        return graph

    def stages(self) -> list[Graph]:
        """The part of the training graph, and what it is after each rewrite: made anew, since a run needs the last."""
        return stages(self._declared(), self._settings.rewrites)

    def _declared(self) -> Graph:
        """The part of the training graph, with the checks of a step."""
        graph, settings = self._training.part(*self.asked).copy(), self._settings
        if graph.updates and settings.non_finite != "allow":
            add_checks(graph, gradients=settings.non_finite_gradients)
        return graph


class Bound:
    """A program bound to its memory, with the arrays that feeds are copied into."""

    __slots__ = ("_count", "asked", "feeds", "forward_length", "length", "program", "runnable")

    def __init__(self, part: Part, program: Program, runnable: Runnable, feeds: dict[str, Array]) -> None:
        self.asked = part.asked
        self.program = program
        self.runnable = runnable
        self.feeds = feeds
        self.length, self.forward_length = len(program.instructions), program.forward_length
        self._count = len(feeds) if len(feeds) == len(part.needs) else -1  # a feed that only tells a size is checked

    def takes(self, feeds: Feeds) -> bool:
        """Whether these are arrays of just the types that the program has been bound to; if so, they are copied in."""
        if (type(feeds) is not dict and not isinstance(feeds, Mapping)) or len(feeds) != self._count:
            return False
        for name, held in self.feeds.items():
            array = feeds.get(name)
            if type(array) is not np.ndarray or array.shape != held.shape or array.dtype != held.dtype:
                return False
        for name, held in self.feeds.items():
            held[...] = feeds[name]
        return True


@dataclass(slots=True, eq=False)
class Prepared:
    """A program for some sizes of named dims: planned, and bound once it has been needed for a run."""

    part: Part
    program: Program
    bound: Bound | None = None


class Programs:
    """The programs that were used last, over the same parameters and states."""

    def __init__(self, training: TrainingGraph, settings: Settings, weights: Weights) -> None:
        self.training = training
        self.settings = settings
        self.cached: OrderedDict[tuple[object, ...], Prepared] = OrderedDict()
        """By what was asked for, and the sizes."""
        self.latest: Bound | None = None
        """The one that was fed last."""
        self.sizes: dict[str, int] = {}
        """The sizes of the named dims in the last run of a program that has any."""
        self.weights = weights

    @cached_property
    def gradients(self) -> Gradients:
        """Where the first half of a step leaves gradients, and the second one reads them."""
        return Gradients({name: state.type for name, state in self.training.halves.states.items()})

    def part(self, which: ProgramName, outputs: tuple[str, ...]) -> Part:
        """What a program computes: of one that is cached, or anew."""
        parts = (prepared.part for prepared in self.cached.values())
        cached = next((part for part in parts if part.asked == (which, outputs)), None)
        return cached or Part(self.training, (which, outputs), self.settings)

    def prepared(self, part: Part, sizes: Mapping[str, int]) -> Prepared:
        """The program of a part, planned for these sizes of the named dims, among which are its own."""
        binding = {name: sizes[name] for name in part.dims}
        key = (*part.asked, *binding.items())
        prepared = self.cached.get(key)
        if prepared is None:
            (which, _), graph, settings = part.asked, part.graph, self.settings
            program = plan_within(settings.memory_budget, which, graph, binding, settings.backend.scratch)
            prepared = self.cached[key] = Prepared(part, program)
            if len(self.cached) > CACHED:  # the one that was fed last may be needed again at once
                bounds = ((old, cached.bound) for old, cached in self.cached.items())
                del self.cached[next(old for old, bound in bounds if bound is None or bound is not self.latest)]
        self.cached.move_to_end(key)
        return prepared

    def bound(self, prepared: Prepared) -> Bound:
        """The program bound to an arena of its own, to the weights, and to arrays for its feeds."""
        if prepared.bound is None:
            program = prepared.program
            what = f"program {headline(program.name, program.binding)}"
            with taking(demand(program), what, context=lambda: greatest(program)):
                prepared.bound = self._bound(prepared.part, program)
        return prepared.bound

    def _bound(self, part: Part, program: Program) -> Bound:
        leaves = self.weights.of(program.leaves)
        if program.name in HALVES:
            states = self.training.halves.states
            leaves |= {states[name].name: array for name, array in self.gradients.items()}
        types = {name: program.leaves[name].type for name in program.inputs}
        feeds = {name: np.empty(type_.static_shape, type_.dtype) for name, type_ in types.items()}
        constants = {n.name: n.op.value for n in part.graph.nodes if isinstance(n.op, Constant)}
        runnable = self.settings.backend.load(program, {**leaves, **constants, **feeds})
        return Bound(part, program, runnable, feeds)

    def fed(self, which: ProgramName, outputs: tuple[str, ...], feeds: Feeds) -> Bound:
        """The bound program for feeds of these shapes, with the feeds copied in."""
        latest = self.latest
        if latest is None or latest.asked != (which, outputs) or not latest.takes(feeds):
            latest = self.latest = self._turn_to(which, outputs, feeds)
            self.sizes = latest.program.binding or self.sizes
        return latest

    def _turn_to(self, which: ProgramName, outputs: tuple[str, ...], feeds: Feeds) -> Bound:
        for key, prepared in reversed(self.cached.items()):
            bound = prepared.bound
            if bound and bound.asked == (which, outputs) and bound.takes(feeds):
                self.cached.move_to_end(key)
                return bound
        part = self.part(which, outputs)
        arrays = checked_feeds(self.training.graph, part.needs, feeds)
        bound = self.bound(self.prepared(part, sizes_of(arrays, part.needs)))
        for name, held in bound.feeds.items():
            held[...] = arrays[name]
        return bound
