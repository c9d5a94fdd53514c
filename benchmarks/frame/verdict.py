"""A goal that was stated, and what was measured of it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Verdict"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether `value` is at least, or at most, `bound`. A value of None was asked for and could not be measured."""

    goal: str
    """In words, as it was stated: "numba at least as fast as the best peer"."""
    subject: str
    """What it was judged on: a row, or "all rows"."""
    value: float | None
    bound: float
    at_least: bool
    unit: str = "x"
    """What stands behind the numbers."""
    why: str = ""
    """Why there is no value."""

    @property
    def met(self) -> bool:
        """Whether the goal is reached; what could not be measured is not."""
        if self.value is None:
            return False
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        bound = f"{'at least' if self.at_least else 'at most'} {self.bound:g}{self.unit}"
        value = f"not measured: {self.why}" if self.value is None else f"{self.value:.3g}{self.unit}"
        return f"{self.subject}: {self.goal}: {value} ({bound})"
