"""The JSON Schema: documents that are right satisfy it, and wrong ones do not."""

import json
from typing import Any

import jsonschema
import pytest

import graphengine as ge
from graphengine.ir.op import Op
from graphengine.ir.spec import json_schema
from graphengine.ops.scan import scan
from tests.ir.spec.test_spec_faults import DOCUMENT, MISSING, changed
from tests.random_graphs import SEEDS, grow

SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_it_is_a_schema_of_draft_2020_12_and_plain_json() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_every_reference_leads_somewhere_and_every_definition_is_referred_to() -> None:
    def references(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(references, value))
        if not isinstance(value, dict):
            return set()
        own = {value["$ref"].removeprefix("#/$defs/")} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))

    # an op that has a graph inside is the only one to refer to the definition of such a graph
    assert references(SCHEMA) == set(SCHEMA["$defs"])


def test_it_has_every_op() -> None:
    assert {f"op_{kind}" for kind in Op.registry} <= set(json_schema()["$defs"])


@pytest.mark.parametrize("seed", SEEDS)
def test_documents_of_all_ops_satisfy_it(seed: int) -> None:
    VALIDATOR.validate(json.loads(grow(seed).graph.to_json()))


@pytest.mark.parametrize("kind", sorted(ge.init.Initializer.registry))
def test_every_initializer_satisfies_it(kind: str) -> None:
    g = ge.Graph("initialized")
    fields = {"value": 0.5} if kind == "constant" else {}
    g.parameter("w", (2, 3), ge.init.Initializer.registry[kind](**fields))
    VALIDATOR.validate(json.loads(g.to_json()))


def test_the_whole_of_a_document_satisfies_it() -> None:
    VALIDATOR.validate(DOCUMENT)
    g = ge.Graph("whole", dtype="float64")
    x = g.input("x", ("time", 3))
    g.constant("empty", [[]] * 3)
    g.constant("explicit", [float("nan"), float("inf")])
    g.constant("large", [0.0] * 5000)
    carry, _ = scan(lambda c, x: (c + x, None), g.constant("start", [0.0] * 3), x)
    g.output("loss", ge.sum(carry))
    rate = ge.Warmup(3, ge.StepDecay(0.1, 0.5, 10))
    g.training = ge.Training(loss="loss", optimizer=ge.SGD(rate, clip=ge.ClipByValue(1.0)), batch_size=3)
    VALIDATOR.validate(json.loads(g.to_json()))


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("/format", "onnx"),
        ("/version", 2),
        ("/name", "a b"),
        ("/name", "x" * 129),
        ("/dtype", "float16"),
        ("/nodes", {}),
        ("/outputs", MISSING),
        ("/output", {}),
        ("/nodes/2/op", "matmull"),
        ("/nodes/2/op", MISSING),
        ("/nodes/2/name", "1h"),
        ("/nodes/2/inputs", ["x"]),
        ("/nodes/2/inputs", ["x", "w", "w"]),
        ("/nodes/2/inputs", MISSING),
        ("/nodes/2/axis", 1),
        ("/nodes/5/keepdims", "yes"),
        ("/nodes/5/axis", ["0"]),
        ("/nodes/0/shape", ["batch", -3]),
        ("/nodes/0/shape", ["batch", "3"]),
        ("/nodes/0/shape", MISSING),
        ("/nodes/0/inputs", ["w"]),
        ("/nodes/1/init/kind", "nromal"),
        ("/nodes/1/init/kind", MISSING),
        ("/nodes/1/init/std", -1),
        ("/nodes/3/value", ["nan"]),
        ("/nodes/3/value", MISSING),
        ("/nodes/3/sha256", "0" * 64),
        ("/outputs/y", 3),
        ("/training/loss", MISSING),
        ("/training/epochs", 0),
        ("/training/optimizer/kind", "sdg"),
        ("/training/optimizer/learning_rate", {"kind": "step"}),
    ],
)
def test_a_wrong_document_does_not_satisfy_it(change: str, value: object) -> None:
    assert not VALIDATOR.is_valid(changed(change, value))
