"""The comparison of ways to distil a sharpening network: its bookkeeping and what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from kdlib.data import write_photo
from kdlib.experiments import super_resolution_options
from kdlib.experiments.super_resolution_options import ALONE, OPTIONS, TAUGHT, Option, main, measure_options

RESULTS = Path(__file__).resolve().parent.parent / "results" / "super_resolution_options.json"
SMALL = {"width": 4, "blocks": 1}
QUICK = {"epochs": 1, "repeats": 1, "teacher_epochs": 1, "patch": 32, "device": "cpu", "progress": False}
TWO = (Option(TAUGHT, "teacher"), Option(ALONE, "teacher", {"alpha": 1.0}, teacher=False))


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    for name in ("STUDENT", "TEACHER"):
        monkeypatch.setattr(super_resolution_options, name, getattr(super_resolution_options, name) | SMALL)


@pytest.fixture
def folders(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for name, count in (("sharp", 4), ("test", 1)):
        for k in range(count):
            write_photo(tmp_path / name / f"{k}.png", torch.rand(3, 48, 56, generator=generator))
    return tmp_path / "sharp", tmp_path / "test", tmp_path / "runs" / "teacher.safetensors"


def test_options_have_names_of_their_own_and_differ_in_one_part():
    names = [option.name for option in OPTIONS]
    assert len(set(names)) == len(names)
    by_name = {option.name: option for option in OPTIONS}
    for option in OPTIONS:
        mine, base = option.definition(), by_name[option.against].definition()
        parts = mine["changes"].keys() | mine["architecture"].keys()
        assert len(parts - {"alpha"}) <= 1, option.name
        assert (mine == base) == (option.name == option.against)


def test_a_measurement_goes_on_where_it_was(folders, tmp_path, before_call):
    path, written = tmp_path / "options.json", []

    def stop_before_the_third_row(file):
        written.append(file.name)
        if len(written) == 5:
            raise KeyboardInterrupt

    for name in (path.name, folders[2].name):
        before_call("os.rename", name, stop_before_the_third_row)
    with pytest.raises(KeyboardInterrupt):
        measure_options(path, *folders, options=TWO, seeds=(0, 1), **QUICK)
    assert written == [folders[2].name, *[path.name] * 4]  # the teacher, the yardsticks, rows
    first = json.loads(path.read_text(encoding="utf-8"))
    assert [(row["variant"], row["seed"]) for row in first["rows"]] == [(TAUGHT, 0), (ALONE, 0)]

    content = measure_options(path, *folders, options=TWO, seeds=(0, 1), **QUICK)
    assert content["rows"][:2] == first["rows"]
    assert [(row["variant"], row["seed"]) for row in content["rows"][2:]] == [(TAUGHT, 1), (ALONE, 1)]
    assert written[5:] == [path.name] * 2, "something was measured again"
    assert content["rows"][0]["validation_psnr"] != content["rows"][2]["validation_psnr"]
    assert set(content["rows"][0]["terms"]) == {"truth", "teacher"}
    assert set(content["rows"][1]["terms"]) == {"truth"}
    assert content["yardsticks"]["bicubic"]["psnr_y"] > 5
    assert str(tmp_path) not in path.read_text(encoding="utf-8")


def test_a_redefined_option_runs_again_and_another_teacher_is_refused(folders, tmp_path):
    path = tmp_path / "options.json"
    part = Option("a part", "parts", {"mimic": 0.01})
    first = measure_options(path, *folders, options=(TWO[0], part), seeds=(0,), **QUICK)["rows"]
    part = Option("a part", "parts", architecture={"recurrent": False})
    again = measure_options(path, *folders, options=(part,), seeds=(0,), **QUICK)["rows"]
    assert again[0] == first[0]
    assert [row["variant"] for row in again] == [TAUGHT, "a part"]
    assert again[1]["parameters"] < first[1]["parameters"]
    folders[2].unlink()
    with pytest.raises(ValueError, match="teacher_digest"):
        measure_options(path, *folders, options=TWO, seeds=(0,), **{**QUICK, "teacher_epochs": 2})


def test_a_gain_is_what_the_run_brought_over_bicubic(folders):
    images = super_resolution_options.open_images(folders[0], 32)
    start = super_resolution_options.bicubic_score(images, 32, seed=1)
    torch.manual_seed(1)
    untouched = super_resolution_options.make(
        super_resolution_options.STUDENT
    )  # residual: it starts from the photo itself
    run = super_resolution_options.distill_super_resolution(
        untouched, None, images, epochs=1, repeats=1, patch=32, seed=1, learning_rate=1e-12, progress=False,
        device="cpu",
    )  # fmt: skip
    assert run.best_score == pytest.approx(start, abs=1e-3)


def test_the_command_says_what_it_wrote(capsys):
    def measure(*paths, **settings):
        assert paths == ("what.json", "photos", "data/Set5", "runs/super_resolution_options/teacher.safetensors")
        assert list(settings["seeds"]) == [0, 1]
        return {"rows": [{}, {}]}

    main(measure, ["--out", "what.json", "--data", "photos", "--seeds", "2"])
    assert capsys.readouterr().out == "2 runs in what.json\n"


def test_committed_results_are_complete_and_of_these_options():
    content = json.loads(RESULTS.read_text(encoding="utf-8"))
    ran = sorted((row["variant"], row["seed"]) for row in content["rows"])
    assert ran == sorted((option.name, seed) for option in OPTIONS for seed in (0, 1, 2))
    made_by = {row["variant"]: row["made_by"] for row in content["rows"]}
    assert made_by == {option.name: option.definition() for option in OPTIONS}
    assert content["settings"]["images"] == 100
    assert content["settings"]["eval"] == "Set5"
    assert content["yardsticks"]["bicubic"]["psnr_y"] == pytest.approx(28.43, abs=0.01)
