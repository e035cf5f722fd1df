"""What lesson 10 says is what its cells and the stored results show."""

import json
import math

import nbformat
import pytest
import torch

from kdlib.evaluation import multiply_adds
from kdlib.experiments.ablation import summarise
from kdlib.experiments.super_resolution_options import OPTIONS
from kdlib.models import count_parameters, create_model
from tests.helpers import NOTEBOOKS, prose
from tests.lessons.cells import run_cells

TEXT = prose("10_super_resolution")
RESULTS = NOTEBOOKS.parent / "results"


def stored(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


OPTION_ROWS = stored("super_resolution_options")
SUMMARY = {line["variant"]: line for line in summarise(OPTION_ROWS["rows"], "validation_gain", OPTIONS)}
SECONDS = {row["variant"]: row["seconds"] for row in OPTION_ROWS["rows"]}
SET5 = {row["method"]: row for row in stored("super_resolution")["rows"]}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The lesson up to starting weights, and what needs no training of sections 4 and 11."""
    also = ("starts = {}", "points = {", "errors = (255", "def with_noise", "capped = ", "def one_window_ssim")
    return run_cells("10_super_resolution", tmp_path_factory.mktemp("runs"), "The recurrent unit has a tenth", also)


@pytest.mark.slow
def test_the_smaller_the_factor_the_less_is_lost(page):
    left = list(page["left"].values())
    assert left == sorted(left)
    assert left[-1] == math.inf


@pytest.mark.slow
def test_downsampling_averages_the_noise_of_the_input(page):
    assert page["left_of_it"].std() < 0.25 * page["grain"].std()


@pytest.mark.slow
def test_the_parts_by_hand_are_the_package(page):
    torch.testing.assert_close(page["by_hand"], page["answer"], atol=1e-5, rtol=1e-4)
    assert "for half of the [multiply-adds]" in TEXT
    published = 2 * page["light"].steps * page["one"]
    assert page["unit"] == pytest.approx(published / 2, rel=0.01)
    assert page["same"] < 1e-5 < page["seam"]


@pytest.mark.slow
def test_pytorchs_starting_weights_reduce_the_signal(page):
    assert page["starts"]["kdlib's"] > 5 * page["starts"]["PyTorch's own"]


@pytest.mark.slow
def test_51_db_and_an_ssim_of_098_are_what_section_11_says(page):
    assert "seven tenths of a level" in TEXT
    assert page["levels"] == pytest.approx(0.7, abs=0.05)
    assert "has 58.9 dB" in TEXT
    assert page["points"]["rounding to 8 bits alone"] == pytest.approx(58.9, abs=0.05)
    assert page["kept"] < 0.5 * len(page["errors"])
    photo, noisy = page["photo"].double(), page["with_noise"](51).double()
    assert page["ssim"](noisy, photo) > 0.99
    assert max(page["patches"]) > 51 > sum(page["capped"]) / len(page["capped"])
    for name, whole in page["held_out"].items():
        soft = page["soft"][name]
        assert page["one_window_ssim"](soft, whole) == pytest.approx(0.98, abs=0.006)
        assert page["ssim"](soft.double(), whole.double()) < 0.8


def test_the_short_training_gains_what_its_table_shows():
    assert "So short a training gains about a tenth of a decibel." in TEXT
    cells = nbformat.read(NOTEBOOKS / "10_super_resolution.ipynb", as_version=4).cells
    shown = [output.get("data", {}).get("text/markdown", "") for cell in cells for output in cell.get("outputs", [])]
    [table] = [text for text in shown if "| held out | bicubic |" in text]
    score = {row.split(" | ")[1]: float(row.split(" | ")[3]) for row in table.splitlines()[2:]}
    assert score["student"] - score["bicubic"] == pytest.approx(0.1, abs=0.05)
    assert score["student"] == pytest.approx(score["teacher"], abs=0.05)


def test_the_networks_have_the_stated_sizes():
    teacher, student = create_model("msafn"), create_model("light-msafn")
    assert "8,753,179 parameters" in TEXT
    assert count_parameters(teacher) == 8_753_179
    assert count_parameters(teacher) / count_parameters(student) == pytest.approx(19, abs=0.5)
    costs = [multiply_adds(network, 1000, 1000) for network in (teacher, student)]
    assert costs[0] / costs[1] == pytest.approx(21, abs=0.5)
    assert costs[0] / 1e6 == pytest.approx(count_parameters(teacher), rel=0.1)
    without = create_model("light-msafn", recurrent=False)
    assert 1 - multiply_adds(without, 1000, 1000) / costs[1] == pytest.approx(1 / 3, abs=0.04)
    assert 1 - count_parameters(without) / count_parameters(student) == pytest.approx(1 / 3, abs=0.03)
    unit = count_parameters(teacher) - count_parameters(create_model("msafn", recurrent=False))
    assert unit / count_parameters(teacher) == pytest.approx(0.1, abs=0.01)
    assert f"{count_parameters(create_model('light-msafn', width=42)) / 1e6:.1f}" == "0.8"
    assert count_parameters(student) / count_parameters(teacher) == pytest.approx(0.052, abs=0.0005)


def test_scores_on_set5_are_as_stated():
    ahead = {name: row["psnr_y"] - SET5["bicubic"]["psnr_y"] for name, row in SET5.items()}
    assert "two decibels above bicubic" in TEXT
    assert ahead["light-msafn"] == pytest.approx(2, abs=0.2)
    assert "the published student, trained on Vimeo-90K, 1.45" in TEXT
    assert ahead["light_msafn_peer"] == pytest.approx(1.45, abs=0.005)
    assert ahead["light-msafn"] > ahead["msafn-32"]
    training = stored("weights_light-msafn")
    assert training["seconds"] / 3600 == pytest.approx(1.5, abs=0.25)
    assert training["parameters"]["epochs"] > 3 * stored("weights_msafn-32")["parameters"]["epochs"]


def test_a_teacher_saves_steps_and_no_time():
    step = {name: line["difference"] for name, line in SUMMARY.items()}
    assert "0.07 dB less without a teacher" in TEXT
    assert step["no teacher"] == pytest.approx(-0.07, abs=0.005)
    assert "0.05 dB more than with it" in TEXT
    assert step["no teacher, as much time"] == pytest.approx(0.05, abs=0.005)
    assert SUMMARY["no teacher"]["verdict"] == "lower"
    assert SUMMARY["no teacher, as much time"]["verdict"] == "higher"
    assert SECONDS["taught by l1"] > 2 * SECONDS["no teacher"]
    assert max(abs(step[name]) for name in ("the teacher alone, l1", "centralised gradients")) < 0.005
    assert step["guidance decays to nothing"] == pytest.approx(-0.01, abs=0.005)
    assert step["mimics features"] < step["guidance decays to nothing"]


def test_the_other_options_have_the_stated_effects():
    mean, step = ({name: line[key] for name, line in SUMMARY.items()} for key in ("mean", "difference"))
    assert "about half of what MSE loses against L1 is restored" in TEXT
    assert 0.4 < step["taught by mse, α 0.02"] / step["taught by mse"] < 0.6
    behind = ("guidance decays to nothing", "mimics features", *(name for name in SUMMARY if "kl" in name))
    assert {SUMMARY[name]["ahead"] for name in behind} == {0}
    assert "the mean is 0.03 dB lower" in TEXT
    assert step["no recurrent unit"] == pytest.approx(-0.03, abs=0.005)
    assert mean["paints the photo anew"] < 0.5 * mean["taught by l1"]
    assert step["paints the photo anew"] == min(line["difference"] or 0 for line in SUMMARY.values())
    verdicts = {name: line["verdict"] for name, line in SUMMARY.items()}
    assert (verdicts["learning rate 0.003"], verdicts["guidance decays to nothing"]) == ("higher", "lower")
    unclear = ("mimics features", "no recurrent unit", "centralised gradients")
    assert {verdicts[name] for name in unclear} == {"not shown"}


def test_a_small_student_comes_near_the_published_one():
    assert "with 24,349 parameters and a minute of training, is within 0.15 dB" in TEXT
    [line] = [line for line in summarise(OPTION_ROWS["rows"], "psnr_y", OPTIONS) if line["variant"] == "taught by l1"]
    published = SET5["light_msafn_peer"]["psnr_y"]
    assert abs(line["mean"] - published) < 0.15
    own = [row for row in OPTION_ROWS["rows"] if row["variant"] == "taught by l1"]
    assert {row["parameters"] for row in own} == {24_349}
    assert max(row["seconds"] for row in own) < 75
    assert OPTION_ROWS["yardsticks"]["teacher"]["psnr_y"] > published
    assert OPTION_ROWS["yardsticks"]["teacher"]["parameters"] == 271_039
