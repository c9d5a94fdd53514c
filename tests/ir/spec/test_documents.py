"""Documents of every version, kept as they were written, are read forever and compute what they computed then.

Beside NAME.json stands NAME.npz: feeds, the outputs' values, the gradients, and the leaves after two steps. A new
version gets a folder of its own; no file is ever changed.
"""

import pathlib

import numpy as np
import pytest

import graphengine as ge
from graphengine.compile import installed_backends
from graphengine.ir.spec.document import VERSION

FOLDER = pathlib.Path(__file__).parents[2] / "documents"
DOCUMENTS = sorted(FOLDER.glob("*/*.json"))
DIGESTS = {
    "counter": "fe8d06a933446fd49d1364d5b6ebfaa77927054af9b1603150d3a3c8de5a84a3",
    "dense": "7bca935e08cd900235474379dcc3f407565db0bf53c6a51d074b1599abef21a5",
    "images": "cd841932319a70b8a9cc63cff605d18b60db536351f9c5a8ace6de861953df6e",
    "ops": "87f54c5056b99c414355654f14d15bf1ba54b6f4292f3966916a788cc3c8dc17",
    "sequences": "ba8b4efcb0511621324c533df44b2401c7b361b957de5143cf844146580e6f3a",
}


def close(actual: dict[str, np.ndarray], stored: dict[str, np.ndarray], what: str) -> None:
    expected = {name.partition("/")[2]: value for name, value in stored.items() if name.startswith(f"{what}/")}
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert (actual[name].shape, actual[name].dtype) == (value.shape, value.dtype), name
        tolerance = 1e-9 if value.dtype == np.float64 else 2e-4  # other processors round otherwise
        np.testing.assert_allclose(actual[name], value, tolerance, tolerance, err_msg=name)


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_a_document_of_any_version_computes_what_it_did(path: pathlib.Path, backend: str) -> None:
    graph = ge.load(path)
    stored = dict(np.load(path.with_suffix(".npz")))
    feeds = {name.partition("/")[2]: value for name, value in stored.items() if name.startswith("feeds/")}
    loss, optimizer = (graph.training.loss, graph.training.optimizer) if graph.training else (None, None)
    exe = ge.compile(graph, loss=loss, optimizer=optimizer, backend=backend, seed=3)
    close(exe.forward(feeds), stored, "values")
    if loss:
        close(exe.backward(), stored, "gradients")
        exe.step(feeds)
        exe.step(feeds)
        close({**exe.parameters, **exe.state}, stored, "after")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_a_document_of_any_version_has_the_hash_that_it_had(path: pathlib.Path) -> None:
    """Of documents of the current version the text is the same, too."""
    graph = ge.load(path)
    assert graph.hash() == DIGESTS[path.stem]
    if path.parent.name == str(VERSION):
        assert graph.to_json() == path.read_text()


def test_the_current_version_has_documents() -> None:
    assert (FOLDER / str(VERSION)).is_dir()
