"""What lesson 03 says holds, in the numbers of its own run: results/pretrain_embedded.json."""

import json
from functools import cache

import nbformat
import pytest
import torch

from kdlib import data
from kdlib.exercises.lesson_03 import ALIVE, best_curves
from kdlib.losses import MultiRegionExposureLoss, ZeroReferenceLoss
from kdlib.models import apply_curve
from kdlib.training.augmentation import augment
from kdlib.training.task import split
from tests.helpers import NOTEBOOKS, prose
from tests.lessons.cells import photos_of


@cache
def stored():
    return json.loads((NOTEBOOKS.parent / "results" / "pretrain_embedded.json").read_text(encoding="utf-8"))


@cache
def code():
    cells = nbformat.read(NOTEBOOKS / "03_pretrain.ipynb", as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def photos():
    return photos_of(None, size=64, limit=None, seed=0).photos


def test_most_patches_are_dark_and_the_mean_target_is_two_thirds(photos):
    patches = torch.nn.functional.avg_pool2d(photos.float().mean(dim=1, keepdim=True) / 255, 8).flatten()
    target, dark = MultiRegionExposureLoss().target(patches), patches < 0.12
    said = prose("03_pretrain")
    assert "More than half of the patches are darker than 0.12" in said
    assert 0.5 < dark.float().mean() < 0.6
    low, high = target[dark].min(), target[dark].max()
    assert f"their targets lie between {low:.2f} and {high:.2f}. Those of the others are lower." in said
    assert target[~dark].max() <= low + 1e-3
    assert "the mean target, about two thirds" in said
    assert float(target.mean()) == pytest.approx(2 / 3, abs=0.02)


@pytest.mark.slow
def test_the_objective_with_strong_colour_constancy_has_two_minima_of_which_white_is_the_better(photos):
    assert "two minima of nearly the same value, a moderate curve and white photos" in prose("03_pretrain")
    held = split(len(photos), 0.1, 0)[1]
    dark = augment(photos[held][:64].float() / 255, "gamma", torch.Generator().manual_seed(0))[:16]
    loss = ZeroReferenceLoss({"multi-region exposure": 7.0, "colour": 5.0})

    def objective(r):
        curve_map = torch.as_tensor(r).view(1, 3, 1, 1).expand_as(dark)
        return float(sum(loss(apply_curve(dark, curve_map, 8), curve_map, dark).values()))

    moderate = best_curves(dark, 5.0)
    assert max(moderate) - min(moderate) < 0.1
    assert all(-0.3 < r < -0.1 for r in moderate)
    between, white = objective([-0.5] * 3), objective([-1.0] * 3)
    assert white < objective(moderate) < between
    assert "White is even slightly the better one." in prose("03_pretrain")
    assert objective(moderate) < 1.1 * white
    assert "At 1 it has only changed sides: one channel is still treated unlike the other two" in prose("03_pretrain")
    low, middle, high = sorted(best_curves(dark, 1.0))
    assert high - middle < 0.2
    assert middle - low > 0.5


@pytest.mark.slow
def test_half_of_the_units_are_dead_and_the_loop_is_that_of_the_package_to_the_bit(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KDLIB_RUNS", str(tmp_path))
    monkeypatch.setattr(data, "load_photos", photos_of)
    namespace = {}
    for source in code():
        if "plt.show()" not in source and "check(" not in source.replace("check_parameters(", ""):
            exec(source, namespace)
        if "largest difference" in source:
            break
    assert "largest difference between the weights: 0.0" in capsys.readouterr().out
    torch.manual_seed(0)
    alive = namespace["living_units"](namespace["create_model"]("student-565"))
    assert len(alive) == 6
    assert abs(sum(alive) - ALIVE) <= 1
    assert "half of the small network is dead" in prose("03_pretrain")


def test_the_plateau_lies_where_the_lesson_says():
    said, run = prose("03_pretrain"), stored()
    unchanged, one, three = run["yardsticks"].values()
    assert f"a loss of about {unchanged:.1f}, the best single curve one of about {one:.1f}" in said
    assert f"Ours goes down to {run['objective']['validation']:.1f}" in said
    assert f"here {unchanged:.1f} for unchanged photos and {three:.2f} for three fixed numbers" in said
    assert three == pytest.approx(run["objective"]["validation"], rel=0.05)
    assert f"fell from {run['objective']['first']:.1f} to {run['objective']['last']:.1f}" in said


def test_the_student_gives_every_photo_one_colour_and_has_the_lower_loss():
    run = stored()
    for photo in run["multi_region"].values():
        assert photo["student"] < photo["truth"] / 2
    means = run["curves"]["multi-region"]["mean"]
    assert sum(mean < -0.5 for mean in means) == 2
    assert sum(mean > 0.5 for mean in means) == 1


def test_only_zero_dce_is_nearer_to_the_truth_than_the_dark_photo():
    dark, published, coloured, zero_dce, truth = stored()["held_out"]
    assert zero_dce["method"].startswith("zero-dce++")
    assert coloured["psnr"] < dark["psnr"] < zero_dce["psnr"]
    assert published["psnr"] < dark["psnr"]
    assert published["colour"] > 0.5
    assert coloured["brightness"] > 0.85
    assert zero_dce["brightness"] > truth["brightness"] + 0.1
    assert f"the true mean of these two is {truth['brightness']:.1f}" in prose("03_pretrain")


def test_students_are_fixed_curves_and_the_teacher_is_not():
    assert "With a deviation of 0.001 or less, these students *are* fixed curves" in prose("03_pretrain")
    *students, teacher = stored()["curves"].values()
    assert all(round(max(student["deviation"]), 3) <= 0.001 for student in students)
    assert min(teacher["deviation"]) > 0.005
