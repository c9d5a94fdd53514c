"""The pictures of the guides, drawn again from the code that the pages show.

    python -m benchmarks.guides [backpropagation] [representation] [training] [generalization]

Without a name, all of them are drawn; it takes some minutes.
"""

from __future__ import annotations

import sys

from benchmarks.guides import backpropagation, generalization, representation, style, training

PAGES = {
    "backpropagation": backpropagation,
    "representation": representation,
    "training": training,
    "generalization": generalization,
}

if __name__ == "__main__":
    style.setup()
    for page in sys.argv[1:] or PAGES:
        for name, figure in PAGES[page].figures(style.names_of(page)):
            style.save(figure, name)
            print(f"docs/guides/{name}.png")
