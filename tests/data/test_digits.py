"""The digits that ship with the package."""

import hashlib
from importlib.resources import files

import numpy as np
import pytest

from graphengine.data import Split, digits

SHA_256 = "dbb3c9cee87c18eb6e2b9802b67885d0d20351a5fabc12454e2ede68ee8cb59c"


@pytest.fixture(scope="module")
def split() -> Split:
    return digits()


def test_the_file_is_the_one_that_its_description_names() -> None:
    folder = files("graphengine.data")
    assert hashlib.sha256(folder.joinpath("digits.npz").read_bytes()).hexdigest() == SHA_256
    assert SHA_256 in folder.joinpath("README.md").read_text(encoding="utf-8")


def test_there_are_1797_digits_and_the_counts_that_the_source_states(split: Split) -> None:
    labels = np.concatenate([split.train["label"], split.test["label"]])
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_a_fifth_of_each_digit_is_held_back(split: Split) -> None:
    assert (len(split.train["label"]), len(split.test["label"])) == (1437, 360)
    held_back = np.bincount(split.test["label"]) / np.bincount(np.concatenate([part["label"] for part in split]))
    assert np.abs(held_back - 0.2).max() < 0.005


def test_pixels_are_sixteenths_from_blank_to_ink(split: Split) -> None:
    for part in split:
        assert part["pixels"].dtype == np.float32
        assert part["pixels"].shape == (len(part["label"]), 64)
        assert (part["pixels"].min(), part["pixels"].max()) == (0, 1)
        assert np.array_equal(part["pixels"] * 16, np.round(part["pixels"] * 16))


def test_no_picture_that_is_tested_is_trained_on(split: Split) -> None:
    train, test = ({row.tobytes() for row in part["pixels"]} for part in split)
    assert not train & test


def test_the_split_is_the_same_every_time_and_the_callers_own(split: Split) -> None:
    again = digits()
    again.train["pixels"][:] = 0
    assert np.array_equal(digits().train["pixels"], split.train["pixels"])


def test_the_first_digit_looks_like_a_nought(split: Split) -> None:
    image = split.train["pixels"][split.train["label"] == 0].mean(axis=0).reshape(8, 8)
    assert image[3:5, 3:5].max() < 0.2 < image[3:5, 1:3].max()
