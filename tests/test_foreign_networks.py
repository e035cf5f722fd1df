"""Distillation between networks that the package does not know, which it must leave as they are."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

from kdlib.models import create_model
from kdlib.training import LoopConfig, Task, distill
from kdlib.training.task import at_scale, frozen

QUICK = {"epochs": 1, "batch_size": 4, "progress": False, "device": "cpu"}


def between_outputs(student, teacher, batch):
    return F.mse_loss(student, teacher)


class Enlarger(nn.Module):
    """A super-resolution network, whose factor has the name of a curve network's."""

    def __init__(self, scale_factor=2):
        super().__init__()
        self.scale_factor = scale_factor
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, photos):
        return F.interpolate(self.conv(photos), scale_factor=self.scale_factor)


class Flattening(nn.Module):
    """A textbook classifier: ``view`` needs tensors in the order in which PyTorch makes them."""

    def __init__(self, width):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, width, 3, padding=1), nn.Linear(width * 64, 5)

    def forward(self, images):
        images.view(len(images), -1)
        return self.head(F.relu(self.body(images)).view(len(images), -1))


@pytest.fixture
def images():
    return TensorDataset(torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0)))


def test_a_foreign_scale_factor_is_left_alone(images):
    sides = []

    def compare(student, teacher, batch):
        sides.append((student.shape[-1], teacher.shape[-1]))
        return between_outputs(student, teacher, batch)

    run = distill(Enlarger(), Enlarger(), data=images, losses={"photo": (1.0, compare)}, **QUICK)
    assert set(sides) == {(16, 16)}
    assert run.model.scale_factor == 2


def test_only_curve_networks_change_their_scale():
    curve, foreign = create_model("nano-161"), Enlarger()
    with at_scale(1, curve, foreign, None):
        assert (curve.scale_factor, foreign.scale_factor) == (1, 2)
    assert curve.scale_factor == 12


def test_a_network_that_flattens_with_view_is_distilled(images):
    run = distill(Flattening(4), Flattening(8), data=images, losses={"logits": (1.0, between_outputs)}, **QUICK)
    assert run.history[0]["logits"] > 0


# The teacher of a task


def blur_of(teacher):
    """An objective that holds its teacher, as a class may do or a closure."""

    def objective(model, batch, average, generator):
        return {"loss": F.mse_loss(model(batch[0]), teacher(batch[0]))}

    return objective


class Held:
    def __init__(self, teacher):
        self.teacher = teacher
        self.compare = blur_of(teacher)

    def __call__(self, *arguments):
        return self.compare(*arguments)


def task_with(teacher, objective, images):
    return Task(nn.Conv2d(3, 3, 1), objective, images, lambda model: {"s": 0.0}, "s", teacher=teacher)


def trainable():
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))


@pytest.mark.parametrize("live", ["trainable and in training mode", "trainable", "in training mode"])
def test_a_teacher_that_could_change_is_refused(live, images):
    teacher = trainable().requires_grad_("trainable" in live).train("mode" in live)
    with pytest.raises(ValueError, match="the teacher would change: give objective and task a copy"):
        task_with(teacher, blur_of(teacher), images)


def test_an_objective_with_another_teacher_is_refused(images):
    one, other = (frozen(trainable(), LoopConfig(device="cpu")) for _ in range(2))
    for teacher in (one, None):
        with pytest.raises(ValueError, match="the objective has another teacher than its task"):
            task_with(teacher, Held(other), images)


def test_a_frozen_teacher_stays_as_it_is(images):
    teacher = frozen(trainable(), LoopConfig(device="cpu"))
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    run = task_with(teacher, Held(teacher), images).train(LoopConfig(**QUICK))
    assert run.history[0]["loss"] > 0
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())
