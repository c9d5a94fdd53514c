"""log and log1p.

x is split into 2^n (1 + f) with 1 + f around 1; log(1 + f) is a polynomial. Coefficients are minimax fits by Remez
exchange, each rounded in turn and the rest fitted anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan

from graphengine.backends.native.llvm.formula import Value, fma, polynomial, select


@dataclass(frozen=True, slots=True)
class _Form:
    """The constants of one dtype."""

    polynomial: tuple[float, ...]
    ln2_high: float
    ln2_low: float
    least: int  # the bits of the least 1 + f
    one: int  # the bits of 1.0
    normal: float  # the least number with a whole mantissa


_SINGLE = _Form(
    # (log(1 + f) - f) / f^2 on |f| < 0.3334, relative to log(1 + f) 2^-27.2
    polynomial=(
        -0.5, 0.33333197236061096, -0.24999919533729553, 0.20011433959007263, -0.1667446494102478, 0.13989649713039398,
        -0.12272746115922928, 0.14059746265411377, -0.12493780255317688,
    ),
    ln2_high=0.693145751953125,
    ln2_low=1.428606765330187e-06,
    least=0x3F2AAAAB,  # 2/3
    one=0x3F800000,
    normal=2.0**-126,
)  # rows of numbers  # fmt: skip
_DOUBLE = _Form(
    # (2 atanh(s) - 2 s) / s^3 in s^2 for |s| < 0.1717, relative to 2 atanh(s) 2^-66
    polynomial=(
        0.6666666666666666, 0.4000000000000495, 0.2857142856939859, 0.22222222609333683, 0.18181778138389068,
        0.1538699926379728, 0.13251896816747918, 0.13237184110150976,
    ),
    ln2_high=0.6931471805598903,
    ln2_low=5.497923018708371e-14,
    least=0x3FE6A09E667F3BCD,  # the root of 1/2
    one=0x3FF0000000000000,
    normal=2.0**-1022,
)  # rows of numbers  # fmt: skip


def log(x: Value) -> Value:
    """The natural logarithm. Measured: 0.95 ulp in float32, 0.80 in float64."""
    form = _form(x)
    small = x < form.normal
    exponent, mantissa = split(select(small, x * 2.0**x.mantissa_bits, x), form.least)
    n = exponent.to_float() - select(small, x.like(x.mantissa_bits), 0.0)
    return _at_the_ends(x, x, _log(n, mantissa - 1.0, form))


def log1p(x: Value) -> Value:
    """log(1 + x). Measured: 1.53 ulp in float32, 1.34 in float64.

    The f of 1 + x is made of x itself, as 2^-n x + (2^-n - 1), as long as x may have bits that 1 + x lacks.
    """
    form = _form(x)
    y = x + 1.0
    exponent, mantissa = split(y, form.least)
    scale = (exponent.like(form.one) - (exponent << x.mantissa_bits)).as_float()
    f = select(x > 2.0 ** (x.mantissa_bits + 2), mantissa - 1.0, fma(x, scale, scale - 1.0))
    value = _at_the_ends(x, y, _log(exponent.to_float(), f, form))
    return select(x.equals(0.0), x, value)


def _form(x: Value) -> _Form:
    return _DOUBLE if x.is_double else _SINGLE


def split(x: Value, least: int) -> tuple[Value, Value]:
    """n and m of x = 2^n m with m from the float whose bits are `least` to twice that."""
    above = x.bits() - least
    exponent = above >> x.mantissa_bits
    return exponent, (x.bits() - (exponent << x.mantissa_bits)).as_float()


def _log(n: Value, f: Value, form: _Form) -> Value:
    """n ln 2 + log(1 + f)."""
    if f.is_double:
        return _by_quotient(n, f, form)
    value = fma(n, form.ln2_low, fma(f * f, polynomial(f, form.polynomial), f))
    return fma(n, form.ln2_high, value)


def _by_quotient(n: Value, f: Value, form: _Form) -> Value:
    """log(1 + f) = 2 atanh(s) with s = f / (2 + f), written as f - f^2/2 + s (f^2/2 + R) so that f is not rounded."""
    s = f / (f + 2.0)
    square = s * s
    half = f * f * 0.5
    value = fma(s, fma(square, polynomial(square, form.polynomial), half), n * form.ln2_low)
    return fma(n, form.ln2_high, f - (half - value))


def _at_the_ends(x: Value, argument: Value, value: Value) -> Value:
    """What the logarithm of the argument is at 0, below it, and for inf and NaN, which are those of x."""
    value = select(x < inf, value, x)
    return select(argument > 0.0, value, select(argument.equals(0.0), value.like(-inf), nan))
