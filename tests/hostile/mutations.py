"""Documents changed at random, as JSON values: what is taken away, doubled, exchanged, or replaced by extremes."""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graphengine import zoo
from graphengine.ir.node import Phase
from graphengine.ir.op import Op

Parent = dict[str, Any] | list[Any]

EXTREMES: list[Any] = [
    *(0, 1, -1, 2, 3, 64, 65, 2**16, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**62, 2**63 - 1, -(2**63)),
    *(0.5, -0.0, 1e-320, 1e308, -1e308, 1e39, 1e-46),
    *(None, True, False, "", "a", "batch", "2*batch", "batch*batch", "batch-3", "-batch", "x" * 200, "NaN", "Infinity"),
    *([], {}, [[]], [0], [1], [-1], [0, 0], [2, 2], [1, 1, 1], [10**9], [2**62, 4], ["batch"], ["n", "m"], [None]),
    *({"kind": "zeros"}, {"kind": "normal", "std": 1e308}, {"kind": "sgd", "learning_rate": 1e308}, {"kind": "none"}),
]
"""What may be of some type that is wanted, and is seldom meant."""


def documents() -> list[dict[str, Any]]:
    """The documents that are changed: of the zoo, small, and those in which every op is."""
    graphs = [
        zoo.neuron(),
        zoo.perceptron(2),
        zoo.linear_regression(2),
        zoo.logistic_regression(2),
        zoo.mlp([2, 3, 2]),
        zoo.digits_gru(),
        zoo.digits_lstm(),
        zoo.digits_network(),
        zoo.lenet(),
        zoo.convolutional_autoencoder(2),
        zoo.character_transformer(5, units=4, heads=2, blocks=1),
    ]
    kept = sorted((Path(__file__).parents[1] / "documents" / "1").glob("*.json"))
    return [json.loads(text) for text in (*(graph.to_json() for graph in graphs), *(p.read_text() for p in kept))]


class Mutator:
    """Changes documents by a random generator of its own: the same seed gives the same changes."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._documents = documents()
        self._attributes = [node for document in self._documents for node in document["nodes"]]

    def document(self) -> dict[str, Any]:
        """A document with one to four changes."""
        document = copy.deepcopy(self._random.choice(self._documents))
        for _ in range(self._random.choice((1, 1, 2, 4))):
            self._random.choice(_CHANGES)(self, document)
        return document

    def _place(self, document: dict[str, Any]) -> tuple[Parent, Any]:
        """A place in the document: what holds a value, and its key there. Each depth is about as likely."""
        at: Any = document
        while True:
            if not at:
                return {"": None}, ""
            key = self._random.choice(list(at) if isinstance(at, dict) else range(len(at)))
            if not isinstance(at[key], dict | list) or self._random.random() < 0.15:
                return at, key
            at = at[key]

    def _node(self, document: dict[str, Any]) -> dict[str, Any]:
        found, pending = [], [document]
        while pending:
            at = pending.pop()
            values = at.values() if isinstance(at, dict) else at
            pending += [value for value in values if isinstance(value, dict | list)]
            if isinstance(at, dict) and "op" in at:
                found.append(at)
        return self._random.choice(found or [{}])

    def _replace(self, document: dict[str, Any]) -> None:
        at, key = self._place(document)
        at[key] = copy.deepcopy(self._random.choice(EXTREMES))

    def _shift(self, document: dict[str, Any]) -> None:
        at, key = self._place(document)
        if type(at[key]) in (int, float):
            at[key] += self._random.choice((-2, -1, 1, 2))

    def _delete(self, document: dict[str, Any]) -> None:
        at, key = self._place(document)
        del at[key]

    def _double(self, document: dict[str, Any]) -> None:
        at, key = self._place(document)
        if isinstance(at, list):
            at.insert(key, copy.deepcopy(at[key]))

    def _exchange(self, document: dict[str, Any]) -> None:
        (at, key), (other, place) = self._place(document), self._place(document)
        at[key], other[place] = copy.deepcopy(other[place]), copy.deepcopy(at[key])

    def _name_another(self, document: dict[str, Any]) -> None:
        node, other = self._node(document), self._node(document)
        inputs = node.get("inputs")
        if isinstance(inputs, list) and inputs:
            inputs[self._random.randrange(len(inputs))] = other.get("name")

    def _output_another(self, document: dict[str, Any]) -> None:
        section = document.get(self._random.choice(("outputs", "outputs", "updates")))
        if isinstance(section, dict):
            section[self._random.choice([*section, "another"])] = self._node(document).get("name")

    def _change_op(self, document: dict[str, Any]) -> None:
        self._node(document)["op"] = self._random.choice(sorted(Op.registry))

    def _change_phase(self, document: dict[str, Any]) -> None:
        for _ in range(self._random.choice((1, 1, 5, 20))):
            self._node(document)["phase"] = self._random.choice([phase.name.lower() for phase in Phase])

    def _take_attributes(self, document: dict[str, Any]) -> None:
        node, other = self._node(document), self._random.choice(self._attributes)
        given = {key: value for key, value in other.items() if key not in ("name", "inputs")}
        if self._random.random() < 0.5:
            node |= copy.deepcopy(given)
        elif given:
            key = self._random.choice(sorted(given))
            node[key] = copy.deepcopy(given[key])


_CHANGES: list[Callable[[Mutator, dict[str, Any]], None]] = [
    *(Mutator._replace, Mutator._shift, Mutator._delete, Mutator._double, Mutator._exchange, Mutator._name_another),
    *(Mutator._output_another, Mutator._change_op, Mutator._change_phase, Mutator._take_attributes),
]
