"""The lines of a nest of loops: what stands ahead of each loop and behind it, and where arrays stand within it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Lines", "Loop", "Steps"]

Steps = tuple[str, ...]
"""The strides of an array along every loop: "0", "1", or the name of a parameter."""


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop: its variable, what that runs over, and what it would run over were it not cut into pieces.

    The latter is None for a loop over pieces.
    """

    variable: str
    span: str
    whole: str | None


class Lines:
    """The text of a nest of loops. A statement belongs to a depth: it stands inside so many of the loops."""

    def __init__(self, loops: Sequence[Loop]) -> None:
        self.loops = loops
        self.depth = len(loops)
        self._ahead: list[list[str]] = [[] for _ in range(self.depth + 1)]
        self._behind: list[list[str]] = [[] for _ in range(self.depth + 1)]
        self._offsets: dict[Steps, str] = {}

    def ahead(self, depth: int, *statements: str) -> None:
        """Add statements ahead of the loop at this depth."""
        self._ahead[depth].extend(statements)

    def behind(self, depth: int, *statements: str) -> None:
        """Add statements behind the loop at this depth."""
        self._behind[depth].extend(statements)

    def element(self, array: str, steps: Steps) -> str:
        """An element of the array where it is known: within as many loops as `reach` says."""
        return f"{array}[{self._offset(steps[: reach(steps)])}]"

    def sweep(self, steps: Steps, start: int, array: str, *forms: str) -> list[str]:
        """These statements along all loops from number `start` on that the array moves along.

        In a form, {} stands for the element.
        """
        inner = [number for number in range(start, len(steps)) if steps[number] != "0"]
        heads = [f"for {self.loops[number].variable} in {self.loops[number].whole}:" for number in inner]
        terms = [self._term(steps[: number + 1]) for number, step in enumerate(steps) if step != "0"]
        element = f"{array}[{' + '.join(terms) or 0}]"
        nested = ["    " * depth + head for depth, head in enumerate(heads)]
        return [*nested, *("    " * len(heads) + form.replace("{}", element) for form in forms)]

    def __iter__(self) -> Iterator[str]:
        for depth, loop in enumerate(self.loops):
            yield from _indented(depth, self._ahead[depth])
            yield from _indented(depth, [f"for {loop.variable} in {loop.span}:"])
        yield from _indented(self.depth, self._ahead[self.depth])
        for depth in reversed(range(self.depth + 1)):
            yield from _indented(depth, self._behind[depth])

    def _offset(self, steps: Steps) -> str:
        """Where an array of these steps stands; the share of the outer loops is computed there, once for all arrays."""
        outer = steps[: reach(steps[:-1])]
        term = self._term(steps)
        return f"{self._outer_offset(outer)} + {term}" if outer else term

    def _outer_offset(self, steps: Steps) -> str:
        if steps not in self._offsets:
            form = self._offset(steps)
            if form.isidentifier():
                return form
            name = self._offsets[steps] = f"at{len(self._offsets)}"
            self.ahead(len(steps), f"{name} = {form}")
        return self._offsets[steps]

    def _term(self, steps: Steps) -> str:
        """What the last of these loops adds to where the array stands."""
        if not steps:
            return "0"
        variable = self.loops[len(steps) - 1].variable
        return variable if steps[-1] == "1" else f"{steps[-1]} * {variable}"


def reach(steps: Steps) -> int:
    """Within how many loops an element is found: all up to the last that the array moves along."""
    return max((depth for depth, step in enumerate(steps, 1) if step != "0"), default=0)


def _indented(depth: int, statements: Sequence[str]) -> list[str]:
    return ["    " * (depth + 1) + statement for statement in statements]
