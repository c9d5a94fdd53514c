"""What a user feeds: arrays held to the types of inputs, and the sizes that they give named dims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from graphengine.errors import FeedError
from graphengine.ir import leaf
from graphengine.ir.array import as_array, fitted
from graphengine.ir.dims import MAX_SIZE
from graphengine.ir.graph import Graph
from graphengine.ir.names import did_you_mean
from graphengine.ir.types import Array, ValueType
from graphengine.wording import shown

Feeds = Mapping[str, npt.ArrayLike]


def checked_feeds(graph: Graph, needs: Mapping[str, ValueType], feeds: Feeds) -> dict[str, Array]:
    """The feeds as arrays of the types in `needs`, in their order; raises FeedError for what does not fit."""
    if not isinstance(feeds, Mapping):
        raise FeedError(no_dict("feeds", needs, feeds))
    for name in feeds:
        if name not in needs and not (name in graph and isinstance(graph[name].op, leaf.Input)):
            known = [node.name for node in graph.inputs]
            raise FeedError(f"no input {shown(name)}{did_you_mean(getattr(name, 'name', name), known)}")
    arrays = {}
    for name, type_ in needs.items():
        if name not in feeds:
            raise FeedError(f"input {name!r} is not fed; it is {type_}, declared at {graph[name].where}")
        try:
            array = as_array(feeds[name])
        except ValueError as error:
            raise FeedError(f"input {name!r} is fed with {error}") from None
        if array.dtype != type_.dtype and not np.can_cast(array.dtype, type_.dtype, "same_kind"):
            remedy = _remedy(array, type_) or f"; feed array.astype({type_.dtype!r}) if that is meant"
            raise FeedError(
                f"input {name!r} is {type_}, and {array.dtype} is not cast to {type_.dtype} in silence{remedy}"
            )
        try:
            arrays[name] = fitted(array, type_.dtype)
        except ValueError as error:
            raise FeedError(f"input {name!r} is {type_}, and {error}") from None
    return arrays


def no_dict(what: str, inputs: Iterable[str], given: object, instead: str = "") -> str:
    """The message about data that are not a dict of arrays, nor what else there may be `instead`."""
    named = ", ".join(f"{name!r}: ..." for name in inputs)
    return f"{what} must be a dict of arrays by the names of inputs, {{{named}}}{instead}, and not {shown(given)}"


def _remedy(array: Array, type_: ValueType) -> str:
    """What to feed instead of an array with an axis too many or too few; "" if it does not show."""
    shape, wanted = array.shape, type_.shape

    def fit(sizes: tuple[int, ...]) -> bool:
        return all(isinstance(dim, str) or dim == size for size, dim in zip(sizes, wanted, strict=True))

    if len(shape) == len(wanted) + 1 and fit(shape[:-1]):
        if shape[-1] == 1:
            return "; feed array[..., 0]"
        if not type_.is_float:
            return "; if these are one-hot labels, feed array.argmax(-1)"
    if len(shape) == len(wanted) - 1:
        if fit((*shape, 1)) and wanted[-1] == 1:
            return "; feed array[..., None]"
        if fit((1, *shape)):
            return "; feed array[None] for one example"
    return ""


def check_size(name: str, size: object) -> None:
    """Raise FeedError unless `size` can be that of the named dim `name`."""
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MAX_SIZE:
        raise FeedError(f"{name} = {shown(size)}: the size of a dim is an int from 1 to {MAX_SIZE}")


def sizes_of(arrays: Mapping[str, Array], types: Mapping[str, ValueType]) -> dict[str, int]:
    """The size of every named dim, from the shapes of the feeds; raises FeedError where rank or sizes do not fit."""
    sizes: dict[str, int] = {}
    seen: dict[str, str] = {}
    for name, type_ in types.items():
        shape = arrays[name].shape
        if len(shape) != type_.ndim:
            remedy = _remedy(arrays[name], type_)
            raise FeedError(
                f"input {name!r} is {type_}, of rank {type_.ndim}, and the feed has shape {list(shape)}{remedy}"
            )
        for dim, size in zip(type_.shape, shape, strict=True):
            if isinstance(dim, int):
                if size != dim:
                    raise FeedError(f"input {name!r} is {type_}, and the feed has shape {list(shape)}")
            elif size == 0:
                raise FeedError(f"input {name!r} is {type_}, and its {dim} is fed with size 0")
            elif sizes.setdefault(dim, size) != size:
                other = f"{seen[dim]!r} with {dim} = {sizes[dim]}"
                raise FeedError(f"input {name!r} is {type_} and is fed with {dim} = {size}, but {other}")
            else:
                seen.setdefault(dim, name)
    return sizes
