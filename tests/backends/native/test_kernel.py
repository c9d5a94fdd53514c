"""What a kernel's text says of its parameters."""

from __future__ import annotations

from graphengine.backends.native.kernel import Kernel, parameters, written


def names_written(source: str) -> list[str]:
    kernel = Kernel("sample", source)
    return [parameters(kernel)[place] for place in sorted(written(kernel))]


def test_an_array_is_written_if_one_of_its_elements_is_set() -> None:
    assert names_written("def sample(y, x):\n    y[0] = x[0]\n") == ["y"]
    assert names_written("def sample(y, x):\n    y[0] += x[x[1]]\n") == ["y"]
    assert names_written("def sample(y, x):\n    y[0] = x[0]\n    x[0] = 0.0\n") == ["y", "x"]


def test_what_is_handed_on_may_be_written_unless_it_is_marked() -> None:
    assert names_written("def sample(y, x):\n    fill(behind(y, 1), x)\n") == ["y", "x"]
    assert names_written("def sample(y, x: Read):\n    fill(behind(y, 1), x)\n") == ["y"]


def test_places_are_those_of_the_parameters() -> None:
    assert written(Kernel("sample", "def sample(n, x, y):\n    y[n] = x[n]\n")) == {0, 2}  # n is no array: it may be
