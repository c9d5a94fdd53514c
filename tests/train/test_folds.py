"""Cross-validation: every example held out once, nothing passed from fold to fold, the same twice."""

from __future__ import annotations

import statistics
import weakref

import numpy as np
import pytest

import graphengine as ge
from graphengine.executable import Executable
from tests.train.problems import classifier, line, points, rings, weights


def plane() -> ge.Graph:
    g = ge.Graph("plane", dtype="float64")
    x, y = g.input("x", ("batch", 3)), g.input("y", ("batch", 1))
    prediction = g.output("prediction", x @ g.parameter("w", (3, 1)) + g.parameter("b", (1,)))
    g.output("loss", ge.squared_error(prediction, y))
    return g


GD = ge.GD(learning_rate=0.1)


def test_every_example_is_held_out_once_and_sizes_differ_by_one_at_most() -> None:
    result = ge.cross_validate(plane(), points(23), epochs=1, optimizer=GD)
    assert len(result) == 5
    assert sorted(len(fold.rows) for fold in result.folds) == [4, 4, 5, 5, 5]
    assert sorted(np.concatenate([fold.rows for fold in result.folds])) == list(range(23))
    assert any(np.any(np.diff(fold.rows) > 1) for fold in result.folds)  # permuted, and not cut as they come


def test_a_fold_is_fit_on_the_others_and_evaluate_on_its_own() -> None:
    data = points(20, noise=0.3)
    result = ge.cross_validate(plane(), data, folds=4, epochs=10, optimizer=GD, metrics="mean_absolute_error", seed=3)
    for fold in result.folds:
        held_out = {name: array[fold.rows] for name, array in data.items()}
        others = {name: np.delete(array, fold.rows, axis=0) for name, array in data.items()}
        exe = ge.compile(plane(), loss="loss", optimizer=GD, seed=3)
        history = ge.fit(exe, others, epochs=10)
        assert fold.history["loss"] == history["loss"]
        assert fold.scores == ge.evaluate(exe, held_out, metrics="mean_absolute_error")
        assert fold.history["validation_loss"][-1] == fold.scores["loss"]
        assert len(fold.history) == 10


def test_mean_and_std_are_those_of_the_scores() -> None:
    result = ge.cross_validate(plane(), points(23, noise=0.3), epochs=5, optimizer=GD)
    losses = [fold.scores["loss"] for fold in result.folds]
    assert result["loss"] == result.scores["loss"] == losses
    assert result.mean == {"loss": pytest.approx(np.mean(losses))}
    assert result.std == {"loss": pytest.approx(statistics.stdev(losses))}
    assert min(losses) < max(losses)


def test_the_table_has_a_line_a_fold_and_their_mean_and_std() -> None:
    fold = ge.Fold(np.arange(2), ge.History(), {"loss": 0.5, "accuracy": 1.0})
    other = ge.Fold(np.arange(2), ge.History(), {"loss": 0.25, "accuracy": 0.5})
    assert str(ge.CrossValidation((fold, other))).splitlines() == [
        "fold    loss  accuracy",
        "   1     0.5         1",
        "   2    0.25       0.5",
        "mean   0.375      0.75",
        " std  0.1768    0.3536",
    ]


def test_the_same_arguments_give_the_same_bits_and_another_seed_other_folds() -> None:
    def run(seed: int) -> ge.CrossValidation:
        graph = ge.zoo.mlp([2, 8, 3])
        data = {"x": rings(60)["x"], "y": rings(60)["label"]}
        return ge.cross_validate(
            graph, data, folds=3, epochs=3, batch_size=8, optimizer=ge.Adam(), metrics="accuracy", seed=seed
        )

    first, second, other = run(0), run(0), run(1)
    assert first.scores == second.scores
    assert [fold.history["loss"] for fold in first.folds] == [fold.history["loss"] for fold in second.folds]
    assert first.scores != other.scores
    assert not np.array_equal(first.folds[0].rows, other.folds[0].rows)


def test_stratified_folds_have_their_share_of_every_class() -> None:
    label = np.array([0] * 60 + [1] * 25 + [2] * 5)
    data = {"x": np.random.default_rng(0).normal(size=(90, 2)), "label": label}
    result = ge.cross_validate(lambda _: classifier(), data, epochs=1, stratify="label")
    for fold in result.folds:
        assert np.bincount(label[fold.rows]).tolist() == [12, 5, 1]
    assert sorted(np.concatenate([fold.rows for fold in result.folds])) == list(range(90))


def test_a_function_gives_the_executable_of_each_fold() -> None:
    made: list[Executable] = []

    def build(fold: int) -> Executable:
        assert fold == len(made)
        made.append(line(seed=fold))
        return made[-1]

    ge.cross_validate(build, points(20), folds=4, epochs=2)
    assert len(made) == 4
    assert len({weights(exe)["w"] for exe in made}) == 4


def test_an_executable_is_dropped_before_the_fold_after_the_next_is_made() -> None:
    made: list[weakref.ref[Executable]] = []

    def build(fold: int) -> Executable:
        assert sum(exe() is not None for exe in made) <= 1
        exe = line(seed=fold)
        made.append(weakref.ref(exe))
        return exe

    ge.cross_validate(build, points(20), folds=4, epochs=1)
    assert len(made) == 4


def test_an_executable_that_is_trained_already_is_refused() -> None:
    exe = line()
    with pytest.raises(ge.TrainingError, match="fold 1 is given the executable of the fold before"):
        ge.cross_validate(lambda _: exe, points(20), epochs=1)


def test_a_training_section_says_what_is_left_out() -> None:
    graph = plane()
    graph.training = ge.Training(loss="loss", optimizer=GD)
    data = points(20)
    assert (
        ge.cross_validate(graph, data, epochs=2).scores
        == ge.cross_validate(plane(), data, epochs=2, loss="loss", optimizer=GD).scores
    )


def test_callbacks_see_every_fold_from_its_start() -> None:
    class Counting(ge.Callback):
        starts = 0

        def on_start(self, exe: Executable, history: ge.History) -> None:
            self.starts += 1

    counting = Counting()
    stopping = ge.EarlyStopping(patience=1, min_delta=1e9)
    result = ge.cross_validate(
        plane(), points(20), folds=4, epochs=9, optimizer=GD, callbacks=[counting, stopping], progress=False
    )
    assert counting.starts == 4
    assert [len(fold.history) for fold in result.folds] == [2, 2, 2, 2]
    for fold in result.folds:  # the weights of the best epoch are scored, and not those of the last
        assert fold.scores["loss"] == fold.history["validation_loss"][0]


def test_what_is_no_array_of_examples_goes_whole_into_every_fold() -> None:
    g = plane()
    g.output("penalized", ge.add(g.outputs["loss"], ge.sum(g.input("scale", (2,)))))
    data = {**points(20), "scale": np.zeros(2)}
    result = ge.cross_validate(g, data, epochs=1, loss="penalized", optimizer=GD)
    assert len(result) == 5


def test_targets_of_metrics_that_are_no_inputs_are_dealt_out_too() -> None:
    data = {**points(20), "truth": points(20)["y"]}
    metric = ge.Metric("apart", lambda a, b: float(np.abs(a - b).max()), target="truth")
    result = ge.cross_validate(plane(), data, folds=20, epochs=1, optimizer=GD, metrics=metric)
    assert all(len(fold.rows) == 1 for fold in result.folds)
    assert set(result.scores) == {"loss", "apart"}


@pytest.mark.parametrize("folds", [1, 0, -2, 24, 2.5, None])
def test_a_number_of_folds_that_cannot_be_is_refused(folds: object) -> None:
    with pytest.raises(ge.TrainingError, match=f"23 examples can be dealt out to 2 to 23 folds, not to {folds}"):
        ge.cross_validate(plane(), points(23), folds=folds, epochs=1, optimizer=GD)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "'plane' has no training section: give cross_validate an optimizer"),
        ({"optimizer": GD, "stratify": "label"}, "stratify: no array 'label'"),
        ({"optimizer": GD, "stratify": "y"}, r"class numbers are ints along one axis, and 'y' is float64\[20, 1\]"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_said(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ge.TrainingError, match=message):
        ge.cross_validate(plane(), points(20), epochs=1, **settings)


def test_an_optimizer_for_executables_that_have_one_is_refused() -> None:
    with pytest.raises(ge.TrainingError, match=r"loss and optimizer are given to ge\.compile"):
        ge.cross_validate(lambda _: line(), points(20), epochs=1, optimizer=GD)


def test_a_stream_has_no_folds() -> None:
    with pytest.raises(ge.TrainingError, match="folds are dealt from arrays by name"):
        ge.cross_validate(plane(), [points(5), points(5)], epochs=1, optimizer=GD)


def test_an_unknown_score_is_said_to_be_so() -> None:
    result = ge.cross_validate(plane(), points(20), epochs=1, optimizer=GD)
    with pytest.raises(ge.TrainingError, match="no score 'los'; did you mean 'loss'"):
        result["los"]
