"""What a user holds and runs: programs over the same parameters and state, each planned on first use."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from graphengine.backends.backend import Backend, Runnable
from graphengine.errors import DTypeError, ExecutionError, FeedError, NamingError, ShapeError
from graphengine.explanation import Explanation, rewritten
from graphengine.ir import dims, leaf
from graphengine.ir.array import fitted
from graphengine.ir.graph import Graph
from graphengine.ir.growth import growing
from graphengine.ir.names import did_you_mean
from graphengine.ir.node import Node
from graphengine.ir.op import Array
from graphengine.ir.subgraph import needed_nodes
from graphengine.ir.types import TensorType
from graphengine.schedule.audit import Audit, audit
from graphengine.schedule.budget import plan_within
from graphengine.schedule.cost import Cost, cost_of
from graphengine.schedule.program import Program
from graphengine.transform.adjoint import Derivative
from graphengine.transform.extract import extract
from graphengine.transform.inference import for_inference, trains_otherwise
from graphengine.transform.rewrite.changes import changes
from graphengine.transform.rewrite.passes import on_copy, rewrite
from graphengine.transform.rewrite.stable import make_stable

__all__ = ["Executable", "Recipe"]

ProgramName = Literal["forward", "gradient", "step"]
Feeds = Mapping[str, npt.ArrayLike]

_PLANS_KEPT = 16


@dataclass(slots=True)
class Recipe:
    """A graph ready to be planned: with its adjoints and updates, and which nodes play which part."""

    graph: Graph
    loss: Node | None = None
    trains: bool = False
    gradients: dict[str, Node] = field(default_factory=dict)
    derivative: Derivative | None = None
    unreached: dict[str, str] = field(default_factory=dict)
    rewrites: tuple[str, ...] = ()
    memory_budget: int | None = None
    declared: Graph | None = None
    """The graph before safe forms were put in it, if there were any to put."""


@dataclass(slots=True)
class _Loaded:
    """A planned program, bound, with the arrays that feeds are copied into."""

    key: tuple[object, ...]
    """The kind of program, the outputs, and the shapes of the feeds: by this it is found."""
    program: Program
    runnable: Runnable
    feeds: dict[str, Array]
    length: int
    forward_length: int

    def takes(self, feeds: Feeds) -> bool:
        """Whether these are arrays of just the types that the program has been bound to; if so, they are copied in."""
        if len(feeds) != len(self.feeds):
            return False
        for name, held in self.feeds.items():
            array = feeds.get(name)
            if type(array) is not np.ndarray or array.shape != held.shape or array.dtype != held.dtype:
                return False
        for name, held in self.feeds.items():
            held[...] = feeds[name]
        return True


@dataclass(slots=True)
class _Asked:
    """What is known of the program of one kind for some outputs, whatever the sizes of named dims."""

    needs: dict[str, TensorType]
    """The inputs that are asked for."""
    graph: Graph | None = None
    """What it computes, rewritten, once it has been planned."""
    latest: _Loaded | None = None
    """The program that ran last, if it reads all that it is fed."""


class Executable:
    """A compiled graph. It holds parameters and state, and runs up to three programs over them.

    `forward` computes outputs; `backward` the gradients of the last forward; `step` both and the update, in one run.
    A program is planned when it is first run, once for the outputs asked for and every size of named dims; the 16 used
    last are kept.
    One executable serves one thread at a time.
    """

    def __init__(self, recipe: Recipe, backend: Backend, seed: int, owner: Executable | None = None) -> None:
        """`owner` is an executable that holds parameters and states of the same names; they are shared with it."""
        self._recipe = recipe
        self._backend = backend
        self._held: dict[str, Array] = _first_values(recipe.graph, seed, owner._held if owner else {})
        self._loaded: OrderedDict[tuple[object, ...], _Loaded] = OrderedDict()
        self._plans: OrderedDict[tuple[object, ...], Program] = OrderedDict()
        self._asked: OrderedDict[tuple[ProgramName, tuple[str, ...]], _Asked] = OrderedDict()
        self._last: _Loaded | None = None
        self._last_forward: _Loaded | None = None
        self._residuals_stand = False
        self.seed = seed
        self._inference: Executable | None = None
        # Nothing here leads back to the executable, so that its memory is free as soon as nobody holds it.
        self._assigned: Counter[str] = owner._assigned if owner else Counter()
        self._assigned_before = 0
        self.parameters = Held(self._held, self._assigned, recipe.graph.parameters, "parameter")
        self.state = Held(self._held, self._assigned, recipe.graph.states, "state")

    @property
    def graph(self) -> Graph:
        """The graph that is run: the declared one with its adjoints and updates."""
        return self._recipe.graph

    @property
    def inference(self) -> Executable:
        """An executable of `for_inference(graph)`, over the same parameters and states: without dropout, and with the
        running statistics of batch normalization. It is this one, where training computes outputs as inference does.

        It only runs forward. What a step changes, or an assignment on either side, both see.
        """
        if not self._trains_otherwise:
            return self
        if self._inference is None:
            kept = self._recipe
            recipe = Recipe(for_inference(self.graph), rewrites=kept.rewrites, memory_budget=kept.memory_budget)
            self._inference = Executable(recipe, self._backend, self.seed, owner=self)
        return self._inference

    @cached_property
    def _trains_otherwise(self) -> bool:
        return trains_otherwise(self.graph)

    @property
    def unreached(self) -> dict[str, str]:
        """The parameters that no gradient reaches, with the reason."""
        return dict(self._recipe.unreached)

    @property
    def loss(self) -> str | None:
        """The name of the output that is the loss; None if the graph is compiled without one, or no output is it."""
        return next((name for name, node in self.graph.outputs.items() if node is self._recipe.loss), None)

    def needs(self, outputs: Sequence[str] | None = None) -> dict[str, TensorType]:
        """The inputs that `outputs` need, with their types; those that `step` needs if left out."""
        if outputs is not None:
            nodes = needed_nodes([self._output(name) for name in outputs])
            return {node.name: node.type for node in nodes if isinstance(node.op, leaf.Input)}
        self._need_optimizer()
        return self._inputs_of("step", ())

    def forward(self, feeds: Feeds, outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """The values of `outputs` (all declared ones if left out), as arrays that are the caller's own.

        Only the feeds that these outputs need are asked for. If the loss is among the outputs, or they are left out,
        residuals are kept for `backward`.
        """
        if isinstance(outputs, str):
            raise NamingError(f"outputs is a list of names: say outputs=[{outputs!r}]")
        names = tuple(self._recipe.graph.outputs) if outputs is None else tuple(outputs)
        nodes = {name: self._output(name) for name in names}
        keeps = self._recipe.loss is not None and (outputs is None or self._recipe.loss in nodes.values())
        loaded = self._load("gradient" if keeps else "forward", names, feeds)
        self._last_forward = None
        loaded.runnable.run(0, loaded.forward_length)
        self._last_forward = loaded if keeps else None
        self._assigned_before = self._assigned.total()
        self._residuals_stand = keeps
        return {name: loaded.runnable.results[node.name].copy() for name, node in nodes.items()}

    def backward(self) -> dict[str, Array]:
        """dL/dw of the last `forward`, by name, for every leaf that the graph was compiled with respect to."""
        self._need_loss("backward")
        if self._last_forward is None or self._assigned.total() != self._assigned_before:
            raise ExecutionError(
                "backward needs a forward that computed the loss, with nothing run or set since; call forward first"
            )
        loaded = self._last_forward
        if self._residuals_stand:  # BACKWARD writes over them, and the gradients stay until the next run
            loaded.runnable.run(loaded.forward_length, loaded.length)
            self._residuals_stand = False
        return {name: loaded.runnable.results[node.name].copy() for name, node in self._recipe.gradients.items()}

    def step(self, feeds: Feeds) -> float:
        """One step of training: FORWARD, BACKWARD and UPDATE in one run. Returns the loss before the update."""
        loss = self._need_optimizer()
        loaded = self._load("step", (), feeds)
        self._last_forward = None
        loaded.runnable.run(0, loaded.length)
        return float(loaded.runnable.results[loss.name])

    @property
    def program(self) -> Program:
        """The fullest program there is (step, gradient or forward), planned for the sizes of the last run.

        Before any run, every named dim has size 1. `str` of it is the listing.
        """
        return self.plan(**self._last_sizes())

    def plan(self, which: ProgramName | None = None, /, **sizes: int) -> Program:
        """The program `which` (the fullest one if left out) for these sizes of the named dims."""
        names = self._dim_names()
        unknown = sorted(set(sizes) - names)
        if unknown or names - set(sizes):
            wanted = ", ".join(sorted(names)) or "none"
            raise FeedError(f"sizes of the named dims are needed ({wanted}), and given: {', '.join(sizes) or 'none'}")
        for name, size in sizes.items():
            if not isinstance(size, int) or size < 1:
                raise FeedError(f"{name} = {size!r}: the size of a dim is an int of at least 1")
        kind = which or self._fullest()
        return self._plan(kind, self._outputs_of(kind), sizes)

    def cost(self, **sizes: int) -> Cost:
        """The cost of one run of the fullest program for these sizes of the named dims, exactly; nothing is run."""
        return cost_of(self.plan(**sizes))

    def audit(self) -> Audit:
        """Proof, from the program itself, that each value and each adjoint is computed exactly once."""
        return audit(self.program, self._recipe.derivative)

    def explain(self, which: ProgramName | None = None, /, *, source: bool = False, **sizes: int) -> Explanation:
        """What the rewrites made of a program (the fullest one if left out), and which kernel runs what in it.

        Costs are for these sizes of the named dims, those of the last run if left out, and 1 before any. With `source`
        the text ends with that of the kernels which were generated. `print(exe.explain())` shows it all.
        """
        binding = sizes or self._last_sizes()
        program = self.plan(which, **binding)
        kind = which or self._fullest()
        outputs, declared = self._outputs_of(kind), self._recipe.declared
        part = self._part(kind, outputs)
        return Explanation(
            program=kind,
            binding=program.binding,
            cost=cost_of(program),
            left_out=tuple(node.name for node in self.graph.nodes if not node.is_leaf and node.name not in part),
            declared=tuple(changes(declared, on_copy(make_stable, declared))) if declared is not None else (),
            rewrites=rewritten(
                part,
                self._recipe.rewrites,
                lambda graph: plan_within(None, kind, graph, binding, self._backend.scratch),
            ),
            kernels=self._loaded_for(kind, outputs, program.binding).runnable.kernels,
            shows_source=source,
        )

    def _fullest(self) -> ProgramName:
        if self._recipe.loss is None:
            return "forward"
        return "step" if self._recipe.trains else "gradient"

    def _need_loss(self, what: str) -> Node:
        if self._recipe.loss is None:
            raise ExecutionError(f"{what} needs a loss: say compile(..., loss=the name of an output)")
        return self._recipe.loss

    def _need_optimizer(self) -> Node:
        loss = self._need_loss("step")
        if not self._recipe.trains:
            raise ExecutionError("step needs an optimizer: say compile(..., optimizer=ge.SGD(learning_rate=...))")
        return loss

    def _output(self, name: str) -> Node:
        outputs = self._recipe.graph.outputs
        if name not in outputs:
            raise NamingError(f"no output {name!r}{did_you_mean(name, outputs)}")
        return outputs[name]

    def _results(self, kind: ProgramName, outputs: tuple[str, ...]) -> list[Node]:
        nodes = [self._recipe.graph.outputs[name] for name in outputs]
        if kind != "forward" and self._recipe.loss is not None:
            nodes.append(self._recipe.loss)
        if kind == "gradient":
            nodes.extend(self._recipe.gradients.values())
        return list(dict.fromkeys(nodes))

    def _plan(self, kind: ProgramName, outputs: tuple[str, ...], binding: Mapping[str, int]) -> Program:
        key = (kind, outputs, *sorted(binding.items()))
        program = self._plans.get(key)
        if program is None:
            with growing():
                graph, budget = self._rewritten(kind, outputs), self._recipe.memory_budget
                program = self._plans[key] = plan_within(budget, kind, graph, binding, self._backend.scratch)
        self._plans.move_to_end(key)
        self._forget_the_oldest()
        return program

    def _rewritten(self, kind: ProgramName, outputs: tuple[str, ...]) -> Graph:
        """The graph of one program, rewritten."""
        asked = self._ask(kind, outputs)
        if asked.graph is None:
            asked.graph = rewrite(self._part(kind, outputs), self._recipe.rewrites)
        return asked.graph

    def _part(self, kind: ProgramName, outputs: tuple[str, ...]) -> Graph:
        """The graph of one program, with its results as outputs under the names of their nodes."""
        updates = self._recipe.graph.updates if kind == "step" else {}
        return extract(self._recipe.graph, self._results(kind, outputs), updates)

    def _outputs_of(self, kind: ProgramName) -> tuple[str, ...]:
        """The outputs that a program computes where none are asked for."""
        return () if kind == "step" else tuple(self._recipe.graph.outputs)

    def _loaded_for(self, kind: ProgramName, outputs: tuple[str, ...], binding: dict[str, int]) -> _Loaded:
        """The program bound for these sizes: one that is there, or a new one."""
        there = (loaded for key, loaded in self._loaded.items() if key[:2] == (kind, outputs))
        found = next((loaded for loaded in there if loaded.program.binding == binding), None)
        return found or self._make(kind, outputs, binding, (kind, outputs))

    def _last_sizes(self) -> dict[str, int]:
        """The sizes of the named dims in the last run; 1 of those that it had none of."""
        binding = self._last.program.binding if self._last else {}
        return {name: binding.get(name, 1) for name in self._dim_names()}

    def _dim_names(self) -> set[str]:
        return {name for node in self._recipe.graph.inputs for name in node.type.names()}

    def _load(self, kind: ProgramName, outputs: tuple[str, ...], feeds: Feeds) -> _Loaded:
        """The bound program for feeds of these shapes, with the feeds copied in."""
        asked = self._asked.get((kind, outputs)) or self._ask(kind, outputs)
        loaded = asked.latest
        if loaded is None or not loaded.takes(feeds):
            loaded = self._fed(kind, outputs, asked, feeds)
        if loaded is not self._last:
            self._last = loaded
            self._asked.move_to_end((kind, outputs))
            self._loaded.move_to_end(loaded.key)
            self._forget_the_oldest()
        return loaded

    def _fed(self, kind: ProgramName, outputs: tuple[str, ...], asked: _Asked, feeds: Feeds) -> _Loaded:
        arrays = self._checked(feeds, asked.needs)
        key = (kind, outputs, *(array.shape for array in arrays.values()))
        loaded = self._loaded.get(key)
        if loaded is None:
            loaded = self._loaded[key] = self._make(kind, outputs, bind_dims(arrays, asked.needs), key)
        for name, held in loaded.feeds.items():
            held[...] = arrays[name]
        if len(loaded.feeds) == len(asked.needs):  # no feed that only tells a size
            asked.latest = loaded
        return loaded

    def _ask(self, kind: ProgramName, outputs: tuple[str, ...]) -> _Asked:
        """What is known of a program, with its place among the 16 asked for last."""
        key = kind, outputs
        asked = self._asked[key] = self._asked.get(key) or _Asked(self._inputs_of(kind, outputs))
        self._asked.move_to_end(key)
        self._forget_the_oldest()
        return asked

    def _forget_the_oldest(self) -> None:
        """Keep what is known of programs, the plans and the bound programs to so many of each."""
        for kept in (self._asked, self._plans):
            if len(kept) > _PLANS_KEPT:
                kept.popitem(last=False)
        if len(self._loaded) > _PLANS_KEPT:
            _, gone = self._loaded.popitem(last=False)
            for asked in self._asked.values():
                asked.latest = None if asked.latest is gone else asked.latest

    def _inputs_of(self, kind: ProgramName, outputs: tuple[str, ...]) -> dict[str, TensorType]:
        """The inputs that a program reads, and those that only tell it the size of a named dim."""
        updates = self._recipe.graph.updates.values() if kind == "step" else ()
        nodes = needed_nodes([*self._results(kind, outputs), *updates])
        inputs = {node.name: node.type for node in nodes if type(node.op) is leaf.Input}
        unknown = {name for node in nodes for name in node.dim_names()} if self._dim_names() else set()
        unknown -= {name for type_ in inputs.values() for name in type_.names()}
        for node in self.graph.inputs:
            if unknown & node.type.names():
                inputs[node.name] = node.type
                unknown -= node.type.names()
        return inputs

    def _make(
        self, kind: ProgramName, outputs: tuple[str, ...], binding: dict[str, int], key: tuple[object, ...]
    ) -> _Loaded:
        with growing():
            program = self._plan(kind, outputs, binding)
            feeds = {
                name: np.empty(program.leaves[name].type.static_shape, program.leaves[name].type.dtype)
                for name in program.inputs
            }
            constants = {
                node.name: node.op.value
                for node in self._rewritten(kind, outputs).nodes
                if isinstance(node.op, leaf.Constant)
            }
            runnable = self._backend.load(program, {**self._held, **constants, **feeds})
            return _Loaded(key, program, runnable, feeds, len(program.instructions), program.forward_length)

    def _checked(self, feeds: Feeds, needs: Mapping[str, TensorType]) -> dict[str, Array]:
        """The feeds as arrays of the types in `needs`, in their order; raises FeedError for what does not fit."""
        for name in feeds:
            if name not in needs and not (name in self.graph and isinstance(self.graph[name].op, leaf.Input)):
                inputs = [node.name for node in self.graph.inputs]
                raise FeedError(f"no input {name!r}{did_you_mean(name, inputs)}")
        arrays = {}
        for name, type_ in needs.items():
            if name not in feeds:
                raise FeedError(f"input {name!r} is not fed; it is {type_}, declared at {self.graph[name].where}")
            array = _as_array(name, feeds[name])
            if array.dtype != type_.dtype and not np.can_cast(array.dtype, type_.dtype, "same_kind"):
                raise FeedError(
                    f"input {name!r} is {type_}, and {array.dtype} is not cast to {type_.dtype} in silence; "
                    f"feed array.astype({type_.dtype!r}) if that is meant"
                )
            try:
                arrays[name] = fitted(array, type_.dtype)
            except ValueError as error:
                raise FeedError(f"input {name!r} is {type_}, and {error}") from None
        return arrays


class Held(MutableMapping[str, Array]):
    """Parameters or states by name. Reading gives a read-only copy; assignment checks shape and dtype, and sets."""

    def __init__(self, arrays: Mapping[str, Array], assigned: Counter[str], nodes: Sequence[Node], what: str) -> None:
        """`assigned` counts the assignments."""
        self._arrays = arrays
        self._assigned = assigned
        self._types = {node.name: node.type for node in nodes}
        self._what = what

    def __getitem__(self, name: str) -> Array:
        self._type(name)
        array = self._arrays[name].copy()
        array.flags.writeable = False
        return array

    def __setitem__(self, name: str, value: Any) -> None:
        type_ = self._type(name)
        array = np.asarray(value)
        if array.shape != type_.shape:
            raise ShapeError(f"{self._what} {name!r} is {type_}, and the value has shape {list(array.shape)}")
        if not np.can_cast(array.dtype, type_.dtype, "same_kind"):
            raise DTypeError(f"{self._what} {name!r} is {type_}, and the value is {array.dtype}")
        try:
            self._arrays[name][...] = fitted(array, type_.dtype)
        except ValueError as error:
            raise DTypeError(f"{self._what} {name!r} is {type_}, and {error}") from None
        self._assigned[name] += 1

    def get(self, name: str, default: Any = None) -> Any:
        """The value of this name, or `default` if there is none."""
        return self[name] if name in self._types else default

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"a {self._what} of a compiled graph is there to stay")

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __contains__(self, name: object) -> bool:
        return name in self._types

    def __len__(self) -> int:
        return len(self._types)

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name}: {type}' for name, type in self._types.items())}}}"

    def _type(self, name: str) -> TensorType:
        if name not in self._types:
            raise NamingError(f"no {self._what} {name!r}{did_you_mean(name, self._types)}")
        return self._types[name]


def _as_array(name: str, value: npt.ArrayLike) -> Array:
    try:
        return np.asarray(value)
    except ValueError:
        raise FeedError(f"input {name!r} is fed with rows of unequal length") from None


def bind_dims(arrays: Mapping[str, Array], types: Mapping[str, TensorType]) -> dict[str, int]:
    """The size of every named dim, from the shapes of the feeds; raises FeedError where rank or sizes do not fit."""
    binding: dict[str, int] = {}
    seen: dict[str, str] = {}
    for name, type_ in types.items():
        shape = arrays[name].shape
        if len(shape) != type_.ndim:
            raise FeedError(f"input {name!r} is {type_}, of rank {type_.ndim}, and the feed has shape {list(shape)}")
        for dim, size in zip(type_.shape, shape, strict=True):
            if isinstance(dim, int):
                if size != dim:
                    raise FeedError(f"input {name!r} is {type_}, and the feed has shape {list(shape)}")
            elif size == 0:
                raise FeedError(f"input {name!r} is {type_}, and its {dim} is fed with size 0")
            elif binding.setdefault(dim, size) != size:
                other = f"{seen[dim]!r} with {dim} = {binding[dim]}"
                raise FeedError(f"input {name!r} is {type_} and is fed with {dim} = {size}, but {other}")
            else:
                seen.setdefault(dim, name)
    return binding


def _first_values(graph: Graph, seed: int, shared: Mapping[str, Array]) -> dict[str, Array]:
    values: dict[str, Array] = {}
    for node in graph.nodes:
        if not isinstance(node.op, leaf.Parameter | leaf.State):
            continue
        if node.name in shared:
            values[node.name] = shared[node.name]
        else:
            shape = tuple(dims.bind(dim, {}) for dim in node.shape)
            values[node.name] = node.op.init.draw(seed, node.name, shape, node.dtype)
    return values
