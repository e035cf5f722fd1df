from __future__ import annotations

import copy
import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from kdlib.data import sample_crops
from kdlib.enhance.photos.rgb import read_photo, to_array
from kdlib.losses import LayerFeatures
from kdlib.models import IAT, create_model
from kdlib.training import LoopConfig, NonFiniteLossError, Recipe, display, distill, make_recipe, pretrain, train_pairs
from kdlib.training import loop as loop_module
from kdlib.training.augmentation import augment
from kdlib.training.config import centralise_gradients, make_schedule
from kdlib.training.distill_curve import RecipeObjective, cache_teacher
from kdlib.training.initialise import fresh_model, initialise_from_data
from kdlib.training.preview import preview_of, write_preview
from kdlib.training.task import Task, split
from kdlib.weights import save_model

CONFIGS = Path(__file__).resolve().parents[1] / "configs"

QUICK = {"batch_size": 8, "progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def photos():
    return sample_crops(40, 32, seed=1)


@pytest.fixture(scope="module")
def initialised(photos):
    """The teacher of all tests, and the state of the random generator after it was made."""
    torch.manual_seed(0)
    model = fresh_model("zero-dce++", photos)
    with torch.no_grad():
        model.e_conv7.point_conv.weight.mul_(3)
        model.e_conv7.point_conv.bias.sub_(0.3)
    return model.eval(), torch.get_rng_state()


@pytest.fixture
def teacher(initialised):
    """A stand-in with a varied curve map: half of it in front of and half behind the identity."""
    model, state = initialised
    torch.set_rng_state(state)
    return copy.deepcopy(model)


def weights_of(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# Recipes


def test_recipes_carry_the_published_shares():
    assert (make_recipe("one-stage").alpha, make_recipe("one-stage").beta) == (0.7, 0.2)
    assert (make_recipe("two-stage").alpha, make_recipe("two-stage").beta) == (0.35, 0.1)
    assert make_recipe("two-stage").pretrain_epochs == 40
    assert make_recipe("two-stage").contrastive > 0


def test_the_recipe_of_output_alignment_alone_is_that_of_the_shipped_students():
    for name in ("student-565", "nano-161", "student-565-pairs", "student-565-free"):
        given = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
        assert make_recipe(given["recipe"], alpha=given["alpha"], beta=given["beta"]) == make_recipe("alignment")


def test_overrides_replace_single_fields_and_none_keeps_the_recipes():
    recipe = make_recipe("two-stage", alpha=0.4, beta=None)
    assert (recipe.alpha, recipe.beta) == (0.4, 0.1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha": 0.8, "beta": 0.3}, "must not exceed 1"),
        ({"alpha": -0.1}, r"alpha must be a number from 0 to 1, not -0.1"),
        ({"beta": 1.5}, "beta must be a number"),
        ({"alpha": float("nan")}, "alpha must be a number"),
        ({"alpha": "0.4"}, "alpha must be a number"),
        ({"contrastive": -1.0}, "contrastive"),
        ({"perceptual": float("inf")}, "perceptual"),
        ({"pretrain_epochs": -1}, "pretrain_epochs"),
    ],
)
def test_impossible_recipes_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        make_recipe("one-stage", **fields)


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(ValueError, match="one-stage, two-stage"):
        make_recipe("three-stage")
    with pytest.raises(ValueError, match="gamma"):
        make_recipe("one-stage", gamma=1)


# The distillation objective


def terms_of(student, teacher, photos, recipe, average=None):
    objective = RecipeObjective(student, teacher, recipe, "none")
    return objective(student, (photos[:4],), average, torch.Generator())


@pytest.mark.slow
def test_the_total_is_alpha_distillation_plus_beta_features_plus_the_rest_of_the_task(teacher, photos):
    student = fresh_model("student-565", photos)
    student.scale_factor = teacher.scale_factor = 1
    whole = {
        name: terms_of(student, teacher, photos, Recipe(alpha=a, beta=b))[name].item()
        for name, a, b in (("alignment", 1.0, 0.0), ("features", 0.0, 1.0), ("task", 0.0, 0.0))
    }
    shared = terms_of(student, teacher, photos, Recipe(alpha=0.5, beta=0.3))
    assert shared.keys() == whole.keys()
    assert shared["alignment"].item() == pytest.approx(0.5 * whole["alignment"], rel=1e-5)
    assert shared["features"].item() == pytest.approx(0.3 * whole["features"], rel=1e-5)
    assert shared["task"].item() == pytest.approx(0.2 * whole["task"], rel=1e-5)


@pytest.mark.slow
def test_terms_of_no_weight_are_not_computed(teacher, photos):
    student = fresh_model("student-565", photos)
    assert terms_of(student, teacher, photos, Recipe(alpha=1.0, beta=0.0)).keys() == {"alignment"}


@pytest.mark.parametrize("augmentation", ["none", "darken"])
def test_a_teacher_that_no_term_compares_with_is_not_asked(teacher, photos, monkeypatch, augmentation):
    monkeypatch.setattr(RecipeObjective, "ask_teacher", lambda *_: pytest.fail("the teacher was asked"))
    settings = {"photos": photos, "epochs": 1, "augmentation": augmentation, **QUICK}
    run = distill("student-565", teacher, recipe=make_recipe("alignment", alpha=0.0, ssim=0.5), **settings)
    assert run.history[0].keys() & {"alignment", "ssim", "features", "task"} == {"task"}
    assert run.best_score == run.history[0]["fidelity"] > 0


@pytest.mark.slow
def test_the_contrastive_term_is_live(teacher, photos):
    student = fresh_model("student-565", photos)
    average = torch.optim.swa_utils.AveragedModel(student)
    with torch.no_grad():
        for parameter in average.parameters():
            parameter.add_(0.002)

    def gradient(recipe):
        student.zero_grad()
        terms = terms_of(student, teacher, photos, recipe, average)
        torch.stack(list(terms.values())).sum().backward()
        return torch.cat([p.grad.flatten() for p in student.parameters()])

    plain, contrastive = gradient(Recipe()), gradient(Recipe(contrastive=0.05))
    assert (plain - contrastive).norm() > 1e-4 * plain.norm()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["student-565", "nano-161"])
def test_a_cached_teacher_gives_the_same_terms(teacher, photos, name):
    student = fresh_model(name, photos)
    student.scale_factor = teacher.scale_factor = 1
    objective = RecipeObjective(student, teacher, Recipe(), "none")
    cached = cache_teacher(objective, photos[:4], torch.device("cpu"))
    batch = tuple(torch.stack(column) for column in zip(*(cached[i] for i in range(4)), strict=True))
    live = objective(student, (photos[:4],), None, torch.Generator())
    kept = objective(student, batch, None, torch.Generator())
    for term, value in live.items():
        assert kept[term].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-7), term


@pytest.mark.slow
def test_a_teacher_with_one_map_for_each_iteration_can_teach(photos):
    master = fresh_model("zero-dce", photos)
    run = distill("student-565", master, photos=photos, epochs=1, recipe="one-stage", **QUICK)
    assert torch.isfinite(weights_of(run.model)).all()


# A teacher that is no curve network


@pytest.fixture
def iat():
    """A small IAT with random weights that brightens, more or less from photo to photo."""
    torch.manual_seed(0)
    model = IAT(width=4, global_width=8)
    with torch.no_grad():
        model.local_net.mul_end[0].bias.fill_(2.0)
        model.local_net.mul_end[0].weight.normal_(std=0.1)
        model.global_net.gamma_base.fill_(0.6)
    return model.eval()


@pytest.mark.slow
def test_a_teacher_of_another_family_is_followed_by_its_photos(iat, photos, tmp_path):
    before = weights_of(iat).clone()
    settings = {"photos": photos, "alpha": 1.0, "beta": 0.0, "output_dir": tmp_path, "learning_rate": 0.01}
    run = distill("student-565", iat, epochs=10, **settings, **QUICK)
    assert run.best_score > run.history[0]["fidelity"] + 3
    assert run.history[0].keys() & {"alignment", "features", "task"} == {"alignment"}
    assert torch.equal(weights_of(iat), before)
    # Fidelity, and the loss, are those of the teacher's photos.
    _, held = split(len(photos), 0.1, 0)
    small, run.model.scale_factor = photos[held].float() / 255, 1
    with torch.no_grad():
        error = (run.model(small)[0] - iat(small)[0]).square().mean(dim=(1, 2, 3))
    assert float((-10 * error.log10()).mean()) == pytest.approx(run.best_score, abs=0.05)


def test_a_cached_teacher_of_another_family_gives_the_same_terms(iat, photos):
    student = fresh_model("student-565", photos)
    student.scale_factor = 1
    objective = RecipeObjective(student, iat, Recipe(alpha=1.0, beta=0.0, ssim=0.5), "none")
    cached = cache_teacher(objective, photos[:4], torch.device("cpu"))
    batch = tuple(torch.stack(column) for column in zip(*(cached[i] for i in range(4)), strict=True))
    assert [column.shape for column in batch] == [(4, 3, 32, 32)] * 2
    live = objective(student, (photos[:4],), None, torch.Generator())
    kept = objective(student, batch, None, torch.Generator())
    assert live.keys() == kept.keys() == {"alignment", "ssim"}
    with torch.no_grad():
        by_hand = 100 * (student(photos[:4] / 255)[0] - iat(photos[:4] / 255)[0]).square().mean()
    assert live["alignment"].item() == pytest.approx(by_hand.item(), rel=1e-4)
    for term, value in live.items():
        assert kept[term].item() == pytest.approx(value.item(), rel=1e-4), term


def test_cached_or_not_a_run_loses_the_same(iat, photos, monkeypatch):
    settings = {"photos": photos, "alpha": 1.0, "beta": 0.0, "epochs": 2, **QUICK}
    first = distill("student-565", iat, **settings)
    monkeypatch.setattr(sys.modules[RecipeObjective.__module__], "CACHE_LIMIT", 0)
    second = distill("student-565", iat, **settings)
    for one, other in zip(first.history, second.history, strict=True):
        assert one["alignment"] == pytest.approx(other["alignment"], rel=1e-3)


@pytest.mark.parametrize("asked", [{}, {"beta": 0.2}, {"beta": 0.0, "recipe": "two-stage"}])
def test_features_of_a_teacher_of_another_family_cannot_be_matched(iat, photos, asked):
    with pytest.raises(
        ValueError, match="the layers of IAT match none of a curve network: use beta=0 and contrastive=0"
    ):
        distill("student-565", iat, photos=photos, epochs=1, **asked, **QUICK)


@pytest.mark.parametrize(("side", "expected"), [(None, 0), (0, 0), (16, 16)])
def test_the_student_of_another_family_sees_as_much_as_it_is_told(iat, photos, side, expected):
    settings = {"photos": photos, "alpha": 1.0, "beta": 0.0, "epochs": 1, "network_side": side, **QUICK}
    run = distill("student-565", iat, **settings)
    assert run.model.network_side == expected
    assert run.model.config["network_side"] == expected


@pytest.mark.slow
def test_a_curve_student_sees_what_its_curve_teacher_sees_unless_told_otherwise(teacher, photos):
    teacher.network_side = 16
    for side, expected in ((None, 16), (8, 8), (0, 0)):
        run = distill("nano-161", teacher, photos=photos, epochs=1, network_side=side, **QUICK)
        assert run.model.network_side == expected


@pytest.mark.slow
def test_a_weights_file_of_zero_dce_teaches_the_smaller_student(photos, tmp_path):
    torch.manual_seed(0)
    master = fresh_model("zero-dce", photos, network_side=32)
    with torch.no_grad():
        master.e_conv7.bias.sub_(0.3)
    file = save_model(master, tmp_path / "zero-dce.safetensors")
    run = distill("student-565", file, photos=photos, epochs=8, learning_rate=0.01, **QUICK)
    assert run.model.shared_map
    assert run.model.network_side == 32
    assert run.best_score > run.history[0]["fidelity"] + 2


# Distilling and pretraining


@pytest.mark.slow
def test_distilling_brings_the_student_near_its_teacher_and_leaves_the_teacher_alone(teacher, photos, tmp_path):
    before = weights_of(teacher).clone()
    run = distill(
        "student-565", teacher, photos=photos, output_dir=tmp_path, epochs=15, learning_rate=0.01, seed=1, **QUICK
    )
    assert run.best_score > run.history[0]["fidelity"] + 3
    assert torch.equal(weights_of(teacher), before)
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    assert teacher.scale_factor == 12
    assert run.model.scale_factor == 12
    with open(tmp_path / "history.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 16))
    assert {"alignment", "features", "task", "total", "fidelity", "task_loss"} <= rows[0].keys()
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.slow
def test_the_best_epoch_is_returned_not_the_last(teacher, photos):
    run = distill("student-565", teacher, photos=photos, epochs=6, learning_rate=0.5, schedule="constant", **QUICK)
    scores = [row["fidelity"] for row in run.history]
    assert run.best_score == max(scores)
    assert scores.index(max(scores)) + 1 == run.best_epoch


@pytest.mark.slow
def test_two_stages_run_one_after_the_other(teacher, photos, tmp_path):
    distill(
        "nano-161",
        teacher,
        photos=photos,
        output_dir=tmp_path,
        recipe="two-stage",
        pretrain_epochs=1,
        epochs=1,
        **QUICK,
    )
    assert (tmp_path / "stage1" / "history.csv").is_file()
    header = (tmp_path / "history.csv").read_text(encoding="utf-8").splitlines()[0]
    assert "contrastive" in header


@pytest.mark.slow
@pytest.mark.parametrize("augmentation", ["none", "darken-once", "gamma", "darken"])
def test_every_augmentation_trains(teacher, photos, augmentation):
    run = distill("nano-161", teacher, photos=photos[:8], epochs=1, augmentation=augmentation, **QUICK)
    assert len(run.history) == 1


def test_pretraining_lowers_the_objective(photos):
    run = pretrain("student-565", photos=photos, objective="zero-dce++", epochs=8, learning_rate=0.01, **QUICK)
    assert run.best_score > run.history[0]["validation_objective"]


def test_pretraining_defaults_are_stage_1():
    from inspect import signature

    defaults = {name: p.default for name, p in signature(pretrain).parameters.items()}
    assert (defaults["objective"], defaults["augmentation"], defaults["epochs"]) == ("multi-region", "gamma", 40)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number"),
        ({"epochs": 1.5}, "epochs must be a whole number"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": "1e-3"}, "learning_rate"),
        ({"schedule": "warm"}, "one-cycle"),
        ({"optimiser": "sgd"}, "adamw"),
        ({"device": "tpu"}, "device"),
        ({"precision": "8-bit"}, "precision"),
        ({"augmentation": "rain"}, "rain"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"averaged": True}, "averaged=True needs an ema_decay above 0"),
    ],
)
def test_impossible_settings_are_refused(photos, arguments, message):
    with pytest.raises(ValueError, match=message):
        pretrain("nano-161", photos=photos, **{**QUICK, **arguments})


def test_a_device_that_is_not_there_is_refused(photos):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match="'cuda' is not available"):
        pretrain("nano-161", photos=photos, **{**QUICK, "device": "cuda"})


# The loop


@pytest.mark.slow
def test_an_interrupted_run_continues_to_the_same_weights(teacher, photos, tmp_path, interrupted_in):
    settings = {
        "photos": photos,
        "epochs": 4,
        "recipe": "two-stage",
        "pretrain_epochs": 0,
        "augmentation": "darken",
        **QUICK,
    }
    whole = distill("nano-161", teacher, output_dir=tmp_path / "whole", **settings)

    with interrupted_in(3):
        distill("nano-161", teacher, output_dir=tmp_path / "parts", **settings)
    resumed = distill("nano-161", teacher, output_dir=tmp_path / "parts", resume=True, **settings)

    assert torch.equal(weights_of(whole.model), weights_of(resumed.model))
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3, 4]
    for left, right in zip(whole.history, resumed.history, strict=True):
        assert {k: v for k, v in left.items() if k != "seconds"} == {k: v for k, v in right.items() if k != "seconds"}


@pytest.mark.slow
def test_a_finished_run_is_not_repeated(teacher, photos, tmp_path):
    settings = {"photos": photos, "epochs": 1, "output_dir": tmp_path, **QUICK}
    first = distill("nano-161", teacher, **settings)
    again = distill("nano-161", teacher, resume=True, **settings)
    assert torch.equal(weights_of(first.model), weights_of(again.model))
    assert first.history == again.history


@pytest.mark.slow
def test_a_run_with_other_epochs_or_another_recipe_teacher_or_student_is_not_continued(teacher, photos, tmp_path):
    settings = {"photos": photos, "epochs": 1, "output_dir": tmp_path, **QUICK}
    distill("nano-161", teacher, **settings)
    with pytest.raises(ValueError, match="epochs 1 → 2"):
        distill("nano-161", teacher, resume=True, **{**settings, "epochs": 2})
    with pytest.raises(ValueError, match="recipe"):
        distill("nano-161", teacher, alpha=0.4, resume=True, **settings)
    with pytest.raises(ValueError, match="student"):
        distill("student-565", teacher, resume=True, **settings)
    with pytest.raises(ValueError, match=r"other settings \(validation_fraction 0.1 → 0.5\)"):
        distill("nano-161", teacher, validation_fraction=0.5, resume=True, **settings)
    with torch.no_grad():
        teacher.e_conv1.point_conv.bias.add_(0.1)
    with pytest.raises(ValueError, match="teacher"):
        distill("nano-161", teacher, resume=True, **settings)


def test_a_run_that_keeps_other_photos_back_is_not_continued(photos, tmp_path):
    settings = {"photos": photos, "epochs": 1, "output_dir": tmp_path, **QUICK}
    pretrain("nano-161", **settings)
    with pytest.raises(ValueError, match=r"other settings \(validation_fraction 0.1 → 0.5\)"):
        pretrain("nano-161", validation_fraction=0.5, resume=True, **settings)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named(teacher, photos, tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged"):
        distill("nano-161", teacher, photos=photos, epochs=1, output_dir=tmp_path, resume=True, **QUICK)


@pytest.mark.slow
def test_resuming_without_a_folder_is_refused(teacher, photos):
    with pytest.raises(ValueError, match="output_dir"):
        distill("nano-161", teacher, photos=photos, epochs=1, resume=True, **QUICK)


@pytest.mark.slow
def test_a_misspelt_augmentation_is_refused(teacher, photos):
    with pytest.raises(ValueError, match="'gama'; choose from none, gamma, darken, darken-once"):
        distill("nano-161", teacher, photos=photos, epochs=1, augmentation="gama", **QUICK)


@pytest.mark.slow
def test_an_all_black_photo_does_not_decide_the_best_epoch(teacher, photos):
    black = torch.cat([photos[:2], torch.zeros_like(photos)])
    run = distill("nano-161", teacher, photos=black, epochs=3, **QUICK)
    assert all(row["fidelity"] <= 100 for row in run.history)


def test_photos_stay_in_32_bits_under_mixed_precision(photos):
    from torch.utils.data import TensorDataset

    seen = []

    def objective(model, batch, average, generator):
        enhanced, curve_map = model(batch[0].float() / 255)
        seen.append((enhanced.dtype, curve_map.dtype))
        return {"loss": enhanced.mean()}

    config = LoopConfig(**{**QUICK, "epochs": 1, "precision": "bf16-mixed"})
    Task(create_model("nano-161"), objective, TensorDataset(photos), lambda m: {"s": 0.0}, "s").train(config)
    assert set(seen) == {(torch.float32, torch.float32)}


def test_centralised_gradients_have_mean_zero_for_each_output_and_biases_stay():
    layer = torch.nn.Conv2d(3, 4, 3)
    layer(torch.rand(2, 3, 8, 8)).square().mean().backward()
    before, bias = layer.weight.grad.clone(), layer.bias.grad.clone()
    centralise_gradients(layer.parameters())
    torch.testing.assert_close(layer.weight.grad, before - before.mean(dim=(1, 2, 3), keepdim=True))
    assert before.mean(dim=(1, 2, 3)).abs().min() > 1e-4
    assert layer.weight.grad.mean(dim=(1, 2, 3)).abs().max() < 1e-7
    assert torch.equal(layer.bias.grad, bias)


@pytest.mark.slow
def test_training_can_centralise_its_gradients(teacher, photos):
    settings = {"photos": photos, "epochs": 2, "optimiser": "adam", **QUICK}
    plain, centralised = (distill("nano-161", teacher, centralise=value, **settings).model for value in (False, True))
    assert not torch.equal(weights_of(plain), weights_of(centralised))


def test_the_progress_bar_keeps_the_scores_of_the_epoch_before(photos, monkeypatch):
    shown = []

    class Bar:
        def __init__(self, **_):
            pass

        def update(self):
            pass

        def set_postfix(self, values):
            shown.append(set(values))

        close = update

    monkeypatch.setattr(display, "tqdm", Bar)

    def objective(model, batch, average, generator):
        return {"bright": model(batch[0].float() / 255)[0].mean()}

    config = LoopConfig(**{**QUICK, "batch_size": 4, "epochs": 2})
    data = torch.utils.data.TensorDataset(photos)
    Task(create_model("nano-161"), objective, data, lambda _: {"psnr": 1.0, "ssim": 0.5}, "psnr").train(config)
    terms, scores = {"bright", "total"}, {"psnr", "ssim"}
    assert shown == [terms, terms | scores, terms | scores, terms | scores]


def test_half_precision_is_refused_where_there_is_no_cuda(photos):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match="'16-mixed' needs a CUDA device, this is 'cpu'"):
        pretrain("nano-161", photos=photos, precision="16-mixed", **QUICK)


def half_on_cpu(monkeypatch):
    """Fabric's half precision with its scaler, which it only offers for CUDA, on the CPU, which PyTorch can do."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.precision import MixedPrecision

    fabrics = []

    def make(device, precision):
        fabrics.append(Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu")]))
        return fabrics[-1]

    monkeypatch.setattr(loop_module, "make_fabric", make)
    return fabrics


def test_half_precision_scales_its_loss_and_lowers_the_scale_after_an_overflow(photos, monkeypatch):
    from torch.utils.data import TensorDataset

    fabrics, called = half_on_cpu(monkeypatch), []

    def objective(model, batch, average, generator):
        called.append(fabrics[-1].strategy.precision.scaler.get_scale())
        _, curve_map = model(batch[0].float() / 255)
        # A gradient that is finite by itself, and not once it is scaled by 2¹⁶.
        return {"loss": curve_map.square().mean() * (1e34 if len(called) == 2 else 1)}

    config = LoopConfig(**{**QUICK, "epochs": 2, "precision": "16-mixed", "clip_norm": 0.5})
    model = create_model("nano-161")
    before = weights_of(model)
    run = Task(model, objective, TensorDataset(photos), lambda m: {"s": 0.0}, "s").train(config)
    assert called[:2] == [2.0**16, 2.0**16]
    assert called[2] == 2.0**15
    assert run.skipped_batches == 1
    assert not torch.equal(weights_of(run.model), before)
    assert run.precision == "16-mixed"


def test_the_scale_of_half_precision_goes_on_with_a_run(photos, tmp_path, monkeypatch):
    from torch.utils.data import TensorDataset

    fabrics, scales, validated = half_on_cpu(monkeypatch), [], []

    def objective(model, batch, average, generator):
        scales.append(fabrics[-1].strategy.precision.scaler.get_scale())
        _, curve_map = model(batch[0].float() / 255)
        return {"loss": curve_map.square().mean()}

    def validate(model):
        validated.append(model)
        if len(validated) == 1:
            fabrics[-1].strategy.precision.scaler.update(1024.0)
        if len(validated) == 2:
            raise KeyboardInterrupt
        return {"s": 0.0}

    def run():
        config = LoopConfig(**{**QUICK, "epochs": 2, "precision": "16-mixed", "resume": True})
        Task(create_model("nano-161"), objective, TensorDataset(photos), validate, "s").train(config, tmp_path)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert scales[0] == 2.0**16
    scales.clear()
    run()
    assert set(scales) == {1024.0}


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["zero-dce", "zero-dce-absolute", "zero-dce-official"])
def test_zero_dce_trains_by_the_same_call_and_follows_the_exposure_target(photos, objective):
    photos = photos[:24]
    settings = {"photos": photos, "objective": objective, "epochs": 2, "learning_rate": 0.003, "clip_norm": 1.0}
    low, high = (pretrain("zero-dce", exposure_target=target, **settings, **QUICK).model for target in (0.4, 0.7))
    assert low.e_conv7.weight.shape[0] == 24
    with torch.no_grad():
        small = photos.float() / 255
        assert low(small)[0].mean() < high(small)[0].mean()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_student_and_another_seed_another(teacher, photos):
    first, second, third = (
        weights_of(distill("nano-161", teacher, photos=photos, epochs=1, seed=seed, **QUICK).model)
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def run_with_losses(values, photos, **settings):
    """Train a nano with a loss that is multiplied, batch by batch, by the given values."""
    from torch.utils.data import TensorDataset

    queue = iter(values)

    def objective(model, batch, average, generator):
        return {"loss": model(batch[0].float() / 255)[0].mean() * next(queue, 1.0)}

    config = LoopConfig(**{**QUICK, "batch_size": 2, "schedule": "constant", **settings})
    task = Task(create_model("nano-161"), objective, TensorDataset(photos), lambda model: {"score": 0.0}, "score")
    return task.train(config)


def test_a_non_finite_loss_skips_its_batch_and_is_counted(photos):
    nan = float("nan")
    run = run_with_losses([1.0, nan, float("inf"), 1.0], photos, epochs=1)
    assert run.skipped_batches == 2
    assert torch.isfinite(weights_of(run.model)).all()
    assert run.history[0]["loss"] == run.history[0]["loss"]


def test_a_non_finite_gradient_skips_its_batch_too(photos):
    from torch.utils.data import TensorDataset

    calls = []

    def objective(model, batch, average, generator):
        loss = model(batch[0].float() / 255)[0].mean()
        calls.append(loss)
        if len(calls) == 2:
            loss.register_hook(lambda gradient: gradient * float("nan"))
        return {"loss": loss}

    config = LoopConfig(**{**QUICK, "epochs": 1})
    run = Task(create_model("nano-161"), objective, TensorDataset(photos), lambda m: {"s": 0.0}, "s").train(config)
    assert run.skipped_batches == 1
    assert torch.isfinite(weights_of(run.model)).all()


def test_ten_non_finite_losses_in_a_row_stop_the_run(photos):
    nan = float("nan")
    assert run_with_losses([nan] * 9, photos, epochs=1).skipped_batches == 9
    with pytest.raises(NonFiniteLossError, match="10 batches in a row"):
        run_with_losses([nan] * 10, photos, epochs=1)


def test_gradients_are_clipped(photos):
    settings = {"epochs": 1, "optimiser": "adam", "learning_rate": 1e-3}
    seen = []
    real = torch.nn.utils.clip_grad_norm_

    def spy(parameters, *args, **kwargs):
        norm = real(parameters, *args, **kwargs)
        seen.append(kwargs.get("max_norm", args[0] if args else None))
        return norm

    torch.nn.utils.clip_grad_norm_ = spy
    try:
        run_with_losses([1.0], photos, clip_norm=0.25, **settings)
    finally:
        torch.nn.utils.clip_grad_norm_ = real
    assert set(seen) == {0.25}


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "step", "plateau", "constant"])
def test_every_schedule_trains(photos, schedule):
    run = run_with_losses([], photos[:8], epochs=3, schedule=schedule)
    rates = [row["learning_rate"] for row in run.history]
    assert rates[-1] < rates[0] or schedule in {"plateau", "constant"}


def test_plateau_halves_the_rate_when_nothing_improves():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.Adam([parameter], lr=1.0)
    schedule, every_batch = make_schedule(LoopConfig(schedule="plateau"), optimiser, 1)
    for _ in range(7):
        schedule.step(0.0)
    assert not every_batch
    assert optimiser.param_groups[0]["lr"] == 0.5


# Previews


def preview_files(folder):
    return sorted(path.name for path in (folder / "previews").iterdir())


def test_previews_are_written_every_so_many_epochs_and_after_the_last(photos, tmp_path):
    settings = {"photos": photos, "output_dir": tmp_path, **QUICK}
    pretrain("nano-161", epochs=5, preview_every=2, **settings)
    assert preview_files(tmp_path) == ["epoch_0002.png", "epoch_0004.png", "epoch_0005.png"]
    sheet = read_photo(tmp_path / "previews" / "epoch_0005.png")
    assert sheet.shape == (2 * 100 + 4, 4 * 100 + 4, 3)  # input and output of four held-out photos, each 96×96
    assert not list(tmp_path.rglob(".*.part"))


def test_no_previews_unless_asked_for(photos, tmp_path):
    pretrain("nano-161", photos=photos, output_dir=tmp_path, epochs=1, **QUICK)
    assert not (tmp_path / "previews").exists()


def test_a_preview_shows_the_models_answer_between_input_and_target():
    dark, wanted = torch.full((3, 3, 32, 32), 51, dtype=torch.uint8), torch.full((3, 3, 32, 32), 0.8)
    model = create_model("nano-161")
    sheet = preview_of(dark, wanted)(model)
    answer = model(dark.float() / 255)[0][0]
    assert sheet.shape == (3 * 100 + 4, 3 * 100 + 4, 3)
    assert (sheet[:4] == 255).all()
    assert (sheet[4:100, 4:100] == 51).all()
    assert (sheet[104:200:3, 4:100:3] == to_array(answer)).all()
    assert (sheet[204:300, 4:100] == 204).all()


def test_a_preview_shows_at_most_eight_photos_spread_over_the_held_out_ones():
    photos = torch.arange(40, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 96, 96)
    sheet = preview_of(photos)(create_model("nano-161"))
    assert sheet.shape[1] == 8 * 100 + 4
    assert sheet[50, 50::100, 0].tolist() == [0, 5, 10, 15, 20, 25, 30, 35]


@pytest.mark.slow
def test_distilling_and_training_on_pairs_show_what_was_wanted(teacher, photos, tmp_path):
    settings = {"photos": photos, "epochs": 1, "preview_every": 1, **QUICK}
    distill("nano-161", teacher, output_dir=tmp_path / "taught", **settings)
    assert read_photo(tmp_path / "taught" / "previews" / "epoch_0001.png").shape[0] == 3 * 100 + 4
    bright = sample_crops(40, 32, seed=1, darkened=False)
    train_pairs("nano-161", output_dir=tmp_path / "paired", **{**settings, "photos": bright})
    assert read_photo(tmp_path / "paired" / "previews" / "epoch_0001.png").shape[0] == 3 * 100 + 4


def test_previews_change_nothing_and_a_run_goes_on_with_others(photos, tmp_path):
    settings = {"photos": photos, "epochs": 3, **QUICK}
    plain = pretrain("nano-161", **settings)
    shown = pretrain("nano-161", output_dir=tmp_path, preview_every=1, **settings)
    assert torch.equal(weights_of(plain.model), weights_of(shown.model))
    again = pretrain("nano-161", output_dir=tmp_path, preview_every=2, resume=True, **settings)
    assert torch.equal(weights_of(again.model), weights_of(shown.model))


def test_a_failed_preview_leaves_the_earlier_one_and_no_part(tmp_path):
    model = create_model("nano-161")
    path = write_preview(lambda _: np.zeros((8, 8, 3), np.uint8), model, tmp_path, 7)
    assert path == tmp_path / "previews" / "epoch_0007.png"
    before = path.read_bytes()
    with pytest.raises(ValueError, match="H×W×3 uint8"):
        write_preview(lambda _: np.zeros((8, 8), np.uint8), model, tmp_path, 7)
    assert path.read_bytes() == before
    assert preview_files(tmp_path) == ["epoch_0007.png"]


@pytest.mark.parametrize("value", [-1, 1.5, True])
def test_a_preview_every_that_is_no_count_is_refused(value):
    with pytest.raises(ValueError, match="preview_every must be a whole number of at least 0"):
        LoopConfig(preview_every=value)


def test_previews_without_a_folder_are_refused(photos):
    with pytest.raises(ValueError, match="preview_every=1 needs an output_dir"):
        pretrain("nano-161", photos=photos, epochs=1, preview_every=1, **QUICK)


# Pieces


def test_every_unit_is_alive_after_initialisation(photos):
    small = photos.float() / 255
    for seed in range(5):
        torch.manual_seed(seed)
        model = create_model("student-565")
        initialise_from_data(model, small)
        with LayerFeatures(model, [f"e_conv{i}" for i in range(1, 8)]) as tap:
            model.estimate_curve(small)
        for i in range(1, 7):
            output = tap.features[f"e_conv{i}"]
            assert output.mean(dim=(0, 2, 3)).abs().max() < 1e-3
            assert (output.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-3
        assert tap.features["e_conv7"].std(dim=(0, 2, 3)).max() < 0.2


def test_augmentation_stays_in_range_and_keeps_half_of_the_exposures(photos):
    small = photos.float() / 255
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(augment(small, "none", generator), small)
    darker = augment(small, "darken", generator)
    means, before = darker.mean(dim=(1, 2, 3)), small.mean(dim=(1, 2, 3))
    assert torch.allclose(means[1::2], before[1::2], atol=1e-5)
    assert (means[::2] < before[::2]).float().mean() > 0.8
    brightened = augment(small, "gamma", generator)
    assert brightened.min() >= 0
    assert brightened.max() <= 1


def test_averaged_weights_are_kept_instead_of_the_last(photos):
    settings = {"photos": photos, "epochs": 1, "learning_rate": 0.02, **QUICK}
    last = weights_of(pretrain("nano-161", **settings).model)
    barely = pretrain("nano-161", ema_decay=1e-6, averaged=True, **settings).model
    slowly = pretrain("nano-161", ema_decay=0.9, averaged=True, **settings).model
    assert torch.allclose(weights_of(barely), last, atol=1e-4)
    assert (weights_of(slowly) - last).abs().max() > 1e-3


def test_the_split_loses_and_repeats_nothing():
    train, held = split(20, 0.1, seed=0)
    assert len(held) == 2
    assert sorted([*train.tolist(), *held.tolist()]) == list(range(20))
    with pytest.raises(ValueError, match="at least 2 photos"):
        split(1, 0.1, seed=0)
