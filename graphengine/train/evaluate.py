"""What a network makes of data: its predictions, its loss, its metrics."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from graphengine.errors import FeedError, TrainingError, ValueRangeError
from graphengine.executable import Executable
from graphengine.feeds import checked_feeds, sizes_of
from graphengine.ir.leaf import Input
from graphengine.ir.names import did_you_mean
from graphengine.ir.node import Node
from graphengine.ir.subgraph import needed_nodes
from graphengine.ir.types import Array, ValueType, check_axes
from graphengine.ops.activation import Identity
from graphengine.ops.broadcast import Reshape, Sum
from graphengine.ops.elementwise import Add, Divide, Multiply, Negative, Subtract
from graphengine.ops.loss import Loss
from graphengine.ops.matmul import MatMul
from graphengine.ops.reduce import Mean
from graphengine.ops.shape import ExpandDims, Squeeze
from graphengine.train.data import Arrays, Data, Source, as_source, batch_axis, has_examples
from graphengine.train.diagnosis import odd_input, out_of_range
from graphengine.train.metrics import BoundMetric, MetricLike, bind_metrics

BATCH = 1024
"""Examples a forward run: enough that the run outweighs its call, few enough that intermediate values stay small."""


def evaluate(
    exe: Executable,
    data: Data,
    metrics: MetricLike | Sequence[MetricLike] | None = None,
    batch_size: int | None = BATCH,
) -> dict[str, float]:
    """Loss and metrics of `data`, by name, computed by `exe.inference`; returns a dict of floats.

    The loss is the mean of the batches' losses weighted by their number of examples, or their sum if the loss is a sum
    over the examples: that of all examples at once, up to terms that do not depend on them. A metric is computed once,
    of all examples.
    Raises TrainingError for data or metrics that do not fit, FeedError for feeds that are missing or unknown. A loss
    that is not finite is a UserWarning.
    """
    source, bound = prepare(exe, data, metrics)
    check_size("batch_size", batch_size)
    loss = loss_of(exe)
    check_measures(loss, bound)
    measured = measure(exe, source, loss, bound, batch_size)
    if not math.isfinite(measured.get("loss", 0.0)):
        odd = odd_input(source, [node.name for node in exe.graph.inputs], {}) or "so are values on the way to it"
        warnings.warn(f"the loss is {measured['loss']}: {odd}", UserWarning, stacklevel=2)
    return measured


def predict(
    exe: Executable,
    feeds: Data,
    outputs: str | Sequence[str] | None = None,
    batch_size: int | None = BATCH,
) -> dict[str, Array]:
    """Values of `outputs` for all examples, computed in batches; returns arrays by name. Left out, all outputs with one
    row an example.

    They are those of `exe.inference`: nothing is dropped, and no example depends on the others of its batch. Only the
    feeds that these outputs need are asked for. An output without an axis of examples, such as a loss, has no value for
    all examples together: `evaluate` and `exe.forward` are for those.
    Raises TrainingError for such an output, FeedError for feeds that are missing or unknown.
    """
    source, _ = prepare(exe, feeds, ())
    check_size("batch_size", batch_size)
    names = _predicted(exe, [outputs] if isinstance(outputs, str) else outputs)
    values = _forward(exe.inference, source, exe.inference.needs(names), names, batch_size)
    return _joined([outputs for _, outputs, _ in values], names)


def prepare(
    exe: Executable, data: Data, metrics: MetricLike | Sequence[MetricLike] | None
) -> tuple[Source, list[BoundMetric]]:
    """Data as batches, and metrics that know their arrays; raises if the data has arrays that nothing reads."""
    source = as_source(exe.graph, data)
    bound = bind_metrics(exe, source.names, metrics)
    inputs = [node.name for node in exe.graph.inputs]
    for name in source.names:
        if name not in inputs and all(name != metric.target for metric in bound):
            raise FeedError(f"no input {name!r}, and no metric has it as target{did_you_mean(name, inputs)}")
    return source, bound


def measure(
    exe: Executable, source: Source, loss: str | None, metrics: Sequence[BoundMetric], batch_size: int | None
) -> dict[str, float]:
    """The loss, under "loss", unless it is None, and the metrics, over all batches of `source`, by `exe.inference`."""
    exe = exe.inference
    outputs = list(dict.fromkeys([*([loss] if loss else []), *(metric.output for metric in metrics)]))
    needs, targets = exe.needs(outputs), [metric.target for metric in metrics]
    adds_up = loss is not None and _is_sum(exe.graph.outputs[loss])
    total = 0.0
    examples = 0
    predicted: list[Mapping[str, Array]] = []
    true: list[Mapping[str, Array]] = []
    for batch, values, count in _forward(exe, source, {*needs, *targets}, outputs, batch_size):
        total += (1 if adds_up else count) * float(values[loss]) if loss else 0.0
        examples += count
        for name in targets:
            if name not in batch:
                raise TrainingError(f"a batch has no array {name!r}, which a metric has as target")
        predicted.append(values)
        true.append({name: batch[name] for name in targets})
    if not examples:
        raise TrainingError("there are no examples: the data has no batches")
    measured = {"loss": total / (1 if adds_up else examples)} if loss else {}
    predictions, truth = _joined(predicted, {metric.output for metric in metrics}), _joined(true, targets)
    return measured | {metric.name: metric(predictions[metric.output], truth[metric.target]) for metric in metrics}


def _forward(
    exe: Executable, source: Source, names: Collection[str], outputs: Sequence[str], batch_size: int | None
) -> Iterator[tuple[Mapping[str, Array], dict[str, Array], int]]:
    """The arrays of `names` of every batch, the values of `outputs`, and the number of examples."""
    needs = exe.needs(outputs)
    examples = 0
    for batch, count in source.batches(names, batch_size):
        feeds = {name: batch[name] for name in needs if name in batch}
        try:
            values = exe.forward(feeds, outputs)
        except ValueRangeError as error:
            raise out_of_range(error, feeds, source, examples) from None
        yield batch, values, count
        examples += count


def _joined(batches: Sequence[Mapping[str, Array]], names: Iterable[str]) -> dict[str, Array]:
    """The arrays of `names` of all batches."""
    if len(batches) == 1:
        return {name: batches[0][name] for name in names}
    return {name: np.concatenate([batch[name] for batch in batches]) for name in names}


def loss_of(exe: Executable) -> str | None:
    """The output that is the loss: the one compiled for, else that of the training section, else the one so named."""
    training = exe.graph.training
    candidates = (exe.loss, training.loss if training else None, "loss")
    return next((name for name in candidates if name in exe.graph.outputs), None)


def _is_sum(loss: Node) -> bool:
    """Whether a loss is a sum over the examples, or linear in such sums, and so the sum of the losses of batches."""
    axis = batch_axis(loss.graph)
    varying: set[Node] = set()
    sums: set[Node] = set()
    for node in needed_nodes([loss]):
        if isinstance(node.op, Input) or node.dim_names() or not varying.isdisjoint(node.parents):
            varying.add(node)
        if _adds_up(node, axis, varying, sums):
            sums.add(node)
    return loss in sums


def _adds_up(node: Node, axis: str | None, varying: Collection[Node], sums: Collection[Node]) -> bool:
    """Whether `node` is a sum over `axis`, or linear in the `sums` among its parents by what is not `varying`."""
    op, parents = node.op, node.parents
    if isinstance(op, Sum | Mean):
        (summed,) = parents
        over_examples = axis in [summed.shape[summed_axis] for summed_axis in check_axes(op.axis, summed.ndim)]
        return isinstance(op, Sum) if over_examples else summed in sums
    if isinstance(op, MatMul) and parents[0].shape[-1] == axis:
        return True
    if isinstance(op, Loss):
        return op.reduction == "sum" and axis is not None
    if isinstance(op, Multiply | Divide):
        factors = [parent for parent in parents if parent in varying]
        return len(factors) == 1 and factors[0] in sums and (isinstance(op, Multiply) or factors[0] is parents[0])
    return isinstance(op, _LINEAR) and all(parent in sums for parent in parents)


_LINEAR = (Add, ExpandDims, Identity, Negative, Reshape, Squeeze, Subtract)
"""What is a sum over the examples where all its operands are."""


def check_feeds(exe: Executable, source: Source, needs: Mapping[str, ValueType], what: str) -> None:
    """Raise FeedError, before the first step, if the first example is not what inputs need."""
    if isinstance(source, Arrays):
        batch, _ = next(source.batches(needs, 1))
        try:
            checked_feeds(exe.graph, needs, batch)
            sizes_of(source, needs)
        except FeedError as error:
            error.quote(f"in {what}")
            raise


def check_measures(loss: str | None, metrics: Sequence[BoundMetric]) -> None:
    """Raise TrainingError unless there is something to measure."""
    if loss is None and not metrics:
        raise TrainingError("nothing to evaluate: the graph has no loss among its outputs, and no metrics are given")


def check_size(what: str, size: int | None) -> None:
    """Raise TrainingError unless `size` is None or at least 1."""
    if size is not None and (isinstance(size, bool) or not hasattr(size, "__index__") or size < 1):
        raise TrainingError(f"{what} is an int of at least 1, not {size!r}")


def _predicted(exe: Executable, asked: Sequence[str] | None) -> list[str]:
    axis = batch_axis(exe.graph)
    outputs = exe.graph.outputs
    if axis is None:
        return list(asked) if asked is not None else [name for name, node in outputs.items() if node.shape]
    fit: Collection[str] = [name for name, node in outputs.items() if has_examples(node.type, axis)]
    for name in asked or ():
        if name in outputs and name not in fit:
            raise TrainingError(
                f"output {name!r} is {outputs[name].type}, which is not one row an example (axis {axis!r}): "
                "ge.evaluate gives the loss of all examples, exe.forward any output of one batch"
            )
    return list(fit if asked is None else asked)
