import io
import re
import subprocess
import sys

import pytest

import graphengine as ge
from graphengine.train import progress
from tests.train.problems import line, points


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def attach(monkeypatch: pytest.MonkeyPatch, columns: int = 200) -> Terminal:
    """A terminal in the place of stderr; by call, as pytest puts its own stderr there after fixtures are made."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(progress, "_PAUSE", 0.0)
    return screen


def test_a_terminal_shows_epoch_loss_metric_and_rate(monkeypatch: pytest.MonkeyPatch):
    terminal = attach(monkeypatch)
    history = ge.fit(line(), points(), epochs=3, batch_size=20, metrics="mean_squared_error")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    last = shown.splitlines()[-1]
    assert "epoch 1/3" in shown
    assert "epoch 3/3" in last
    assert f"loss {history['loss'][-1]:.4f}  mean_squared_error {history['mean_squared_error'][-1]:.4f}" in last
    assert re.search(r"[0-9,]+ examples/s", last)


def test_a_stream_shows_its_progress_too(monkeypatch: pytest.MonkeyPatch):
    terminal = attach(monkeypatch)
    ge.fit(line(), [points()], epochs=2)
    assert "epoch 2/2" in terminal.getvalue()


def test_a_narrow_terminal_shows_all_of_it_in_more_lines(monkeypatch: pytest.MonkeyPatch):
    terminal = attach(monkeypatch, columns=80)
    ge.fit(line(), points(), epochs=1, batch_size=20, metrics=["mean_squared_error", "mean_absolute_error"])
    for part in ("epoch 1/1", "examples/s", "loss", "mean_squared_error", "mean_absolute_error"):
        assert part in terminal.getvalue()


def test_progress_can_be_turned_off(monkeypatch: pytest.MonkeyPatch):
    terminal = attach(monkeypatch)
    ge.fit(line(), points(), epochs=1, progress=False)
    assert terminal.getvalue() == ""


def test_nothing_is_said_where_no_one_looks(capfd: pytest.CaptureFixture[str]):
    ge.fit(line(), points(), epochs=2, batch_size=20)
    assert capfd.readouterr() == ("", "")


def test_import_and_quiet_training_load_neither_rich_nor_typer():
    code = """
import sys
from tests.train.problems import ge, line, points
ge.fit(line(), points(), epochs=1)
print(sorted({"rich", "typer", "safetensors"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


class Writer:
    """A stream that does not say whether it is a terminal."""

    def write(self, text: str) -> None: ...

    def flush(self) -> None: ...


def test_training_goes_without_a_stream_and_with_any_other(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (None, Writer(), closed):
        monkeypatch.setattr(sys, "stderr", stream)
        assert len(ge.fit(line(), points(), epochs=1)) == 1
