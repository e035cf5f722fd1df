"""The map of the course in lesson 01, and the numbers that the lesson quotes."""

import json
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlib import create_model, load_model
from kdlib.data import sample_pairs
from kdlib.evaluation.metrics import enhance_tensor, psnr, quantise
from kdlib.models import apply_curve, count_parameters
from kdlib.models.zero_dce import SeparableConv
from tests.helpers import NOTEBOOKS, prose

PROSE = prose("01_architecture")


def says(*sentences):
    for sentence in sentences:
        assert sentence in PROSE, sentence


def test_the_map_lists_every_lesson_and_needs_none_that_comes_later():
    rows = re.findall(r"\| (?:\[(\d\d)\]\((\w+)\.ipynb\)|(01)) [^|]+ \| [^|]+ \| ([\d, –]+) \|", PROSE)
    numbers = [linked or own for linked, _, own, _ in rows]
    assert numbers == [f"{number:02}" for number in range(14)]
    listed = {name for _, name, _, _ in rows if name} | {"01_architecture"}
    assert {path.stem for path in NOTEBOOKS.glob("[0-9]*.ipynb")} <= listed
    for number, (*_, needs) in zip(numbers, rows, strict=True):
        assert all(needed < number for needed in re.findall(r"\d\d", needs))


def test_the_curve():
    pixel = torch.full((1, 3, 1, 1), 0.05)
    says("One step with the strongest r lifts 0.05 to 0.0975", "by 1.3⁸ = 8.2", "a polynomial of degree 256")
    assert float(apply_curve(pixel, torch.full_like(pixel, -1), 1)[0, 0]) == pytest.approx(0.0975)
    assert round(1.3**8, 1) == 8.2
    assert 2**8 == 256
    says("With r = −1 nearly everything turns white")
    grey = torch.full_like(pixel, 0.1)
    assert apply_curve(grey, torch.full_like(pixel, -1), 8).min() > 0.99
    says("only what is purely white stays as it is")
    window = torch.full_like(pixel, 0.95)
    assert apply_curve(window, torch.full_like(pixel, -0.3), 8).min() > 0.95
    says("3.5 stops are a factor of 11")
    assert round(2**3.5) == 11


def test_parameters():
    count = {
        name: count_parameters(create_model(name)) for name in ("zero-dce", "zero-dce++", "student-565", "nano-161")
    }
    says("10,561", "565", "79,416", "19 times fewer parameters", "66 times fewer parameters")
    assert list(count.values()) == [79_416, 10_561, 565, 161]
    assert round(count["zero-dce++"] / count["student-565"]) == 19
    assert round(count["zero-dce++"] / count["nano-161"]) == 66
    says("with 6.7 times fewer parameters", "saves 1,365 parameters once the layers are separable", "420 of the 565")
    plain = count_parameters(nn.Conv2d(32, 32, 3))
    assert round(plain / count_parameters(SeparableConv(32, 32)), 1) == 6.7
    assert count_parameters(create_model("zero-dce", separable=True)) - count["zero-dce++"] == 1365
    says("Below a width of 15 the linear term is the larger one")
    assert 7 * 15**2 == 105 * 15


def cost(name, scale):
    """Multiply-adds for each pixel of a 1920×1080 photo: network, upsampling, curve, downsampling."""
    model = create_model(name, scale_factor=scale)
    rows, columns = model.network_size(1080, 1920)
    share = rows * columns / (1080 * 1920)
    resized = scale > 1
    maps = 1 if model.shared_map else model.iterations
    return count_parameters(model) * share, 12 * maps * resized, 6 * model.iterations, 12 * share * resized


def test_multiply_adds():
    teacher, student = cost("zero-dce++", 12), cost("student-565", 12)
    says("the teacher's network takes 73 multiply-adds for each pixel of the photo, the student's 3.9")
    assert round(teacher[0]) == 73
    assert round(student[0], 1) == 3.9
    says("this makes 48 for each pixel", "this makes 12 for each pixel", "0.1 for each pixel of the photo")
    assert teacher[1:3] == (12, 48)
    assert round(teacher[3], 1) == 0.1
    says("costs about one and a half times as much as its curve", "save half of the multiply-adds")
    assert 1.4 < teacher[0] / teacher[2] < 1.6
    says("At full size the student is 17 times cheaper than its teacher; at 1/12, only twice.")
    assert round(sum(cost("zero-dce++", 1)) / sum(cost("student-565", 1))) == 17
    assert round(sum(teacher) / sum(student)) == 2
    says("its four iterations, which halve the cost of the curve")
    nano = cost("nano-161", 12)
    assert nano[2] == student[2] / 2
    assert student[2] - nano[2] > (sum(student) - sum(nano)) / 2
    says("upsampling its 24 map channels costs 96 multiply-adds")
    assert cost("zero-dce", 12)[1] == 96
    says("Zero-DCE++ needs 7.5 times fewer multiply-adds than Zero-DCE")
    assert round(sum(cost("zero-dce", 1)) / sum(cost("zero-dce++", 1)), 1) == 7.5
    says("Between 12 and 16 it falls below the fixed cost of upsampling and curve")
    assert cost("zero-dce++", 12)[0] > 60 > cost("zero-dce++", 16)[0]
    says("moves 144 times fewer bytes")
    assert 8 * 9 * 4 / 2 == 144


def test_scores_of_the_published_files():
    rows = json.loads((NOTEBOOKS.parent / "results" / "published.json").read_text(encoding="utf-8"))["rows"]
    score = {row["method"]: row["psnr"] for row in rows}
    says("The score of the teacher's file falls from 15.36 dB to 10.26 dB.", "*rises* by 3 dB")
    assert round(score["zero_dce_pp_official"], 2) == 15.36
    assert round(score["zero_dce_pp_official, sigmoid"], 2) == 10.26
    says("the student of that project scores 13.38 dB")
    assert round(score["student_565_peer, sigmoid"], 2) == 13.38
    assert round(score["student_565_peer"] - score["student_565_peer, sigmoid"]) == 3


@pytest.fixture(scope="module")
def photos():
    pairs = sample_pairs(stops=3.5, seed=0)
    return {name: pairs[name] for name in ("coffee", "chelsea", "rocket")}


@pytest.fixture(scope="module")
def maps(photos):
    coffee = photos["coffee"][0][None]
    with torch.no_grad():
        return {
            (name, scale): load_model(name, scale_factor=scale, network_side=0)(coffee)[1][0]
            for name, scale in (("zero-dce++", 12), ("student-565", 12), ("zero-dce++", 1), ("zero-dce++", 32))
        }


@pytest.mark.slow
class TestOnThePhotos:
    def test_curve_maps(self, photos, maps):
        teacher, student = maps["zero-dce++", 12], maps["student-565", 12]
        says("Here all of them are negative", "r differs by less than 0.1 over the whole photo")
        assert teacher.max() < 0
        mean = teacher.mean(dim=0)
        assert mean.max() - mean.min() < 0.1
        says("it is most negative in the dark ones")
        regions = [F.avg_pool2d(m[None], 50).flatten() for m in (mean, photos["coffee"][0].mean(dim=0))]
        assert torch.corrcoef(torch.stack(regions))[0, 1] > 0.8
        says("Red and green get nearly the same curve. Blue gets a stronger one everywhere")
        for r in (teacher, student):
            red, green, _ = r.mean(dim=(1, 2)).tolist()
            assert abs(red - green) < 0.01
            assert (r[2] < r[:2].min(dim=0).values).all()
        says("The student's maps follow the teacher's closely")
        assert torch.corrcoef(torch.stack([teacher.flatten(), student.flatten()]))[0, 1] > 0.95
        says("At 1/32 the map varies a quarter as much as at full size")
        spread = {scale: float(maps["zero-dce++", scale].mean(dim=0).std()) for scale in (1, 32)}
        assert 0.2 < spread[32] / spread[1] < 0.3

    def test_what_the_scale_changes(self, photos):
        says("at full size is 34.6 dB", "the scales differ by less than 0.2 dB")
        to_full, to_truth, full = [], [], None
        for scale in (1, 2, 4, 8, 12, 16, 24, 32):
            model = load_model("zero-dce++", scale_factor=scale, network_side=0)
            enhanced = [quantise(enhance_tensor(model, dark)) for dark, _ in photos.values()]
            full = full or enhanced
            to_truth.append(sum(map(psnr, enhanced, (truth for _, truth in photos.values()))) / 3)
            to_full.append(sum(map(psnr, enhanced, full)) / 3)
        assert to_full[4] == pytest.approx(34.6, abs=0.1)
        assert max(to_truth) - min(to_truth) < 0.2

    def test_the_trap(self, photos):
        says(
            "at half to six tenths of the brightness", "falls by 6 dB for the cup and by 1.6 dB for the cat", "by 7 dB"
        )
        change = {}
        for name, (dark, truth) in photos.items():
            right, wrong = (
                enhance_tensor(load_model("zero-dce++", curve_activation=kind, network_side=0), dark)
                for kind in ("tanh", "sigmoid")
            )
            assert 0.47 < wrong.mean() / right.mean() < 0.62
            change[name] = psnr(quantise(wrong), truth) - psnr(quantise(right), truth)
        assert list(change.values()) == pytest.approx([-6, -1.6, 7], abs=0.15)
