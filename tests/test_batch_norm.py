"""Batch norm that keeps its statistics for the later part of a training."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from kdlib.training import LoopConfig
from kdlib.training.config import set_batch_norm
from kdlib.training.task import Task

QUICK = {"batch_size": 8, "progress": False, "device": "cpu", "learning_rate": 0.01}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))


def train(epochs, folder=None, count=30, **settings):
    """Train a network to tell how bright each picture is; note how its batch norm stood in each batch."""
    levels = torch.linspace(0.05, 0.95, count).view(-1, 1, 1, 1)
    pictures = (levels + 0.05 * torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))).float()
    seen = []

    def objective(model, batch, average, generator):
        norm = model[1]
        seen.append((norm.training, norm.running_mean.clone(), model[0](batch[0]).mean(dim=(0, 2, 3)).detach()))
        return {"loss": (model(batch[0]).mean(dim=(1, 2, 3)) - batch[1]).square().mean()}

    def score(model):
        with torch.no_grad():
            return {"s": -float((model(pictures).mean(dim=(1, 2, 3)) - levels.flatten()).square().mean())}

    config = LoopConfig(**{**QUICK, "epochs": epochs, **settings})
    run = Task(network(), objective, TensorDataset(pictures, levels.flatten()), score, "s").train(config, folder)
    return run, seen


def test_statistics_are_kept_from_the_given_share_on_and_are_the_mean_of_the_epoch_before():
    _, seen = train(epochs=6, hold_norm=0.5)
    epochs = [seen[4 * n : 4 * n + 4] for n in range(6)]
    assert [[training for training, _, _ in epoch] for epoch in epochs] == 3 * [4 * [True]] + 3 * [4 * [False]]
    mean = torch.stack([batch for _, _, batch in epochs[2]]).mean(dim=0)
    for epoch in epochs[3:]:
        for _, kept, _ in epoch:
            torch.testing.assert_close(kept, mean)


def test_by_default_statistics_follow_the_batches_to_the_end():
    _, seen = train(epochs=3)
    assert all(training for training, _, _ in seen)
    assert all(not torch.equal(a, b) for (_, a, _), (_, b, _) in itertools.pairwise(seen))


@pytest.mark.slow
def test_what_depends_on_brightness_is_learned_only_with_statistics_that_are_kept():
    following, held = (train(epochs=20, hold_norm=share, batch_size=2)[0] for share in (1.0, 0.5))
    assert -held.history[-1]["s"] < 0.5 * -following.history[-1]["s"]


@pytest.mark.parametrize("epoch", [2, 3, 4])
def test_an_interrupted_run_continues_to_the_same_bits(epoch, tmp_path, interrupted_in):
    settings = {"epochs": 6, "hold_norm": 0.5, "ema_decay": 0.9, "averaged": True}
    whole, _ = train(folder=tmp_path / "whole", **settings)
    with interrupted_in(epoch=epoch):
        train(folder=tmp_path / "parts", **settings)
    resumed, _ = train(folder=tmp_path / "parts", resume=True, **settings)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])


def test_with_few_epochs_one_is_left_to_measure_the_statistics():
    _, seen = train(epochs=2, hold_norm=0.01)
    assert [training for training, _, _ in seen] == 4 * [True] + 4 * [False]


def test_other_layers_stay_as_they_are():
    model = nn.Sequential(network(), nn.Dropout(0.5)).train()
    set_batch_norm(model, 5, LoopConfig(epochs=6, hold_norm=0.5))
    assert model[1].training
    assert not model[0][1].training


@pytest.mark.parametrize("share", [0, -0.1, 1.5, True])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="hold_norm must be a number above 0 and at most 1"):
        LoopConfig(hold_norm=share)
