"""What the page "Distil your own" says is what was measured, and its measurement does what it says."""

import json
import operator
import re
from functools import partial

import nbformat
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from kdlib.data import write_photo
from kdlib.exercises.lesson_13 import CURVES, paired_interval, unnamed_curves
from kdlib.experiments import distil_denoising
from kdlib.experiments.ablation import summarise
from kdlib.experiments.distil_denoising import (
    ALONE,
    BATCH,
    EPOCHS,
    FAILURES,
    FEW,
    MANY,
    NOISE,
    SELECTED,
    SIDE,
    STUDENT,
    TAUGHT,
    TEACHER,
    TESTED,
    VARIANTS,
    Bench,
    Denoiser,
    measure,
    photos_in_two_parts,
)
from kdlib.models import count_parameters
from tests.helpers import NOTEBOOKS, prose

CONTENT = json.loads((NOTEBOOKS.parent / "results" / "distil_denoising.json").read_text(encoding="utf-8"))
ROWS = CONTENT["rows"]
LINES = {
    line["variant"]: line for line in summarise([row for row in ROWS if "loss" in row], "psnr", (*VARIANTS, *FAILURES))
}
PAGE = prose("13_distil_your_own")
LESSON = nbformat.read(NOTEBOOKS / "13_distil_your_own.ipynb", as_version=4)
COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 8: "eight"}


def scores(variant):
    return [row["psnr"] for row in ROWS if row["variant"] == variant]


def test_every_student_was_measured_with_the_same_seeds():
    seeds = list(range(len(scores(ALONE))))
    for variant in VARIANTS:
        assert [row["seed"] for row in ROWS if row["variant"] == variant.name] == seeds
    assert f"over {COUNTS[len(seeds)]} seeds comes from" in PAGE
    assert f"the stored measurement with {COUNTS[len(seeds)]} seeds" in PAGE
    settings = CONTENT["settings"]
    assert (settings["many"], settings["few"], settings["epochs"]) == (MANY, FEW, EPOCHS)
    assert (settings["teacher"], settings["student"]) == ([*TEACHER], [*STUDENT])


def test_what_the_page_says_about_its_table_is_so():
    assert "Teaching pays where only the teacher can give targets." in PAGE
    assert LINES[TAUGHT]["verdict"] == "higher"
    assert "The last pair is the case of plenty" in PAGE
    assert LINES["all pairs, taught"]["verdict"] != "higher"


def test_the_settings_of_the_page_are_those_of_the_measurement():
    assert pytest.approx(25 / 255) == NOISE
    assert f"crops of {SIDE}×{SIDE} pixels" in PAGE
    assert f"on {TESTED} of their crops" in PAGE
    assert f"`many`, {MANY} pairs to learn from" in PAGE
    assert f"`few(seed)`, {COUNTS[FEW]} of them" in PAGE
    assert f"`judged`, {SELECTED} other crops" in PAGE
    assert f"from all {MANY} pairs" in PAGE
    assert f"has {COUNTS[FEW]} clean crops" in PAGE
    assert f"sees {MANY} noisy crops" in PAGE
    assert f"Both have {EPOCHS * MANY // BATCH} steps" in PAGE
    assert f"five layers of {TEACHER[0]} channels, the student three of {STUDENT[0]}" in PAGE
    assert (TEACHER[1], STUDENT[1]) == (5, 3)
    assert count_parameters(Denoiser(*TEACHER, 0)) > 5 * count_parameters(Denoiser(*STUDENT, 0))


def test_the_shuffled_answers_are_the_curve_that_the_exercise_asks_for():
    first = {row["variant"]: row["selection"] for row in reversed(ROWS) if "loss" in row}
    ends = {letter: scores_of[-1] for letter, scores_of in unnamed_curves(ROWS).items()}
    assert CURVES["D"] == "answers shuffled"
    assert max(first["answers shuffled"][1:]) < scores("noisy")[0] - 1
    assert abs(first["rate × 50"][-1] - scores("noisy")[0]) < 1
    assert ends["A"] > ends["C"]


def test_a_teacher_of_random_weights_is_learned_and_useless():
    bench = Bench(photos_in_two_parts(), many=128)
    student, useless = Denoiser(*STUDENT, seed=0), Denoiser(*TEACHER, seed=1)
    losses = {"teacher": (1.0, distil_denoising.mean_squared)}
    run = distil_denoising.fit(student, useless, TensorDataset(*bench.many), losses, bench.judged, epochs=6)
    assert run.history[-1]["teacher"] < run.history[0]["teacher"] / 2
    noisy = distil_denoising.score(nn.Identity(), bench.tested)
    assert distil_denoising.score(run.model, bench.tested) < noisy + 1


def test_few_pairs_are_repeated_with_their_noise():
    bench = Bench(photos_in_two_parts(), many=7)
    noisy, clean = bench.few(3, count=2)
    assert len(noisy) == len(clean) == 7
    assert torch.equal(noisy[0], noisy[2])
    assert not torch.equal(clean[0], clean[1])
    assert not torch.equal(bench.few(4)[1][:2], clean[:2])
    assert (noisy - clean).std() == pytest.approx(NOISE, rel=0.1)


def test_photos_of_a_folder_are_divided_or_refused(tmp_path):
    folder = tmp_path / "photos"
    for number in range(3):
        write_photo(folder / f"{number}.png", torch.full((3, 40, 50), number / 4))
        if number == 1:
            with pytest.raises(ValueError, match="has 2 readable photos: at least 3 are needed"):
                photos_in_two_parts(folder)
    learned, scored = photos_in_two_parts(folder, side=32)
    assert [round(4 * float(photo.mean())) for photo in (*learned, *scored)] == [1, 2, 0]
    assert Bench((learned, scored), many=4).many[0].shape == (4, 3, SIDE, SIDE)
    with pytest.raises(FileNotFoundError):
        photos_in_two_parts(tmp_path / "none")


def test_a_measurement_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(Bench, "teacher", lambda self: Denoiser(*TEACHER, seed=1))
    monkeypatch.setattr(distil_denoising, "fit", partial(distil_denoising.fit, epochs=1))
    monkeypatch.setattr(distil_denoising, "Bench", partial(Bench, many=64))
    whole = measure(tmp_path / "a.json", seeds=(0,))
    names = [row["variant"] for row in whole["rows"]]
    assert names == ["noisy", "teacher", *(variant.name for variant in (*VARIANTS, *FAILURES))]
    by_name = {row["variant"]: row for row in whole["rows"]}
    assert by_name[TAUGHT]["psnr"] == by_name["all pairs, taught"]["psnr"] != by_name["few pairs, taught"]["psnr"]
    part = {**whole, "rows": whole["rows"][:4]}
    (tmp_path / "b.json").write_text(json.dumps(part), encoding="utf-8")
    assert measure(tmp_path / "b.json", seeds=(0,))["rows"] == whole["rows"]


def test_the_teacher_is_better_than_its_student():
    assert max(scores("all pairs, alone") + scores(TAUGHT)) < scores("teacher")[0]


@pytest.mark.slow  # it trains five networks; a reader, with a seed more, seven
def test_the_template_for_another_task_runs_and_its_student_gains(capsys):
    [code] = re.findall(r"```python\n(.*?)```", "\n".join(cell.source for cell in LESSON.cells), flags=re.DOTALL)
    opening = next(cell.source for cell in LESSON.cells if cell.cell_type == "code")
    names = {"paired_interval": paired_interval}
    assert code.count("range(3)") == 1
    code = code.replace("range(3)", "range(2)")
    exec(compile(f"{opening}\n{code}", "13_distil_your_own", "exec"), names)
    assert names["accuracy"](names["expert"], *names["tested"]) > 90
    assert min(map(operator.sub, names["found"]["taught"], names["found"]["alone"])) > 0
    assert "gain +" in capsys.readouterr().out
