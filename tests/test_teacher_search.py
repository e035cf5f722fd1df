"""The search for a better teacher: its validation photos, its bookkeeping and the committed results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from kdlib.evaluation.metrics import psnr
from kdlib.experiments import teacher_search
from kdlib.experiments.teacher_search import CHOICES, Choice, run_search, validation_pairs

RESULTS = Path(__file__).resolve().parent.parent / "results" / "teacher_search.json"
QUICK = {"model": "student-565", "steps": 4, "batch_size": 8, "device": "cpu"}
FEW = (Choice("base"), Choice("smoothness 0", terms={"smoothness": 0.0}))


@pytest.fixture(autouse=True)
def small_photos(monkeypatch):
    """Forty small crops instead of 256."""
    crops = teacher_search.sample_crops
    monkeypatch.setattr(teacher_search, "JUDGED_SIZE", 48)
    monkeypatch.setattr(teacher_search, "sample_crops", lambda count, side, **kind: crops(40, side, **kind))


def test_validation_photos_are_darkened_copies_of_themselves():
    photos = (torch.rand(9, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 255).byte()
    pairs = validation_pairs(photos, most=3)
    assert len(pairs) == 3
    for (_, dark, truth), photo in zip(pairs, photos[::3], strict=True):
        assert torch.equal((truth * 255).round().byte(), photo)
        assert dark.mean() < 0.6 * truth.mean()
        assert psnr(dark, truth) < 15
    again = validation_pairs(photos, most=3)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(pairs, again, strict=True))


def test_a_choice_changes_what_it_names_and_nothing_else():
    base = Choice("base").settings()
    spatial = Choice("x", terms={"spatial": 4.0}).settings()
    assert {name for name in base if base[name] != spatial[name]} == {"objective"}
    assert spatial["objective"] == {**base["objective"], "spatial": 4.0}
    assert Choice("x", side=64).settings() == {**base, "network_side": 64}
    assert not {"objective", "augmentation"} & Choice("x", {"pairs": "self-made"}).settings().keys()
    assert len({choice.name for choice in CHOICES}) == len(CHOICES)


@pytest.mark.slow
def test_a_search_is_written_run_by_run_and_goes_on_where_it_was(tmp_path, few_pairs, before_call):
    path = tmp_path / "search.json"
    written = []

    def stop_before_the_second_row(_path):
        written.append(1)
        if len(written) == 2:
            raise KeyboardInterrupt

    before_call("os.rename", path.name, stop_before_the_second_row)
    with pytest.raises(KeyboardInterrupt):
        run_search(path, eval_dir=few_pairs, choices=FEW, **QUICK)
    kept = json.loads(path.read_text())["rows"]
    assert [row["choice"] for row in kept] == ["base"]
    content = run_search(path, eval_dir=few_pairs, choices=FEW, **QUICK)
    assert [row["choice"] for row in content["rows"]] == ["base", "smoothness 0"]
    assert content["rows"][0] == kept[0]
    assert len(written) == 3
    on_disk = json.loads(path.read_text())
    assert (on_disk["settings"], on_disk["rows"]) == (content["settings"], content["rows"])
    assert content["settings"]["validation"] > 0
    for row in content["rows"]:
        assert 3 < row["validation_psnr"] < 50
        assert 0 < row["validation_ssim"] < 1
        assert row["psnr"] > 0
        assert row["daylight"] >= 0


def test_pairs_take_part_in_a_search(tmp_path, few_pairs):
    choices = (Choice("pairs", {"pairs": "self-made"}),)
    (row,) = run_search(tmp_path / "search.json", eval_dir=few_pairs, choices=choices, **QUICK)["rows"]
    assert row["choice"] == "pairs"
    assert row["validation_psnr"] > 3


def test_results_of_other_settings_are_not_mixed(tmp_path, few_pairs):
    path = tmp_path / "search.json"
    run_search(path, eval_dir=few_pairs, choices=FEW[:1], **QUICK)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="other settings"):
        run_search(path, eval_dir=few_pairs, choices=FEW, **{**QUICK, "steps": 5})
    assert path.read_bytes() == before


def test_committed_results_are_complete():
    content = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert [row["choice"] for row in content["rows"]] == [choice.name for choice in CHOICES]
    assert content["settings"]["model"] == "zero-dce++"
    assert content["settings"]["data"] == "zero_dce_train"
    assert content["settings"]["validation"] >= 20
