"""Numbers in words, alike in all tables."""

from __future__ import annotations

from benchmarks.frame.result import Result

__all__ = ["ABSENT", "bytes_text", "conditions", "missing_notes", "ratio_text", "seconds_text"]

ABSENT = "-"
"""Where there is no number."""


def seconds_text(seconds: float | None) -> str:
    """Three digits, in the unit that suits them."""
    if seconds is None:
        return ABSENT
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{_digits(seconds / size)} {unit}"
    return f"{_digits(seconds / 1e-6)} us"


def bytes_text(count: float | None) -> str:
    """Three digits and the unit: powers of ten, as memory is sold."""
    if count is None:
        return ABSENT
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= size:
            return f"{_digits(count / size)} {unit}"
    return f"{count:.0f} B"


def ratio_text(ratio: float | None) -> str:
    """How many times."""
    return ABSENT if ratio is None else f"{_digits(ratio)}x"


def conditions(result: Result) -> list[str]:
    """On what machine, when, and by which versions, a sentence each."""
    machine = result.machine
    threads = "every engine with its own number of threads" if result.threads is None else f"{result.threads} core(s)"
    busy = f"; {result.busy} other process(es) that compute without end" if result.busy else ""
    lines = [
        f"{result.day}, {machine.processor}, {machine.cores} cores, {bytes_text(machine.memory_bytes)} of memory, "
        f"{machine.system}{busy}; {threads}{f'; {result.seconds:g} s for a peer and row' if result.seconds else ''}."
    ]
    for peer, facts in result.peers.items():
        if not facts.missing:
            versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
            with_threads = f", {facts.threads} threads" if facts.threads else ""
            lines.append(f"{peer}: {versions}{f', {facts.blas}' if facts.blas else ''}{with_threads}.")
    return lines + missing_notes(result)


def missing_notes(result: Result) -> list[str]:
    """Who was not measured, and what could not be, with the reasons."""
    absent = [f"{peer} was not measured: {facts.missing}." for peer, facts in result.peers.items() if facts.missing]
    failed = [f"{entry.row}, {entry.peer}: {entry.note}." for entry in result.records if entry.note]
    return list(dict.fromkeys(absent + failed))


def _digits(number: float) -> str:
    """Three of them, and no exponent."""
    if number >= 99.95:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"
