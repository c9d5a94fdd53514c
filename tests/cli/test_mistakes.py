"""A user's mistakes: each a message, never a traceback."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import graphengine as ge
from tests.cli.conftest import classifier, examples
from tests.cli.run import process, refused, run


def training(folder: Path, data: object = "data.npz", *options: object) -> tuple[object, ...]:
    return ("train", folder / "net.json", "--data", folder / str(data), *options)


def test_files_that_are_not_there_are_named(folder: Path) -> None:
    weights = ("--weights", folder / "weights.safetensors", "--data", folder / "data.npz")
    assert "none.json" in refused("validate", folder / "none.json")
    assert "none.npz" in refused(*training(folder, "none.npz"))
    assert "none.json" in refused("evaluate", folder / "none.json", *weights)
    missing = ("--weights", folder / "none.safetensors", "--data", folder / "data.npz")
    assert "none.safetensors" in refused("predict", folder / "net.json", *missing)


def test_names_of_files_are_told_without_control_characters(folder: Path) -> None:
    assert "no\\x1b[31mfile" in refused("validate", folder / "no\x1b[31mfile")


def test_a_folder_is_not_a_file(folder: Path) -> None:
    weights = ("--weights", folder, "--data", folder / "data.npz")
    assert str(folder) in refused("validate", folder)
    assert str(folder) in refused("train", folder / "net.json", "--data", folder)
    assert str(folder) in refused("predict", folder / "net.json", *weights)
    assert str(folder) in refused(*training(folder, "data.npz", "--weights", folder))


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut short", b"\x80\x04N."])
def test_what_is_not_an_npz_file_is_refused(folder: Path, content: bytes) -> None:
    (folder / "bad.npz").write_bytes(content)
    assert "bad.npz: not an .npz file" in refused(*training(folder, "bad.npz"))


def test_a_damaged_npz_file_is_refused(folder: Path) -> None:
    whole = (folder / "data.npz").read_bytes()
    middle = whole.index(b"NUMPY") + 200
    (folder / "bad.npz").write_bytes(whole[:middle] + b"\xff" + whole[middle + 1 :])
    assert "bad.npz: not an .npz file" in refused(*training(folder, "bad.npz"))
    (folder / "bad.npz").write_bytes(whole[: len(whole) // 2])
    assert "bad.npz: not an .npz file" in refused(*training(folder, "bad.npz"))


def test_pickled_objects_are_not_read(folder: Path) -> None:
    np.savez(folder / "bad.npz", x=np.array([{}], object))
    assert "bad.npz: not an .npz file of plain arrays" in refused(*training(folder, "bad.npz"))


@pytest.mark.parametrize("header", [b"{" * 16, b"'" * 16, b"{'descr': '<f8'}"])
def test_an_array_with_a_damaged_header_is_refused(folder: Path, header: bytes) -> None:
    with zipfile.ZipFile(folder / "bad.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    assert "bad.npz: not an .npz file" in refused(*training(folder, "bad.npz"))


def test_an_array_that_claims_more_memory_than_there_is_is_refused(folder: Path) -> None:
    with zipfile.ZipFile(folder / "bad.npz", "w") as archive, archive.open("x.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (10**15, 64)})
    assert "Unable to allocate" in refused(*training(folder, "bad.npz"))


def test_an_archive_of_other_things_is_refused(folder: Path) -> None:
    with zipfile.ZipFile(folder / "bad.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "'readme.txt' is not an array" in refused(*training(folder, "bad.npz"))
    np.savez(folder / "empty.npz")
    assert "holds no arrays" in refused(*training(folder, "empty.npz"))


def test_one_array_without_a_name_is_refused_with_the_remedy(folder: Path) -> None:
    np.save(folder / "one.npy", np.zeros(3))
    assert "np.savez" in refused(*training(folder, "one.npy"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": None}, "'label' is not fed"),
        ({"y": np.zeros(40)}, "no input 'y'"),
        ({"x": np.zeros((40, 4))}, "float32[batch, 3]"),
        ({"x": np.zeros((39, 3))}, "differ in their number of examples"),
        ({"label": np.zeros(40)}, "float64 is not cast to int64"),
        ({"label": np.full(40, 2)}, "label 2"),
        ({"x": np.zeros((40, 3), "U1")}, "'x'"),
        ({"x": np.full((40, 3), np.inf)}, "the loss is nan"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(folder: Path, changes: dict[str, object], message: str) -> None:
    arrays = {name: array for name, array in (examples() | changes).items() if array is not None}
    np.savez(folder / "bad.npz", **arrays)
    assert message in refused(*training(folder, "bad.npz"))
    assert not (folder / "net.weights.safetensors").exists()


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    g = ge.Graph("other")
    g.output("y", g.input("x", ("batch", 3)) @ g.parameter("v", (3, 2)))
    ge.save_parameters(ge.compile(g), folder / "other.safetensors")
    message = refused(
        "predict", folder / "net.json", "--weights", folder / "other.safetensors", "--data", folder / "data.npz"
    )
    assert "missing: w" in message
    (folder / "bad.safetensors").write_bytes(b"\x00" * 100)
    options = ("--weights", folder / "bad.safetensors", "--data", folder / "data.npz")
    assert "not a safetensors file" in refused("evaluate", folder / "net.json", *options)


def test_a_document_without_a_training_section_is_refused_with_the_remedy(folder: Path) -> None:
    g = classifier()
    g.training = None
    g.save(folder / "net.json")
    assert '"training": {"loss"' in refused(*training(folder))


@pytest.mark.parametrize("document", ["", "{", "[]", '{"format": "graphengine", "version": 1}', "\x00", "nul"])
@pytest.mark.parametrize("command", ["validate", "summary"])
def test_a_document_that_is_wrong_is_refused(folder: Path, command: str, document: str) -> None:
    (folder / "bad.json").write_text(document)
    assert "bad.json" in refused(command, folder / "bad.json")


def test_a_document_that_is_not_text_is_refused(folder: Path) -> None:
    (folder / "bad.json").write_bytes(b"\xff\xfe\x00")
    assert "bad.json" in refused("validate", folder / "bad.json")


def test_what_cannot_be_written_is_refused_before_the_work(folder: Path) -> None:
    message = refused(*training(folder, "data.npz", "--weights", folder / "no" / "out.safetensors"))
    assert message == f"{folder / 'no'}: no such folder\n"
    weights = ("--weights", folder / "weights.safetensors", "--data", folder / "data.npz")
    assert "no such folder" in refused("predict", folder / "net.json", *weights, "--out", folder / "no" / "out.npz")
    assert "is a directory" in refused("predict", folder / "net.json", *weights, "--out", folder)


def test_a_metric_that_is_not_known_is_refused(folder: Path) -> None:
    assert "no metric 'acuracy'; did you mean 'accuracy'?" in refused(
        *training(folder, "data.npz", "--metric", "acuracy")
    )


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("dmeo",),
        ("train",),
        ("train", "net.json"),
        ("demo", "--epochs", "0"),
        ("demo", "--seed", "-1"),
        ("demo", "--epochs", "many"),
        ("summary", "net.json", "--batch", "0"),
        ("schema", "extra"),
    ],
)
def test_a_mistake_of_usage_ends_with_two(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage" in result.output


@pytest.mark.parametrize("options", [("--validation", "1.5"), ("--validation", "nan")])
def test_a_fraction_that_is_none_is_a_mistake_of_usage(folder: Path, options: tuple[str, ...]) -> None:
    assert run(*training(folder, "data.npz", *options)).exit_code == 2


def test_a_size_that_is_none_is_a_mistake_of_usage(folder: Path) -> None:
    assert run("summary", folder / "net.json", "--size", "time").exit_code == 2


def test_a_warning_is_told_as_a_message(folder: Path) -> None:
    g = classifier()
    g.parameter("unused", (2,))
    g.save(folder / "net.json")
    result = run(*training(folder))
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: ")
    assert "no gradient reaches unused" in result.stderr


def test_in_a_process_of_its_own_only_the_message_is_said(folder: Path) -> None:
    result = process("validate", "none.json", cwd=folder)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: none.json: No such file or directory\n"


def test_results_go_to_stdout_and_nothing_else_is_said(folder: Path) -> None:
    result = process("summary", "net.json", "--json", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["graph"] == "classifier"


def test_an_encoding_without_the_characters_is_no_error(folder: Path) -> None:
    result = process("summary", "net.json", cwd=folder, PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, "")
    assert "matmul" in result.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told() -> None:
    command = [sys.executable, "-m", "graphengine", "schema"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with open("/dev/full", "w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, timeout=60)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = f"{sys.executable} -m graphengine schema | head -1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment, timeout=60)
    assert result.stdout == "{\n"
    assert result.stderr == ""


def test_an_interruption_ends_quietly_with_130(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("graphengine.cli.train.fit", interrupted)
    result = run(*training(folder))
    assert (result.exit_code, result.output) == (130, "")
    assert not (folder / "net.weights.safetensors").exists()
