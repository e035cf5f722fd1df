"""Checkpoints: what is on disk is whole, whatever happens while another is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch

from kdlib.files import held
from kdlib.training import checkpoint, distill, pretrain, train_pairs
from kdlib.training.checkpoint import open_folder, save_checkpoint, write_history
from tests.helpers import in_new_process

QUICK = {"batch_size": 8, "progress": False, "device": "cpu"}


def test_a_full_disk_leaves_the_checkpoint_before_and_says_so(tmp_path, little_room):
    path = tmp_path / "last.ckpt"
    save_checkpoint({"config": {}, "model": torch.arange(10)}, path)
    before = path.read_bytes()
    little_room(20_000)
    with pytest.raises(OSError, match=r"last.ckpt could not be written .*untouched: make room .* resume=True"):
        save_checkpoint({"config": {}, "model": torch.rand(100_000)}, path)
    assert path.read_bytes() == before
    assert torch.equal(torch.load(path, weights_only=True)["model"], torch.arange(10))
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_full_disk_leaves_the_history_before(tmp_path, little_room):
    path = tmp_path / "history.csv"
    write_history(path, [{"epoch": 1}])
    little_room(10_000)
    with pytest.raises(OSError, match=r"history.csv could not be written \(File too large\)"):
        write_history(path, [{"epoch": k, "total": 0.123456789} for k in range(5000)])
    assert path.read_text().split() == ["epoch", "1"]


def test_a_run_on_a_full_disk_goes_on_when_there_is_room(tmp_path, little_room, before_call):
    photos = (80 * torch.rand(24, 3, 24, 24, generator=torch.Generator().manual_seed(0))).byte()
    settings = {"photos": photos, "epochs": 3, **QUICK}
    whole = pretrain("nano-161", output_dir=tmp_path / "whole", **settings)
    written = []

    def full_from_the_third(path):
        written.append(path)
        if len(written) == 3:
            little_room(2_000)

    before_call("open", ".last.ckpt.part", full_from_the_third)
    with pytest.raises(OSError, match="could not be written"):
        pretrain("nano-161", output_dir=tmp_path / "parts", **settings)
    little_room(2**40)
    resumed = pretrain("nano-161", output_dir=tmp_path / "parts", resume=True, **settings)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name])


@pytest.mark.slow
def test_killed_in_the_middle_of_a_write_the_checkpoint_before_is_whole(tmp_path):
    path = tmp_path / "last.ckpt"
    save_checkpoint({"config": {}, "model": torch.arange(10)}, path)
    script = """
import os, signal, sys, torch
from pathlib import Path
from kdlib.training import checkpoint

class Deadly:
    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint.save_checkpoint({"config": {}, "model": torch.rand(1000), "x": Deadly()}, Path(sys.argv[1]))
"""
    result = in_new_process(script, str(path))
    assert result.returncode == -signal.SIGKILL
    assert torch.equal(torch.load(path, weights_only=True)["model"], torch.arange(10))
    # The next checkpoint takes the place of what the dead run left.
    save_checkpoint({"config": {}, "model": torch.arange(3)}, path)
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def flipped(path):
    """One bit of a weight, as disks that age flip them."""
    content = bytearray(path.read_bytes())
    weight = next(iter(torch.load(path, weights_only=True)["model"].values())).numpy().tobytes()
    content[content.index(weight) + 1] ^= 16
    path.write_bytes(content)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def of_other_weights(path):
    path.write_bytes(path.with_name("best.ckpt").read_bytes())


def a_list(path):
    torch.save([1, 2], path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (flipped, r"is damaged \(its checksum is wrong\); start afresh with resume=False"),
        (truncated, r"is damaged \(\w+\); start afresh with resume=False"),
        (of_other_weights, "is not a checkpoint from which a run could continue; start afresh with resume=False"),
        (a_list, "is not a checkpoint from which a run could continue"),
    ],
)
def test_a_spoilt_checkpoint_is_refused_by_name(spoil, said, tmp_path):
    settings = {"photos": torch.randint(80, (8, 3, 24, 24), dtype=torch.uint8), "epochs": 1, **QUICK}
    pretrain("nano-161", output_dir=tmp_path, **settings)
    spoil(tmp_path / "last.ckpt")
    before = (tmp_path / "last.ckpt").read_bytes()
    with pytest.raises(ValueError, match=rf"last\.ckpt {said}"):
        pretrain("nano-161", output_dir=tmp_path, resume=True, **settings)
    assert (tmp_path / "last.ckpt").read_bytes() == before


def test_two_trainings_do_not_share_a_folder(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    monkeypatch.setattr(checkpoint, "held", partial(held, patience=0.2))
    photos = torch.randint(80, (8, 3, 24, 24), dtype=torch.uint8)
    wait = "import sys; from pathlib import Path; from kdlib.files import held\n"
    wait += "with held(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", wait, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "held\n"
        settings = {"photos": photos, "epochs": 1, "output_dir": folder, **QUICK}
        for train in (  # those of two parts write nothing of the first, which has a folder of its own, either
            lambda: pretrain("nano-161", **settings),
            lambda: distill("nano-161", "student-565", recipe="two-stage", pretrain_epochs=1, **settings),
            lambda: train_pairs("glance-650", None, limit=8, size=32, **{**settings, "photos": None}),
        ):
            with pytest.raises(OSError, match=r"another run is using .*run; wait for it, or choose another folder"):
                train()
            assert not list(folder.iterdir())
    finally:
        other.kill()  # which frees the folder
        other.communicate()
    pretrain("nano-161", photos=photos, epochs=1, output_dir=folder, **QUICK)
    assert (folder / "last.ckpt").is_file()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_a_folder_is_free_when_what_a_killed_run_forked_has_ended(tmp_path):
    program = (
        "import os, sys, time; from pathlib import Path; from kdlib.files import held\n"
        "with held(Path(sys.argv[1])):\n"
        "    sys.stdin.read() if os.fork() == 0 else (print('held', flush=True), time.sleep(600))"
    )
    killed = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert killed.stdout.readline() == b"held\n"
    killed.kill()
    killed.wait()
    with pytest.raises(OSError, match="another run is using"), held(tmp_path, patience=0):
        pass
    killed.stdin.close()
    with held(tmp_path):
        pass
    killed.stdout.close()


def test_what_a_killed_run_was_writing_is_removed_and_nothing_else(tmp_path):
    own = [".last.ckpt.part", ".best.ckpt.part", ".history.csv.part", "previews/.epoch_0010.png.part"]
    others = [".diary.txt.part", "previews/.holiday.part", "last.ckpt.part"]
    (tmp_path / "previews").mkdir()
    for name in own + others:
        (tmp_path / name).write_text("begun")
    assert open_folder(tmp_path, {}, resume=False) is None
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.part")) == sorted(others)
