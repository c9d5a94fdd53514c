"""The names of machine code: what it depends on."""

from pathlib import Path

import pytest

pytest.importorskip("numba", reason="numba compiles the kernels")

from graphengine.backends.native.compile import disk, store
from graphengine.backends.native.kernel import Kernel

DOUBLE = Kernel("double", "def double(x, n):\n    for i in range(n):\n        x[i] = x[i] + x[i]\n")
SIGNATURE = ("float64*", "int")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHENGINE_CACHE", str(tmp_path / "cache"))


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
    name = store.key(*request)
    stored = disk.read([name])[name]
    assert address
    assert stored
    monkeypatch.setattr(store, "_compile", lambda *_: pytest.fail("compiled again"))
    assert store.addresses([request]) == {request: address}
    monkeypatch.setattr(store, "_known", {})
    monkeypatch.setattr(store, "load", lambda objects: dict.fromkeys(objects, 1))
    assert store.addresses([request]) == {request: 1}
