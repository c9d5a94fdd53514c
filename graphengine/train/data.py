"""Where batches come from: arrays cut along their first axis, or a stream that comes in batches already."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from graphengine.errors import TrainingError
from graphengine.feeds import no_dict
from graphengine.ir.array import as_array
from graphengine.ir.graph import Graph
from graphengine.ir.types import Array, TensorType, ValueType
from graphengine.wording import shown

Feeds = Mapping[str, npt.ArrayLike]
Data = Feeds | Iterable[Feeds]
"""Arrays by name, their first axes as long as there are examples; or an iterable of such mappings, a batch each."""

Batch = tuple[dict[str, Array], int]
"""Feeds by name, and of how many examples they are."""


@dataclass(frozen=True, slots=True)
class Arrays(Mapping[str, Array]):
    """All examples, held in memory: `split` arrays have one row an example, `whole` ones go into every batch."""

    split: dict[str, Array]
    whole: dict[str, Array] = field(default_factory=dict)
    rows: Array | None = None
    """Which rows of the user's data the examples are; None for all, as they come."""

    def __getitem__(self, name: str) -> Array:
        return self.split[name] if name in self.split else self.whole[name]

    def __iter__(self) -> Iterator[str]:
        return chain(self.split, self.whole)

    def __len__(self) -> int:
        return len(self.split) + len(self.whole)

    @property
    def names(self) -> Collection[str]:
        """The names of the arrays."""
        return tuple(self)

    @property
    def examples(self) -> int | None:
        """How many there are; None if no array has an axis of examples."""
        return next((len(array) for array in self.split.values()), None)

    def batches(self, names: Collection[str], size: int | None = None, order: Array | None = None) -> Iterator[Batch]:
        """The arrays of `names` in batches of `size` examples, all at once for None; the last batch may be shorter.

        With `order`, row numbers, examples come in that order, and the arrays of a batch are overwritten by the next.
        """
        whole = {name: array for name, array in self.whole.items() if name in names}
        split = {name: array for name, array in self.split.items() if name in names}
        total = self.examples
        if total is None or not split:
            yield whole, total or 1
        elif order is None:
            size = size or total
            for start in range(0, total, size):
                rows = {name: array[start : start + size] for name, array in split.items()}
                yield {**rows, **whole}, min(size, total - start)
        else:
            yield from _gathered(split, whole, min(size or total, total), order)

    def take(self, rows: Array) -> Arrays:
        """The examples of these row numbers, copied."""
        split = {name: array[rows] for name, array in self.split.items()}
        return Arrays(split, self.whole, rows if self.rows is None else self.rows[rows])

    def where(self, name: str, index: Sequence[int], start: int, order: Array | None = None) -> str:
        """What the element `index` of an array in the batch that begins at example `start` is in the user's data."""
        if name in self.whole:
            return f"{name!r} at {list(index)}"
        row = start + index[0]
        for rows in (order, self.rows):
            row = int(rows[row]) if rows is not None else row
        return f"{name!r} at {[row, *index[1:]]}"


@dataclass(frozen=True, slots=True)
class Stream:
    """Batches that come from elsewhere, in the sizes and in the order in which they come."""

    feeds: Iterable[Feeds]
    graph: Graph
    examples: None = None
    """Not known before they have all come."""

    @property
    def names(self) -> Collection[str]:
        """The names of the arrays that a batch may have."""
        return [node.name for node in self.graph.inputs]

    def batches(self, names: Collection[str], size: int | None = None, order: Array | None = None) -> Iterator[Batch]:
        """The arrays of `names`, batch by batch."""
        for number, feeds in enumerate(self.feeds, 1):
            _check_batch(self.graph, feeds, number)
            yield from _as_arrays(self.graph, feeds).batches(names)

    def where(self, name: str, index: Sequence[int], start: int, order: Array | None = None) -> str:
        """What the element `index` of an array in a batch is, behind `start` examples."""
        return f"{name!r} at {list(index)} of the batch after example {start}"

    @property
    def once(self) -> bool:
        """Whether the batches can be had only once, as those of a generator."""
        return iter(self.feeds) is self.feeds


Source = Arrays | Stream


def as_source(graph: Graph, data: Data) -> Source:
    """`data` as a source of batches for `graph`; raises TrainingError where arrays do not fit each other."""
    if isinstance(data, Mapping):
        return _as_arrays(graph, data, data.rows if isinstance(data, Arrays) else None)
    if (
        not isinstance(data, Iterable) or isinstance(data, str | bytes | Set) or hasattr(data, "__array__")
    ):  # a table, say
        raise _no_data(graph, data)
    if isinstance(data, Sequence):  # all of it can be looked at before the first step
        if data and not isinstance(data[0], Mapping):
            raise _no_data(graph, data)
        for number, feeds in enumerate(data, 1):
            _check_batch(graph, feeds, number)
    return Stream(data, graph)


def _no_data(graph: Graph, data: object) -> TrainingError:
    names = [node.name for node in graph.inputs]
    return TrainingError(no_dict("data", names, data, ", or an iterable of such dicts, a batch each"))


def _check_batch(graph: Graph, feeds: object, number: int) -> None:
    if not isinstance(feeds, Mapping):
        raise TrainingError(no_dict(f"batch {number}", [node.name for node in graph.inputs], feeds))


def batch_axis(graph: Graph) -> str | None:
    """The name of the axis of examples: "batch" if an input's first axis is so named, else the first so placed name."""
    names = [node.shape[0] for node in graph.inputs if node.shape and isinstance(node.shape[0], str)]
    return "batch" if "batch" in names else names[0] if names else None


def has_examples(type_: ValueType, axis: str | None) -> bool:
    """Whether a value of this type has one row an example, and rows that do not depend on how many there are."""
    return bool(type_.shape) and type_.shape[0] == axis and axis not in TensorType(type_.shape[1:], "bool").names()


def _as_arrays(graph: Graph, data: Feeds, rows: Array | None = None) -> Arrays:
    """Inputs are split if their first axis is the axis of examples; what is no input, such as targets, is split too."""
    axis = batch_axis(graph)
    fed_whole = {node.name for node in graph.inputs if node.shape[:1] != (axis,)}
    arrays = Arrays({}, {}, rows)
    for name, value in data.items():
        try:
            array = as_array(value)
        except ValueError as error:
            raise TrainingError(f"array {name!r} is given {error}") from None
        if array.dtype.kind == "O":
            dense = "; of a sparse matrix give .toarray()" if hasattr(value, "toarray") else ""
            raise TrainingError(f"array {name!r} is {shown(value)}, and an array of numbers is needed{dense}")
        if axis is None or name in fed_whole:
            arrays.whole[name] = array
        elif array.ndim == 0:
            raise TrainingError(f"array {name!r} needs a first axis with one row an example, and is a single number")
        else:
            arrays.split[name] = np.ascontiguousarray(array)  # np.take copies any other array whole, at every call
    lengths = {len(array) for array in arrays.split.values()}
    if len(lengths) > 1:
        said = ", ".join(f"{name!r} has {len(array)}" for name, array in arrays.split.items())
        raise TrainingError(f"arrays differ in their number of examples (the first axis): {said}")
    if lengths == {0}:
        raise TrainingError(f"there are no examples: the first axis of {', '.join(map(repr, arrays.split))} has size 0")
    return arrays


def _gathered(split: dict[str, Array], whole: dict[str, Array], size: int, order: Array) -> Iterator[Batch]:
    buffers = {name: np.empty((size, *array.shape[1:]), array.dtype) for name, array in split.items()}
    feeds = {**buffers, **whole}
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        if len(rows) < size:
            buffers = {name: buffer[: len(rows)] for name, buffer in buffers.items()}
            feeds = {**buffers, **whole}
        for name, array in split.items():
            # The mode "raise" would gather into a second array.
            np.take(array, rows, axis=0, out=buffers[name], mode="clip")
        yield feeds, len(rows)


def generator(seed: int, epoch: int) -> np.random.Generator:
    """The random numbers of an epoch, counted from 1; 0 is for what is drawn before the first."""
    return np.random.default_rng([seed, epoch])


def split_off(data: Arrays, fraction: float, seed: int) -> tuple[Arrays, Arrays]:
    """`data` permuted once, cut into a first part and a last one that holds `fraction` of the examples."""
    if data.examples is None:
        raise TrainingError("a fraction to hold out needs inputs whose first axis, that of the examples, has a name")
    held_out = round(data.examples * fraction)
    if not 0 < held_out < data.examples:
        raise TrainingError(f"a fraction of {fraction} of {data.examples} examples leaves no examples on one side")
    rows: npt.NDArray[Any] = generator(seed, 0).permutation(data.examples)
    return data.take(rows[:-held_out]), data.take(rows[-held_out:])
