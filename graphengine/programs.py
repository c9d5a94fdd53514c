"""The programs of a training graph: each rewritten, planned, and bound to memory when it is first asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, TypeVar
from weakref import ref as weakref

import numpy as np

from graphengine.access import Buffers, Seat
from graphengine.backends.backend import Backend, KernelUse, Runnable
from graphengine.backends.installed import BACKENDS
from graphengine.backends.memory import taking
from graphengine.feeds import Feeds, checked_feeds, sizes_of
from graphengine.forks import BUILDING
from graphengine.gradients import Gradients
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ir.types import Array, ValueType
from graphengine.schedule.budget import plan_within
from graphengine.schedule.demand import demand, greatest
from graphengine.schedule.program import Program, headline
from graphengine.transform.guard import add_checks
from graphengine.transform.rewrite.passes import REWRITES, stages
from graphengine.transform.training_graph import HALVES, ProgramName, TrainingGraph
from graphengine.weights import Weights

CACHED = 16
"""How many programs are cached, those used last; each may be bound for a thread, and then has an arena of its own."""

CONTEXTS = 32
"""How many threads have programs bound for them, which they run side by side; others share them, and take turns."""

A = TypeVar("A")
R = TypeVar("R")

NonFinite = Literal["raise", "skip", "allow"]
"""What becomes of a step whose loss is not finite: an error, no step, or a step like any other."""

LISTED_BYTES = 2**28
"""What a program may take that is bound only to say which kernels run it: it is cut into some thousand blocks then."""

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
            is_given = self.asked[0] == "update"  # what comes from outside, the mean of several batches say
            add_checks(graph, gradients=is_given or settings.non_finite_gradients)
        return graph


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A program for some sizes of named dims, planned."""

    part: Part
    program: Program


class Bound:
    """A program bound to its memory, with the arrays that feeds are copied into."""

    __slots__ = ("_count", "asked", "fed_by", "feeds", "forward_length", "length", "prepared", "program", "runnable")

    def __init__(self, prepared: Prepared, runnable: Runnable, feeds: dict[str, Array]) -> None:
        part, program = prepared.part, prepared.program
        self.prepared = prepared
        self.asked = part.asked
        self.program = program
        self.runnable = runnable
        self.feeds = feeds
        self.fed_by: Seat | None = None
        """The thread whose feeds it has, whole."""
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
        self.fed_by = None
        for name, held in self.feeds.items():
            held[...] = feeds[name]
        return True

    def copy(self, arrays: Mapping[str, Any]) -> None:
        """Have these feeds."""
        self.fed_by = None
        for name, held in self.feeds.items():
            held[...] = arrays[name]


class Context(Buffers):
    """The programs that are bound for a thread, each to an arena of its own."""

    __slots__ = ("bounds", "latest")

    def __init__(self) -> None:
        super().__init__()
        self.bounds: dict[Prepared, Bound] = {}
        self.latest: Bound | None = None
        """The one that was fed last."""


class Caller:
    """A thread that runs programs: its context, and what its last forward left there for `backward`."""

    __slots__ = ("changes", "context", "ran", "saved", "seat")

    def __init__(self, seat: Seat, context: Context) -> None:
        self.seat = seat
        self.context = context
        self.ran: Bound | None = None
        """The program of a forward that computed the loss, if nothing has been run since."""
        self.changes = 0
        """How often weights had changed when it ran."""
        self.saved = False
        """Whether its activations are there: BACKWARD writes over them."""


class _Local(threading.local):
    caller: Caller | None = None


class Programs:
    """The programs that were used last, over the same parameters and states."""

    def __init__(self, training: TrainingGraph, settings: Settings, weights: Weights) -> None:
        self.training = training
        self.settings = settings
        self.cached: OrderedDict[tuple[object, ...], Prepared] = OrderedDict()
        """By what was asked for, and the sizes."""
        self.sizes: dict[str, int] = {}
        """The sizes of the named dims in the last run of a program that has any."""
        self.weights = weights
        self._local = _Local()
        self._contexts: list[weakref[Context]] = []

    @property
    def latest(self) -> Bound | None:
        """The program that this thread ran last."""
        return self._local.caller.context.latest if self._local.caller else None

    def _new_caller(self) -> Caller:
        access = self.weights.access
        seat = access.seat()
        caller = self._local.caller = Caller(seat, access.look(self._context, seat))
        return caller

    def _context(self, seat: Seat) -> Context:
        """A new one, or that of another thread where there are many: then one waits for the other."""
        alive = [context for each in self._contexts if (context := each()) is not None]
        context = Context() if len(alive) < CONTEXTS else alive[0]
        others = alive[1:] if context in alive else alive
        self._contexts = [weakref(each) for each in (*others, context)]
        self.weights.access.join(seat, context)
        return context

    def run(self, work: Callable[[Caller, A], R], given: A) -> R:
        """Do work that reads weights, in the context of this thread."""
        caller = self._local.caller or self._new_caller()
        return self.weights.access.run(caller.seat, caller.context, work, caller, given)

    def change(self, work: Callable[[Caller, A], R], given: A) -> R:
        """The same for work that changes weights, which goes alone."""
        caller = self._local.caller or self._new_caller()
        return self.weights.access.change(caller.seat, work, caller, given)

    @cached_property
    def gradients(self) -> Gradients:
        """Where the first half of a step leaves gradients, and the second one reads them."""
        return Gradients({name: state.type for name, state in self.training.halves.states.items()})

    def part(self, which: ProgramName, outputs: tuple[str, ...]) -> Part:
        """What a program computes: of one that is cached, or anew."""
        parts = (prepared.part for prepared in list(self.cached.values()))
        cached = next((part for part in parts if part.asked == (which, outputs)), None)
        return cached or Part(self.training, (which, outputs), self.settings)

    def prepared(self, part: Part, sizes: Mapping[str, int]) -> Prepared:
        """The program of a part, planned for these sizes of the named dims, among which are its own.

        Whoever asks holds `BUILDING`.
        """
        binding = {name: sizes[name] for name in part.dims}
        key = (*part.asked, *binding.items())
        prepared = self.cached.get(key)
        if prepared is None:
            (which, _), graph, settings = part.asked, part.graph, self.settings
            program = plan_within(settings.memory_budget, which, graph, binding, settings.backend.scratch)
            prepared = self.cached[key] = Prepared(part, program)
            self._forget()
        self.cached.move_to_end(key)
        return prepared

    def _forget(self) -> None:
        """Keep those that were used last, and the one that this thread fed last, which may be needed again at once."""
        fed = self.latest
        while len(self.cached) > CACHED:
            kept = self.cached.items()
            del self.cached[next(key for key, prepared in kept if fed is None or prepared is not fed.prepared)]

    def kernels(self, context: Context, prepared: Prepared) -> tuple[KernelUse, ...]:
        """What runs each instruction; nothing is told of a program that is not bound and takes over `LISTED_BYTES`.

        No weight is drawn, and no memory is touched: arrays without values stand for the leaves. Whoever asks holds
        `BUILDING`.
        """
        bound, program = context.bounds.get(prepared), prepared.program
        if bound is not None:
            return bound.runnable.kernels
        if program.leaf_bytes + program.peak_bytes > LISTED_BYTES:
            return ()
        constants = _constants(prepared.part.graph)
        leaves = {name: _unset(leaf.type) for name, leaf in program.leaves.items() if name not in constants}
        return self.settings.backend.load(program, {**leaves, **constants}, most_steps=1).kernels

    def bound(self, context: Context, prepared: Prepared) -> Bound:
        """The program bound to an arena of its own, to the weights, and to arrays for its feeds.

        Whoever asks holds `BUILDING`.
        """
        bound = context.bounds.get(prepared)
        if bound is None:
            program = prepared.program
            what = f"program {headline(program.name, program.binding)}"
            with taking(demand(program), what, context=lambda: greatest(program)):
                bound = self._bound(prepared)
            kept = set(self.cached.values())
            context.bounds = {each: other for each, other in context.bounds.items() if each in kept}
            context.bounds[prepared] = bound
        return bound

    def _bound(self, prepared: Prepared) -> Bound:
        program = prepared.program
        leaves = self.weights.of(program.leaves)
        if program.name in HALVES:
            states = self.training.halves.states
            leaves |= {states[name].name: array for name, array in self.gradients.items()}
        feeds = {name: _unset(program.leaves[name].type) for name in program.inputs}
        constants = _constants(prepared.part.graph)
        runnable = self.settings.backend.load(program, {**leaves, **constants, **feeds})
        return Bound(prepared, runnable, feeds)

    def fed(self, caller: Caller, which: ProgramName, outputs: tuple[str, ...], feeds: Feeds) -> Bound:
        """The bound program for feeds of these shapes, with the feeds copied in."""
        context = caller.context
        latest = context.latest
        if latest is None or latest.asked != (which, outputs) or not latest.takes(feeds):
            latest = context.latest = self._turn_to(context, which, outputs, feeds)
            self.sizes = latest.program.binding or self.sizes
        latest.fed_by = caller.seat
        return latest

    def _turn_to(self, context: Context, which: ProgramName, outputs: tuple[str, ...], feeds: Feeds) -> Bound:
        for key, prepared in reversed(list(self.cached.items())):
            bound = context.bounds.get(prepared)
            if bound and bound.asked == (which, outputs) and bound.takes(feeds):
                with suppress(KeyError):  # another thread may have asked for others meanwhile
                    self.cached.move_to_end(key)
                return bound
        with BUILDING:
            part = self.part(which, outputs)
            arrays = checked_feeds(self.training.graph, part.needs, feeds)
            bound = self.bound(context, self.prepared(part, sizes_of(arrays, part.needs)))
        bound.copy(arrays)
        return bound


def _unset(type_: ValueType) -> Array:
    return np.empty(type_.static_shape, type_.dtype)


def _constants(graph: Graph) -> dict[str, Array]:
    return {node.name: node.op.value for node in graph.nodes if isinstance(node.op, Constant)}
