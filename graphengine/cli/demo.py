"""What `graphengine demo` does: train the digits network, and measure what one gradient costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphengine.baselines import Comparison, compare
from graphengine.cli.files import write_arrays
from graphengine.compile import compile
from graphengine.data import Split, digits
from graphengine.errors import SpecError
from graphengine.executable import Executable
from graphengine.ir.graph import Graph
from graphengine.ir.training import Training
from graphengine.ir.types import Array
from graphengine.testing import in_float64
from graphengine.train.checkpoint import save_parameters
from graphengine.train.evaluate import predict
from graphengine.train.fit import fit
from graphengine.train.history import History
from graphengine.train.metrics import confusion_matrix
from graphengine.zoo.networks import digits_spec


@dataclass(frozen=True, slots=True)
class Demo:
    """The digits network, read from its document, and the digits."""

    graph: Graph
    training: Training
    data: Split

    @staticmethod
    def load(seed: int | None = None, epochs: int | None = None) -> Demo:
        """The demo as it ships, or with another seed or number of epochs."""
        graph = Graph.from_json(digits_spec())
        if graph.training is None:
            raise SpecError("digits.json has no training section")
        changes = {name: value for name, value in (("seed", seed), ("epochs", epochs)) if value is not None}
        return Demo(graph, graph.training.model_copy(update=changes), digits())

    def train(self) -> Outcome:
        """Train on the training part, and read the test part."""
        training = self.training
        exe = compile(self.graph, loss=training.loss, optimizer=training.optimizer, seed=training.seed)
        history = fit(
            exe,
            self.data.train,
            epochs=training.epochs,
            batch_size=training.batch_size,
            metrics="accuracy",
        )
        read = predict(exe, self.data.test, outputs=["prediction"])["prediction"]
        return Outcome(exe, history, read, self.data.test["label"])

    def compare(self) -> Comparison:
        """One gradient of one batch in all ways, at the first parameters; in float64, for the sake of differences."""
        batch = {name: array[: self.training.batch_size] for name, array in self.data.train.items()}
        return compare(in_float64(self.graph), self.training.loss, batch, seed=self.training.seed)

    def save(self, folder: Path, outcome: Outcome) -> None:
        """Write the document, the data and the trained weights, for the other commands to take up."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "digits.json").write_text(digits_spec(), encoding="utf-8")
        write_arrays(folder / "train.npz", self.data.train)
        write_arrays(folder / "test.npz", self.data.test)
        save_parameters(outcome.executable, folder / "digits.weights.safetensors")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trained network, how it was trained, and what it reads in the test part."""

    executable: Executable
    history: History
    read: Array
    labels: Array

    @property
    def test_accuracy(self) -> float:
        """The fraction of the test digits that are read rightly."""
        return float(np.mean(self.read == self.labels))

    @property
    def confusion(self) -> Array:
        """How many of each digit (a row) are read as each digit (a column)."""
        return confusion_matrix(self.read, self.labels, classes=10)

    def to_show(self, count: int) -> Array:
        """Rows of the test part to look at: up to half of them misread, the rest as they come."""
        wrong = np.flatnonzero(self.read != self.labels)[: count // 2]
        right = np.flatnonzero(self.read == self.labels)[: count - len(wrong)]
        return np.concatenate([right, wrong])


def as_dict(demo: Demo, outcome: Outcome, compared: Comparison) -> Mapping[str, Any]:
    """The one object that `--json` prints; times are in seconds."""
    others = compared.others
    differences = others["central differences"]
    return {
        "network": demo.graph.name,
        "parameters": compared.parameters,
        "seed": demo.training.seed,
        "epochs": len(outcome.history),
        "batch_size": demo.training.batch_size,
        "steps": outcome.history.steps,
        "seconds": outcome.history.seconds,
        "train_loss": outcome.history["loss"][-1],
        "test_accuracy": outcome.test_accuracy,
        "confusion": outcome.confusion.tolist(),
        "backprop_seconds": compared.backprop.seconds,
        "naive_seconds": differences.seconds,
        "naive_measured_on": differences.sample,
        "speedup": compared.slowdown("central differences"),
        "disagreement": differences.disagreement,
        "flops": {"backpropagation": compared.backprop.flops} | {name: way.flops for name, way in others.items()},
        "seconds_one_by_one": {name: way.seconds for name, way in others.items()},
    }
