"""Training that is killed at random moments, and goes on: are the results those of a run that was never stopped?

    python -m benchmarks.kill [KILLS] [BACKEND,...]

A small network with dropout, batch normalization, Adam, validation and early stopping is trained in a child process,
which writes a checkpoint after every second step. The child is killed at a random moment of its life, by SIGKILL and by
SIGINT so many times each (50 if left out), on each backend (all that are installed). Another one then goes on to the
end. Weights, states and history are compared with those of a run without checkpoints, bit for bit. Exits with 1 if any
differ, or if a temporary file is left at the end.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import graphengine as ge
from graphengine.backends.installed import installed_backends
from graphengine.train.checkpoint import files_in, read_manifest

_EPOCHS, _EXAMPLES, _BATCH = 8, 120, 16
_OUTCOMES = ("was over", "before a file", "between epochs", "inside an epoch", "file half written", "equal", "wrong")


def main(kills: str = "50", backends: str = "") -> int:
    """Print a line for each backend and signal; return the status to exit with."""
    print(f"{'':<16}{'kills':>8}" + "".join(f"{outcome:>20}" for outcome in _OUTCOMES))
    faults = 0
    for backend in backends.split(",") if backends else installed_backends():
        with tempfile.TemporaryDirectory() as root:
            expected = _result(_start(backend, None, Path(root, "result")), Path(root, "result"))
            started = time.perf_counter()
            _result(_start(backend, Path(root, "timed"), Path(root, "result")), Path(root, "result"))
            seconds = time.perf_counter() - started
            for number in (signal.SIGKILL, signal.SIGINT):
                found = _killed(int(kills), number, backend, Path(root), expected, seconds)
                faults += found["wrong"]
                said = "".join(f"{found[outcome]:>20}" for outcome in _OUTCOMES)
                print(f"{backend:<8}{number.name:<8}{kills:>8}{said}", flush=True)
    return 1 if faults else 0


def _killed(
    kills: int, number: signal.Signals, backend: str, root: Path, expected: str, seconds: float
) -> Counter[str]:
    """When so many runs were killed, and how many came to the result of one that was not; others were over already."""
    moments = random.Random(0)
    found: Counter[str] = Counter()
    folder, result = root / "run", root / "result"
    while found["killed"] < kills:
        child = _start(backend, folder, result)
        time.sleep(moments.uniform(0, seconds))
        os.kill(child, number)
        _, status = os.waitpid(child, 0)
        if status:
            found.update(["killed", *_state(folder)])
        else:
            found["was over"] += 1
        reached = _result(_start(backend, folder, result), result)
        found["equal" if reached == expected and not list(_temporary(folder)) else "wrong"] += 1
        shutil.rmtree(folder)
    return found


def _state(folder: Path) -> Iterable[str]:
    """What the killed process has left."""
    files = list(files_in(folder).values())
    if list(_temporary(folder)):
        yield "file half written"
    if not files:
        yield "before a file"
    else:
        yield "inside an epoch" if read_manifest(files[-1]).place.steps else "between epochs"


def _temporary(folder: Path) -> Iterable[Path]:
    return folder.glob(".*")


def _start(backend: str, folder: Path | None, result: Path) -> int:
    """The process that trains, and at its end writes what it came to."""
    child = os.fork()
    if child:
        return child
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background would ignore it
    status = 1
    try:
        result.write_text(_trained(backend, folder))
        status = 0
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(status)


def _result(child: int, result: Path) -> str:
    """What a process came to."""
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"the training ended with {os.waitstatus_to_exitcode(status)}")
    reached = result.read_text()
    result.unlink()
    return reached


def _trained(backend: str, folder: Path | None) -> str:
    """Train to the end, from the newest checkpoint in `folder`; return the SHA-256 of all that was reached."""
    exe = ge.compile(_network(), loss="loss", optimizer=ge.Adam(ge.CosineDecay(0.1, steps=60)), backend=backend)
    history = ge.fit(
        exe,
        _data(),
        epochs=_EPOCHS,
        batch_size=_BATCH,
        validation=0.2,
        metrics="accuracy",
        callbacks=[ge.EarlyStopping(patience=2)],
        progress=False,
        checkpoint=None if folder is None else ge.Checkpoint(folder, every_steps=2, best="validation_loss"),
        resume=folder,
    )
    digest = hashlib.sha256()
    for name, array in {**exe.parameters, **exe.state}.items():
        digest.update(name.encode() + array.tobytes())
    measured = [(epoch.number, epoch.steps, epoch.values) for epoch in history.epochs]
    digest.update(repr((measured, history.stopped)).encode())
    return digest.hexdigest()


def _network() -> ge.Graph:
    g = ge.Graph("killed")
    x, label = g.input("x", ("batch", 8)), g.input("label", ("batch",), "int64")
    h = ge.layers.batch_norm(ge.tanh(x @ g.parameter("w1", (8, 32))), name="norm")
    logits = g.output("logits", ge.layers.dropout(h, 0.3) @ g.parameter("w2", (32, 3)))
    g.output("loss", ge.cross_entropy(logits, label))
    return g


def _data() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    label = generator.integers(0, 3, _EXAMPLES)
    return {"x": generator.normal(size=(_EXAMPLES, 8)) + label[:, None], "label": label}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
