"""What all trainings have in common, and distillation between networks of any kind."""

from __future__ import annotations

import csv
import dataclasses
import inspect
import typing
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from kdlib.data import sample_crops, write_photo
from kdlib.enhance.photos.rgb import to_array
from kdlib.losses.super_resolution import mimicry
from kdlib.models import IAT, create_model
from kdlib.training import (
    LoopConfig,
    distill,
    distill_stages,
    distill_super_resolution,
    pretrain,
    train_pairs,
)
from kdlib.training.config import LoopSettings, SharedSettings
from kdlib.training.task import digest, frozen

QUICK = {"epochs": 1, "batch_size": 8, "progress": False, "device": "cpu"}
SHARP = {**QUICK, "patch": 24, "repeats": 1}
STAGES = {**QUICK, "pairs": "self-made", "limit": 12, "size": 32, "side": 16}
POINTS = TensorDataset(torch.zeros(4, 3))
MSE = {"photo": (1.0, lambda student, teacher, batch: F.mse_loss(student[0], teacher[0]))}


@pytest.fixture(scope="module")
def photos():
    return sample_crops(16, 32, seed=1)


def iat():
    return IAT(width=4, global_width=8)


def weights_of(model):
    return torch.cat([value.detach().flatten().float() for value in model.state_dict().values()])


# Every training: a call that trains from scratch, by the names of its networks where it takes names.
TRAININGS = {
    "pretrain": (pretrain, lambda photos, **more: pretrain("nano-161", photos=photos, **QUICK, **more)),
    "distill": (distill, lambda photos, **more: distill("nano-161", "zero-dce++", photos=photos, **QUICK, **more)),
    "distill by losses": (
        distill,
        lambda photos, **more: distill("nano-161", "zero-dce++", photos=photos, losses=MSE, **QUICK, **more),
    ),
    "train_pairs": (
        train_pairs,
        lambda photos, **more: train_pairs("glance-650", limit=12, size=32, smoothing_epochs=1, **QUICK, **more),
    ),
    "distill_stages": (
        distill_stages,
        lambda photos, **more: distill_stages("iat-student", "iat-student", **STAGES, **more),
    ),
    "distill_super_resolution": (
        distill_super_resolution,
        lambda photos, **more: distill_super_resolution("light-msafn", None, **SHARP, **more),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_a_seed_gives_the_same_weights_whatever_was_drawn_before(name, photos):
    _, train = TRAININGS[name]
    states = []
    for before in (1, 2):
        torch.manual_seed(before)
        states.append(train(photos, seed=5).model.state_dict())
    torch.manual_seed(2)
    other = train(photos, seed=6).model
    first, second = states
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(torch.cat([v.flatten() for v in first.values()]), weights_of(other))


@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize(("wrong", "near"), [("learning_rat", "learning_rate"), ("epoch", "epochs")])
def test_a_misspelt_setting_is_refused_before_any_photo_is_loaded(name, wrong, near, tmp_path):
    train, _ = TRAININGS[name]
    place = "data" if train is distill_super_resolution else "data_dir"
    with pytest.raises(TypeError, match=f"unknown setting '{wrong}': did you mean '{near}'.* {train.__name__} takes"):
        train(**{place: "no/such/folder", wrong: 3}, output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_typed_settings_are_the_fields_of_the_configuration():
    fields = typing.get_type_hints(LoopConfig)
    own = {"epochs", "ema_decay"}
    assert typing.get_type_hints(LoopSettings) == {name: kind for name, kind in fields.items() if name not in own}
    assert list(fields) == [field.name for field in dataclasses.fields(LoopConfig)]
    for train, _ in TRAININGS.values():
        parameters = inspect.signature(train).parameters
        assert own <= set(parameters)
        settings = SharedSettings if "schedule" in parameters else LoopSettings
        hints = typing.get_type_hints(inspect.unwrap(train))
        assert hints["settings"] == typing.Unpack[settings]
        assert not set(parameters) & set(settings.__annotations__)


@pytest.mark.parametrize("name", ["pretrain", "distill", "distill by losses"])
def test_a_single_photo_is_refused(name, photos):
    with pytest.raises(ValueError, match=r"training needs at least 2 (photos|items), one of them"):
        TRAININGS[name][1](photos[:1])


@pytest.mark.parametrize("train", [train_pairs, distill_stages, distill_super_resolution])
def test_a_folder_with_a_single_photo_is_refused(train, tmp_path):
    write_photo(tmp_path / "only.png", to_array(torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))))
    settings = {"data_dir": tmp_path, "pairs": "self-made", **QUICK}
    if train is distill_stages:
        settings |= {"teacher": "iat-student", "size": 32, "side": 16}
    elif train is distill_super_resolution:
        settings = {"data": tmp_path, **SHARP}
    with pytest.raises(ValueError, match="training needs at least 2 "):
        train(**settings)


# The caller's teacher


def curve(kind="zero-dce++"):
    return create_model(kind)


def sharpener():
    return create_model("msafn", width=4, blocks=1, residual=True)


class WithStatistics(nn.Module):
    """A teacher with buffers."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1))

    def forward(self, photos):
        return (self.body(photos).sigmoid(),)


TAUGHT = {
    "by recipe": (curve, lambda teacher, photos: distill("nano-161", teacher, photos=photos, **QUICK)),
    "by a two-stage recipe": (
        curve,
        lambda teacher, photos: distill(
            "nano-161", teacher, photos=photos, recipe="two-stage", pretrain_epochs=1, **QUICK
        ),
    ),
    "of another family": (
        iat,
        lambda teacher, photos: distill("nano-161", teacher, photos=photos, alpha=1.0, beta=0.0, **QUICK),
    ),
    "by losses": (
        WithStatistics,
        lambda teacher, photos: distill("nano-161", teacher, photos=photos, losses=MSE, **QUICK),
    ),
    "in stages": (
        iat,
        lambda teacher, photos: distill_stages(
            create_model("iat-student", width=8, global_width=8, centred=False), teacher, **STAGES
        ),
    ),
    "super-resolution": (
        sharpener,
        lambda teacher, photos: distill_super_resolution(
            create_model("light-msafn", width=4, blocks=1), teacher, mimic=0.1, **SHARP
        ),
    ),
}


@pytest.mark.parametrize("taught", TAUGHT)
def test_the_callers_teacher_stays_as_it_is(taught, photos):
    make, train = TAUGHT[taught]
    torch.manual_seed(0)
    teacher = make().train()
    first, *others = teacher.parameters()
    first.requires_grad_(False)
    next(iter(teacher.children())).eval()

    def state():
        tensors = {**dict(teacher.named_parameters()), **dict(teacher.named_buffers())}
        return {
            "values": {name: tensor.detach().clone() for name, tensor in tensors.items()},
            "layout": {name: (id(t), t.stride(), t.device, t.dtype, t.requires_grad) for name, t in tensors.items()},
            "modes": {name: module.training for name, module in teacher.named_modules()},
            "hooks": sum(len(module._forward_hooks) for module in teacher.modules()),
            "scale": getattr(teacher, "scale_factor", None),
        }

    before = state()
    train(teacher, photos)
    after = state()
    values, kept = after.pop("values"), before.pop("values")
    assert after == before
    assert values.keys() == kept.keys()
    assert all(torch.equal(values[name], kept[name]) for name in kept)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert others


def test_a_frozen_teacher_is_a_copy_without_gradients():
    teacher = WithStatistics()
    copy = frozen(teacher, LoopConfig(device="cpu"))
    assert copy is not teacher
    assert not any(parameter.requires_grad for parameter in copy.parameters())
    assert not any(module.training for module in copy.modules())


def test_a_digest_is_that_of_the_bytes_whatever_the_kind_of_numbers():
    numbers = torch.arange(6.0).view(2, 3)
    assert digest(numbers) == digest(numbers.t().contiguous().t())
    assert digest(numbers) != digest(numbers + 1)
    assert len({digest(numbers.to(kind)) for kind in (torch.float32, torch.bfloat16, torch.int64)}) == 3
    assert digest(torch.tensor(3))


# Any teacher and any student


def mlp(width):
    return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 3))


def softened(student, teacher, batch, temperature=2.0):
    told, said = (logits.div(temperature).log_softmax(1) for logits in (teacher, student))
    return temperature**2 * F.kl_div(said, told, reduction="batchmean", log_target=True)


def to_labels(student, teacher, batch):
    return F.cross_entropy(student, batch[1])


@pytest.fixture(scope="module")
def classes():
    """Points on a plane, whose class is the sector that they lie in, and a teacher that knows it."""
    points = torch.randn(480, 2, generator=torch.Generator().manual_seed(0))
    labels = ((torch.atan2(points[:, 1], points[:, 0]) / (2 * torch.pi) + 0.5) * 3).long().clamp_max(2)
    torch.manual_seed(0)
    teacher = mlp(32)
    optimiser = torch.optim.Adam(teacher.parameters(), lr=0.02)
    for _ in range(150):
        optimiser.zero_grad()
        F.cross_entropy(teacher(points), labels).backward()
        optimiser.step()
    return TensorDataset(points, labels), teacher.eval()


def accuracy(model, data):
    points, labels = data.tensors
    with torch.no_grad():
        return float((model(points).argmax(1) == labels).float().mean())


def test_a_small_classifier_learns_from_a_large_one_and_goes_on(classes, tmp_path, interrupted_in):
    data, teacher = classes
    losses = {"soft labels": (0.7, softened), "labels": (0.3, to_labels)}
    settings = {**QUICK, "data": data, "losses": losses, "epochs": 6, "learning_rate": 0.05, "batch_size": 32}

    def student():
        torch.manual_seed(1)
        return mlp(6)

    start = accuracy(student(), data)
    run = distill(student(), teacher, output_dir=tmp_path / "whole", **settings)
    assert accuracy(run.model, data) > max(0.9, start + 0.2)
    assert run.best_score > run.history[0]["validation_objective"]
    with open(tmp_path / "whole" / "history.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert {"soft labels", "labels", "total", "validation_objective"} <= rows[0].keys()
    with interrupted_in(3):
        distill(student(), teacher, output_dir=tmp_path / "parts", **settings)
    resumed = distill(student(), teacher, output_dir=tmp_path / "parts", resume=True, **settings)
    assert torch.equal(weights_of(resumed.model), weights_of(run.model))
    for changed, message in (
        ({"losses": {**losses, "labels": (0.4, to_labels)}}, "terms"),
        ({"data": TensorDataset(*(column[:100] for column in data.tensors))}, "data"),
    ):
        with pytest.raises(ValueError, match=f"other settings.*{message}"):
            distill(student(), teacher, output_dir=tmp_path / "parts", resume=True, **{**settings, **changed})


def test_a_validation_of_ones_own_selects_the_epoch_and_holds_nothing_out(classes):
    data, teacher = classes
    seen = []

    def compare(student, teacher, batch):
        seen.append(len(batch[0]))
        return softened(student, teacher, batch)

    run = distill(
        mlp(6), teacher, data=data, losses={"soft": (1.0, compare)}, epochs=2, monitor="accuracy",
        validate=lambda model: {"accuracy": accuracy(model, data)}, **{k: v for k, v in QUICK.items() if k != "epochs"},
    )  # fmt: skip
    assert sum(seen) == 2 * len(data)
    assert run.best_score == max(row["accuracy"] for row in run.history) == accuracy(run.model, data)


class Denoiser(nn.Module):
    """A residual denoiser of a few channels."""

    def __init__(self, width):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, photos):
        return photos - self.last(F.relu(self.first(photos)))


class Blur(nn.Module):
    """A teacher without parameters: what it does can be learned."""

    def forward(self, photos):
        return F.avg_pool2d(F.pad(photos, (1, 1, 1, 1), mode="replicate"), 3, 1)


def between_photos(student, teacher, batch):
    assert batch[0].dtype == torch.float32
    assert batch[0].max() <= 1
    return 100 * F.mse_loss(student, teacher)


def test_a_small_denoiser_learns_from_its_teacher_on_photos(photos):
    settings = {**QUICK, "photos": photos, "losses": {"photo": (1.0, between_photos)}, "learning_rate": 0.01}
    torch.manual_seed(0)
    teacher = distill(Denoiser(12), Blur(), **{**settings, "epochs": 6}).model
    features = {"hidden": (1.0, ("first", "first"), mimicry)}
    torch.manual_seed(1)
    run = distill(Denoiser(4), teacher, features=features, **{**settings, "epochs": 6})
    assert run.history[-1]["photo"] < 0.5 * run.history[0]["photo"]
    assert run.history[-1]["hidden"] < 0.9 * run.history[0]["hidden"]
    assert run.best_score > run.history[0]["validation_objective"]
    augmented = distill(Denoiser(4), teacher, augmentation="gamma", **settings)
    assert len(augmented.history) == 1


def test_a_data_set_of_single_tensors_and_networks_of_three_dimensions():
    class Volumes(Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, index):
            return torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(index))

    torch.manual_seed(0)
    losses = {"volume": (1.0, lambda student, teacher, batch: F.mse_loss(student, teacher))}
    run = distill(nn.Conv3d(1, 2, 1), nn.Conv3d(1, 2, 1), data=Volumes(), losses=losses, **{**QUICK, "epochs": 3})
    assert run.history[-1]["volume"] < run.history[0]["volume"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"losses": MSE, "alpha": 0.4}, "alpha: belong to recipes"),
        ({"losses": MSE, "network_side": 16}, "network_side: belong to recipes"),
        ({"validate": lambda model: {}}, "validate: need losses or features of your own"),
        ({"losses": MSE, "monitor": "score"}, "validate and monitor are given together"),
        ({"losses": MSE, "recipe": "two-stage"}, "recipe: belong to recipes"),
        ({"losses": MSE, "photos": None, "data": POINTS, "size": 32, "limit": 4}, "size, limit: choose photos"),
        ({"data_dir": "somewhere"}, "data_dir: choose photos"),
        ({"size": 32, "limit": 4}, "size, limit: choose photos"),
        ({"ema_decay": 0.5}, "ema_decay above 0 needs averaged=True or a recipe with a contrastive term"),
        (
            {"losses": MSE, "ema_decay": 0.5},
            "ema_decay above 0 needs averaged=True or a recipe with a contrastive term",
        ),
        ({"losses": {}}, "there is nothing to compare"),
        ({"losses": {"photo": (-1.0, None)}}, "the weight of 'photo' must be a number of at least 0, not -1.0"),
        ({"losses": MSE, "features": {"photo": (1.0, ("a", "b"), mimicry)}}, "photo: losses and features need names"),
        ({"losses": MSE, "data": POINTS}, "data replaces data_dir and photos"),
        ({"losses": MSE, "features": {"f": (1.0, ("no", "e_conv1"), mimicry)}}, "the model has no layer 'no'"),
        ({"student": Denoiser(4)}, "is not a curve network .* or distil it with losses of your own"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(arguments, message, photos):
    with pytest.raises(ValueError, match=message):
        distill(**{"student": "nano-161", "photos": photos, **QUICK, **arguments})


def test_without_an_average_its_decay_may_be_0(photos):
    assert distill("nano-161", "zero-dce++", photos=photos, ema_decay=0.0, **QUICK).history


def test_both_stages_of_a_recipe_can_be_averaged(photos):
    settings = {"photos": photos, "recipe": "two-stage", "pretrain_epochs": 1, **QUICK}
    plain = distill("nano-161", "zero-dce++", **settings)
    averaged = distill("nano-161", "zero-dce++", averaged=True, **settings)
    assert not torch.equal(weights_of(plain.model), weights_of(averaged.model))


def test_the_former_name_of_super_resolution_still_works_and_warns():
    with (
        pytest.warns(DeprecationWarning, match=r"is now kdlib\.training\.super_resolution\.distill_super_resolution"),
        pytest.raises(ValueError, match="alpha must be a number from 0 to 1, not 2"),
    ):
        import_module("kdlib.training.super_resolution").distill_sharpening("light-msafn", None, alpha=2)
