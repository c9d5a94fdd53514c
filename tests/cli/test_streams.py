"""Standard input and output, pipes and devices as files; what a process lacks."""

import io
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import graphengine as ge
from graphengine.cli import app
from tests.cli.conftest import classifier
from tests.cli.run import refused, run

ROOT = Path(__file__).parents[2]


def fed(content: bytes, *arguments: object) -> Result:
    """A command whose standard input is `content`."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=content)


def test_a_dash_is_standard_input_for_what_is_read(folder: Path) -> None:
    spec, data, weights = folder / "net.json", folder / "data.npz", folder / "weights.safetensors"
    plain = run("evaluate", spec, "--data", data, "--weights", weights)
    given = {"spec": spec, "--data": data, "--weights": weights}
    for name, path in given.items():
        with_dash = {**given, name: "-"}
        rest = [part for option in ("--data", "--weights") for part in (option, with_dash[option])]
        assert fed(path.read_bytes(), "evaluate", with_dash["spec"], *rest).output == plain.output
    content = spec.read_bytes()
    assert fed(content, "summary", "-").output == run("summary", spec).output
    assert "valid" in fed(content, "validate", "-").output
    assert fed(content, "lint", "-").exit_code == 0
    assert fed(data.read_bytes(), "compare", spec, "--data", "-", "--samples", 1, "--seconds", 0).exit_code == 0


def test_a_dash_is_standard_output_for_what_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    result = fed(Path("net.json").read_bytes(), "train", "-", "--data", "data.npz", "--weights", "-")
    assert "epoch" in result.stderr
    Path("out").write_bytes(result.stdout_bytes)
    assert ge.load_parameters(ge.compile(classifier()), "out") == ["w", "b"]
    result = run("predict", "net.json", "--data", "data.npz", "--weights", "out", "--out", "-")
    assert np.load(io.BytesIO(result.stdout_bytes))["logits"].shape == (40, 2)
    assert not Path("-").exists()


def test_standard_input_is_read_once(folder: Path) -> None:
    result = fed(b"", "evaluate", "-", "--data", "-", "--weights", folder / "weights.safetensors")
    assert result.exit_code == 2
    assert "standard input is read once" in result.output


def test_weights_of_a_document_without_a_name_need_one(folder: Path) -> None:
    result = fed((folder / "net.json").read_bytes(), "train", "-", "--data", folder / "data.npz")
    assert result.exit_code == 2
    assert "name the file of weights" in result.output


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_what_pipes_give_is_read_to_its_end(folder: Path) -> None:
    paths = []
    for name in ("net.json", "data.npz", "weights.safetensors"):
        path = folder / f"pipe.{name}"
        os.mkfifo(path)
        content = (folder / name).read_bytes()
        threading.Thread(target=path.write_bytes, args=(content,), daemon=True).start()
        paths.append(path)
    plain = run(
        "evaluate", folder / "net.json", "--data", folder / "data.npz", "--weights", folder / "weights.safetensors"
    )
    assert run("evaluate", paths[0], "--data", paths[1], "--weights", paths[2]).output == plain.output
    assert all(path.is_fifo() for path in paths)


@pytest.mark.parametrize("name", ["spec", "--data", "--weights"])
@pytest.mark.parametrize("content", [b"", b"damaged", b"PK\x03\x04", b"{}"])
def test_what_is_wrong_with_a_stream_is_told_under_its_name(folder: Path, name: str, content: bytes) -> None:
    given = {"spec": folder / "net.json", "--data": folder / "data.npz", "--weights": folder / "weights.safetensors"}
    given[name] = Path("-")
    result = fed(content, "evaluate", given["spec"], *(part for each in list(given.items())[1:] for part in each))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert {"spec": "-#", "--data": "-: ", "--weights": "'-'"}[name] in result.stderr
    assert "tmp" not in result.stderr.replace(str(folder), "")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device that never ends")
def test_what_never_ends_is_refused(folder: Path) -> None:
    given = {"--data": folder / "data.npz", "--weights": folder / "weights.safetensors"}
    for name in given:
        options = [part for each in {**given, name: "/dev/zero"}.items() for part in each]
        message = refused("evaluate", folder / "net.json", *options, "--limit", "stream_bytes=1000000")
        assert "/dev/zero" in message
        assert "1,000,000" in message
    assert "/dev/zero" in refused("validate", "/dev/zero")


def test_an_npz_file_that_unpacks_to_gigabytes_is_refused(folder: Path) -> None:
    with zipfile.ZipFile(folder / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(16):
            with archive.open(f"x{index}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.zeros(2**20, "uint8"))
    content = bytearray((folder / "bomb.npz").read_bytes())
    for start in (i for i in range(len(content)) if content[i : i + 4] == b"PK\x01\x02"):
        content[start + 24 : start + 28] = (2**28).to_bytes(4, "little")  # so large does it say that a member is
    (folder / "bomb.npz").write_bytes(content)
    message = refused("train", folder / "net.json", "--data", folder / "bomb.npz")
    assert "bomb.npz: 17," in message
    assert "there are 4,294,967,296" in message


def test_every_command_says_what_it_does_without_docstrings() -> None:
    assert all(command.help for command in app.registered_commands)


def test_completion_is_offered() -> None:
    assert "--install-completion" in run("--help").stdout


@pytest.mark.parametrize(
    ("flags", "closed", "more"),
    [
        (("-O", "-W", "error"), (0, 2), ["demo --epochs 1"]),
        (("-OO",), (1,), []),
    ],
)
def test_commands_run_where_much_is_missing(
    folder: Path, flags: tuple[str, ...], closed: tuple[int, ...], more: list[str]
) -> None:
    """Without assertions and docstrings, with warnings as errors, without a home, and with closed streams."""
    closing = " ".join(f"{number}>&-" for number in closed)
    command = f'"$@" {closing} || exit 9'
    python = [sys.executable, *flags, "-m", "tests.cli.all_commands", str(folder), *more]
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    result = subprocess.run(
        ["sh", "-c", command, "sh", *python], cwd=ROOT, env=environment, capture_output=True, timeout=300
    )
    assert result.returncode == 0, result
    assert (folder / "wrong.txt").read_text() == ""
