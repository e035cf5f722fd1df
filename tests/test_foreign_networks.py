"""Distillation between networks that the package does not know, which it must leave as they are."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

from kdlib.models import create_model
from kdlib.training import distill
from kdlib.training.task import at_scale

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
