"""What `graphengine bench` compares is the same training: every engine that is installed has the same losses."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

import pytest

from benchmarks.worker import with_graphengine
from benchmarks.worker.case import Case, Unsupported
from benchmarks.worker.peers import BLAS, ENGINE, PEERS
from benchmarks.workloads import block, elementwise, lenet, lstm, mlp, scalar

CASES: dict[str, Case] = {
    "mlp": mlp([20, 16, 12, 3], batch=4),
    "lenet": lenet(batch=2),
    "lstm": lstm(features=3, units=4, time=5, batch=2),
    "block": block(units=8, heads=2, hidden=16, time=5, batch=2),
    "elementwise": elementwise(1000),
    "scalar": scalar(nodes=40, leaves=6),
}
STEPS = 10
OTHERS = [name for name in PEERS if name not in (*ENGINE, BLAS)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what other engines use of their own
@pytest.mark.parametrize("family", CASES)
@pytest.mark.parametrize("name", OTHERS)
def test_ten_steps_have_the_losses_of_the_engine(name: str, family: str) -> None:
    if find_spec(PEERS[name].package) is None:
        pytest.skip(f"{PEERS[name].package} is not installed")
    if PEERS[name].variant == "compile" and find_spec("torch._inductor") is None:
        pytest.skip("no compiler comes with this PyTorch")
    module = importlib.import_module(f"benchmarks.worker.{PEERS[name].module}")
    try:
        other = module.prepare(CASES[family], PEERS[name].variant)
    except Unsupported as reason:
        pytest.skip(str(reason))
    ours = with_graphengine.prepare(CASES[family], "numpy")
    losses = [ours() for _ in range(STEPS)]
    assert [other() for _ in range(STEPS)] == pytest.approx(losses, rel=1e-5, abs=1e-5 * losses[0])
    assert losses[-1] < losses[0]
