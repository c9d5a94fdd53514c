"""Initializers: the laws that they draw from, and what a draw depends on."""

import hashlib
import math

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import AttributeValueError
from graphengine.ir.init import Initializer, fans

SHAPE = (200, 300)


def draw(rule: Initializer, shape: tuple[int, ...] = SHAPE, seed: int = 0, name: str = "w") -> np.ndarray:
    return rule.draw(seed, name, shape, "float64")


@pytest.mark.parametrize(
    ("rule", "variance"),
    [
        (ge.init.Normal(std=0.1), 0.01),
        (ge.init.Uniform(low=-0.5, high=0.5), 1 / 12),
        (ge.init.GlorotUniform(), 2 / 500),
        (ge.init.GlorotNormal(), 2 / 500),
        (ge.init.HeUniform(), 2 / 200),
        (ge.init.HeNormal(), 2 / 200),
    ],
)
def test_a_random_rule_has_the_mean_and_variance_of_its_formula(rule: Initializer, variance: float) -> None:
    sample = draw(rule)
    assert abs(sample.mean()) < 5 * math.sqrt(variance / sample.size)
    assert sample.var() == pytest.approx(variance, rel=0.03)


def test_normal_and_uniform_draw_where_they_are_told_to() -> None:
    assert draw(ge.init.Normal(mean=3.0, std=0.1)).mean() == pytest.approx(3.0, abs=0.01)
    sample = draw(ge.init.Uniform(low=2.0, high=3.0))
    assert sample.min() >= 2.0
    assert sample.max() < 3.0


def test_the_rules_without_chance_fill() -> None:
    assert (draw(ge.init.Zeros()) == 0).all()
    assert (draw(ge.init.Ones()) == 1).all()
    assert (draw(ge.init.Constant(2.5)) == 2.5).all()


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (4, 4), (3, 2, 4), (1, 1)])
def test_orthogonal_has_orthonormal_rows_or_columns_whichever_are_fewer(shape: tuple[int, ...]) -> None:
    matrix = draw(ge.init.Orthogonal(gain=2.0), shape).reshape(-1, shape[-1])
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(gram, 4.0 * np.eye(min(matrix.shape)), atol=1e-12)


def test_orthogonal_prefers_no_sign() -> None:
    traces = [np.trace(draw(ge.init.Orthogonal(), (3, 3), seed)) for seed in range(300)]
    assert abs(np.mean(traces)) < 0.3  # the law is uniform over rotations and reflections, whose mean trace is 0


def test_orthogonal_needs_a_matrix() -> None:
    with pytest.raises(AttributeValueError, match="a matrix is needed"):
        draw(ge.init.Orthogonal(), (3,))


@pytest.mark.parametrize(
    ("shape", "expected"), [((), (1, 1)), ((7,), (7, 7)), ((3, 5), (3, 5)), ((8, 4, 3, 3), (36, 72))]
)
def test_fans_of_vectors_matrices_and_convolutions(shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    assert fans(shape) == expected


def test_a_draw_depends_on_seed_name_and_shape_and_on_nothing_else() -> None:
    rule = ge.init.Normal()
    assert (draw(rule) == draw(rule)).all()
    assert (draw(rule, seed=1) != draw(rule)).any()
    assert (draw(rule, name="v") != draw(rule)).any()
    np.random.default_rng(0).normal(size=10)
    assert (draw(ge.init.Normal()) == draw(rule)).all()


def test_a_float32_draw_is_the_float64_draw_rounded() -> None:
    rule = ge.init.GlorotUniform()
    assert (rule.draw(0, "w", SHAPE, "float32") == draw(rule).astype("float32")).all()


@pytest.mark.parametrize("kind", sorted(Initializer.registry.keys() - {"constant", "orthogonal", "lstm_bias", "seed"}))
def test_a_draw_in_blocks_has_the_bits_of_one_that_is_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, shape = Initializer.registry[kind](), (7, 5, 3)
    whole = draw(rule, shape)
    monkeypatch.setattr(Initializer, "block", 8)
    assert (draw(rule, shape) == whole).all()


def test_a_draw_has_the_bits_that_it_had_before_it_was_in_blocks() -> None:
    digest = hashlib.sha256(f"{0}/w".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest)))
    shape = (3, 70_000)
    assert (draw(ge.init.Normal(std=0.5), shape) == generator.normal(0.0, 0.5, shape)).all()


@pytest.mark.parametrize("rule", [ge.init.Orthogonal(), ge.init.LSTMBias(), ge.init.Normal()])
def test_a_check_takes_no_time_whatever_the_size(rule: Initializer) -> None:
    rule.check(0, "w", (2**40,) if isinstance(rule, ge.init.LSTMBias) else (2**30, 2**30), "float32")


def test_a_parameter_that_is_added_leaves_the_others_draws_as_they_were() -> None:
    def parameters(*names: str) -> dict[str, np.ndarray]:
        g = ge.Graph()
        for name in names:
            g.output(f"of_{name}", g.parameter(name, (3, 4)))
        exe = ge.compile(g, seed=5)
        return {name: np.array(exe.parameters[name]) for name in names}

    few, many = parameters("a", "b"), parameters("new", "b", "newer", "a")
    assert all((few[name] == many[name]).all() for name in few)


def test_a_graph_that_is_loaded_draws_what_it_drew_before() -> None:
    g = ge.Graph()
    g.output("w", g.parameter("w", (3, 4)))
    first = ge.compile(g, seed=2).forward({})["w"]
    assert (ge.compile(ge.Graph.from_json(g.to_json()), seed=2).forward({})["w"] == first).all()


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), ()])
@pytest.mark.parametrize("kind", sorted(Initializer.registry.keys() - {"constant", "orthogonal", "lstm_bias"}))
def test_every_rule_draws_for_empty_shapes_and_scalars(kind: str, shape: tuple[int, ...]) -> None:
    assert draw(Initializer.registry[kind](), shape).shape == shape


@pytest.mark.parametrize(
    ("rule", "fields", "words"),
    [
        (ge.init.Normal, {"std": -1.0}, "Normal: std: .* greater than or equal to 0"),
        (ge.init.Normal, {"std": math.nan}, "Normal: std: .* finite"),
        (ge.init.Normal, {"sdt": 1.0}, "Normal: there is no argument .sdt.; did you mean .std."),
        (ge.init.Constant, {"value": "x"}, "Constant: value: .* valid number"),
    ],
)
def test_a_wrong_configuration_is_an_error_when_it_is_made(rule: type, fields: dict[str, object], words: str) -> None:
    with pytest.raises(AttributeValueError, match=words):
        rule(**fields)


def test_a_uniform_law_upside_down_is_an_error() -> None:
    with pytest.raises(AttributeValueError, match=r"low 1\.0 is above high 0\.0"):
        draw(ge.init.Uniform(low=1.0, high=0.0))


def test_the_bias_of_an_lstm_is_one_for_its_forget_gate() -> None:
    np.testing.assert_array_equal(draw(ge.init.LSTMBias(), (8,)), [0, 0, 1, 1, 0, 0, 0, 0])
    assert draw(ge.init.LSTMBias(), (0,)).shape == (0,)
    for shape in ((6,), (2, 4), ()):
        with pytest.raises(AttributeValueError, match="a vector of four equal parts is needed"):
            draw(ge.init.LSTMBias(), shape)


@pytest.mark.parametrize(
    ("rule", "dtype", "message"),
    [
        (ge.init.Constant(300), "uint8", "300.0 does not fit uint8"),
        (ge.init.Constant(-1), "uint8", "-1.0 does not fit uint8"),
        (ge.init.Constant(0.5), "int32", "0.5 does not fit int32"),
        (ge.init.Constant(2**31), "int32", "2147483648.0 does not fit int32"),
        (ge.init.Constant(1e300), "float32", r"1e\+300 does not fit float32"),
        (ge.init.Uniform(low=0.0, high=9.0), "int64", "does not fit int64"),
    ],
)
def test_a_first_value_that_the_dtype_does_not_hold_is_refused(rule: Initializer, dtype: str, message: str) -> None:
    with pytest.raises(AttributeValueError, match=f"the first value of 'w', by .*{message}"):
        rule.draw(0, "w", (2,), dtype)


def test_a_constant_that_is_no_float64_is_refused() -> None:
    with pytest.raises(AttributeValueError, match="9007199254740993 does not fit float64"):
        ge.init.Constant(2**53 + 1)
