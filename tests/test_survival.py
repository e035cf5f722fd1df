"""A training survives: killed at any moment, or on a full disk, it goes on to the weights it would have had."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from reliability.kills import KINDS, OFTEN, Ordeal, Stop, contents, pretraining, run_child, same, soak, super_resolution
from torch import nn
from torch.utils.data import Dataset

from kdlib.models import create_model
from kdlib.training import LoopConfig, Task
from kdlib.training import loop as loop_module
from kdlib.training.checkpoint import open_folder

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")


@pytest.mark.slow
def test_killed_at_random_moments_runs_end_as_if_nothing_had_happened(tmp_path):
    """Each kind of training, killed about twice; `make soak` goes on for minutes.

    The runs are compared with others of the same seed in processes of their own.
    """
    ordeal = Ordeal(tmp_path, seed=809)  # begins with two kills beside a write, and one in a write
    while ordeal.runs < len(KINDS) or ordeal.kills < 8:
        ordeal.run(list(KINDS)[ordeal.runs % len(KINDS)], 2)
    assert ordeal.kills_during_a_write >= 3
    assert ordeal.identical == ordeal.runs, f"see {tmp_path}"


@pytest.mark.slow
def test_a_soak_counts_what_it_did(tmp_path):
    counted = soak(0.01, tmp_path, seed=2)
    assert counted["runs"] == counted["identical"] == 1
    assert counted["kills"] >= counted["kills_during_a_write"] >= 0
    assert counted["seconds"] > 0


def test_a_difference_of_one_bit_is_noticed():
    one, other = ({"history": [{"total": 0.5, "seconds": k}], "weights": torch.ones(3)} for k in range(2))
    assert not same(one, other)  # but for the times, which contents() leaves out
    other["history"] = one["history"]
    assert same(one, other)
    other["weights"] = torch.tensor([1.0, 1.0, np.nextafter(np.float32(1), np.float32(2))])
    assert not same(one, other)


@pytest.mark.slow
@pytest.mark.parametrize(("where", "count"), [("write", 5), ("before", 1), ("before", 5), ("after", 2)])
def test_killed_at_a_write_what_is_there_is_whole(tmp_path, where, count):
    killed, _ = run_child("pairs", tmp_path, Stop(where, count, 0.5))
    assert killed
    for path in tmp_path.rglob("*.ckpt"):
        torch.load(path, weights_only=True)
    # What was being written, under its temporary name, is gone as soon as a run goes on, whether it writes it or not.
    left = list(tmp_path.rglob(".*.part"))
    assert bool(left) == (where != "after")
    for path in tmp_path.rglob(".*.part"):
        open_folder(path.parent, {}, resume=False)
    assert not list(tmp_path.rglob(".*.part"))


@pytest.mark.slow
def test_best_weights_and_history_follow_the_checkpoint(tmp_path):
    pretraining(tmp_path)
    whole = contents(tmp_path)

    def lost():
        (tmp_path / "best.ckpt").unlink()

    def damaged():
        (tmp_path / "best.ckpt").write_bytes(b"PK")

    def of_another_epoch():  # killed between the two files
        content = torch.load(tmp_path / "best.ckpt", weights_only=True)
        torch.save({**content, "epoch": content["epoch"] - 1}, tmp_path / "best.ckpt")

    def of_another_run():  # the same epoch of a run that was in this folder before
        content = torch.load(tmp_path / "best.ckpt", weights_only=True)
        weights = {name: value + 1 for name, value in content["model"].items()}
        torch.save({**content, "model": weights}, tmp_path / "best.ckpt")

    def ahead():
        with open(tmp_path / "history.csv", "a", encoding="utf-8") as file:
            file.write("4,0,0\n")

    for spoil in (lost, damaged, of_another_epoch, of_another_run, ahead):
        spoil()
        pretraining(tmp_path)
        assert same(contents(tmp_path), whole), spoil.__name__


class Numbered(Dataset):
    """Photos that remember which of them were asked for."""

    def __init__(self, count):
        self.photos = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        self.asked = []

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.photos[index]


def numbered_run(folder, *, epochs=3, stop_at=None, norm=False, asked=None, **settings):
    """Train on 20 numbered photos with noise, perhaps with batch norm; be interrupted at the beginning of a batch."""
    data, calls = Numbered(20), []
    data.asked = [] if asked is None else asked

    def objective(model, batch, average, generator):
        calls.append(len(batch))
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        noise = torch.rand(batch.shape, generator=generator) + torch.rand(())
        answer = model(batch)
        return {"loss": (answer if norm else answer[0]).sub(noise).square().mean()}

    torch.manual_seed(1)
    usual = {"batch_size": 3, "progress": False, "device": "cpu", "checkpoint_minutes": OFTEN, "resume": True}
    config = LoopConfig(epochs=epochs, **{**usual, **settings})
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) if norm else create_model("nano-161")
    run = Task(model, objective, data, lambda model: {"s": 1.0}, "s").train(config, folder)
    return run, data.asked


def test_within_an_epoch_no_photo_is_loaded_again(tmp_path):
    whole, asked = numbered_run(tmp_path / "whole")
    seen = []
    with pytest.raises(KeyboardInterrupt):
        numbered_run(tmp_path / "parts", stop_at=12, asked=seen)  # the fifth batch of seven, in the second epoch
    assert seen == asked[: 20 + 5 * 3]
    seen.clear()
    resumed, _ = numbered_run(tmp_path / "parts", asked=seen)
    assert seen == asked[20 + 4 * 3 :]
    assert sorted(asked[:20]) == list(range(20))
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    assert same(*(contents(tmp_path / name) for name in ("whole", "parts")))


@pytest.mark.parametrize("stop_at", [4, 11, 18])
def test_statistics_of_batch_norm_go_on_within_an_epoch(tmp_path, stop_at):
    settings = {"norm": True, "hold_norm": 0.7, "ema_decay": 0.5}  # of three epochs, in the second they begin anew
    whole, _ = numbered_run(tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        numbered_run(tmp_path / "parts", stop_at=stop_at, **settings)
    numbered_run(tmp_path / "parts", **settings)
    assert same(*(contents(tmp_path / name) for name in ("whole", "parts")))
    assert int(whole.model[1].num_batches_tracked) == 7


def test_without_minutes_checkpoints_are_written_after_epochs_only(tmp_path, before_call):
    written = []
    before_call("os.rename", "last.ckpt", written.append)
    numbered_run(tmp_path / "often", epochs=2)
    assert len(written) == 2 * 7
    written.clear()
    numbered_run(tmp_path / "seldom", epochs=2, checkpoint_minutes=0)
    assert len(written) == 2
    # How often is no part of what a run is.
    numbered_run(tmp_path / "seldom", epochs=2, checkpoint_minutes=5)
    with pytest.raises(ValueError, match="checkpoint_minutes must be a number of at least 0, not -1"):
        LoopConfig(checkpoint_minutes=-1)


def test_bad_batches_in_a_row_are_counted_across_an_interruption(tmp_path):
    def run(stop_at):
        calls = []

        def objective(model, batch, average, generator):
            calls.append(1)
            if len(calls) == stop_at:
                raise RuntimeError("stopped")
            return {"loss": model(batch)[0].mean() * float("nan")}

        config = LoopConfig(batch_size=2, progress=False, device="cpu", checkpoint_minutes=OFTEN, resume=True)
        task = Task(create_model("nano-161"), objective, Numbered(40), lambda m: {"s": 1.0}, "s")
        task.train(config, tmp_path)

    with pytest.raises(RuntimeError, match="stopped"):
        run(7)
    with pytest.raises(loop_module.NonFiniteLossError, match="10 batches in a row"):
        run(5)  # 6 + 4


@pytest.mark.slow
def test_training_draws_nothing_from_the_generators_of_python_and_numpy(tmp_path):
    # Which a checkpoint therefore does not keep.
    for kind in (pretraining, super_resolution):
        kind(tmp_path / kind.__name__)
        after = random.random(), np.random.random()  # noqa: NPY002
        loop_module.seed_everything(0, verbose=False)
        assert after == (random.random(), np.random.random())  # noqa: NPY002


@contextmanager
def small_disk(folder, size):
    """A disk of its own for a folder."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root may mount a disk; test_checkpoint.py does the same with a limit on the size of files")
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is Linux's")
def test_a_disk_that_fills_up_during_a_write_leaves_the_checkpoint_before(tmp_path, before_call):
    pretraining(tmp_path / "whole")
    disk = tmp_path / "disk"
    written = []

    def fill(path):
        written.append(path)
        if len(written) == 7:  # within the second epoch
            with open(disk / "ballast", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free)

    with small_disk(disk, "1m"):
        before_call("open", ".last.ckpt.part", fill)
        with pytest.raises(
            OSError, match=r"last.ckpt could not be written .*make room on the disk, then .*resume=True"
        ):
            pretraining(disk / "run")
        assert not list(disk.rglob(".*.part"))
        assert torch.load(disk / "run" / "last.ckpt", weights_only=True)["within"]["batches"] >= 1
        (disk / "ballast").unlink()
        pretraining(disk / "run")
        assert same(contents(disk / "run"), contents(tmp_path / "whole"))


def test_the_guide_says_what_is_promised():
    guide = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    for promise in ("the same bits", "SIGKILL", "another machine", "checkpoint_minutes"):
        assert promise in guide
