"""The sentences of lesson 09 against the files in results/, and against published weights where they are at hand."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch

from kdlib import load_model
from kdlib.data import sample_pairs
from kdlib.data.samples import HELD_OUT
from kdlib.evaluation import multiply_adds
from kdlib.evaluation.leaderboard import leaderboard
from kdlib.models import IAT, count_parameters, create_model
from kdlib.stages import BLACK
from tests.helpers import prose

RESULTS = Path(__file__).resolve().parents[2] / "results"


@cache
def board():
    return {row["method"]: row for row in leaderboard(RESULTS)}


@cache
def rows_of(name):
    rows = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    return {(row["method"], row.get("width")): row for row in rows}


def stored(name, method, width=None):
    return rows_of(name)[method, width]


def states(*sentences):
    page = prose("09_iat")
    for sentence in sentences:
        assert sentence in page


def test_parameters():
    states(
        "91,154 parameters, trained on real pairs", "More than two thirds of IAT's parameters are in the global branch"
    )
    iat, student = create_model("iat"), create_model("iat-student")
    assert count_parameters(iat) == 91_154
    assert count_parameters(iat.global_net) > 2 / 3 * 91_154
    states("with 8 channels instead of 16, and 16 instead of 32 in the global branch")
    narrow = create_model("iat-student", width=8, global_width=16)
    assert (student.width, student.global_width) == (16, 32)
    assert count_parameters(narrow) < count_parameters(IAT(8, 32)) / 2
    states("The student has 2.1 times fewer parameters, needs 1.2 times fewer multiply-adds")
    assert 2.05 < count_parameters(iat) / count_parameters(student) < 2.15
    states("saves only a fifth of the multiply-adds")
    assert 1.2 < multiply_adds(iat, 400, 600) / multiply_adds(student, 400, 600) < 1.25


def test_black():
    states("Black is replaced by 10⁻⁸, which rounds to the same photo")
    assert BLACK == 1e-8
    x = torch.tensor([0.0, 0.5], requires_grad=True)
    (x.clamp(BLACK, 1) ** 0.7).sum().backward()
    states("a clipped value passes no gradient at all")
    assert x.grad[0] == 0 < x.grad[1]


def test_scores_of_the_networks_with_stages():
    states("the result is 19.81 and 0.760", "The published student has 18.39 and 0.768")
    for name, scores in (("iat-student", (19.81, 0.76)), ("iat_student_peer", (18.39, 0.768))):
        assert (round(board()[name]["psnr"], 2), round(board()[name]["ssim"], 3)) == scores
    states("scores higher than both")
    for score in ("psnr", "ssim"):
        others = max(board()[name][score] for name in ("iat-student", "iat_student_peer"))
        assert board()["glance-650-real"][score] > others
    states("within a decibel of its teacher, 24.4 against 25.3")
    student, teacher = (board()[name]["gt_mean_psnr"] for name in ("iat-student", "iat_lol_v1_official"))
    assert (round(student, 1), round(teacher, 1)) == (24.4, 25.3)


def test_mirrored_photos():
    states(
        "The PSNR of IAT falls by 2 dB for mirrored photos", "only 0.1 dB of it remains", "`iat-student` loses 0.1 dB"
    )

    def lost(name, score="psnr"):
        return stored("mirrored", name)[score] - stored("mirrored", f"{name}, mirrored")[score]

    assert round(lost("iat_lol_v1_official")) == 2
    assert round(lost("iat_lol_v1_official", "gt_mean_psnr"), 1) == 0.1
    assert round(lost("iat-student"), 1) == 0.1
    assert max(abs(lost("glance-650-real")), abs(lost("student-565"))) < 0.05
    states("closer to the 21.4 dB that its teacher has for mirrored photos than to 23.4")
    found = [stored("mirrored", f"iat_lol_v1_official{how}")["psnr"] for how in ("", ", mirrored")]
    assert [round(score, 1) for score in found] == [23.4, 21.4]


def test_squashed_photos():
    states("from 23.4 to 19.2 dB, but after GT-mean only from 25.3 to 24.7", "has 20.1 dB there and 19.8 at full size")
    teacher, student = (stored("squashed", name) for name in ("iat_lol_v1_official", "iat-student"))
    assert (round(teacher["psnr"], 1), round(teacher["gt_mean_psnr"], 1)) == (19.2, 24.7)
    assert (round(student["psnr"], 1), round(board()["iat-student"]["psnr"], 1)) == (20.1, 19.8)


def test_cost():
    states("five times as fast as its teacher at both sizes, and six times at 1080p with its batch norm folded")
    ratios = [stored("iat_cost", name, width)["times_faster"] for name, width in (
        ("iat-student", 600), ("iat-student", 1920), ("iat-student, folded", 1920),
    )]  # fmt: skip
    assert list(map(round, ratios)) == [5, 5, 6]


def test_the_smallest_students_of_iat():
    plain, curve = board()["student-565"], board()["student-565, from zero-dce"]
    there, dark = board()["student-565, from IAT"], board()["student-565, from IAT in the dark"]
    states("they score 3 dB lower", "they reach 16.7 ± 1.2 dB, which three seeds cannot distinguish from 17.6")
    assert round(plain["psnr"] - there["psnr"]) == round(curve["psnr"] - there["psnr"]) == 3
    assert (round(dark["psnr"], 1), round(dark["psnr_sd"], 1), round(plain["psnr"], 1)) == (16.7, 1.2, 17.6)
    assert plain["psnr"] - dark["psnr"] < dark["psnr_sd"]
    states("21.0 and 21.4 dB after GT-mean against 20.7, with a lower LPIPS")
    assert [round(row["gt_mean_psnr"], 1) for row in (there, dark, plain)] == [21.0, 21.4, 20.7]
    assert max(there["lpips"], dark["lpips"]) < min(plain["lpips"], curve["lpips"])
    states("15 and 18 dB, against 47 and 44", "a standard deviation of 25 percentage points")
    assert [round(row["fidelity"]) for row in (there, dark, plain, curve)] == [15, 18, 47, 44]
    assert round(dark["daylight_sd"], 2) == 0.25


def test_daylight_of_the_shipped_student():
    states("photos that need no change are made much brighter")
    assert board()["iat-student"]["daylight"] > 0.5


def test_what_other_tests_hold():
    """tests/test_iat.py has the photos that turn black, and those that do not."""
    states("for 9 of the 32 photos of DICM, and for none of the 14 darkest", "for any photo of DICM and LIME")


@torch.no_grad()
def test_the_published_teacher(shared):
    states("a teacher's gamma above 1, which the published LOL-v1 weights give for both held-out photos")
    states("In the published LOL-v1 weights, *multiply* and *add* are both near 0.5 for these two photos")
    model, pairs = load_model(shared / "weights" / "iat_lol_v1_official.pth"), sample_pairs(stops=3.5, seed=0)
    for name in HELD_OUT:
        _, stages = model(pairs[name][0][None, :, ::2, ::2])
        assert float(stages.gamma) > 1
        assert 0.4 < float(stages.multiply.mean()) < 0.6
        assert 0.4 < float(stages.add.mean()) < 0.6
