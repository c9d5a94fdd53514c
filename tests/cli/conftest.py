"""A small classifier, its document, its data and its weights, in a folder of their own."""

from pathlib import Path

import numpy as np
import pytest

import graphengine as ge
from graphengine.ir.training import Training
from tests.arrays import f64

CENTRES = np.array([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])


def classifier() -> ge.Graph:
    g = ge.Graph("classifier")
    x, label = g.input("x", ("batch", 3)), g.input("label", ("batch",), dtype="int64")
    logits = ge.add(x @ g.parameter("w", (3, 2)), g.parameter("b", (2,)), name="logits")
    g.output("logits", logits)
    g.output("loss", ge.cross_entropy(logits, label))
    g.training = Training(loss="loss", optimizer=ge.SGD(learning_rate=0.5), batch_size=8, epochs=5)
    return g


def examples(n: int = 40) -> dict[str, np.ndarray]:
    label = np.arange(n) % 2
    return {"x": CENTRES[label] + 0.1 * f64(n, 3), "label": label}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds net.json, data.npz and weights.safetensors, those of an untrained network."""
    graph = classifier()
    graph.save(tmp_path / "net.json")
    np.savez(tmp_path / "data.npz", **examples())
    ge.save_parameters(ge.compile(graph, seed=3), tmp_path / "weights.safetensors")
    return tmp_path
