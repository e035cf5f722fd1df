"""What lesson 04 says holds: the numbers that it quotes, and that its loop is that of the package."""

import json
import re
import statistics
from functools import cache

import nbformat
import pytest
import torch

from kdlib import data, exercises
from kdlib.exercises.lesson_04 import GAIN
from kdlib.experiments.ablation import ALONE, best_cell, cell, grid, summarise
from tests.helpers import NOTEBOOKS, prose
from tests.lessons.cells import photos_of, without_figures

RESULTS = NOTEBOOKS.parent / "results"
END = "largest difference between the weights"


def stored(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


@cache
def code(name):
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What sections 1 to 5 define, with the solutions in place of the exercises.

    `make test` executes the notebook itself, with the exercises unsolved, and compares what it prints.
    """
    solved = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDLIB_RUNS", str(tmp_path_factory.mktemp("runs")))
        patch.setattr(data, "load_photos", photos_of)
        # No check: it would replace a solution that differs from the package by what the package does.
        patch.setattr(exercises, "check", lambda _, answer: solved[answer.__name__] if callable(answer) else answer)
        for source in code("solutions/04_distill"):
            exec(source, solved)
        namespace = {}
        for source in code("04_distill"):
            exec(without_figures(source), namespace)
            if END in source:
                return namespace
    raise AssertionError("the lesson compares no weights")


def difference(lesson, *, loop=("", ""), **functions):
    """The largest difference from the weights of `distill`, after training once more with something changed."""
    namespace = {**lesson, **functions}
    sources = code("04_distill")
    [start] = [at for at, source in enumerate(sources) if "by_hand = fresh_model" in source]
    for source in sources[start:]:
        if END in source:
            kept = namespace["weights"].items()
            return max(float((value - lesson["weights"][name]).abs().max()) for name, value in kept)
        exec(source.replace(*loop), namespace)
    return None


@pytest.mark.slow
def test_the_loop_by_hand_gives_the_weights_of_distill_to_the_bit(lesson):
    assert max(map(float, lesson["differences"])) == 0


def squared(enhanced, curve_map, taught, taught_map, weight=0.1):
    return (enhanced - taught).square().mean() + weight * (curve_map - taught_map).square().mean()


@pytest.mark.slow
def test_another_method_makes_another_student_and_rounding_hardly_does(lesson):
    said = prose("04_distill")
    assert "Each change makes a difference of 0.01 or more, where rounding makes one of less than 0.000001" in said
    assert difference(lesson, alignment=squared) < 1e-6
    assert difference(lesson, alignment=lambda *answers: squared(*answers, weight=0.2)) >= 0.01
    assert difference(lesson, loop=("draws.begin(number)", "pass")) >= 0.01
    assert difference(lesson, loop=("limit=1.0", "limit=1000.0")) >= 0.01


@pytest.mark.slow
def test_without_the_factor_the_task_outweighs_the_teacher_several_hundred_times(lesson):
    assert "the task would outweigh the teacher several hundred times" in prose("04_distill")
    with torch.no_grad():
        task = float(sum(lesson["task"](*lesson["own"], lesson["as_input"](lesson["seen"])).values()))
    assert 300 < 0.1 * task / (0.7 * float(lesson["near"])) < 1000


def test_the_recipe_is_the_best_that_was_measured():
    rows, said = stored("what_matters")["rows"], prose("04_distill")
    told = {line["variant"]: line for line in summarise(rows)}
    published = told[cell(0.7, 0.2)]
    assert best_cell(rows) == (1.0, 0.0)
    assert (
        f"the highest fidelity belongs to output alignment alone, α = 1 and β = 0: {told[ALONE]['mean']:.1f} dB, "
        f"against {published['mean']:.1f} dB for the published α = 0.7 and β = 0.2" in said
    )
    assert "the interval of the difference includes zero" in said
    assert published["verdict"] == "not shown"
    assert f"four times as many epochs raise it by {told['4 ×: alignment alone']['difference']:.1f} dB" in said


def test_the_epochs_are_those_of_the_parameters_and_of_make_distill():
    [parameters] = [source for source in code("04_distill") if source.startswith("data_dir: str")]
    [epochs] = re.findall(r"^epochs: int = (\d+) ", parameters, re.MULTILINE)
    [made] = re.findall(r"04_distill\.ipynb .*-p epochs (\d+)", (NOTEBOOKS.parent / "Makefile").read_text("utf-8"))
    config = (NOTEBOOKS.parent / "configs" / "student-565.yaml").read_text("utf-8")
    [photos] = re.findall(r"# (\d+) photos of SICE", config)
    said = prose("04_distill")
    assert f"for {epochs} epochs. (`make distill` takes {made}, and the shipped student learned from" in said
    assert f"learned from {int(photos):,} photos" in said
    assert f"-p epochs {made} -p control False" in (NOTEBOOKS.parent / "docs" / "install.md").read_text("utf-8")


def test_a_larger_share_of_the_task_leaves_more_students_at_one_fixed_curve():
    results, said = stored("what_matters"), prose("04_distill")
    limit = results["yardsticks"]["fixed_curve"] + 1
    stuck = {place: [f < limit for f in scores] for place, scores in grid(results["rows"]).items()}
    assert "The larger it is, the more students end as one fixed curve" in said
    few, many = (
        [one for (a, b), found in stuck.items() if low <= round(1 - a - b, 1) <= high for one in found]
        for low, high in ((0.1, 0.3), (0.4, 0.7))
    )
    assert statistics.fmean(few) < statistics.fmean(many)
    assert "With the published shares one of three does, without a task share none" in said
    assert sum(stuck[0.7, 0.2]) == 1
    assert not any(any(found) for (a, b), found in stuck.items() if round(1 - a - b, 1) == 0)
    assert "At an equal share of the task, features do not help with any seed" in said
    scores = {(row["variant"], row["seed"]): row["fidelity"] for row in results["rows"]}
    pairs = [((a, b), (round(a + b, 1), 0.0)) for a, b in stuck if b and (round(a + b, 1), 0.0) in stuck]
    for seed in (0, 1, 2):
        assert statistics.fmean(scores[cell(*one), seed] - scores[cell(*other), seed] for one, other in pairs) < 0.01


def test_the_worth_of_the_teacher_is_measured():
    results = stored("what_matters")
    told = {line["variant"]: line for line in summarise(results["rows"])}
    without = told["no teacher, its own loss"]
    assert round(told[ALONE]["mean"] - without["mean"], 1) == GAIN
    assert f"In the mean over three seeds the gain is {GAIN} dB" in prose("solutions/04_distill")
    assert f"on the real photos of lesson 07, with three seeds, by {GAIN} dB (exercise 04.7)" in prose("04_distill")
    assert "no nearer to the teacher than one fixed curve" in prose("04_distill")
    assert without["mean"] < results["yardsticks"]["fixed_curve"]
