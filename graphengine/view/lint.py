"""What can be proved about a graph that its author may not have meant. Nothing is run, and nothing is guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Input, Parameter, State
from graphengine.ir.node import Node, Phase
from graphengine.ir.op import GetItem, Op
from graphengine.ir.subgraph import needed_nodes
from graphengine.ops.activation import LogSoftmax, Sigmoid, Softmax
from graphengine.ops.broadcast import Reshape
from graphengine.ops.elementwise import Add
from graphengine.ops.loss import BinaryCrossEntropy, CrossEntropy
from graphengine.ops.norm import BatchStatistic, Normalize
from graphengine.transform.adjoint import differentiate, unreached
from graphengine.transform.linear_chains import Chain, linear_chains, worth_merging


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, by which rule, at which node, and where that was declared."""

    rule: str
    node: str
    message: str
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.rule}: {self.message}"


def lint(graph: Graph) -> list[Finding]:
    """What is provably odd in `graph`, in order of the nodes.

    - linear-chain: two or more matrices in a row are one linear map, of a rank that the minimum size on the way bounds.
    - no-gradient: a trainable parameter that no gradient of the loss reaches. The loss is that of the training section,
      or else the output of this name.
    - unused: an input, a parameter, a state or a result that no output and no update depends on.
    - repeated: a node that computes what another one computes.
    - squashed-twice: a probability, where the operand is taken for a logit and made a probability again.
    - idle-bias: a bias right before a batch normalization, which subtracts it again.
    """
    needed = set(needed_nodes([*graph.outputs.values(), *graph.updates.values()]))
    found = [(node, rule, message) for rule, check in _RULES.items() for node, message in check(graph, needed)]
    found.sort(key=lambda item: item[0].index)
    return [Finding(rule, node.name, message, str(node.where)) for node, rule, message in found]


Found = Iterator[tuple[Node, str]]


def _linear_chains(graph: Graph, _: set[Node]) -> Found:
    collapsible = set(linear_chains(graph))
    for chain in linear_chains(graph, shared=True):
        if len(chain.matrices) > 1:
            read = "ge.collapse keeps a value between them, which is read elsewhere too"
            yield chain.last, f"{_chain_text(chain)}; {_cost_text(chain) if chain in collapsible else read}"


def _chain_text(chain: Chain) -> str:
    units = [chain.sizes[0], *(link.node.shape[chain.axis] for link in chain.matrices)]
    names = ", ".join(_ends([link.node.name for link in chain.matrices]))
    path = " -> ".join(_ends([str(size) for size in units]))
    return f"{names} ({path}) have no nonlinearity between them: one linear map, of rank at most {min(chain.sizes)}"


def _ends(texts: list[str]) -> list[str]:
    """All of a few, the ends of many."""
    return texts if len(texts) <= 8 else [*texts[:3], "...", *texts[-3:]]


def _cost_text(chain: Chain) -> str:
    saved = sum(part.flops - part.merged_flops for part in worth_merging(chain))
    if not saved:
        return f"as one it would take {chain.merged_flops:,} FLOPs an example instead of {chain.flops:,}"
    return f"ge.collapse computes it with {chain.flops - saved:,} FLOPs an example instead of {chain.flops:,}"


def _no_gradient(graph: Graph, needed: set[Node]) -> Found:
    name = graph.training.loss if graph.training else "loss"
    loss = graph.outputs.get(name)
    trained = [node for node in graph.parameters if isinstance(node.op, Parameter) and node.op.trainable]
    if loss is None or not loss.type.is_float or loss.shape != ():
        return
    twin = graph.copy()  # the adjoints are emitted, and thrown away
    leaves = [twin.nodes[node.index] for node in trained]
    reasons = unreached(differentiate(twin.nodes[loss.index], leaves), leaves)
    for node in trained:
        if node.name in reasons and node in needed:
            yield node, f"no gradient of {name!r} reaches {node.name}: {reasons[node.name]}"


def _unused(graph: Graph, needed: set[Node]) -> Found:
    read = {parent for node in graph.nodes for parent in node.parents}
    sizes = {dim for node in needed for dim in node.dim_names()}
    sizes -= {dim for node in needed if isinstance(node.op, Input) for dim in node.type.names()}
    for node in graph.nodes:
        if node in needed or (isinstance(node.op, Input) and node.type.names() & sizes):
            continue
        is_end = node not in read and not isinstance(node.op, GetItem)  # items come all at once, wanted or not
        if is_end or isinstance(node.op, Input | Parameter | State):
            yield node, f"no output depends on {node.name} = {node.op.kind}(...)"


def _repeated(graph: Graph, needed: set[Node]) -> Found:
    first: dict[tuple[object, ...], Node] = {}
    for node in graph.nodes:
        if node not in needed or node.is_leaf or node.op.is_view or node.phase is not Phase.FORWARD:
            continue
        other = first.setdefault((node.op.kind, repr(node.op.attributes()), node.parents), node)
        if other is not node:
            yield node, f"{node.name} computes what {other.name}, declared at {other.where}, computes"


def _squashed_twice(graph: Graph, needed: set[Node]) -> Found:
    twice: dict[type[Op], tuple[type[Op], ...]] = {
        CrossEntropy: (Softmax, LogSoftmax),
        BinaryCrossEntropy: (Sigmoid,),
    }
    for node in graph.nodes:
        before = node.parents[0] if node in needed and node.parents else node
        if isinstance(before.op, twice.get(type(node.op), ())):
            kind = node.op.kind
            yield node, f"{kind} takes logits, and {before.name} is a {before.op.kind} of them: {kind}(logits) is meant"


def _idle_bias(graph: Graph, needed: set[Node]) -> Found:
    readers: dict[Node, set[Node]] = {}
    for node in needed:
        for parent in node.parents:
            readers.setdefault(parent, set()).add(node)
    for node in graph.nodes:
        if isinstance(node.op, Normalize) and node in needed:
            for bias in _shifts(node, readers, graph):
                yield bias, f"{bias.name} is added right before {node.name}, a batch normalization, which subtracts it"


def _shifts(norm: Node, readers: dict[Node, set[Node]], graph: Graph) -> list[Node]:
    """The parameters that are added to what `norm` normalizes, the same number throughout each channel."""
    value, mean, variance = norm.parents[:3]
    statistics = [_unshaped(node) for node in (mean, variance)]
    if not isinstance(value.op, Add) or not all(isinstance(node.op, BatchStatistic) for node in statistics):
        return []
    known = {norm, *(node.parents[0] for node in statistics)}
    if readers[value] != known or value in graph.outputs.values():
        return []
    return [_unshaped(node) for node in value.parents if _is_constant_along(node, mean)]


def _is_constant_along(bias: Node, mean: Node) -> bool:
    """Whether `bias` is a parameter with one number, or none, for each number of `mean`."""
    fits = all(dim in (1, other) for dim, other in zip(bias.shape[::-1], mean.shape[::-1], strict=False))
    return isinstance(_unshaped(bias).op, Parameter) and bias.ndim <= mean.ndim and fits


def _unshaped(node: Node) -> Node:
    return node.parents[0] if isinstance(node.op, Reshape) else node


_RULES: dict[str, Callable[[Graph, set[Node]], Found]] = {
    "linear-chain": _linear_chains,
    "no-gradient": _no_gradient,
    "unused": _unused,
    "repeated": _repeated,
    "squashed-twice": _squashed_twice,
    "idle-bias": _idle_bias,
}
