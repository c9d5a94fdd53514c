"""Clipping by value and by global norm."""

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import AttributeValueError
from graphengine.optim.clip import Clip


def moved(clip: Clip, a: list[float], b: float, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    """By how much one step of rate 1 moves parameters that have the gradients `a` and `b`."""
    graph = ge.Graph("given", dtype=dtype)
    u, v = graph.parameter("u", (len(a),), init=ge.init.Zeros()), graph.parameter("v", (), init=ge.init.Zeros())
    graph.output("loss", ge.sum(u * np.array(a)) + v * b)
    exe = ge.compile(graph, loss="loss", optimizer=ge.GD(learning_rate=1.0, clip=clip), non_finite="allow")
    exe.step({})
    return -exe.parameters["u"], -exe.parameters["v"]


def test_clip_by_value_bounds_each_element() -> None:
    u, v = moved(ge.ClipByValue(1.5), [-4.0, 0.5], 2.0)
    np.testing.assert_array_equal(u, [-1.5, 0.5])
    assert v == 1.5


def test_clip_by_global_norm_scales_all_gradients_alike() -> None:
    u, v = moved(ge.ClipByGlobalNorm(1.0), [2.0, -3.0], 6.0)  # 2^2 + 3^2 + 6^2 = 7^2
    np.testing.assert_allclose([*u, v], [2 / 7, -3 / 7, 6 / 7], rtol=1e-15)


@pytest.mark.parametrize("limit", [7.0, 100.0])
def test_clip_by_global_norm_leaves_short_gradients_alone(limit: float) -> None:
    u, v = moved(ge.ClipByGlobalNorm(limit), [2.0, -3.0], 6.0)
    np.testing.assert_array_equal([*u, v], [2.0, -3.0, 6.0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clip_by_global_norm_of_zeros_is_zeros(dtype: str) -> None:
    u, v = moved(ge.ClipByGlobalNorm(1.0), [0.0, 0.0], 0.0, dtype)
    np.testing.assert_array_equal([*u, v], [0.0, 0.0, 0.0])


def test_nan_in_one_gradient_is_seen_in_all() -> None:
    u, v = moved(ge.ClipByGlobalNorm(1.0), [np.nan, 1.0], 1.0)
    assert np.isnan([*u, v]).all()


@pytest.mark.parametrize("clip", [ge.ClipByValue, ge.ClipByGlobalNorm])
@pytest.mark.parametrize("limit", [0.0, -1.0, np.inf, np.nan, None])
def test_limit_is_a_finite_number_above_zero(clip: type[Clip], limit: object) -> None:
    with pytest.raises(AttributeValueError, match=f"{clip.__name__}: limit: "):
        clip(limit=limit)


@pytest.mark.parametrize("clip", [ge.ClipByValue(1.5), ge.ClipByGlobalNorm(2.0)])
def test_clip_comes_back_from_json(clip: Clip) -> None:
    assert Clip.of_kind(clip.model_dump(mode="json")) == clip
