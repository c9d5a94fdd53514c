"""What is measured beside the loss: functions of predictions and targets, both of all the examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from graphengine.errors import TrainingError
from graphengine.executable import Executable
from graphengine.ir.arguments import check_public
from graphengine.ir.names import did_you_mean, unknown_in
from graphengine.ir.node import Node
from graphengine.ir.types import Array
from graphengine.ops.activation import Identity, Sigmoid
from graphengine.ops.broadcast import Reshape
from graphengine.ops.elementwise import Sign
from graphengine.ops.loss import BinaryCrossEntropy, Hinge, PerceptronLoss
from graphengine.ops.shape import ExpandDims, Squeeze
from graphengine.train.data import batch_axis, has_examples

__all__ = ["Metric", "accuracy", "confusion_matrix", "mean_absolute_error", "mean_squared_error"]

__dir__ = __all__.copy
__getattr__ = unknown_in("metrics")

Measure = Callable[[Array, Array], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: `function(predictions, targets)` with a name; both arrays hold all examples.

    output: whose values are the predictions; left out, "prediction", or "logits", or the only output with a row for
    each example. target: the array of the data; left out, the only one that the output does not need. It need not be an
    input. `fit`, `evaluate` and `cross_validate` raise TrainingError if output or target cannot be determined.
    """

    name: str
    function: Measure
    output: str | None = None
    target: str | None = None


MetricLike = str | Metric | Measure


@dataclass(frozen=True, slots=True)
class BoundMetric:
    """A metric that knows its output and its target."""

    name: str
    function: Measure
    output: str
    target: str

    def __call__(self, predictions: Array, targets: Array) -> float:
        try:
            return float(self.function(predictions, targets))
        except TrainingError as error:
            error.quote(f"metric {self.name!r} of output {self.output!r} and target {self.target!r}")
            raise


def accuracy(predictions: npt.ArrayLike, targets: npt.ArrayLike, threshold: float | None = None) -> float:
    """The fraction of examples whose predicted class is the true one.

    predictions: scores with one more axis than the labels, whose argmax is the class; or scores with one-hot targets of
    their shape; or integer labels; or one number an example, of class 1 if it is above `threshold` (exactly there it is
    of neither of -1 and 1). A NaN among the scores of an example is of no class, and so wrong. threshold: left out, 0
    for targets of -1 and 1, and 0.5 for 0 and 1. It must be given for numbers outside [0, 1] and where all targets are
    1. `evaluate` and `fit` take it from the graph, if the output is that of a sigmoid or a sign, or goes into a loss of
    logits.

    Returns a float in [0, 1]. Raises TrainingError for shapes or targets that are no classes.
    """
    predicted, true = _classes(np.asarray(predictions), np.asarray(targets), threshold)
    return float(np.mean(predicted == true))


def mean_squared_error(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """The mean of (prediction - target)^2 over all elements; (n, 1) and (n,) are taken as the same shape.

    Raises TrainingError for shapes that differ. Returns a float in the squared units of the targets.
    """
    difference = _difference(predictions, targets)
    return float(np.mean(difference * difference))


def mean_absolute_error(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """The mean of |prediction - target| over all elements; (n, 1) and (n,) are taken as the same shape.

    Raises TrainingError for shapes that differ. Returns a float in the units of the targets.
    """
    return float(np.mean(np.abs(_difference(predictions, targets))))


def confusion_matrix(
    predictions: npt.ArrayLike, targets: npt.ArrayLike, classes: int | None = None, threshold: float | None = None
) -> npt.NDArray[np.int64]:
    """How often class i (the row) was predicted as class j (the column); predicted classes are as in `accuracy`.

    `classes` is their number; left out, it is that of the scores of an example, or 2 for one number an example.
    Predictions that are labels do not tell: then it must be given.

    Returns int64[classes, classes]. Raises TrainingError for shapes or targets that are no classes.
    """
    scores, labels = np.asarray(predictions), np.asarray(targets)
    found, true = _classes(scores, labels, threshold)
    if nans := int(np.isnan(found).sum()):
        raise TrainingError(f"{nans} of {found.size} predictions are NaN, which is no class")
    predicted, true = (part.astype(np.int64).ravel() for part in (found, true))
    both = np.concatenate([predicted, true])
    if classes is None:
        if scores.dtype.kind != "f":
            raise TrainingError("the number of classes does not follow from labels: say classes=...")
        classes = 2 if _flat(scores).shape == _flat(labels).shape == predicted.shape else scores.shape[-1]
    if both.size and not 0 <= both.min() <= both.max() < classes:
        raise TrainingError(
            f"labels of {classes} classes lie in [0, {classes}), and there are {both.min()}..{both.max()}"
        )
    return np.bincount(true * classes + predicted, minlength=classes * classes).reshape(classes, classes)


_RESERVED = frozenset({"epoch", "loss", "seconds", "steps"})


def bind_metrics(
    exe: Executable, names: Collection[str], metrics: MetricLike | Sequence[MetricLike] | None
) -> list[BoundMetric]:
    """The metrics with their outputs and targets, for data that has arrays of `names`."""
    if metrics is None:
        return []
    listed = [metrics] if isinstance(metrics, str | Metric) or callable(metrics) else metrics
    bound = [_bind(exe, names, _as_metric(metric)) for metric in listed]
    for name, count in Counter(metric.name for metric in bound).items():
        if count > 1:
            raise TrainingError(f"two metrics are named {name!r}; name one otherwise by ge.Metric(name, function)")
    return bound


def _as_metric(metric: MetricLike) -> Metric:
    if isinstance(metric, str):
        if metric not in _NAMED:
            raise TrainingError(f"no metric {metric!r}{did_you_mean(metric, _NAMED)}")
        return Metric(metric, _NAMED[metric])
    if not isinstance(metric, Metric):
        metric = Metric(getattr(metric, "__name__", type(metric).__name__), metric)
    if metric.name in _RESERVED or metric.name.startswith("validation_"):
        raise TrainingError(f"a metric cannot be named {metric.name!r}: the history uses that name")
    return metric


def _bind(exe: Executable, names: Collection[str], metric: Metric) -> BoundMetric:
    output = metric.output or _only_output(exe, metric)
    needs = exe.needs([output])
    axis, type_ = batch_axis(exe.graph), exe.graph.outputs[output].type
    if axis is not None and not has_examples(type_, axis):
        raise TrainingError(
            f"metric {metric.name!r}: output {output!r} is {type_}, which is not one row an example (axis {axis!r})"
        )
    others = [name for name in names if name not in needs]
    of = f"arrays of the data that output {output!r} does not need"
    target = metric.target or _only(others, metric, "a target: say ge.Metric(..., target=...)", of)
    if target not in names:
        raise TrainingError(
            f"metric {metric.name!r}: the data has no array {target!r}{did_you_mean(target, list(names))}"
        )
    function, threshold = metric.function, _threshold(exe.graph.outputs[output])
    if function is accuracy and threshold is not None:
        function = partial(accuracy, threshold=threshold)
    return BoundMetric(metric.name, function, output, target)


def _only_output(exe: Executable, metric: Metric) -> str:
    outputs, axis = exe.graph.outputs, batch_axis(exe.graph)
    for usual in ("prediction", "logits"):
        if usual in outputs:
            return usual
    candidates = [name for name, node in outputs.items() if has_examples(node.type, axis)]
    return _only(candidates, metric, "an output: say ge.Metric(..., output=...)", "outputs with a row an example")


def _only(candidates: Sequence[str], metric: Metric, needed: str, of: str) -> str:
    if len(candidates) != 1:
        raise TrainingError(f"metric {metric.name!r} needs {needed}; {of}: {', '.join(candidates) or 'none'}")
    return candidates[0]


def _threshold(output: Node) -> float | None:
    """Above which the numbers of an output, one an example, speak for the class 1; None if the graph does not tell."""
    source = _shown(output)
    if isinstance(source.op, Sigmoid):
        return 0.5
    of_logits = (
        isinstance(node.op, BinaryCrossEntropy | Hinge | PerceptronLoss) and _shown(node.parents[0]) is source
        for node in output.graph.nodes
    )
    return 0.0 if isinstance(source.op, Sign) or any(of_logits) else None


def _shown(node: Node) -> Node:
    """The node whose elements `node` shows, in another shape."""
    while isinstance(node.op, Reshape | ExpandDims | Squeeze | Identity):
        node = node.parents[0]
    return node


def _flat(array: Array) -> Array:
    return array[..., 0] if array.ndim > 1 and array.shape[-1] == 1 else array


def _difference(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> Array:
    left, right = _flat(np.asarray(predictions)), _flat(np.asarray(targets))
    if left.shape != right.shape:
        raise TrainingError(f"predictions have shape {list(left.shape)}, and targets {list(right.shape)}")
    return left.astype(np.float64) - right


def _classes(predictions: Array, targets: Array, threshold: float | None) -> tuple[Array, Array]:
    """The predicted and the true class of every example."""
    scores, labels = _flat(predictions), _flat(targets)
    if scores.shape == labels.shape:
        if scores.dtype.kind != "f":
            return scores, labels
        if scores.ndim == 1:
            return _two_classes(scores, labels, threshold)
        if np.all((labels == 0) | (labels == 1)) and np.all(labels.sum(-1) == 1):
            return _class_of_maximum(scores), labels.argmax(-1)
    elif scores.shape[:-1] == labels.shape:
        _check_labels(labels)
        return _class_of_maximum(scores), labels
    raise TrainingError(
        f"predictions of shape {list(predictions.shape)} and targets of shape {list(targets.shape)} are not classes: "
        "scores with one more axis than integer labels are, or one-hot targets, or one number an example"
    )


def _class_of_maximum(scores: Array) -> Array:
    """The index of the maximum score of every example; NaN, which is no class, where a score is NaN."""
    return np.where(np.isnan(scores).any(-1), np.nan, scores.argmax(-1))


def _two_classes(scores: Array, labels: Array, threshold: float | None) -> tuple[Array, Array]:
    if np.any(labels == -1):
        return np.sign(scores - (threshold or 0)), labels
    if threshold is None:
        if labels.size and np.all(labels == 1):
            raise TrainingError(
                "all targets are 1, and do not tell whether the others would be 0 or -1: "
                "give a threshold, 0.5 for probabilities and 0 for logits: "
                'ge.Metric("accuracy", functools.partial(ge.metrics.accuracy, threshold=0.5))'
            )
        if np.any((scores < 0) | (scores > 1)):
            raise TrainingError(
                "predictions outside [0, 1] are no probabilities: give the output after the sigmoid, "
                'or a threshold: ge.Metric("accuracy", functools.partial(ge.metrics.accuracy, threshold=0))'
            )
        threshold = 0.5
    _check_labels(labels)
    return np.where(np.isnan(scores), np.nan, scores > threshold), labels


def _check_labels(labels: Array) -> None:
    if labels.dtype.kind == "f" and np.any(labels != np.round(labels)):
        raise TrainingError("targets are not classes: integers are needed, or -1 and 1, or one-hot rows")


check_public(globals(), __all__)
_NAMED: dict[str, Measure] = {
    function.__name__: function for function in (accuracy, mean_squared_error, mean_absolute_error)
}
