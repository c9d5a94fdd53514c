"""How far a process grows."""

from __future__ import annotations

import sys

import pytest

from benchmarks import BENCHMARKS
from benchmarks.frame.benchmark import Request
from benchmarks.frame.plot import Dots
from benchmarks.memory import measure_cases
from benchmarks.workloads import elementwise

MEMORY = BENCHMARKS["memory"]
NUMPY = "graphengine-numpy"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no other system tells the peak of a part of a life")


def test_what_a_process_grows_by_is_what_its_plan_says() -> None:
    request = Request(("large",), (NUMPY, "torch"), seconds=0.0, pythons={"torch": "/nowhere"})
    measured = measure_cases(request, {"large": elementwise(4_000_000)})
    figures = measured.find("large", NUMPY).figures
    assert figures["step_bytes"] == pytest.approx(figures["planned_bytes"], rel=0.2)
    assert figures["planned_bytes"] >= 16_000_000
    assert figures["left_bytes"] < 10_000
    assert "/nowhere does not start" in measured.peers["torch"].missing
    whole, own = MEMORY.tables(measured)
    assert whole.columns == ("row", NUMPY)
    assert own.rows[0][0] == "large"
    (plot,) = MEMORY.plots(measured)
    assert isinstance(plot, Dots)
    assert plot.peers[NUMPY] == {"large": figures["step_bytes"]}
    assert MEMORY.verdicts(measured) == []
