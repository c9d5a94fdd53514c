"""Large constants, in a file beside the document."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from safetensors.numpy import save as save_arrays

import graphengine as ge
from tests.arrays import f64


def large(rows: int = 100) -> ge.Graph:
    g = ge.Graph("large", dtype="float64")
    table = g.constant("table", f64(rows, 100))
    g.constant("mask", f64(rows, 100) > 0)
    g.output("sum", ge.sum(table))
    return g


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    large().save(tmp_path / "net.json")
    return tmp_path / "net.json"


def constants(document: Path) -> Path:
    """The one file of constants beside a document."""
    (path,) = document.parent.glob(f"{document.name}.*.safetensors")
    return path


def fault(path: Path) -> str:
    with pytest.raises(ge.SpecError) as caught:
        ge.load(path)
    return str(caught.value)


def test_a_large_constant_stands_beside_the_document_and_its_sha256_within(saved: Path) -> None:
    assert set(saved.parent.iterdir()) == {saved, constants(saved), saved.with_suffix(".safetensors")}
    assert len(saved.read_text()) < 1000
    assert large()["table"].op.digest() in saved.read_text()
    read = ge.load(saved)
    assert read == large()
    assert read.to_json() == saved.read_text()
    assert read.hash() == large().hash()


def test_a_constant_of_4096_elements_stands_in_the_document_and_one_of_4097_does_not(tmp_path: Path) -> None:
    for size, files in ((4096, 1), (4097, 3)):
        g = ge.Graph("edge")
        g.constant("c", np.zeros(size))
        folder = tmp_path / str(size)
        folder.mkdir()
        g.save(folder / "net.json")
        assert len(list(folder.iterdir())) == files
        assert ge.load(folder / "net.json") == g


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float32", "float64"])
def test_large_constants_of_every_dtype_and_layout_come_back_to_the_bit(dtype: str, tmp_path: Path) -> None:
    array = (f64(70, 80) * 100).astype(dtype).T
    g = ge.Graph("transposed")
    g.constant("c", array, dtype=dtype)
    g.save(tmp_path / "net.json")
    assert ge.load(tmp_path / "net.json")["c"].op.value.tobytes() == array.tobytes()


def test_the_text_of_a_graph_with_a_large_constant_says_where_the_rest_is() -> None:
    with pytest.raises(ge.SpecError) as caught:
        ge.Graph.from_json(large().to_json())
    text = str(caught.value)
    assert "'table'" in text
    assert "/nodes/0/sha256" in text
    assert "ge.load" in text


def test_a_document_without_its_file_is_refused(saved: Path) -> None:
    path = constants(saved)
    path.unlink()
    saved.with_suffix(".safetensors").unlink()
    assert path.name in fault(saved)
    assert "no such file" in fault(saved)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda arrays: arrays.pop("table"), "does not hold the constant 'table'"),
        (lambda arrays: arrays.update(other=np.zeros(3)), "holds 'other'"),
        (lambda arrays: arrays.update(table=arrays["table"] + 1), "SHA-256"),
        (
            lambda arrays: arrays.update(table=arrays["table"][:50].copy()),
            "float64[50, 100], and not float64[100, 100]",
        ),
        (lambda arrays: arrays.update(table=arrays["table"].astype("float32")), "float32[100, 100], and not float64"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(saved: Path, change: object, words: str) -> None:
    arrays = load_file(constants(saved))
    change(arrays)
    save_file(arrays, constants(saved))
    assert words in fault(saved)
    assert "remedy: save the graph again" in fault(saved)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b'{"a": 1}', (2**40).to_bytes(8, "little") + b"{}"])
def test_a_file_that_is_no_safetensors_file_is_refused(saved: Path, content: bytes) -> None:
    constants(saved).write_bytes(content)
    assert "cannot be read" in fault(saved)


def test_a_truncated_file_is_refused(saved: Path) -> None:
    path = constants(saved)
    path.write_bytes(path.read_bytes()[:-8])
    assert "cannot be read" in fault(saved)


def test_a_stale_file_beside_a_graph_without_large_constants_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").write_bytes(b"stale")
    g = ge.Graph("small")
    g.constant("c", 1.0)
    g.save(tmp_path / "net.json")
    assert (tmp_path / "net.safetensors").read_bytes() == b"stale"
    assert ge.load(tmp_path / "net.json") == g


def test_a_write_that_does_not_read_back_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def zeros(arrays: dict[str, np.ndarray], _: object) -> bytes:
        return save_arrays({name: array * 0 for name, array in arrays.items()})

    monkeypatch.setattr("safetensors.numpy.save", zeros)
    with pytest.raises(ge.SpecError, match="does not read back"):
        large().save(tmp_path / "net.json")
    assert not list(tmp_path.iterdir())


def test_an_inline_constant_of_any_size_is_read(tmp_path: Path) -> None:
    text = '{"format": "graphengine", "version": 1, "name": "g", "dtype": "float32", "nodes": [{"name": "c", "op": '
    text += f'"constant", "value": {[1.0] * 5000}}}], "outputs": {{}}}}'
    g = ge.Graph.from_json(text)
    g.save(tmp_path / "net.json")
    assert ge.load(tmp_path / "net.json") == g
    assert constants(tmp_path / "net.json").exists()
