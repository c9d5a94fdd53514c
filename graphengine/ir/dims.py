"""Sizes of axes: an int, or a polynomial in named sizes, written canonically: "batch", "2*batch+1", "batch*time".

A dim is a plain `int` or `str`, so a shape is a plain tuple, equal dims are equal strings, and JSON needs nothing more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache, reduce

from graphengine.errors import ShapeError
from graphengine.wording import cut, shown

Dim = int | str
Shape = tuple[Dim, ...]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SPACES = re.compile(r" *([-+*]) *")
_TERM = re.compile(r"([+-]?)((?:[A-Za-z0-9_]+)(?:\*[A-Za-z0-9_]+)*)")

_NAMED = "write a name, as 'batch', for a size that feeds say"

MAX_SIZE = 2**63 - 1
"""The size of the largest axis, as NumPy has it."""

_MAX_LENGTH = 1000
"""How many characters an expression may have: what is added or multiplied over and over grows without bound."""

_REMEDY = "give the axis a name of its own"

_Monomial = tuple[str, ...]
_Polynomial = dict[_Monomial, int]


def check_dim(dim: object) -> Dim:
    """Return `dim` in canonical form: a size of at least 0, or an expression in names; raise ShapeError otherwise."""
    if isinstance(dim, str):
        return _write(_read(dim))
    try:
        size = dim.__index__()  # type: ignore[attr-defined]  # ints of every make, NumPy's too
    except AttributeError:
        raise ShapeError(f"a dim is an int or a name, not {shown(dim)}; {_NAMED}") from None
    if isinstance(dim, bool) or size < 0:
        raise ShapeError(f"a dim is at least 0, not {shown(dim)}; {_NAMED}")
    if size > MAX_SIZE:
        raise ShapeError(f"a dim is at most {MAX_SIZE}, and this one is larger")
    return int(size)


def is_name(dim: Dim) -> bool:
    """Whether `dim` is one bare name, as a declared axis must be when it is not an int."""
    return isinstance(dim, str) and _NAME.fullmatch(dim) is not None


def add(a: Dim, b: Dim) -> Dim:
    """a + b."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    return _write(_collected([*_read(a).items(), *_read(b).items()]))


def subtract(a: Dim, b: Dim) -> Dim:
    """a - b."""
    return add(a, -b if isinstance(b, int) else multiply(-1, b))


def multiply(a: Dim, b: Dim) -> Dim:
    """a * b."""
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    if len(_read(a)) * len(_read(b)) > _MAX_LENGTH:
        factors = f"{cut(str(a), 40)} and {cut(str(b), 40)}"
        raise ShapeError(f"the product of two sizes has more than {_MAX_LENGTH} terms: {factors}; {_REMEDY}")
    terms = [(tuple(sorted(x + y)), m * n) for x, m in _read(a).items() for y, n in _read(b).items()]
    return _write(_collected(terms))


def divide(a: Dim, b: Dim) -> Dim | None:
    """a / b where that is a dim for every value of the names, else None."""
    if a == b:
        return 1
    divisor = _read(b)
    if len(divisor) != 1:
        return None
    ((names, factor),) = divisor.items()
    quotient: _Polynomial = {}
    for monomial, coefficient in _read(a).items():
        rest = list(monomial)
        for name in names:
            if name not in rest:
                return None
            rest.remove(name)
        if coefficient % factor:
            return None
        quotient[tuple(rest)] = coefficient // factor
    return _write(quotient)


def is_positive(dim: Dim) -> bool:
    """Whether every term of `dim` is positive, so that it is at least 1: names are sizes of at least 1."""
    return min(_read(dim).values(), default=0) > 0


def product(shape: Iterable[Dim]) -> Dim:
    """The number of elements of `shape`."""
    one: Dim = 1
    return reduce(multiply, shape, one)


def names(dim: Dim) -> frozenset[str]:
    """The names in `dim`."""
    return frozenset() if isinstance(dim, int) else frozenset(name for monomial in _read(dim) for name in monomial)


def bind(dim: Dim, binding: Mapping[str, int]) -> int:
    """The value of `dim` when its names have the sizes of `binding`."""
    if isinstance(dim, int):
        return dim
    return sum(factor * math.prod(binding[name] for name in monomial) for monomial, factor in _read(dim).items())


def substitute(dim: Dim, binding: Mapping[str, Dim]) -> Dim:
    """`dim` with those of its names that `binding` has replaced by dims."""
    if isinstance(dim, int):
        return dim
    total: Dim = 0
    for monomial, factor in _read(dim).items():
        total = add(total, product([factor, *(binding.get(name, name) for name in monomial)]))
    return total


@lru_cache(maxsize=4096)
def _read(dim: Dim) -> _Polynomial:
    if isinstance(dim, int):
        return {(): dim} if dim else {}
    if len(dim) > _MAX_LENGTH:
        raise _too_long(dim)
    text = _SPACES.sub(r"\1", dim.strip(" "))
    terms: list[tuple[_Monomial, int]] = []
    end = 0
    for match in _TERM.finditer(text):
        if match.start() != end or (end and not match[1]):
            break
        end = match.end()
        factor = -1 if match[1] == "-" else 1
        monomial = []
        for part in match[2].split("*"):
            if part.isdecimal() and len(part) < 19:
                factor *= int(part)
            elif _NAME.fullmatch(part):
                monomial.append(part)
            else:
                raise ShapeError(f"not a dim: {dim!r}")
        terms.append((tuple(sorted(monomial)), factor))
    if not text or end != len(text):
        raise ShapeError(f"not a dim: {dim!r}")
    return _collected(terms)


def _collected(terms: Iterable[tuple[_Monomial, int]]) -> _Polynomial:
    """The polynomial of these terms, those of equal monomials added."""
    total: _Polynomial = {}
    for monomial, factor in terms:
        total[monomial] = total.get(monomial, 0) + factor
    return total


def _write(polynomial: _Polynomial) -> Dim:
    terms = sorted(((m, c) for m, c in polynomial.items() if c), key=lambda term: (-len(term[0]), term[0]))
    if not terms:
        return 0
    if terms[0][0] == ():
        return terms[0][1]
    text = ""
    for monomial, factor in terms:
        sign = "-" if factor < 0 else "+" if text else ""
        size = () if abs(factor) == 1 and monomial else (str(abs(factor)),)
        if abs(factor) > MAX_SIZE:
            raise ShapeError(f"a factor in a size is at most {MAX_SIZE}, and that of {'*'.join(monomial)} is larger")
        text += sign + "*".join((*size, *monomial))
    if len(text) > _MAX_LENGTH:
        raise _too_long(text)
    return text


def _too_long(dim: str) -> ShapeError:
    return ShapeError(f"a size is at most {_MAX_LENGTH} characters long, and this one is {cut(dim, 40)}; {_REMEDY}")
