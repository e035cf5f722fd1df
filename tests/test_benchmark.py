"""The benchmark measures what it claims to measure; absolute speeds are not tested."""

import json
import sys
import time

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from kdlib.cli import app
from kdlib.evaluation import benchmark as speed
from kdlib.models import create_model
from kdlib.weights import load_model

ALL = [speed.OURS, speed.EAGER, speed.ONNX, speed.COMPILED, speed.CLAHE, speed.LUT, speed.COPY]


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 64, (50, 70, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["student-565", "zero-dce"])
def test_the_published_form_matches_the_models_forward(name):
    model, x = load_model(name), torch.rand(2, 3, 37, 41)
    with torch.no_grad():
        torch.testing.assert_close(speed.PublishedForm(model)(x), model(x)[0], atol=1e-6, rtol=0)


@pytest.mark.slow
def test_every_network_gives_the_same_result(photo):
    torch.manual_seed(0)
    model = create_model("nano-161", depth=2).eval()  # few operations to export and to compile
    runs = dict(speed.rivals(photo, model, threads=1))
    assert list(runs) == ALL
    expected = runs[speed.EAGER]().numpy()
    exported = runs[speed.ONNX]
    if isinstance(exported, str):
        pytest.skip(exported)
    np.testing.assert_allclose(exported()[0], expected, atol=1e-5)
    if not isinstance(compiled := runs[speed.COMPILED], str):
        np.testing.assert_allclose(compiled().numpy(), expected, atol=1e-5)
    ours = runs[speed.OURS]().transpose(2, 0, 1) / 255
    assert np.abs(ours - expected[0]).mean() < 0.01  # downsamples by area averaging, unlike the published form


def test_classical_methods_match_their_names(photo):
    model = create_model("nano-161")
    runs = dict(speed.rivals(photo, model, threads=1, without=[speed.COMPILED, speed.ONNX]))
    assert [*runs] == [name for name in ALL if name not in (speed.COMPILED, speed.ONNX)]
    assert (runs[speed.LUT]() >= photo).all()
    assert (runs[speed.LUT]() > photo).any()
    assert runs[speed.CLAHE]().std() > photo.std()


def test_methods_alternate_and_each_block_has_one_untimed_run():
    calls = []
    seconds = speed.measure({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=7)
    assert {name: len(values) for name, values in seconds.items()} == {"a": 7, "b": 7}
    assert "".join(calls) == "aaabbbaaabbbaaaabbbb"


def test_measure_times_the_run():
    [short], [long] = speed.measure({"short": lambda: None, "long": lambda: time.sleep(0.02)}, repeats=1).values()
    assert long >= 0.02
    assert short < long


@pytest.mark.slow
def test_rows_and_ratios_agree_and_the_thread_counts_are_restored():
    threads = torch.get_num_threads()
    without = [speed.COMPILED, speed.ONNX]
    result = speed.benchmark("nano-161", ["64x48", "640×480"], repeats=3, threads=1, without=without)
    assert torch.get_num_threads() == threads
    ms = {(row["size"], row["method"]): row["ms"] for row in result["rows"]}
    assert len(ms) == 2 * (len(ALL) - len(without))
    for size, ratios in result["ratios"].items():
        assert ratios[speed.OURS] == 1
        for name, ratio in ratios.items():
            assert ratio == pytest.approx(ms[size, name] / ms[size, speed.OURS], abs=0.01, rel=0.01)
    for row in result["rows"]:
        # Milliseconds are rounded to four digits after the point, 50 ns, and nanoseconds to three.
        pixels = row["width"] * row["height"]
        assert row["ns_per_pixel"] == pytest.approx(row["ms"] * 1e6 / pixels, rel=0, abs=51 / pixels + 0.0006)
        assert row["ms_quartiles"][0] <= row["ms"] <= row["ms_quartiles"][1]
    assert set(result["left_out"]) == set(without)
    assert result["versions"]["torch"] == torch.__version__.split("+")[0]


def test_without_onnx_runtime_the_rest_is_measured(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = speed.benchmark("nano-161", ["64x48"], repeats=1, threads=1, without=[speed.COMPILED])
    assert "pip install" in result["left_out"][speed.ONNX]
    assert speed.EAGER in result["ratios"]["64x48"]


@pytest.mark.slow
def test_the_command_writes_figures_and_a_picture(tmp_path):
    out, plot = tmp_path / "speed.json", tmp_path / "speed.png"
    arguments = ["benchmark", "--size", "64x48", "--repeats", "1", "--threads", "1", "--without", speed.COMPILED]
    result = CliRunner().invoke(app, [*arguments, "--without", speed.ONNX, "--out", str(out), "--plot", str(plot)])
    assert result.exit_code == 0, result.output
    assert "×1.00" in result.output
    assert {row["method"] for row in json.loads(out.read_text())["rows"]} == set(ALL) - {speed.COMPILED, speed.ONNX}
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--size", "8K", "size '8K' is unknown"), ("--repeats", "0", "at least 1"), ("--model", "nano", "'nano'")],
)
def test_errors_name_invalid_values(option, value, message):
    result = CliRunner().invoke(app, ["benchmark", option, value])
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())


@pytest.mark.parametrize("name", ["foo", speed.OURS])
def test_a_method_to_leave_out_must_be_one_of_the_others(name):
    result = CliRunner().invoke(app, ["benchmark", "--size", "64x48", "--without", name])
    assert result.exit_code == 1
    assert f"unknown method {name!r}; choose from PyTorch, eager, ONNX Runtime" in " ".join(result.output.split())
