"""Machine code on disk: found again by what it depends on, and never half."""

from pathlib import Path

import pytest

pytest.importorskip("numba", reason="numba compiles the kernels")

from graphengine.backends.native.compile import store
from graphengine.backends.native.kernel import Kernel

DOUBLE = Kernel("double", "def double(x, n):\n    for i in range(n):\n        x[i] = x[i] + x[i]\n")
SIGNATURE = ("float64*", "int")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHENGINE_CACHE", str(tmp_path / "cache"))


def test_what_is_written_is_read() -> None:
    assert store.read("name") is None
    store.write("name", b"machine code")
    assert store.read("name") == b"machine code"
    assert [path.name for path in store.folder().iterdir()] == ["name.o"]


def test_a_file_that_was_cut_short_or_changed_is_not_read() -> None:
    store.write("name", b"machine code")
    path = store.folder() / "name.o"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert store.read("name") is None
    path.write_bytes(whole[:-1] + b"!")
    assert store.read("name") is None


def test_a_folder_that_cannot_be_written_to_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GRAPHENGINE_CACHE", str(tmp_path / "file"))
    store.write("name", b"machine code")
    assert store.read("name") is None


def test_the_name_changes_with_all_that_the_code_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {
        store.key(DOUBLE, SIGNATURE),
        store.key(DOUBLE, ("float32*", "int")),
        store.key(Kernel("double", DOUBLE.source.replace("+", "*")), SIGNATURE),
        store.key(Kernel("double", DOUBLE.source, may_overlap=True), SIGNATURE),
    }
    assert len(names) == 4
    store._surroundings.cache_clear()
    monkeypatch.setattr(store, "description", lambda: "another machine")
    try:
        assert store.key(DOUBLE, SIGNATURE) not in names
    finally:
        store._surroundings.cache_clear()


def test_a_kernel_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    request = DOUBLE, SIGNATURE
    store._known.pop(request, None)
    (address,) = store.addresses([request]).values()
    stored = store.read(store.key(*request))
    assert address
    assert stored
    monkeypatch.setattr(store, "_compile", lambda *_: pytest.fail("compiled again"))
    assert store.addresses([request]) == {request: address}
    monkeypatch.setattr(store, "_known", {})
    monkeypatch.setattr(store, "load", lambda objects: dict.fromkeys(objects, 1))
    assert store.addresses([request]) == {request: 1}
