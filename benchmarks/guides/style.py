"""What the pictures of the guides have in common: where their code is, how they look, where they go."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from benchmarks.frame.draw import STYLE

GUIDES = Path(__file__).parents[2] / "docs" / "guides"

# Okabe and Ito's colours, which all kinds of colour vision tell apart; dashes and markers say the same again.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (6, 1)), (0, (3, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY = "#777777"


def setup() -> None:
    """Sizes that can be read at the width of a page."""
    mpl.use("Agg")
    plt.rcParams.update({**STYLE, "lines.markersize": 4.5, "axes.axisbelow": "line"})


def line(place: int, *, marked: bool = False) -> dict[str, Any]:
    """How the line of this place among several looks."""
    marker = {"marker": MARKERS[place]} if marked else {}
    return {"color": COLOURS[place], "linestyle": DASHES[place], **marker}


def names_of(page: str) -> dict[str, Any]:
    """What the Python of a page defines: the pictures show what the page's own functions compute."""
    names: dict[str, Any] = {"__name__": page}
    code = re.findall(r"^```python\n(.*?)^```$", (GUIDES / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        for block in code:
            exec(compile(block, f"{page}.md", "exec"), names)
    return names


def save(figure: Figure, name: str) -> None:
    """Write the picture; without the version of what drew it, so that the same picture is the same file."""
    figure.savefig(GUIDES / f"{name}.png", metadata={"Software": None})
    plt.close(figure)
