"""Kernels to machine code, LLVM in a thread of its own: the same code, every error, and nothing left behind."""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="numba compiles the kernels")

from llvmlite import ir

from graphengine.backends.native.compile import build, disk, store
from graphengine.backends.native.kernel import Kernel
from graphengine.errors import CompileError

SIGNATURE = ("float64*", "int")
WRONG = Kernel("wrong", "def wrong(x, n):\n    x[0] = nothing(n)\n"), SIGNATURE


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHENGINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "_known", {})


def requests(what: str) -> dict[str, tuple[Kernel, tuple[str, ...]]]:
    return {
        name: (Kernel(name, f"def {name}(x, n):\n    for i in range(n):\n        x[i] = {value}\n"), SIGNATURE)
        for name, value in ((f"{what}_tanh", "tanh(x[i])"), (f"{what}_add", "x[i] + 1.5"), (f"{what}_log", "log(x[i])"))
    }


def test_together_in_any_order_kernels_become_the_same_code_as_alone() -> None:
    alone = {name: build.machine_code(build.assembly(name, *request)) for name, request in requests("ordered").items()}
    kept: dict[str, bytes] = {}
    assert build.build_all(requests("ordered"), kept.__setitem__) == alone == kept
    turned = dict(reversed(requests("ordered").items()))
    assert build.build_all(turned, kept.__setitem__) == alone


def test_what_no_code_can_be_made_of_is_told_and_the_next_kernel_is_compiled() -> None:
    with pytest.raises(CompileError, match="no machine code can be made of the kernel wrong"):
        store.addresses([*requests("before").values(), WRONG])
    assert all(store.addresses(requests("before").values()).values())


def test_a_function_that_is_nowhere_is_told() -> None:
    module = ir.Module()
    ir.Function(module, ir.FunctionType(ir.VoidType(), []), "nowhere")
    with pytest.raises(CompileError, match="symbol calls what machine code has not: nowhere"):
        build._close(module, "symbol")


def test_an_error_of_llvm_reaches_the_caller_and_nothing_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def fail(text: str) -> bytes:
        begun.append(text)
        time.sleep(0.2)  # until the text of all is there
        raise RuntimeError("LLVM is out of order")

    threads, switching = threading.active_count(), sys.getswitchinterval()
    with monkeypatch.context() as patched:
        patched.setattr(build, "machine_code", fail)
        with pytest.raises(RuntimeError, match="out of order"):
            store.addresses(requests("failing").values())
    assert threading.active_count() == threads
    assert sys.getswitchinterval() == switching
    assert len(begun) < 3
    assert all(store.addresses(requests("failing").values()).values())


def test_what_was_made_before_an_error_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [b"the first"]
    monkeypatch.setattr(build, "machine_code", lambda _: made.pop())
    with pytest.raises(IndexError):
        store.addresses(requests("kept").values())
    assert [path.suffix for path in disk.folder().iterdir()] == [".o"]


def test_two_threads_compile_at_once() -> None:
    with ThreadPoolExecutor(2) as threads:
        one, two = threads.map(store.addresses, [requests("both").values(), [*requests("both").values()][::-1]])
    assert one == two
    assert len(set(one.values())) == 3


def test_an_intrinsic_is_no_function_of_python() -> None:
    from graphengine.backends.native.llvm.intrinsics import load

    with pytest.raises(NotImplementedError, match="load is a name of kernels alone"):
        load()
