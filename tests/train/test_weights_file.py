import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import graphengine as ge
from graphengine.errors import DTypeError, NamingError, TrainingError
from graphengine.executable import Executable
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
    with pytest.raises(TrainingError, match="not a file"):
        ge.load_parameters(line(), tmp_path)
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


def write_safetensors(path: Path, arrays: dict[str, tuple[str, list[int], bytes]], about: object = None) -> Path:
    """A file of arrays by name: the dtype as the format has it, the shape, the bytes."""
    header: dict[str, object] = {} if about is None else {"__metadata__": about}
    end = 0
    for name, (dtype, shape, data) in arrays.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(data)]}
        end += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in arrays.values()))
    return path


def scale(size: int, dtype: str = "float32") -> Executable:
    g = ge.Graph()
    g.output("sum", ge.sum(g.parameter("scale", (size,), dtype=dtype)))
    return ge.compile(g)


FINITE = [0.0, -0.0, 1.0, -1.5, 0.875, 2.0**-6, 2.0**-9, 448.0, -240.0]
CODED = {
    "BF16": ("bfloat16", "<H", [0, 0x8000, 0x3F80, 0xBFC0, 0x3F60, 0x3C80, 0x3B00, 0x43E0, 0xC370]),
    "F8_E4M3": ("float8_e4m3fn", "B", [0, 0x80, 0x38, 0xBC, 0x36, 0x08, 0x01, 0x7E, 0xF7]),
    "F16": ("float16", "<H", [0, 0x8000, 0x3C00, 0xBE00, 0x3B00, 0x2400, 0x1800, 0x5F00, 0xDB80]),
    "F64": ("float64", "<d", FINITE),
}


@pytest.mark.parametrize("code", CODED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_other_floats_are_converted_on_request_and_else_refused_by_name(tmp_path: Path, code: str, dtype: str):
    name, packed, codes = CODED[code]
    data = b"".join(struct.pack(packed, each) for each in codes)
    path = write_safetensors(tmp_path / "w", {"scale": (code, [len(codes)], data)})
    exe = scale(len(codes), dtype)
    if name != dtype:
        with pytest.raises(
            TrainingError, match=f"nothing was set; .*dtype='{dtype}'\\) converts other floats"
        ) as caught:
            ge.load_parameters(exe, path)
        assert caught.value.context == (f"of another type: scale is {dtype}[9], and {name}[9] is given",)
    assert ge.load_parameters(exe, path, dtype=dtype) == ["scale"]
    assert exe.parameters["scale"].tobytes() == np.array(FINITE, dtype).tobytes()


def test_every_code_of_float8_is_the_number_of_its_definition(tmp_path: Path):
    torch = pytest.importorskip("torch")
    codes = np.arange(256, dtype=np.uint8)
    for code, dtype in (("F8_E4M3", torch.float8_e4m3fn), ("F8_E5M2", torch.float8_e5m2)):
        path = write_safetensors(tmp_path / "w", {"scale": (code, [256], codes.tobytes())})
        exe = scale(256)
        ge.load_parameters(exe, path, dtype="float32")
        np.testing.assert_array_equal(exe.parameters["scale"], torch.tensor(codes).view(dtype).float().numpy())


def test_codes_of_float8_e5m2_are_those_of_float16_without_the_last_byte(tmp_path: Path):
    numbers = np.array([1.0, -0.5, np.inf, np.nan, 2.0**-16, 57344.0], np.float16)
    codes = (numbers.view(np.uint16) >> 8).astype(np.uint8)
    path = write_safetensors(tmp_path / "w", {"scale": ("F8_E5M2", [6], codes.tobytes())})
    exe = scale(6)
    ge.load_parameters(exe, path, dtype="float32")
    np.testing.assert_array_equal(exe.parameters["scale"], numbers.astype(np.float32))


def test_arrays_that_are_not_asked_for_may_be_of_any_dtype(tmp_path: Path):
    arrays = {
        "scale": ("F32", [1], struct.pack("<f", 2.0)),
        "e8": ("F8_E8M0", [4], bytes(4)),
        "c": ("C64", [1], bytes(8)),
    }
    path = write_safetensors(tmp_path / "w", arrays)
    exe = scale(1)
    assert ge.load_parameters(exe, path, strict=False) == ["scale"]
    with pytest.raises(TrainingError) as caught:
        ge.load_parameters(exe, path)
    assert set(caught.value.context) == {"unexpected: e8, F8_E8M0[4]", "unexpected: c, complex64[1]"}
    path = write_safetensors(tmp_path / "w", {"scale": ("F8_E8M0", [1], b"a")})
    for settings in ({}, {"dtype": "float32"}):
        with pytest.raises(TrainingError, match=r"scale is float32\[1\], and F8_E8M0\[1\] is given"):
            ge.load_parameters(exe, path, **settings)


def test_no_conversion_loses_more_than_digits(tmp_path: Path):
    exe = scale(1)
    before = weights(exe)
    path = write_safetensors(tmp_path / "w", {"scale": ("F64", [1], struct.pack("<d", 1e300))})
    with pytest.raises(TrainingError, match="scale: 1e\\+300 does not fit float32"):
        ge.load_parameters(exe, path, dtype="float32")
    path = write_safetensors(tmp_path / "w", {"scale": ("I32", [1], bytes(4))})
    with pytest.raises(TrainingError, match=r"and int32\[1\] is given"):
        ge.load_parameters(exe, path, dtype="float32")
    for dtype, message in (("bfloat16", "no such dtype: 'bfloat16'"), ("int32", "floats alone are converted")):
        with pytest.raises(DTypeError, match=message):
            ge.load_parameters(exe, path, dtype=dtype)
    path = write_safetensors(tmp_path / "w", {"scale": ("BF16", [1], bytes(2))})
    with pytest.raises(TrainingError, match=r"dtype='float32'\) converts other floats"):
        ge.load_parameters(exe, path, dtype="float64")
    assert weights(exe) == before


@pytest.mark.parametrize(
    "about",
    [
        {"writer": "graphengine"},
        {"writer": "graphengine", "version": "x"},
        {"writer": "graphengine", "version": "3"},
        {"writer": "graphengine", "version": "2"},
        *(
            {"writer": "graphengine", "version": "1", "state": text}
            for text in ("[", "5", "[1]", "{}", "null", "[" * 9999)
        ),
        {"sha256_metadata": "0", "sha256": "{}"},
        {"sha256": "[", "sha256_metadata": "1da5e7b8bb1b2bfd2a3d8c5a3b5b1d5e"},
    ],
)
def test_damaged_metadata_are_an_error_that_names_the_file(tmp_path: Path, about: dict[str, str]):
    path = write_safetensors(tmp_path / "w", {"scale": ("F32", [1], bytes(4))}, about)
    with pytest.raises(TrainingError) as caught:
        ge.load_parameters(scale(1), path)
    assert str(path) in caught.value.message


def test_metadata_whose_digest_is_right_are_checked_all_the_same(tmp_path: Path):
    for text in ("5", "[]", "[" * 9999, '{"scale": 5}', '{"other": "0"}'):
        about = {"writer": "graphengine", "version": "2", "sha256": text}
        texts = json.dumps(sorted(about.items())).encode()
        about["sha256_metadata"] = hashlib.sha256(texts).hexdigest()
        path = write_safetensors(tmp_path / "w", {"scale": ("F32", [1], bytes(4))}, about)
        with pytest.raises(TrainingError, match="is damaged: "):
            ge.load_parameters(scale(1), path)


def test_metadata_of_others_say_nothing(tmp_path: Path):
    path = write_safetensors(
        tmp_path / "w", {"scale": ("F32", [1], bytes(4))}, {"format": "pt", "state": "[", "version": "x"}
    )
    assert ge.load_parameters(scale(1), path) == ["scale"]


def test_names_of_a_file_are_printable_and_few_in_messages(tmp_path: Path):
    arrays = {f"{i}\x1b[31m\nmissing: scale" + "n" * 5000: ("U8", [0], b"") for i in range(300)}
    path = write_safetensors(tmp_path / "w", arrays)
    for settings in ({}, {"rename": {"": "net."}}, {"rename": {"x": "y"}}):
        with pytest.raises(ge.GraphEngineError) as caught:
            ge.load_parameters(scale(1), path, **settings)
        assert "\x1b" not in str(caught.value)
        assert "\nmissing" not in str(caught.value)
        assert len(str(caught.value)) < 12_000
    with pytest.warns(UserWarning, match="nothing was set") as told:
        assert ge.load_parameters(scale(1), path, strict=False) == []
    assert str(told[0].message).isprintable()
    assert len(str(told[0].message)) < 1000


def test_names_of_a_file_are_mapped_as_a_transfer_maps_them(tmp_path: Path):
    exe, other = line(), line(seed=1)
    save_file({f"module.{name}": np.array(value) for name, value in exe.parameters.items()}, tmp_path / "w")
    assert ge.load_parameters(other, tmp_path / "w", rename={"module.": ""}) == ["w", "b"]
    assert weights(exe) == weights(other)
    save_file({"weight": np.array(exe.parameters["w"]), "head.x": np.zeros(2)}, tmp_path / "w")
    assert ge.load_parameters(other, tmp_path / "w", rename={"weight": "w", "head.": None}, strict=False) == ["w"]
    with pytest.raises(TrainingError) as caught:
        ge.load_parameters(other, tmp_path / "w", rename={"weight": "b", "head.": None})
    assert caught.value.context == (
        "missing: w, float64[3, 1]",
        "of another type: b is float64[1], and float64[3, 1] (from weight) is given",
    )
    with pytest.raises(NamingError, match="has no weights 'wait'; did you mean 'weight'"):
        ge.load_parameters(other, tmp_path / "w", rename={"wait": "w"})


@pytest.mark.parametrize("code", ["F32", "BF16", "F8_E8M0"])
@pytest.mark.parametrize("shape", [[0] * 65, [1] * 65, [0, 2**62], [2**40, 0, 2**40]], ids=str)
def test_a_shape_that_no_array_has_is_told_by_name(tmp_path: Path, code: str, shape: list[int]):
    size = {"F32": 4, "BF16": 2, "F8_E8M0": 1}[code] * (0 not in shape)
    path = write_safetensors(tmp_path / "w", {"odd": (code, shape, bytes(size))})
    with pytest.raises(TrainingError, match="array 'odd' has a shape that NumPy lacks") as caught:
        ge.load_parameters(scale(1), path, strict=False)
    assert str(path) in caught.value.message


def test_nothing_loaded_is_told(tmp_path: Path):
    save_file({"module.w": np.zeros((3, 1)), "module.b": np.zeros(1)}, tmp_path / "w")
    with pytest.warns(UserWarning, match=r"nothing was set: given is module\.b, module\.w, wanted w, b; rename="):
        assert ge.load_parameters(line(), tmp_path / "w", strict=False) == []
