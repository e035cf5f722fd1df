"""Training on several processes: what one would have learned, no photo lost or repeated, and one that writes."""

from __future__ import annotations

import math
import os
import socket
from contextlib import closing
from multiprocessing import connection

import numpy as np
import pytest
import torch
from reliability.kills import CONTEXT, LONG_ENOUGH, OFTEN, contents, same
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from kdlib.data import sample_crops
from kdlib.models import create_model
from kdlib.training import LoopConfig, Task, distill, pretrain, state
from kdlib.training import loop as loop_module
from kdlib.training.epoch import Draws
from kdlib.training.initialise import fresh_model
from kdlib.training.processes import GlobalBatches, average_gradients, leave, make_fabric

pytestmark = pytest.mark.skipif(
    os.name != "posix" or not torch.distributed.is_available(), reason="gloo and fork are needed"
)

QUICK = {"progress": False, "device": "cpu"}


def torchrun(rank, world, nodes=1):
    """What torchrun tells a process."""
    here = world // nodes
    return {
        "TORCHELASTIC_RUN_ID": "test", "RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank % here,
        "LOCAL_WORLD_SIZE": here, "GROUP_RANK": rank // here,
    }  # fmt: skip


def slurm(rank, world):
    """What srun tells a process."""
    return {
        "SLURM_STEP_ID": 0, "SLURM_JOB_ID": 123456, "SLURM_JOB_NAME": "kdlib", "SLURM_NTASKS": world,
        "SLURM_NTASKS_PER_NODE": world, "SLURM_NNODES": 1, "SLURM_PROCID": rank, "SLURM_LOCALID": rank,
        "SLURM_NODEID": 0, "SLURM_NODELIST": "localhost",
    }  # fmt: skip


def _member(environment, function, arguments, pipe):
    os.environ.update({name: str(value) for name, value in environment.items()})
    torch.set_num_threads(1)
    try:
        pipe.send(function(*arguments))
    except Exception as error:
        pipe.send(error)
    leave()


def together(world, function, *arguments, started_by=torchrun):
    """What a function of this module returns, or raises, in each of several processes that one launcher has started."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free.getsockname()[1]}
    children, pipes = [], []
    for rank in range(world):
        ours, theirs = CONTEXT.Pipe()
        environment = {**address, **started_by(rank, world)}
        children.append(CONTEXT.Process(target=_member, args=(environment, function, arguments, theirs), daemon=True))
        children[-1].start()
        theirs.close()
        pipes.append(ours)
    results = {}
    try:
        while len(results) < world:
            ready = connection.wait([pipe for pipe in pipes if pipe not in results], LONG_ENOUGH)
            assert ready, "the processes wait for each other"
            results |= {pipe: pipe.recv() for pipe in ready}
    finally:
        for child in children:
            if len(results) < world:
                child.kill()
            child.join()
    return [results[pipe] for pipe in pipes]


def alone(function, *arguments):
    """The same in one process, likewise fresh."""
    return together(1, function, *arguments, started_by=lambda rank, world: {})[0]


def outcome(run):
    history = [{name: value for name, value in row.items() if name != "seconds"} for row in run.history]
    weights = np.concatenate([value.numpy().ravel() for value in run.model.state_dict().values()])
    return {"weights": weights, "history": history, "best_epoch": run.best_epoch, "skipped": run.skipped_batches}


def close(one, other):
    assert np.abs(one["weights"] - other["weights"]).max() <= 1e-5
    assert one["best_epoch"] == other["best_epoch"]
    for left, right in zip(one["history"], other["history"], strict=True):
        assert left == pytest.approx(right, rel=1e-4)


def pretraining(folder, settings):
    photos = sample_crops(40, 24, seed=1)
    torch.manual_seed(int(os.environ.get("RANK", 0)))  # as scripts do that forget to: the first process's weights count
    model = create_model("student-565")
    run = pretrain(
        model, photos=photos, output_dir=folder and folder / os.environ.get("RANK", "0"), **{**QUICK, **settings}
    )
    return outcome(run)


def distilling(settings):
    photos = sample_crops(30, 24, seed=2)
    torch.manual_seed(5)
    teacher = fresh_model("zero-dce++", photos)
    return outcome(distill("student-565", teacher, photos=photos, **{**QUICK, **settings}))


PLAIN = {"augmentation": "none", "epochs": 3, "batch_size": 7}  # of 36 photos: 5 × (3 + 2 + 2) and a last one


@pytest.mark.slow
def test_several_processes_reach_the_weights_of_one():
    one = alone(pretraining, None, PLAIN)
    several = together(3, pretraining, None, PLAIN)
    for member in several:
        close(member, one)
        assert np.array_equal(member["weights"], several[0]["weights"])
        assert member["history"] == several[0]["history"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"recipe": "two-stage", "pretrain_epochs": 0, "schedule": "plateau"},  # features, average and contrast
        {"optimiser": "adam", "schedule": "cosine", "centralise": True, "clip_norm": 0.1},
    ],
)
def test_students_of_one_and_of_two_processes_are_alike(settings):
    settings = {"epochs": 2, "batch_size": 6, **settings}
    one, two = alone(distilling, settings), together(2, distilling, settings)
    close(two[0], one)


class Recorder(Dataset):
    """Numbers that remember which of them were asked for."""

    def __init__(self, count):
        self.count, self.asked = count, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.asked.append(index)
        return torch.tensor([float(index)])


def recording(count, batch_size, epochs):
    data, validated, given = Recorder(count), [], []

    def objective(model, batch, average, generator):
        given.append(len(batch))
        return {"loss": model(batch).square().mean()}

    def validate(model):
        validated.append(1)
        return {"s": 0.0}

    task = Task(nn.Linear(1, 1), objective, data, validate, "s")
    task.train(LoopConfig(epochs=epochs, batch_size=batch_size, **QUICK))
    return data.asked, given, len(validated)


def test_every_photo_is_seen_once_in_an_epoch_and_validation_is_not_repeated():
    (first, given, validated), (second, _, never) = together(2, recording, 13, 4, 3)
    assert (validated, never) == (3, 0)
    assert given == [2, 2, 2, 1] * 3  # and the second process is idle in the last batch
    for epoch in range(3):
        seen = first[7 * epoch : 7 * epoch + 7] + second[6 * epoch : 6 * epoch + 6]
        assert sorted(seen) == list(range(13))
    assert first[:7] != first[7:14]
    one, _, _ = recording(13, 4, 1)
    assert one == [first[0], second[0], first[1], second[1], first[2], second[2], first[3], second[3], first[4],
                   second[4], first[5], second[5], first[6]]  # fmt: skip


def test_processes_draw_one_order_and_noise_of_their_own():
    def drawn(rank):
        draws = Draws(3, torch.device("cpu"), rank)
        draws.begin(2)
        return [torch.rand(4, generator=source).tolist() for source in (draws.order, draws.noise, None)]

    first, second = drawn(0), drawn(1)
    assert [one == other for one, other in zip(first, second, strict=True)] == [True, False, False]
    assert first[0] == first[1] == first[2], "the first process draws what one alone draws"


@pytest.mark.parametrize(("count", "batch_size"), [(13, 4), (8, 4), (5, 9), (64, 16)])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_parts_make_up_the_batches(count, batch_size, world):
    def parts(rank, first=0):
        batches = GlobalBatches(count, batch_size, torch.Generator().manual_seed(7), rank, world)
        batches.first = first
        return list(batches), [batches.share(k) for k in range(len(batches))]

    order = torch.randperm(count, generator=torch.Generator().manual_seed(7)).tolist()
    every, shares = zip(*(parts(rank) for rank in range(world)), strict=True)
    for k, of_all in enumerate(zip(*every, strict=True)):
        assert sorted(index for part in of_all for index in part) == sorted(
            order[k * batch_size : (k + 1) * batch_size]
        )
        assert math.isclose(sum(share[k] for share in shares), 1)
    assert parts(world - 1, first=1)[0] == every[-1][1:]


def test_fewer_photos_in_a_batch_than_processes_are_refused():
    for count, batch_size in ((3, 8), (20, 3)):
        with pytest.raises(ValueError, match="4 processes share batches of 3 photos: start at most that many"):
            GlobalBatches(count, batch_size, torch.Generator(), 0, 4)


def interrupted(folder, settings, stop_at):
    real, calls = state.average_gradients, []

    def stop(*arguments):
        calls.append(1)
        if len(calls) == stop_at:
            raise RuntimeError("pulled the plug")
        return real(*arguments)

    state.average_gradients = stop
    return pretraining(folder, settings)


@pytest.mark.slow
def test_a_run_of_two_goes_on_as_two_or_as_one(tmp_path):
    for name, settings, goes_on in (
        ("two", {"augmentation": "gamma", "ema_decay": 0.9, "averaged": True}, (together, 2)),
        ("one", {"augmentation": "none"}, (alone,)),
    ):
        settings = {"epochs": 3, "batch_size": 7, "checkpoint_minutes": OFTEN, **settings}
        whole = together(2, pretraining, tmp_path / f"{name}-whole", settings)[0]
        stopped = together(2, interrupted, tmp_path / name, settings, 10)  # in the second of three epochs
        assert all("pulled the plug" in str(error) for error in stopped)
        there = torch.load(tmp_path / name / "0" / "last.ckpt", weights_only=True)
        assert (len(there["run"]["history"]), there["within"]["batches"]) == (1, 3)
        call, *world = goes_on
        resumed = call(*world, pretraining, tmp_path / name, {**settings, "resume": True})
        if name == "one":
            close(resumed, whole)
        else:
            assert np.array_equal(resumed[0]["weights"], whole["weights"])
            assert resumed[0]["history"] == whole["history"]
            assert same(*(contents(tmp_path / run / "0") for run in ("two", "two-whole")))
        assert not (tmp_path / name / "1").exists(), "only the first process writes"


def other_settings(folder):
    pretraining(folder, {"epochs": 1})
    return pretraining(folder, {"epochs": 2, "resume": True})


@pytest.mark.slow
def test_what_fails_on_the_first_process_fails_on_all(tmp_path):
    refused = together(2, other_settings, tmp_path)
    assert isinstance(refused[0], ValueError)
    assert [("epochs 1 → 2" in str(error)) for error in refused] == [True, True]
    assert "the first process has failed" in str(refused[1])


def infinite(precision):
    """The loss of the second process alone is infinite, in the third batch, and its gradient is not."""
    if precision == "16-mixed":
        loop_module.make_fabric = half_on_cpu
    calls = []

    def objective(model, batch, average, generator):
        calls.append(1)
        bad = len(calls) == 3 and os.environ["RANK"] == "1"
        return {"loss": model(batch[0]).square().mean() + (math.inf if bad else 0.0)}

    torch.manual_seed(0)
    data = TensorDataset(torch.rand(24, 2, generator=torch.Generator().manual_seed(0)))
    config = LoopConfig(epochs=2, batch_size=4, precision=precision, **QUICK)
    return outcome(Task(nn.Linear(2, 1), objective, data, lambda model: {"s": 0.0}, "s").train(config))


def half_on_cpu(device, precision):
    """Half precision with its scaled loss, which Fabric offers for CUDA only, on two processes."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.precision import MixedPrecision

    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp", plugins=[MixedPrecision("16-mixed", "cpu")])
    fabric.launch()
    return fabric


@pytest.mark.parametrize(("precision", "skipped"), [("32-true", 1), ("16-mixed", 2)])
def test_a_loss_that_is_not_finite_on_one_process_skips_the_batch_on_both(precision, skipped):
    first, second = together(2, infinite, precision)
    # Half precision also skips the first: with its first scale, 2¹⁶, the gradient overflows.
    assert first["skipped"] == second["skipped"] == skipped
    assert np.array_equal(first["weights"], second["weights"])
    assert np.isfinite(first["weights"]).all()
    assert first["history"] == second["history"]


def statistics():
    model = nn.Sequential(nn.Linear(1, 3), nn.BatchNorm1d(3))

    def objective(model, batch, average, generator):
        return {"loss": model(batch).mean() + model[1].running_mean.sum() * 0}

    task = Task(model, objective, Recorder(12), lambda model: {"s": 0.0}, "s")
    task.train(LoopConfig(epochs=1, batch_size=6, **QUICK))
    return [model[1].running_mean.tolist(), model[1].running_var.tolist()]


def test_statistics_of_batch_norm_are_averaged():
    first, second = together(2, statistics)
    assert first == second


def places():
    fabric = make_fabric("cpu")
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    (used * (1 + fabric.global_rank)).sum().backward()
    wished = average_gradients(fabric, [used, unused], (0.75, 0.25)[fabric.global_rank], fabric.global_rank == 0)
    return fabric.world_size, fabric.global_rank, fabric.local_rank, used.grad.tolist(), unused.grad is None, wished


def two_nodes(rank, world):
    return torchrun(rank, world, nodes=2)


@pytest.mark.parametrize("started_by", [torchrun, two_nodes, slurm])
def test_processes_find_each_other(started_by):
    local = 0 if started_by is two_nodes else 1
    gradient = [0.75 * 1 + 0.25 * 2] * 2
    assert together(2, places, started_by=started_by) == [
        (2, 0, 0, gradient, True, True),
        (2, 1, local, gradient, True, True),
    ]


def test_within_an_allocation_but_without_srun_a_process_is_alone(monkeypatch):
    for name, value in slurm(0, 4).items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("SLURM_STEP_ID")
    assert make_fabric("cpu").world_size == 1


def test_more_processes_than_devices_are_refused(monkeypatch):
    for name, value in torchrun(0, 2).items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    with pytest.raises(ValueError, match=r"2 processes on this node, but each sees 1 mps device\(s\)"):
        make_fabric("mps")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="start equally many on every node"):
        make_fabric("cpu")


def test_slurm_is_asked_for_tasks_on_each_node(monkeypatch):
    for name, value in slurm(0, 2).items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    with pytest.raises(ValueError, match="Use `--ntasks-per-node=2` instead"):
        make_fabric("cpu")


def test_fewer_processes_than_nodes_are_refused(monkeypatch):
    for name, value in {**slurm(0, 2), "SLURM_NNODES": 4}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ValueError, match="2 processes with 0 of them on this node: start equally many on every node"):
        make_fabric("cpu")
