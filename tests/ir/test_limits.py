"""Limits: each is told in SECURITY.md, refuses what is over it, and can be raised."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphengine as ge

PAGE = (Path(__file__).parents[2] / "SECURITY.md").read_text()


def test_the_page_has_the_limits() -> None:
    rows = [f"| `{name}` | {field.default:,} | {field.description} |" for name, field in ge.Limits.model_fields.items()]
    assert [line for line in PAGE.splitlines() if line.startswith("| `")] == rows


def test_limits_are_checked() -> None:
    with pytest.raises(ge.AttributeValueError, match="did you mean 'nodes'"):
        ge.Limits(node=3)  # type: ignore[call-arg]
    with pytest.raises(ge.AttributeValueError, match="greater than or equal to 0"):
        ge.Limits(nodes=-1)


def document() -> dict[str, Any]:
    g = ge.Graph("net")
    x = g.input("x", ("batch", 3))
    g.output("y", ge.scan(lambda c, _: (c * 2.0, None), x, length=2)[0] + g.constant("c", [0.125, 2, 3]))
    return json.loads(g.to_json())  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("limit", "of", "place"),
    [
        ({"document_bytes": 100}, "100 bytes of a document", "#"),
        ({"values": 20}, "20 values in a document", "#"),
        ({"depth": 3}, "3 brackets inside each other", "#"),
        ({"text_length": 10}, "10 characters of a name", "#/format"),
        ({"number_length": 4}, "4 characters of a number", "/value/0"),
        ({"nodes": 3}, "3 nodes of a graph", "#/nodes"),
        ({"body_nodes": 2}, "2 nodes of the graphs inside nodes", "#/graphs"),
    ],
)
def test_what_is_over_a_limit_is_refused(limit: dict[str, int], of: str, place: str) -> None:
    text = json.dumps(document())
    assert ge.Graph.from_json(text, limits=ge.Limits()) == ge.Graph.from_json(text)
    with pytest.raises(ge.SpecError) as caught:
        ge.Graph.from_json(text, limits=ge.Limits(**limit))
    said = str(caught.value)
    assert f"over the limit of {of}" in said
    assert f"{place}\n" in said
    assert f"limits=ge.Limits({next(iter(limit))}=...)" in said


def test_constants_and_headers_of_files_have_limits(tmp_path: Path) -> None:
    g = ge.Graph("net")
    g.output("y", g.constant("c", np.zeros(5000)) * g.parameter("w", (1,)))
    g.save(tmp_path / "net.json")
    with pytest.raises(ge.SpecError, match="over the limit of 4,999 elements of a constant: there are 5,000"):
        ge.load(tmp_path / "net.json", limits=ge.Limits(constant_elements=4999))
    with pytest.raises(ge.SpecError, match="over the limit of 9 bytes of the header"):
        ge.load(tmp_path / "net.json", limits=ge.Limits(header_bytes=9))
    exe = ge.compile(g)
    ge.save_parameters(exe, tmp_path / "weights")
    with pytest.raises(ge.TrainingError, match="over the limit of 9 bytes of the header"):
        ge.load_parameters(exe, tmp_path / "weights", limits=ge.Limits(header_bytes=9))
