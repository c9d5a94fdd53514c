from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import graphengine as ge
from graphengine.errors import TrainingError
from tests.train.problems import classifier, line, points, weights


def test_parameters_come_back_bit_for_bit(tmp_path: Path):
    exe, other = line(), line(seed=1)
    exe.parameters["w"] = [[np.nan], [-0.0], [1e-310]]
    ge.save_parameters(exe, tmp_path / "w.safetensors")
    assert ge.load_parameters(other, str(tmp_path / "w.safetensors")) == ["w", "b"]
    assert weights(exe) == weights(other)
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_parameters_set_from_arrays_of_another_layout_are_written_right(tmp_path: Path):
    exe, other = classifier(), classifier(seed=1)
    value = np.asfortranarray(np.arange(48, dtype=np.float32).reshape(16, 3))
    exe.parameters["w2"] = value
    ge.save_parameters(exe, tmp_path / "w")
    np.testing.assert_array_equal(load_file(tmp_path / "w")["w2"], value)
    ge.load_parameters(other, tmp_path / "w")
    np.testing.assert_array_equal(other.parameters["w2"], value)


def test_a_scalar_parameter_keeps_its_shape(tmp_path: Path):
    g = ge.Graph()
    g.output("y", g.input("x", ("batch",)) * g.parameter("scale", ()))
    exe = ge.compile(g)
    ge.save_parameters(exe, tmp_path / "w")
    assert ge.load_parameters(exe, tmp_path / "w") == ["scale"]


@pytest.mark.parametrize("save", [ge.save_parameters, ge.save_checkpoint])
def test_running_statistics_go_with_the_parameters_for_predictions_are_made_of_them(tmp_path: Path, save):
    g = ge.Graph()
    inputs = g.input("x", ("batch", 3)), g.input("y", ("batch", 3))
    prediction = ge.layers.batch_norm(ge.layers.dropout(inputs[0], 0.5), name="norm")
    g.output("prediction", prediction)
    g.output("loss", ge.squared_error(prediction, inputs[1]))
    exe, other = ge.compile(g, loss="loss", optimizer=ge.Adam(learning_rate=0.1)), ge.compile(g, seed=1)
    x = points(20)["x"]
    data = {"x": 5 + 3 * x, "y": x}
    ge.fit(exe, data, epochs=3, batch_size=5)
    save(exe, tmp_path / "w")
    names = ge.load_parameters(other, tmp_path / "w")
    assert set(names) == {"norm.weight", "norm.bias", "norm.running_mean", "norm.running_variance"}
    expected, predicted = (ge.predict(each, data, outputs="prediction")["prediction"] for each in (exe, other))
    np.testing.assert_array_equal(predicted, expected)


def test_all_that_does_not_fit_is_listed_and_nothing_is_set(tmp_path: Path):
    exe = line()
    before = weights(exe)
    save_file({"w": np.zeros((3, 2)), "bias": np.zeros(1, np.float32)}, tmp_path / "w")
    with pytest.raises(TrainingError) as caught:
        ge.load_parameters(exe, tmp_path / "w")
    assert caught.value.context == (
        "missing: b, float64[1]",
        "unexpected: bias, float32[1]",
        "of another type: w is float64[3, 1], and float64[3, 2] is given",
    )
    assert weights(exe) == before
    save_file({"w": np.zeros((3, 1), np.float32), "b": np.zeros(1)}, tmp_path / "w")
    with pytest.raises(TrainingError, match=r"of another type: w is float64\[3, 1\], and float32\[3, 1\] is given"):
        ge.load_parameters(exe, tmp_path / "w", strict=False)
    assert weights(exe) == before


def test_without_strict_what_both_have_is_set(tmp_path: Path):
    exe = line()
    save_file({"w": np.full((3, 1), 7.0), "other": np.zeros(1)}, tmp_path / "w")
    assert ge.load_parameters(exe, tmp_path / "w", strict=False) == ["w"]
    assert exe.parameters["w"].tolist() == [[7.0]] * 3


def test_files_that_cannot_be_read_are_told(tmp_path: Path):
    with pytest.raises(TrainingError, match="no such file"):
        ge.load_parameters(line(), tmp_path / "none")
    (tmp_path / "text").write_text("not weights")
    with pytest.raises(TrainingError, match="is not a safetensors file"):
        ge.load_parameters(line(), tmp_path / "text")
    save_file({"w": np.zeros(1)}, tmp_path / "new", {"writer": "graphengine", "version": "3"})
    with pytest.raises(TrainingError, match="is of version '3'; this graphengine reads up to 2"):
        ge.load_parameters(line(), tmp_path / "new")


def test_a_write_that_goes_wrong_leaves_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    exe = line()
    ge.save_parameters(exe, tmp_path / "w")
    before = (tmp_path / "w").read_bytes()
    save = __import__("safetensors.numpy").numpy.save
    monkeypatch.setattr("safetensors.numpy.save", lambda _, about: save({"w": np.zeros((3, 1))}, about))
    with pytest.raises(TrainingError, match="does not read back the same"):
        ge.save_parameters(exe, tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


@pytest.mark.parametrize("save", [ge.save_parameters, ge.save_checkpoint])
def test_a_flipped_bit_is_found_wherever_it_is(tmp_path: Path, save):
    save(line(ge.Adam(0.1)), tmp_path / "w")
    written = bytearray((tmp_path / "w").read_bytes())
    other = line(ge.Adam(0.1))
    before = weights(other)
    for place in range(0, len(written), 5):
        damaged = written.copy()
        damaged[place] ^= 1 << place % 8
        (tmp_path / "w").write_bytes(damaged)
        with pytest.raises(TrainingError, match=r"damaged|not a safetensors file|no checkpoint|of version"):
            (ge.load_parameters if save is ge.save_parameters else ge.load_checkpoint)(other, tmp_path / "w")
    assert weights(other) == before


def test_files_of_version_1_have_no_digests_and_are_read(tmp_path: Path):
    arrays = {"w": np.full((3, 1), 7.0), "b": np.zeros(1)}
    save_file(arrays, tmp_path / "w", {"writer": "graphengine", "version": "1", "graph": "line"})
    assert ge.load_parameters(line(), tmp_path / "w") == ["w", "b"]
    save_file(arrays, tmp_path / "c", {"version": "1", "state": "[]", "epochs_done": "4", "writer": "graphengine"})
    assert ge.load_checkpoint(line(), tmp_path / "c") == 4
