"""What a user holds and runs: programs over the same parameters and states."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from graphengine.backends.memory import no_memory
from graphengine.errors import ExecutionError, FeedError, NamingError, NonFiniteError, UnknownAttributeError, UsageError
from graphengine.explanation import Explanation, explained
from graphengine.feeds import Feeds, check_size
from graphengine.forks import BUILDING
from graphengine.gradients import Gradients
from graphengine.ir.arguments import checked
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Input
from graphengine.ir.names import Suggesting, did_you_mean
from graphengine.ir.node import Node
from graphengine.ir.pickling import blank, writer
from graphengine.ir.subgraph import needed_nodes
from graphengine.ir.types import Array, ValueType
from graphengine.programs import Bound, Caller, Prepared, Programs, Settings
from graphengine.schedule.audit import Audit, audit
from graphengine.schedule.cost import Cost, cost_of
from graphengine.schedule.program import Program
from graphengine.transform.inference import for_inference, trains_otherwise
from graphengine.transform.training_graph import HALVES, ProgramName, TrainingGraph, dim_names
from graphengine.weights import Held, Weights
from graphengine.wording import shown


class Executable(Suggesting):
    """A compiled graph with its parameters and state, and the programs that run over them.

    `forward` computes outputs; `backward` the gradients of the last forward; `step` both and the update, in one run;
    `gradients` and `update` the same in two. A program is planned on its first run, for the outputs and the sizes of
    named dims; the last 16 are cached.

    Threads may share an executable. Runs that read weights go side by side, each in arrays of its thread. `step`,
    `gradients`, `update` and assignments go one at a time, so that a run has the weights before one of them, or after
    it. `backward` belongs to the last `forward` of its thread. A signal handler that calls into the executable in the
    middle of a run gets ExecutionError. A step that an exception interrupts is whole: the exception comes after it.

    `copy.copy`, `copy.deepcopy` and `pickle` give executables of their own: with the weights, states, seed and settings
    as they are now, and nothing run yet. They go on bit for bit like this one.
    """

    def __init__(self, training: TrainingGraph, settings: Settings, weights: Weights) -> None:
        """`weights` may be shared with other executables; what the graph holds and is not there yet is added."""
        weights.add(training.graph)
        # Nothing here leads back to the executable, so that its memory is free as soon as nothing holds it.
        self.programs = Programs(training, settings, weights)
        """What was made of the graph so far."""
        self.parameters = Held(weights, training.graph.parameters, "parameter")
        self.state = Held(weights, training.graph.states, "state")
        self.seed = weights.seed
        self.skipped = 0
        """How many steps and updates were skipped, as `compile(non_finite="skip")` lets them be."""
        self.epochs_done = 0
        """How many epochs `ge.fit` has trained it for; the next call goes on from there."""
        self._training = training
        self._weights = weights
        self._otherwise: list[Executable] | None = None  # the one for inference, if another is needed

    def __repr__(self) -> str:
        return f"Executable({self.graph!r})"

    def __setattr__(self, name: str, value: object) -> None:
        """What users set by mistake, a learning rate for example, is refused, as it would change nothing."""
        is_new = name in ("programs", "parameters", "state", "seed") and name not in vars(self)
        if not (is_new or name in ("skipped", "epochs_done") or name.startswith("_")):
            raise UnknownAttributeError(f"{shown(self)}: {shown(name)} cannot be set{self._remedy(name, is_set=True)}")
        object.__setattr__(self, name, value)

    def __call__(self, *_: object, **__: object) -> NoReturn:
        """Say what is called instead."""
        inputs = ", ".join(f"{node.name!r}: array" for node in self.graph.inputs)
        raise UsageError(f"an executable is not called; write exe.forward({{{inputs}}}), or ge.predict(exe, data)")

    def __copy__(self) -> Executable:
        """A copy has weights of its own, as a deep copy has; and it has run nothing yet."""
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Executable:
        """What never changes is shared."""
        twin = Executable.__new__(Executable)
        twin.__setstate__(self._state(copy.deepcopy(self._weights, memo)))
        return twin

    def __reduce__(self) -> tuple[object, ...]:
        return blank, ("Executable", writer()), self._state(self._weights)

    def _state(self, weights: Weights) -> tuple[Any, ...]:
        return self._training, self.programs.settings, weights, self.programs.sizes, (self.skipped, self.epochs_done)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        training, settings, weights, sizes, counts = state
        self.__init__(training, settings, weights)  # type: ignore[misc]  # it has been made without
        self.programs.sizes, (self.skipped, self.epochs_done) = sizes, counts

    @property
    def graph(self) -> Graph:
        """The graph that runs: the declared one with its adjoints and updates."""
        return self._training.graph

    @property
    def inference(self) -> Executable:
        """An executable of `ge.for_inference(graph)` over the same parameters and states, which only runs forward.

        It has no dropout and uses the running statistics of batch normalization. It sees every step and assignment. It
        is this executable itself, if outputs are computed in the same way in training and in inference.
        """
        if self._otherwise is None:
            with BUILDING:
                self._otherwise = self._otherwise or list(self._made_otherwise())
        return self._otherwise[0] if self._otherwise else self

    def _made_otherwise(self) -> Iterator[Executable]:
        if trains_otherwise(self.graph):
            yield Executable(TrainingGraph(for_inference(self.graph)), self.programs.settings, self._weights)

    @property
    def unreached(self) -> dict[str, str]:
        """The parameters that no gradient reaches, with the reason."""
        return dict(self._training.unreached)

    @property
    def loss(self) -> str | None:
        """The name of the output that is the loss; None if the graph is compiled without one, or no output is it."""
        return next((name for name, node in self.graph.outputs.items() if node is self._training.loss), None)

    @checked
    def needs(self, outputs: Sequence[str] | None = None) -> dict[str, ValueType]:
        """The inputs that `outputs` need, with their types; those that `step` needs if left out."""
        if outputs is not None:
            nodes = needed_nodes([self._output(name) for name in outputs])
            return {node.name: node.type for node in nodes if isinstance(node.op, Input)}
        self._need_optimizer("step")
        return self._training.needs("step", ())

    def forward(self, feeds: Feeds, outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Compute `outputs`, or all declared ones; returns a dict of new arrays.

        Only the feeds that these outputs need are required. If the loss is among the outputs, activations are saved for
        `backward`.
        Raises FeedError for feeds that are missing, unknown or of the wrong type, NamingError for an unknown output.
        """
        if isinstance(outputs, str | Node):
            raise NamingError(f"outputs is a list of names: say outputs=[{getattr(outputs, 'name', outputs)!r}]")
        names = tuple(self.graph.outputs) if outputs is None else tuple(outputs)
        nodes = {name: self._output(name) for name in names}
        loss = self._training.loss
        saves = loss is not None and (outputs is None or loss in nodes.values())
        return self.programs.run(self._forward, (nodes, saves, feeds))

    def _forward(self, caller: Caller, given: tuple[dict[str, Node], bool, Feeds]) -> dict[str, Array]:
        nodes, saves, feeds = given
        bound = self.programs.fed(caller, "gradient" if saves else "forward", tuple(nodes), feeds)
        caller.ran = None
        bound.runnable.run(0, bound.forward_length)
        if saves:
            caller.ran, caller.changes, caller.saved = bound, self._weights.access.changes, True
        try:
            return {name: bound.runnable.results[node.name].copy() for name, node in nodes.items()}
        except MemoryError:
            raise no_memory(f"copies of {', '.join(nodes)} take memory") from None

    def backward(self) -> dict[str, Array]:
        """dL/dw of the last `forward`, for every leaf of `wrt`; returns a dict of new arrays by name.

        Raises ExecutionError without a loss or without a `forward` right before it.
        """
        self._need_loss("backward")
        return self.programs.run(self._backward, None)

    def _backward(self, caller: Caller, _: None) -> dict[str, Array]:
        bound = caller.ran
        if bound is None or bound.fed_by is not caller.seat or caller.changes != self._weights.access.changes:
            raise ExecutionError(
                "backward needs a forward of this thread that computed the loss, with nothing run or set since; "
                "call forward first"
            )
        if caller.saved:  # BACKWARD writes over activations, and the gradients stay until the next run
            caller.ran = None  # until it has ended
            bound.runnable.run(bound.forward_length, bound.length)
            caller.ran, caller.saved = bound, False
        try:
            return {name: bound.runnable.results[node.name].copy() for name, node in self._training.gradients.items()}
        except MemoryError:
            raise no_memory("copies of the gradients take memory") from None

    def step(self, feeds: Feeds) -> float:
        """One step of training: FORWARD, BACKWARD and UPDATE in one run. Returns the loss before the update.

        A loss that is not finite changes nothing: no parameter, no state, no count. It is a NonFiniteError, unless
        `compile(non_finite="skip")` says that such steps are skipped, or "allow" that they are made.
        Raises FeedError for feeds that do not fit, ExecutionError without an optimizer.
        """
        return self.programs.change(self._step, (self._need_optimizer("step"), feeds))

    def _step(self, caller: Caller, given: tuple[Node, Feeds]) -> float:
        loss, feeds = given
        bound = self._fed(caller, "step", feeds)
        try:
            bound.runnable.run(0, bound.length)
        except NonFiniteError as error:
            self._unless_skipped("step", error, bound)
            self.skipped += 1
        return float(bound.runnable.results[loss.name])

    def _fed(self, caller: Caller, which: ProgramName, feeds: Feeds) -> Bound:
        """A program that changes weights, with its feeds; what was run and set before is no longer what holds."""
        bound = self.programs.fed(caller, which, (), feeds)
        caller.ran = None
        self._weights.access.changes += 1
        return bound

    def gradients(self, feeds: Feeds, *, copy: bool = True) -> Gradients:
        """The first half of a step: the gradient of every parameter that it trains and that a gradient reaches.

        It advances what FORWARD advances, each time: running statistics, and the count of random draws. The gradients
        are in one block of memory, and `loss` is beside them. They are the caller's own; with `copy=False` they are
        those that `update` reads, and stay until `gradients` or `update` is called again. Where `step` would be
        skipped, they are NaN, nothing has advanced, and `update` by them is skipped.

        Raises FeedError and NonFiniteError as `step` does, and ExecutionError without an optimizer, or if an update
        reads anything of the forward or backward pass but the gradients.
        """
        return self.programs.change(self._gradients, (self._need_optimizer("gradients"), feeds, copy))

    def _gradients(self, caller: Caller, given: tuple[Node, Feeds, bool]) -> Gradients:
        loss, feeds, copy = given
        bound = self._fed(caller, "gradients", feeds)
        gradients = self.programs.gradients
        try:
            bound.runnable.run(0, bound.length)
        except NonFiniteError as error:
            self._unless_skipped("gradients", error, bound)
            gradients.spoil()
        gradients.loss = float(bound.runnable.results[loss.name])
        return gradients.copy() if copy else gradients

    def update(self, gradients: Mapping[str, npt.ArrayLike]) -> None:
        """The second half of a step: UPDATE alone, by these gradients, which advances the optimizer's states.

        After `update(gradients(feeds))` all is, to the last bit, as after `step(feeds)`. Only steps of plain GD and SGD
        may differ by rounding, since two rewrites reach from a gradient into its update: "algebra" multiplies the
        learning rate with a constant factor of a gradient, and "products" adds a product to a parameter in one kernel.
        The gradients may as well be sums or averages of those of several batches.

        Raises NamingError for a gradient that is missing or not known, ShapeError or DTypeError for one that does not
        fit, and ExecutionError for what is no mapping; then nothing has changed. As `step` does, it raises
        NonFiniteError, or is skipped, if their loss is not finite; and so it does if they themselves are not.
        """
        self._need_optimizer("update")
        self.programs.change(self._update, gradients)

    def _update(self, caller: Caller, gradients: Mapping[str, npt.ArrayLike]) -> None:
        self.programs.gradients.assign(gradients)
        bound = self._fed(caller, "update", {})
        try:
            loss = gradients.loss if isinstance(gradients, Gradients) else 0.0
            if not math.isfinite(loss) and self.programs.settings.non_finite != "allow":
                raise NonFiniteError(f"the loss of these gradients is {loss}")
            bound.runnable.run(0, bound.length)
        except NonFiniteError as error:
            self._unless_skipped("update", error, bound)
            self.skipped += 1

    def _unless_skipped(self, what: ProgramName, error: NonFiniteError, bound: Bound) -> None:
        """Raise the error, with what may have led to it, unless such steps are skipped."""
        if self.programs.settings.non_finite == "skip":
            return
        given = {f"input {name!r}": array for name, array in bound.feeds.items()}
        given |= {f"{name!r}": self._weights[name] for name in (*self.parameters, *self.state)}
        found = next((name for name, array in given.items() if not np.isfinite(array).all()), None)
        cause = f"{found} has elements that are not finite" if found else "a lower learning rate or clipping may help"
        told = NonFiniteError(f"{error.found}, so {what} has changed nothing; {cause}", error.found)
        told.quote(*error.context)
        raise told from None

    @property
    def program(self) -> Program:
        """The largest program there is (step, gradient or forward), planned for the sizes of the last run.

        Before any run, every named dim has size 1. `print` shows its instructions.
        """
        return self._prepared(None, {}).program

    @checked
    def plan(self, which: ProgramName | None = None, /, **sizes: int) -> Program:
        """The program `which` (default: the largest one) for these sizes of the named dims.

        Raises FeedError for sizes that are missing, unknown or below 1.
        """
        self._check_sizes(sizes)
        return self._prepared(which, sizes).program

    @checked
    def cost(self, which: ProgramName | None = None, /, **sizes: int) -> Cost:
        """The exact cost of one run of a program (default: the largest one), in FLOPs and bytes, for these sizes.

        Nothing is run. Raises FeedError for sizes of named dims that are missing, unknown or below 1.
        """
        return cost_of(self.plan(which, **sizes))

    @checked
    def audit(self, which: ProgramName | None = None, /) -> Audit:
        """Count, on a program itself (default: the largest one), that each value and each adjoint is computed once."""
        program = self._prepared(which, {}).program
        return audit(program, None if program.name in ("forward", "update") else self._training.derivative)

    @checked
    def explain(self, which: ProgramName | None = None, /, *, source: bool = False, **sizes: int) -> Explanation:
        """What the rewrites changed in a program (default: the largest one), and which kernel runs each node.

        Costs are for these sizes of the named dims, by default those of the last run, or 1 before any. With `source`
        the text ends with the generated kernels. `print(exe.explain())` shows it.
        """
        if sizes:
            self._check_sizes(sizes)
        return self.programs.run(self._explained, (self._prepared(which, sizes), source))

    def _explained(self, caller: Caller, given: tuple[Prepared, bool]) -> Explanation:
        prepared, shows_source = given
        with BUILDING:
            kernels = self.programs.kernels(caller.context, prepared)
            return explained(self.programs, prepared, kernels, shows_source)

    def _check_sizes(self, sizes: dict[str, int]) -> None:
        names = dim_names(self.graph)
        unknown = sorted(set(sizes) - names)
        if unknown or names - set(sizes):
            wanted = ", ".join(sorted(names)) or "none"
            raise FeedError(f"sizes of the named dims are needed ({wanted}), and given: {', '.join(sizes) or 'none'}")
        for name, size in sizes.items():
            check_size(name, size)

    def _prepared(self, which: ProgramName | None, sizes: dict[str, int]) -> Prepared:
        """The program `which`, for the sizes of the last run where none are given; 1 of those that it had none of."""
        which = which or self._training.fullest
        if which in HALVES:
            self._need_optimizer(which)
        known = sizes or self.programs.sizes
        with BUILDING:
            part = self.programs.part(which, tuple(self.graph.outputs) if which in ("forward", "gradient") else ())
            return self.programs.prepared(part, {name: known.get(name, 1) for name in part.dims})

    def _need_loss(self, what: str) -> Node:
        if self._training.loss is None:
            raise ExecutionError(f"{what} needs a loss: say compile(..., loss=the name of an output)")
        return self._training.loss

    def _need_optimizer(self, what: str) -> Node:
        loss = self._training.loss
        if loss is None or not self._training.trains:
            self._need_loss(what)
            raise ExecutionError(f"{what} needs an optimizer: say compile(..., optimizer=ge.SGD(learning_rate=...))")
        return loss

    def _output(self, name: str) -> Node:
        outputs = self.graph.outputs
        if name not in outputs:
            near = did_you_mean(getattr(name, "name", name), outputs)
            remedy = "an output is declared by graph.output(name, node) before ge.compile"
            raise NamingError(f"no output {shown(name)}{near}; {remedy}")
        return outputs[name]
