"""The loader of Fashion-MNIST: on files that the tests write, and on the real ones where they are installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphengine.data import FASHION_CLASSES, fashion_mnist
from graphengine.errors import TrainingError
from tests.data.fashion import stripes, write
from tests.data.test_idx import idx

INSTALLED = Path("/usr/share/datasets/fashion-mnist")


def test_pixels_lie_between_0_and_1_and_labels_are_numbers(tmp_path: Path) -> None:
    split = fashion_mnist(write(tmp_path))
    images, labels = stripes(200, seed=200)
    assert (split.train["pixels"].dtype, split.train["label"].dtype) == (np.float32, np.int64)
    np.testing.assert_allclose(split.train["pixels"], images.reshape(200, 784) / 255, rtol=1e-6)
    np.testing.assert_array_equal(split.train["label"], labels)
    assert split.test["pixels"].shape == (50, 784)


def test_files_need_not_be_gzipped(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(50, 7)))
    assert set(fashion_mnist(tmp_path).test["label"]) == {7}


def test_the_environment_says_where_the_files_are_and_an_argument_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHENGINE_FASHION_MNIST", str(write(tmp_path)))
    assert len(fashion_mnist().train["label"]) == 200
    with pytest.raises(TrainingError, match="has no train-images"):
        fashion_mnist(tmp_path / "elsewhere")


def test_where_there_are_no_files_the_error_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        fashion_mnist(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert "install the Debian package dataset-fashion-mnist" in caught.value.message
    assert "GRAPHENGINE_FASHION_MNIST" in caught.value.message


WRONG = {
    "pictures of another size": (
        "train-images-idx3",
        np.zeros((200, 8, 8)),
        r"images of 'train' are uint8\[200, 8, 8\]",
    ),
    "fewer labels than pictures": ("train-labels-idx1", np.zeros(199), r"200 images, and labels of shape \[199\]"),
    "an eleventh class": ("t10k-labels-idx1", np.full(50, 10), "a label of 't10k' is 10, and there are ten classes"),
}


@pytest.mark.parametrize(("name", "array", "message"), WRONG.values(), ids=WRONG)
def test_files_that_do_not_fit_are_an_error(tmp_path: Path, name: str, array: np.ndarray, message: str) -> None:
    write(tmp_path)
    (tmp_path / f"{name}-ubyte.gz").write_bytes(idx(array))
    with pytest.raises(TrainingError, match=message):
        fashion_mnist(tmp_path)


def test_there_are_ten_classes() -> None:
    assert len(set(FASHION_CLASSES)) == 10


@pytest.mark.skipif(not INSTALLED.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_the_real_pictures_are_as_their_authors_describe_them() -> None:
    split = fashion_mnist(INSTALLED)
    assert np.bincount(split.train["label"]).tolist() == [6000] * 10
    assert np.bincount(split.test["label"]).tolist() == [1000] * 10
    assert (split.train["pixels"].min(), split.train["pixels"].max()) == (0, 1)
    assert split.train["pixels"].mean() == pytest.approx(0.2860, abs=1e-4)
    assert [FASHION_CLASSES[label] for label in split.train["label"][:3]] == [
        "Ankle boot",
        "T-shirt/top",
        "T-shirt/top",
    ]
