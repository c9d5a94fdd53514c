"""First values of parameters: rules that draw an array from a seed, a name and a shape.

A draw depends on nothing but these three, so a parameter added to a graph leaves the others' draws as they were.
`fan_in` and `fan_out` of a shape are the sizes on either side of the map that it is: (in, out) for a matrix of
`x @ w`, and (channels in * window, channels out * window) for a convolution's (out, in, *window).
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field, SerializeAsAny

from graphengine.errors import AttributeValueError
from graphengine.ir.array import ExactFloat, fitted
from graphengine.ir.names import unknown_in
from graphengine.ir.tagged import Settings
from graphengine.ir.types import Array

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LSTMBias",
    "Normal",
    "Ones",
    "Orthogonal",
    "Uniform",
    "Zeros",
]

__dir__ = __all__.copy
__getattr__ = unknown_in("init")

Size = tuple[int, ...]


class Initializer(Settings):
    """A rule for the first value of a parameter: a function of seed, name, shape and dtype."""

    block: ClassVar[int] = 2**16
    """How many elements are drawn at a time in float64, in which the bits of all dtypes are drawn."""

    def draw(self, seed: int, name: str, shape: Size, dtype: str) -> Array:
        """The array that this rule gives the parameter `name` under `seed`. It takes the memory of its dtype."""
        return self._first(math.prod(shape), seed, name, shape, dtype).reshape(shape)

    def check(self, seed: int, name: str, shape: Size, dtype: str) -> None:
        """Raise what `draw` would, as far as the first element tells."""
        self._first(min(1, math.prod(shape)), seed, name, shape, dtype)

    def _first(self, count: int, seed: int, name: str, shape: Size, dtype: str) -> Array:
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest)))
        result = np.empty(count, dtype)
        try:
            for start in range(0, count, self.block):
                stop = min(start + self.block, count)
                result[start:stop] = fitted(self.elements(generator, shape, start, stop), dtype)
        except ValueError as error:
            lost, _, _ = str(error).partition(";")  # where it stands is where it stands in a block
            raise AttributeValueError(f"the first value of {name!r}, by {self!r}: {lost}") from None
        return result

    def elements(self, generator: np.random.Generator, shape: Size, start: int, stop: int) -> Array:
        """The elements number `start` to `stop` of an array of `shape`, in C order and float64.

        They are asked for in order, `block` of them at a time.
        """
        raise NotImplementedError


AnyInitializer = Annotated[SerializeAsAny[Initializer], BeforeValidator(Initializer.of_kind)]


class Zeros(Initializer):
    """All elements 0."""

    kind: Literal["zeros"] = Field(default="zeros", init=False)

    def elements(self, generator: np.random.Generator, shape: Size, start: int, stop: int) -> Array:
        return np.zeros(stop - start)


class Ones(Initializer):
    """All elements 1."""

    kind: Literal["ones"] = Field(default="ones", init=False)

    def elements(self, generator: np.random.Generator, shape: Size, start: int, stop: int) -> Array:
        return np.ones(stop - start)


class Constant(Initializer):
    """All elements `value`. Raises AttributeValueError for a value that the dtype does not hold."""

    kind: Literal["constant"] = Field(default="constant", init=False)
    value: ExactFloat

    def elements(self, generator: np.random.Generator, shape: Size, start: int, stop: int) -> Array:
        return np.full(stop - start, self.value)


class Seed(Initializer):
    """All elements the seed itself, modulo 2^63: the key of the random numbers that are drawn while running."""

    kind: Literal["seed"] = Field(default="seed", init=False)

    def _first(self, count: int, seed: int, name: str, shape: Size, dtype: str) -> Array:
        return np.full(count, seed % 2**63, dtype=dtype)


class Normal(Initializer):
    """Elements drawn from N(mean, std^2). Raises AttributeValueError unless 0 <= std.

    >>> ge.init.Normal(0.1).std
    0.1
    """

    kind: Literal["normal"] = Field(default="normal", init=False)
    mean: float = Field(default=0.0, kw_only=True)
    std: float = Field(default=1.0, ge=0)

    def elements(self, generator: np.random.Generator, shape: Size, start: int, stop: int) -> Array:
        return generator.normal(self.mean, self.std, stop - start)


class Uniform(Initializer):
    """Elements drawn from [low, high). When it draws, raises AttributeValueError unless low <= high."""

    kind: Literal["uniform"] = Field(default="uniform", init=False)
    low: float = -1.0
    high: float = 1.0

    def elements(self, generator: np.random.Generator, shape: Size, start: int, stop: int) -> Array:
        if self.low > self.high:
            raise AttributeValueError(f"Uniform: low {self.low} is above high {self.high}")
        return generator.uniform(self.low, self.high, stop - start)


class GlorotUniform(Initializer):
    """Elements drawn from [-r, r), r = sqrt(6 / (fan_in + fan_out)). Source: Glorot and Bengio 2010, eq. 16."""

    kind: Literal["glorot_uniform"] = Field(default="glorot_uniform", init=False)

    def elements(self, generator: np.random.Generator, shape: Size, start: int, stop: int) -> Array:
        radius = math.sqrt(6 / max(1, sum(fans(shape))))
        return generator.uniform(-radius, radius, stop - start)


class GlorotNormal(Initializer):
    """Elements drawn from N(0, 2 / (fan_in + fan_out)). Source: Glorot and Bengio 2010, eq. 12."""

    kind: Literal["glorot_normal"] = Field(default="glorot_normal", init=False)

    def elements(self, generator: np.random.Generator, shape: Size, start: int, stop: int) -> Array:
        return generator.normal(0, math.sqrt(2 / max(1, sum(fans(shape)))), stop - start)


class HeUniform(Initializer):
    """Elements drawn from [-r, r), r = sqrt(6 / fan_in). Source: He et al. 2015, eq. 10, as a uniform law."""

    kind: Literal["he_uniform"] = Field(default="he_uniform", init=False)

    def elements(self, generator: np.random.Generator, shape: Size, start: int, stop: int) -> Array:
        radius = math.sqrt(6 / max(1, fans(shape)[0]))
        return generator.uniform(-radius, radius, stop - start)


class HeNormal(Initializer):
    """Elements drawn from N(0, 2 / fan_in). Source: He et al. 2015, eq. 10."""

    kind: Literal["he_normal"] = Field(default="he_normal", init=False)

    def elements(self, generator: np.random.Generator, shape: Size, start: int, stop: int) -> Array:
        return generator.normal(0, math.sqrt(2 / max(1, fans(shape)[0])), stop - start)


class Orthogonal(Initializer):
    """`gain` times a random matrix with orthonormal rows or columns, whichever are fewer.

    The last axis of the shape gives the columns. When it draws, raises AttributeValueError for less than two axes.
    Source: Saxe et al. 2014.
    """

    block: ClassVar[int] = sys.maxsize
    kind: Literal["orthogonal"] = Field(default="orthogonal", init=False)
    gain: float = 1.0

    def check(self, seed: int, name: str, shape: Size, dtype: str) -> None:
        super().check(seed, name, tuple(1 for _ in shape), dtype)  # no element is drawn without the others

    def elements(self, generator: np.random.Generator, shape: Size, start: int, stop: int) -> Array:
        if len(shape) < 2:
            raise AttributeValueError(f"Orthogonal: a matrix is needed, not shape {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        square = generator.normal(size=(max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(square)
        q *= np.sign(np.diagonal(r))
        matrix: Array = q if rows >= columns else q.T
        return self.gain * matrix.reshape(-1)


class LSTMBias(Initializer):
    """The bias of an LSTM's gates i, f, g, o: 1 for f, so that a new cell remembers, else 0.

    When it draws, raises AttributeValueError unless the shape is one axis, divisible by 4.
    Source: Gers et al. 2000.
    """

    kind: Literal["lstm_bias"] = Field(default="lstm_bias", init=False)

    def elements(self, generator: np.random.Generator, shape: Size, start: int, stop: int) -> Array:
        if len(shape) != 1 or shape[0] % 4:
            raise AttributeValueError(f"LSTMBias: a vector of four equal parts is needed, not shape {shape}")
        is_forget: Array = np.arange(start, stop) // (shape[0] // 4) == 1
        return is_forget.astype(float)


def usual(shape: Sequence[object]) -> Initializer:
    """What a parameter of `shape` starts from if nothing is said: GlorotUniform, or Zeros below two axes."""
    return GlorotUniform() if len(shape) > 1 else Zeros()


def fans(shape: Size) -> tuple[int, int]:
    """fan_in and fan_out of a parameter of `shape`."""
    if len(shape) < 2:
        size = math.prod(shape)
        return size, size
    if len(shape) == 2:
        return shape
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window
