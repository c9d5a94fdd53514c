"""Losses and regularizers as regions: sums of terms, each a function of the elements at one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from pydantic import Field

from graphengine.backends.native.kernel import kernel_of
from graphengine.backends.native.lowering.extremes import lengths
from graphengine.backends.native.lowering.reductions import Calls, joined, reduced
from graphengine.backends.native.lowering.registry import register_lowering
from graphengine.backends.native.lowering.softmax import cross_entropies
from graphengine.backends.native.vocabulary import share
from graphengine.ir.node import Node, Phase
from graphengine.ir.op import Op
from graphengine.ir.types import Array, check_axes
from graphengine.ops.loss import BinaryCrossEntropy, CrossEntropy, Loss, TermwiseLoss
from graphengine.ops.regularizer import GroupLasso, TermwiseRegularizer


class _Term(Op):
    """The term of a loss or of a regularizer as a pointwise op: what the sum is of."""

    of: Any = Field(exclude=True)

    def scalar(self, *operands: str) -> str:
        text: str = self.of.term(*operands)
        return text


@lru_cache(maxsize=1024)
def _term(op: Any) -> Callable[..., Node]:
    def node(*operands: Node) -> Node:
        term, first = _Term(kind=op.kind, of=op), operands[0]
        return first.graph.append(term, operands, first.type, "term", Phase.FORWARD, first.where, None)

    return node


def _mean(op: Loss, out: Array, operands: Sequence[Array], work: Array | None, value: Any = None) -> Calls:
    """The sums of terms, of all or of each example, over what the loss divides by."""
    kept = 1 if op.reduction == "none" else 0
    axes, divisor = range(kept, operands[0].ndim), op.divisor(operands[-1].shape)
    kind = "sum" if divisor == 1 else "mean"
    return reduced(kind, out, operands, axes, value=value, divisor=None if divisor == 1 else divisor, work=work)


@register_lowering(TermwiseLoss)
def _termwise_loss(op: TermwiseLoss, out: Array, *operands: Array, scratch: Sequence[Array]) -> Calls:
    return _mean(op, out, operands, scratch[0], _term(op))


@register_lowering(BinaryCrossEntropy)
def _binary_cross_entropy(op: Any, out: Array, *operands: Array, scratch: Sequence[Array]) -> Calls:
    targets = operands[1]
    if not targets.flags.c_contiguous:
        return None
    return joined(
        [(kernel_of(check_probabilities), (targets, targets.size))], _termwise_loss(op, out, *operands, scratch=scratch)
    )


@register_lowering(CrossEntropy)
def _cross_entropy(op: CrossEntropy, out: Array, *operands: Array, scratch: Sequence[Array]) -> Calls:
    (logits, labels), (terms, shifted, *_) = operands, scratch
    if not out.size:
        return []
    return joined(cross_entropies(terms, logits, labels, shifted), _mean(op, out, [terms], None))


@register_lowering(TermwiseRegularizer)
def _regularizer(op: Any, out: Array, *operands: Array, scratch: Sequence[Array]) -> Calls:
    return reduced("sum", out, operands, range(operands[0].ndim), value=_term(op), work=scratch[0])


@register_lowering(GroupLasso)
def _group_lasso(op: GroupLasso, out: Array, *operands: Array, scratch: Sequence[Array]) -> Calls:
    (w,), (work, norms, *_) = operands, scratch
    calls = lengths(norms, w, check_axes(op.axis, w.ndim))
    return joined(calls, reduced("sum", out, [norms], range(norms.ndim), work=work))


def check_probabilities(x: Array, n: int, fault: Array, rank: int, ranks: int) -> None:
    """Refuses what lies outside of [0, 1], and NaN."""
    for i in share(n, rank, ranks):
        if not (x[i] >= 0.0 and x[i] <= 1.0):
            fault[0] = 1
