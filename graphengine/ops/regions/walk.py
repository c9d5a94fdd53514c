"""The walk over a space: its loops, cut so that threads share them and sums stay accurate."""

from __future__ import annotations

from dataclasses import dataclass

from graphengine.ops.regions.lines import Loop, Steps
from graphengine.ops.regions.nest import Nest, Strides

__all__ = ["BLOCK", "Walk"]

BLOCK = 1024
"""How many elements are added up in registers before they are added to a total."""

FEW = 16
"""Of fewer lines than these, threads share the elements of each rather than the lines, if these are long."""


@dataclass(frozen=True, slots=True)
class Walk:
    """A nest of loops over a space. `reduced` are the strides of the results that are reductions.

    With `pieces`, the outermost loop is cut into so many; `rows` says how far each array moves on from one to the next.
    """

    nest: Nest
    reduced: tuple[Strides, ...]
    pieces: int
    rows: tuple[int, ...]

    @property
    def blocks(self) -> int:
        """The number of blocks of the innermost loop (of a piece of it); 0 if none reduces it, or it is short."""
        if not self.nest.sizes or all(strides[-1] for strides in self.reduced):
            return 0
        size = self.nest.sizes[-1]
        if self.pieces and len(self.nest.sizes) == 1:
            size = -(-size // self.pieces)
        return -(-size // BLOCK) if size > BLOCK else 0

    @property
    def shared(self) -> int | None:
        """Which of the loops threads share: one that all reductions keep, the outermost or the innermost."""
        sizes = self.nest.sizes
        ends = (0, len(sizes) - 1) if sizes and not self.pieces else ()
        kept = [loop for loop in ends if all(strides[loop] for strides in self.reduced)]
        if kept and kept[-1] == len(sizes) - 1 and sizes[0] < FEW and sizes[-1] >= BLOCK:
            return kept[-1]
        return kept[0] if kept else None

    def loops(self) -> list[Loop]:
        """The loops as text, those over pieces and over blocks among them."""
        loops = [Loop("piece", "share(pieces, rank, ranks)", None)] if self.pieces else []
        for number in range(len(self.nest.sizes)):
            whole = f"share(n{number}, rank, ranks)" if number == self.shared else f"range(n{number})"
            part = ("piece", "pieces") if self.pieces and number == 0 else None
            if self.blocks and number == len(self.nest.sizes) - 1:
                loops.append(Loop("block", "range(blocks)", None))
                part = ("piece * blocks + block", "pieces * blocks") if part else ("block", "blocks")
            loops.append(Loop(f"i{number}", f"share(n{number}, {', '.join(part)})" if part else whole, whole))
        return loops

    def kept(self, strides: Strides) -> tuple[bool, ...]:
        """Along which of the loops a result moves: for every piece it has a place of its own."""
        return tuple([bool(step) for step in self._along(strides, 1, strides[-1:])])

    def steps(self) -> tuple[list[Steps], dict[str, int]]:
        """The strides of every array along the loops, by name; and the sizes and strides that a kernel is given."""
        given = {f"n{number}": size for number, size in enumerate(self.nest.sizes)}
        given |= {name: count for name, count in (("pieces", self.pieces), ("blocks", self.blocks)) if count}
        names: dict[tuple[int, int], str] = {}

        def name(loop: int, stride: int) -> str:
            if stride in (0, 1):
                return str(stride)
            if (loop, stride) not in names:
                names[loop, stride] = f"s{len(names)}"
                given[names[loop, stride]] = stride
            return names[loop, stride]

        along = [self._along(strides, row, (0,)) for strides, row in zip(self.nest.strides, self.rows, strict=True)]
        return [tuple([name(loop, stride) for loop, stride in enumerate(strides)]) for strides in along], given

    def _along(self, strides: Strides, piece: int, block: Strides) -> Strides:
        """`strides`, and those from piece to piece and from block to block, if there are such loops."""
        pieces, blocks = (piece,) if self.pieces else (), block if self.blocks else ()
        return (*pieces, *strides[:-1], *blocks, *strides[-1:])
