"""Text, character by character: that of Python's own language reference, which every Python has with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphengine.errors import TrainingError
from graphengine.ir.types import Array


@dataclass(frozen=True, slots=True)
class Alphabet:
    """Characters by number: number 0 is any character that is not among `characters`, whose numbers begin at 1."""

    characters: str

    @staticmethod
    def of(text: str) -> Alphabet:
        """The characters that occur in `text`, in the order of their code points."""
        return Alphabet("".join(sorted(set(text))))

    def __len__(self) -> int:
        return len(self.characters) + 1

    def encode(self, text: str) -> Array:
        """The numbers of the characters of `text`, int64."""
        numbers = {character: number for number, character in enumerate(self.characters, 1)}
        return np.fromiter((numbers.get(character, 0) for character in text), np.int64, len(text))

    def decode(self, numbers: Sequence[int] | Array) -> str:
        """The text of these numbers, with U+FFFD for 0."""
        return "".join(f"\N{REPLACEMENT CHARACTER}{self.characters}"[number] for number in numbers)


def python_topics(held_out: float = 0.1) -> tuple[str, str]:
    """The topics of Python's `help()`, one after another by name: the text to train on, and the last part, held out.

    The text is that of the Python that runs, so it differs a little between versions of Python.

    held_out: the fraction held out. Raises TrainingError if this Python has no such text. It returns (train, held out).
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise TrainingError("this Python comes without pydoc_data.topics, the text behind its help()") from None
    text = "\n".join(topics[name] for name in sorted(topics))
    cut = len(text) - round(len(text) * held_out)
    return text[:cut], text[cut:]


def windows(numbers: Array, length: int, stride: int | None = None) -> dict[str, Array]:
    """Windows of a text, and what follows each character: returns `characters` and `next`, int64[n, length].

    A window starts every `stride` characters, by default every `length`; a rest that does not fill one is dropped.
    Raises TrainingError if the text is shorter than one window.
    """
    if len(numbers) <= length:
        raise TrainingError(
            f"a text of {len(numbers)} characters has no window of {length} with the character that follows"
        )
    starts = np.arange(0, len(numbers) - length, stride or length)
    indices = starts[:, None] + np.arange(length)
    return {"characters": numbers[indices], "next": numbers[indices + 1]}
