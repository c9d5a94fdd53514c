"""Data that do not fit are told by input and row, in the words of the user's data, and before the first step."""

from collections.abc import Callable

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import FeedError, TrainingError, ValueRangeError
from graphengine.executable import Executable
from tests.train.problems import Data, classifier, line, points, rings, weights


class Sparse:
    """What SciPy's sparse matrices are to NumPy: no array."""

    def toarray(self) -> np.ndarray:
        return np.eye(3)


class Table:
    """What a DataFrame is: it iterates over its columns, and is an array too."""

    def __iter__(self):
        return iter(["x", "label"])

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return np.zeros((3, 2))


def fit(exe: Executable, data: object, **settings: object) -> object:
    return ge.fit(exe, data, **{"epochs": 1, "progress": False, **settings})


def train_and_validate(exe: Executable, data: object) -> object:
    return fit(exe, rings(), validation=data)


USES = [fit, train_and_validate, ge.evaluate, ge.predict]
x, label = rings(30).values()
NO_DICT = "data must be a dict of arrays by the names of inputs, {'x': ..., 'label': ...}, or an iterable of such dicts"


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    "data",
    [(x, label), [(x, label)], [x, label], ["x", "label"], {"x", "label"}, "data.npz", x, Table(), None, 7],
    ids=lambda d: type(d).__name__,
)
def test_data_in_another_form_are_refused_with_the_form_that_is_right(use: Callable[..., object], data: object):
    if use is train_and_validate and isinstance(data, int | None):  # which are no validation, and a fraction
        return
    exe = classifier()
    before = weights(exe)
    with pytest.raises(TrainingError) as caught:
        use(exe, data)
    assert caught.value.message.startswith(NO_DICT)
    assert "and not " in caught.value.message
    assert weights(exe) == before


@pytest.mark.parametrize("use", [fit, ge.evaluate, ge.predict])
def test_batches_in_another_form_are_refused_by_their_number(use: Callable[..., object]):
    with pytest.raises(TrainingError, match=r"batch 2 must be a dict .*, and not \(an array float64"):
        use(classifier(), [{"x": x, "label": label}, (x, label)])
    with pytest.raises(TrainingError, match="batch 1 must be a dict"):
        use(classifier(), iter([(x, label)]))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "array 'label' is None, and an array of numbers is needed"),
        (Sparse(), r"and an array of numbers is needed; of a sparse matrix give \.toarray\(\)"),
        (np.ma.masked_equal(label, 1), "array 'label' is given masked elements; fill them"),
        ([[1, 2], [3]], "array 'label' is given rows of unequal length"),
        (list("abc") * 10, "'label' is int64"),
        (label[:-1], "arrays differ in their number of examples .*'x' has 30, 'label' has 29"),
        (
            label[:, None],
            r"'label' is int64\[batch\], of rank 1, and .* \[30, 1\]; feed array\[\.\.\., 0\]",
        ),
        (np.eye(3)[label], "if these are one-hot labels, feed array.argmax"),
        (np.eye(3, dtype=int)[label], "if these are one-hot labels, feed array.argmax"),
        (label + 0.5, "feed array.astype"),
    ],
)
def test_an_array_that_does_not_fit_is_named_before_the_first_step(value: object, message: str):
    for use in (fit, train_and_validate, ge.evaluate):
        exe = classifier()
        before = weights(exe)
        with pytest.raises((TrainingError, FeedError), match=message):
            use(exe, {"x": x, "label": value})
        assert weights(exe) == before


def test_no_data_are_no_matter_of_axes():
    for settings in ({}, {"batch_size": 4}):
        with pytest.raises(FeedError, match="input 'x' is not fed") as caught:
            fit(classifier(), {}, **settings)
        assert caught.value.context == ("in the training data",)
    with pytest.raises(FeedError, match="input 'label' is not fed") as caught:
        train_and_validate(classifier(), {"x": x})
    assert caught.value.context == ("in the validation data",)


def test_one_example_and_one_column_are_told_what_they_lack():
    exe = classifier()
    with pytest.raises(FeedError, match=r"feed array\[None\] for one example"):
        exe.forward({"x": x[0]}, ["logits"])
    with pytest.raises(FeedError, match=r"feeds must be a dict of arrays by .*, \{'x': \.\.\.\}, and not"):
        exe.forward(x, ["logits"])


@pytest.mark.parametrize("settings", [{}, {"batch_size": 7}, {"batch_size": 7, "shuffle": False}, {"validation": 0.3}])
@pytest.mark.parametrize("seed", range(3))
def test_a_label_out_of_range_is_told_by_its_row_in_the_data(settings: dict[str, object], seed: int):
    data = rings(30)
    data["label"][17] = 5
    with pytest.raises(ValueRangeError, match=r"label 5 of 'label' at \[17\] is out of range") as caught:
        fit(classifier(), data, seed=seed, **settings)
    assert (caught.value.value, caught.value.index) == (5, caught.value.index)


def test_a_label_out_of_range_is_told_by_its_row_where_data_are_measured():
    data = rings(30)
    data["label"][17] = -1
    for use in (lambda: ge.evaluate(classifier(), data, batch_size=4), lambda: train_and_validate(classifier(), data)):
        with pytest.raises(ValueRangeError, match=r"label -1 of 'label' at \[17\]"):
            use()
    stream = [{name: array[start : start + 10] for name, array in data.items()} for start in (0, 10)]
    with pytest.raises(ValueRangeError, match=r"label -1 of 'label' at \[7\] of the batch after example 10"):
        fit(classifier(), stream)


@pytest.mark.parametrize("settings", [{}, {"batch_size": 7}, {"batch_size": 7, "validation": 0.3, "shuffle": False}])
def test_numbers_that_are_not_finite_are_told_by_their_row_in_the_data(settings: dict[str, object]):
    for number in (np.nan, np.inf):
        data: Data = rings(30)
        data["x"][3, 1] = number
        with pytest.raises(
            TrainingError, match=rf"input 'x' at \[3, 1\] is {number}; leave such examples out"
        ) as caught:
            fit(classifier(), data, seed=1, **settings)
        assert "learning rate" not in str(caught.value)


def test_folds_tell_rows_of_the_data_as_they_were_given():
    data = rings(30)
    data["label"][17] = 5
    with pytest.raises(ValueRangeError, match=r"label 5 of 'label' at \[17\] is out of range"):
        ge.cross_validate(classifier().graph, data, epochs=1, folds=3, batch_size=7, progress=False)
    data = rings(30)
    data["x"][23, 0] = np.nan
    with pytest.raises(TrainingError, match=r"input 'x' at \[23, 0\] is nan"):
        ge.cross_validate(lambda _: classifier(), data, epochs=1, folds=3, batch_size=7, progress=False)


def test_a_loss_that_is_measured_and_not_finite_is_told():
    data = rings(30)
    data["x"][23, 0] = np.nan
    with pytest.warns(UserWarning, match=r"the loss is nan: input 'x' at \[23, 0\] is nan; leave such examples out"):
        assert np.isnan(ge.evaluate(classifier(), data)["loss"])


def test_the_first_node_that_is_not_finite_is_named_where_the_data_are():
    g = ge.Graph()
    inverse = 1.0 / g.input("x", ("batch",))
    g.output("loss", ge.mean(inverse * g.parameter("w", (), init=ge.init.Ones())))
    exe = ge.compile(g, loss="loss", optimizer=ge.SGD(0.1))
    with pytest.raises(
        TrainingError, match=r"value that is not finite is divide_1, declared at .*test_wrong_data\.py:"
    ):
        fit(exe, {"x": np.zeros(3, "float32")})


def test_useless_weights_after_the_last_step_and_useless_measures_are_told():
    with pytest.raises(TrainingError, match="parameter 'w' is not finite after the last step: a lower") as caught:
        fit(line(ge.SGD(1e308)), points())
    assert len(caught.value.history) == 1
    data = rings(30)
    data["x"][0] = np.nan
    with pytest.warns(UserWarning, match=r"validation_loss is nan after epoch 1: input 'x' at \[0, 0\] is nan"):
        train_and_validate(classifier(), data)
