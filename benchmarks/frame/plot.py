"""A picture of results, as data: what `draw` needs to know of it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Dots", "Lines", "Panels", "Plot", "Points", "Series"]

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one peer, in order of x."""

    name: str
    points: Points
    scaled: frozenset[float] = frozenset()
    """The x of those that were not measured whole, but scaled from a part; they are drawn hollow."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Series over a size, both axes logarithmic."""

    name: str
    """That of the file, without its suffix."""
    title: str
    x: str
    """The axis' label, with the unit."""
    y: str
    series: tuple[Series, ...]
    unit: str = ""
    """That of y, "s" or "B", to which prefixes are set; none for a number."""
    limit: tuple[str, float] | None = None
    """A height that is a stated goal, with its name."""


@dataclass(frozen=True, slots=True)
class Dots:
    """Peers side by side on every row, along one logarithmic axis."""

    name: str
    title: str
    x: str
    rows: tuple[str, ...]
    peers: dict[str, dict[str, float]]
    """For every peer its value on every row that it has."""
    unit: str = ""
    """That of x, "s" or "B"."""


@dataclass(frozen=True, slots=True)
class Panels:
    """Several figures of the same series side by side, under one title and with one legend."""

    name: str
    title: str
    panels: tuple[Lines, ...]


Plot = Lines | Dots | Panels
