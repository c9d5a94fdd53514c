"""Principal components: exact where they can be, and never beaten by another linear code."""

from __future__ import annotations

import numpy as np
import pytest

from graphengine.baselines import PrincipalComponents
from graphengine.errors import AttributeValueError
from tests.arrays import f64


def test_examples_in_a_plane_are_kept_by_two_components() -> None:
    examples = f64(20, 2) @ f64(2, 6) + f64(6)
    assert PrincipalComponents.fit(examples, 2).error(examples) == pytest.approx(0, abs=1e-25)
    assert PrincipalComponents.fit(examples, 1).error(examples) > 1e-3


def test_the_error_is_that_of_the_singular_values_left_out() -> None:
    examples = f64(15, 5)
    values = np.linalg.svd(examples - examples.mean(axis=0), compute_uv=False)
    for size in range(1, 6):
        expected = (values[size:] ** 2).sum() / examples.size
        assert PrincipalComponents.fit(examples, size).error(examples) == pytest.approx(expected, abs=1e-15)


def test_components_are_orthonormal_and_codes_have_their_number() -> None:
    fitted = PrincipalComponents.fit(f64(15, 5), 3)
    np.testing.assert_allclose(fitted.components @ fitted.components.T, np.eye(3), atol=1e-14)
    assert fitted.encode(f64(4, 5)).shape == (4, 3)


@pytest.mark.parametrize("size", [0, 6])
def test_a_code_of_no_or_too_many_numbers_is_refused(size: int) -> None:
    with pytest.raises(AttributeValueError, match=rf"shape \[15, 5\] have no {size} principal components"):
        PrincipalComponents.fit(f64(15, 5), size)
