"""What importing and installing take."""

from __future__ import annotations

import pytest

from benchmarks import BENCHMARKS, install
from benchmarks.frame.benchmark import Request

INSTALL = BENCHMARKS["install"]


def test_import_and_size_are_measured_for_who_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_ROUNDS", 1)
    peers = ("graphengine-numpy", "numpy", "torch")
    measured = INSTALL.measure(Request(INSTALL.rows, peers, seconds=0.0, pythons={"torch": "/nowhere/python"}))
    assert measured.figure("import", "numpy", "median") < measured.figure("import", "graphengine-numpy", "median")
    ours = measured.find("installed", "graphengine-numpy").figures
    assert ours["bytes"] > measured.figure("installed", "numpy", "bytes") > 10_000_000
    assert 500_000 < ours["own_bytes"] < 10_000_000
    assert ours["distributions"] >= 6  # itself, and what it declares
    assert "/nowhere/python" in measured.peers["torch"].missing
    (table,) = INSTALL.tables(measured)
    assert [row[0] for row in table.rows] == ["graphengine-numpy", "numpy"]
    assert [plot.name for plot in INSTALL.plots(measured)] == ["install-import", "install-installed"]
    assert INSTALL.verdicts(measured) == []


def test_a_package_that_is_not_installed_is_told_by_the_error_of_its_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(install._PACKAGES, "torch", ("no_such_package",))
    measured = INSTALL.measure(Request(("installed",), ("torch",), seconds=0.0))
    assert measured.peers["torch"].missing == "ModuleNotFoundError: No module named 'no_such_package'"
    assert measured.records == ()
