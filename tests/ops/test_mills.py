"""The Mills ratio."""

import numpy as np
import pytest

from graphengine.backends.native import vocabulary
from graphengine.ops.support import form

# sqrt(pi / 2) e^(x^2 / 2) erfc(x / sqrt 2), by mpmath
RATIOS = {
    0.0: 1.2533141373155003,
    0.5: 0.8763644564536923,
    1.0: 0.6556795424187984,
    3.0: 0.3045902987101033,
    10.0: 0.09902859647173193,
    38.0: 0.026297602974252963,
}


MILLS = form.record(form.mills, 1)


def test_the_mills_ratio_is_right_to_the_last_bits() -> None:
    x, expected = np.array([*RATIOS]), [*RATIOS.values()]
    np.testing.assert_allclose(form.evaluate(MILLS, np, [x]), expected, rtol=1e-15)
    np.testing.assert_allclose([vocabulary.mills(place) for place in x], expected, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_mills_ratio_is_right_to_few_units_in_either_dtype(dtype: str) -> None:
    x = np.linspace(0, 14, 10_001).astype(dtype)
    expected = [vocabulary.mills(place) for place in x.astype(np.float64)]
    actual = form.evaluate(MILLS, np, [x])
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, expected, rtol=4e-7 if dtype == "float32" else 1e-14)
