"""Training that is watched, interrupted, and gone on with."""

import json
import os
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest

import graphengine as ge
from graphengine.cli.train import _Lines
from tests.cli.conftest import classifier, examples
from tests.cli.run import refused, run


def train(folder: Path, *options: object, spec: str = "net.json", data: str = "data.npz") -> tuple[object, ...]:
    return ("train", folder / spec, "--data", folder / data, *options)


def weights_of(path: Path) -> dict[str, np.ndarray]:
    exe = ge.compile(classifier())
    ge.load_parameters(exe, path)
    return dict(exe.parameters)


def interrupt_after(epoch: int, monkeypatch: pytest.MonkeyPatch, number: int = signal.SIGINT) -> None:
    """Send this process a signal at the end of an epoch."""
    real = _Lines.on_epoch_end

    def on_epoch_end(self: _Lines, exe: ge.Executable, history: ge.History) -> None:
        real(self, exe, history)
        if len(history) == epoch:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(_Lines, "on_epoch_end", on_epoch_end)


def test_an_epoch_is_a_line_on_stderr_where_no_terminal_is(folder: Path) -> None:
    result = run(*train(folder, "--validation", "0.2", "--metric", "accuracy"))
    lines = result.stderr.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"epoch {number}/5" for number in range(1, 6)]
    assert "validation_accuracy" in lines[0]
    assert run(*train(folder, "--quiet")).output == ""


def test_json_is_one_object(folder: Path) -> None:
    result = run(*train(folder, "--json", "--checkpoint", folder / "run"))
    said = json.loads(result.stdout)
    assert said["graph"] == "classifier"
    assert said["weights"] == str(folder / "net.weights.safetensors")
    assert said["checkpoint"] == str(folder / "run")
    assert (said["epochs"], said["steps"], said["stopped"]) == (5, 25, None)
    assert len(said["history"]["loss"]) == 5


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("every", ["1", "3steps"])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int, every: str
) -> None:
    run(*train(folder, "--weights", folder / "whole"))
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    options = ("--weights", folder / "out", "--checkpoint", folder / "run", "--every", every)
    with monkeypatch.context() as patched:
        interrupt_after(2, patched, number)
        result = run(*train(folder, *options))
    assert result.exit_code == code
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert not (folder / "out").exists()
    command = shlex.split(result.stderr.splitlines()[-1])
    assert command == ["graphengine", *map(str, train(folder, *options)), "--resume"]
    assert run(*command[1:]).exit_code == 0
    whole, out = weights_of(folder / "whole"), weights_of(folder / "out")
    assert {name: array.tobytes() for name, array in out.items()} == {n: a.tobytes() for n, a in whole.items()}


def test_an_interrupted_run_without_checkpoints_saves_the_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        interrupt_after(2, patched)
        result = run(*train(folder, "--json"))
    assert result.exit_code == 130
    assert json.loads(result.stdout)["stopped"] == "interrupted by SIGINT"
    reached = folder / "net.weights.safetensors"
    assert weights_of(reached)["w"].any()
    command = shlex.split(result.stderr.splitlines()[-1])[1:]
    assert command[-4:] == ["--initial-weights", str(reached), "--weights", str(folder / "net.weights.2.safetensors")]
    assert run(*command).exit_code == 0


def test_a_second_signal_does_not_wait(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(_Lines, "on_epoch_end", twice)
    assert run(*train(folder)).exit_code == 143
    assert not (folder / "net.weights.safetensors").exists()


def test_options_say_what_the_document_does_not(folder: Path) -> None:
    out = folder / "out"
    options = ("--optimizer", '{"kind": "sgd", "learning_rate": 0.0}', "--backend", "numpy", "--memory-budget", 10**6)
    result = run(*train(folder, "--weights", out, "--initial-weights", folder / "weights.safetensors", *options))
    assert result.exit_code == 0
    before, after = weights_of(folder / "weights.safetensors"), weights_of(out)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    options = ("--validation", folder / "data.npz", "--patience", 1, "--learning-rate", 0)
    assert "validation_loss is no better since epoch 1" in run(*train(folder, *options)).stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--optimizer", '{"kind": "adm"}'), "no kind 'adm'; did you mean 'adam'?"),
        (("--optimizer", "{"), "not JSON"),
        (("--backend", "cuda"), "no backend 'cuda'"),
        (("--memory-budget", "3"), "does not fit in a memory_budget of 3 bytes"),
        (("--metric", "acuracy"), "no metric 'acuracy'"),
        (("--checkpoint", "data.npz"), "data.npz"),
        (("--initial-weights", "none"), "none"),
        (("--weights", "no/out"), "no: no such folder"),
    ],
)
def test_what_cannot_work_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(folder)
    assert said in refused("train", "net.json", "--data", "data.npz", *options).replace("\n", " ")
    assert sorted(path.name for path in folder.iterdir()) == ["data.npz", "net.json", "weights.safetensors"]


def test_weights_that_are_not_finite_are_not_saved(folder: Path) -> None:
    np.savez(folder / "far.npz", **(examples() | {"x": 1e6 * examples()["x"]}))
    out = folder / "weights.safetensors"
    before = out.read_bytes()
    options = ("--learning-rate", "1e38", "--epochs", "1", "--batch-size", "40", "--weights", out, "--quiet")
    assert "'w' is not finite after the last step" in refused(*train(folder, *options, data="far.npz"))
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [
        ("--every", "2"),
        ("--keep", "2"),
        ("--resume",),
        ("--patience", "2"),
        ("--checkpoint", "run", "--every", "0"),
        ("--checkpoint", "run", "--every", "2epochs"),
        ("--weights", "-", "--json"),
    ],
)
def test_options_that_need_others_are_a_mistake_of_usage(folder: Path, options: tuple[str, ...]) -> None:
    assert run(*train(folder, *options)).exit_code == 2


def test_a_folder_with_another_run_needs_resume(folder: Path) -> None:
    options = ("--checkpoint", folder / "run", "--keep", "2")
    run(*train(folder, *options))
    assert len(list((folder / "run").iterdir())) == 2
    assert "go on with --resume" in refused(*train(folder, *options))


@pytest.mark.filterwarnings("error")
def test_a_damaged_checkpoint_is_told_of_and_the_one_before_it_used(folder: Path) -> None:
    options = ("--checkpoint", folder / "run", "--quiet")
    run(*train(folder, *options))
    newest = max((folder / "run").iterdir())
    newest.write_bytes(newest.read_bytes()[:-1])
    result = run(*train(folder, *options, "--resume"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith(f"warning: '{newest}'")


@pytest.mark.parametrize("way", ["same", "link", "hard link", "other path"])
def test_no_output_takes_the_place_of_an_input(folder: Path, way: str) -> None:
    g = classifier()
    g.constant("large", np.ones(5000))
    g.save(folder / "big.json")
    (constants,) = folder.glob("big.json.*")
    (folder / "other").mkdir()
    run(*train(folder, "--checkpoint", folder / "run", "--weights", folder / "other" / "w"))
    inputs = [*(folder / name for name in ("big.json", "data.npz", "weights.safetensors", "valid.npz")), constants]
    np.savez(folder / "valid.npz", **examples())
    inputs += (folder / "run").iterdir()
    before = {path: path.read_bytes() for path in inputs}
    out = folder / "out"
    for path in inputs:
        if way == "same":
            out = path
        elif way == "link":
            out.symlink_to(path)
        elif way == "hard link":
            os.link(path, out)
        else:
            out = folder / "other" / ".." / path.relative_to(folder)
        options = ("--weights", out, "--initial-weights", folder / "weights.safetensors")
        options += ("--validation", folder / "valid.npz", "--checkpoint", folder / "run", "--resume")
        assert "is read, too, as" in refused(*train(folder, *options, spec="big.json"))
        given = ("--data", folder / "data.npz", "--weights", folder / "weights.safetensors", "--out", out)
        if path in inputs[:3]:
            assert "is read, too, as" in refused("predict", folder / "big.json", *given)
        if way.endswith("link"):
            out.unlink()
    assert {path: path.read_bytes() for path in inputs} == before
