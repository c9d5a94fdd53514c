"""A target for atheris, which the extra `fuzz` installs: `python -m tests.hostile.fuzz -runs=10000 -seed=1`.

atheris changes the bytes of documents by what the code of the loader does with them, which it sees as it runs.
"""

import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["graphengine.ir"]):
    import graphengine as ge

from tests.hostile.mutations import documents


def load(content: bytes) -> None:
    """Read a document; what is not an error of graphengine ends the run."""
    try:
        ge.Graph.from_json(content)
    except ge.GraphEngineError as error:
        str(error)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as corpus:
        for number, document in enumerate(documents()):
            Path(corpus, str(number)).write_text(json.dumps(document))
        atheris.Setup([*sys.argv, corpus], load)
        atheris.Fuzz()
