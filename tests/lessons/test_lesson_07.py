"""The sentences of lesson 07 against results/what_matters.json, teacher_search.json, seeds.json and eval15.json."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from kdlib.exercises.registry import find
from kdlib.experiments.ablation import ALONE, best_cell, cell, grid, summarise
from kdlib.experiments.teacher_search import CHOICES
from tests.helpers import prose

RESULTS = Path(__file__).resolve().parents[2] / "results"
SEEDS = (0, 1, 2)


@cache
def stored(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


@cache
def told(score="fidelity"):
    return {line["variant"]: line for line in summarise(stored("what_matters")["rows"], score)}


@cache
def runs():
    return {(row["variant"], row["seed"]): row for row in stored("what_matters")["rows"]}


def fidelities(variant):
    return [runs()[variant, seed]["fidelity"] for seed in SEEDS]


def curve():
    return stored("what_matters")["yardsticks"]["fixed_curve"]


def states(*sentences):
    page = prose("07_what_matters")
    for sentence in sentences:
        assert sentence in page


def test_what_is_shown_to_help_and_to_harm():
    states("Only a strong contrastive term (0.5) is shown to harm", "**More epochs** are the only change that is shown")
    lower = {name for name, line in told().items() if line["verdict"] == "lower"}
    grid_cells = {cell(alpha, beta) for alpha in (0.3, 0.5) for beta in (0.0, 0.1, 0.2, 0.3)}
    harms = {"no teacher, its own loss", "no teacher, published stage 1", "+ stage 1, published", "+ contrastive 0.5"}
    assert lower == harms | grid_cells | {"nano: no teacher", "nano: α 0.7, β 0.2"}
    assert [name for name, line in told().items() if line["verdict"] == "higher"] == ["4 ×: alignment alone"]


def test_how_many_gains_are_predicted():
    states("There are 41 variants", "the other 39 are compared", "some forty comparisons at 95%, about two of them")
    compared = [line for line in told().values() if line["verdict"] != "–"]
    assert (len(told()), len(compared)) == (41, 39)
    assert find("07.4").solution == sum(line["verdict"] == "higher" for line in compared)


def test_the_value_of_a_teacher():
    states("Its fidelity is more than 9 dB lower, no higher than that of one fixed curve")
    states("a single curve for all photos")
    own = told()["no teacher, its own loss"]
    assert own["difference"] < -9
    assert max(fidelities("no teacher, its own loss")) < curve()
    assert f"mean of the teacher's maps: {curve():.1f} dB" in prose("07_what_matters")
    states("The published stage 1 alone leads to worthless photos")
    assert told("psnr")["no teacher, published stage 1"]["mean"] < 7


def test_the_teacher_of_pairs():
    states("It is harder to copy at this budget", "hardly closer to the truth than the dark inputs are")
    assert told()["pairs: alignment alone"]["mean"] < told()[ALONE]["mean"] - 10
    dark = next(row["psnr"] for row in stored("eval15")["rows"] if row["method"] == "input")
    assert sum(runs()["pairs: no teacher", seed]["psnr"] < dark + 0.5 for seed in SEEDS) == 2
    assert told()["pairs: no teacher"]["verdict"] == "not shown"
    assert told("psnr")["pairs: no teacher"]["verdict"] == "lower"


def test_parts_one_at_a_time():
    states(
        "For SSIM at 0.3 the interval is within ± 0.3 dB",
        "For task 0.1 and 0.3 and for perceptual 0.2 it is many decibels wide",
        "In each of these three variants at most one seed of three is above the base",
        "With the teacher's own loss as the task, the score is the same within 0.3 dB",
    )
    assert told()["+ SSIM 0.3"]["margin"] + abs(told()["+ SSIM 0.3"]["difference"]) < 0.3
    for name in (cell(0.9, 0.0), cell(0.7, 0.0), "+ perceptual 0.2"):
        assert told()[name]["verdict"] == "not shown"
        assert told()[name]["ahead"] <= 1
        assert told()[name]["margin"] > 9
        assert min(fidelities(name)) < curve() + 1 < curve() + 7 < max(fidelities(name))
    for name in ("− curve map", "+ features 0.005", cell(0.9, 0.1), cell(0.7, 0.3), "+ contrastive 0.05"):
        assert told()[name]["verdict"] == "not shown"
    states("The row of task 0.1 says −2.1 ± 13.1 dB", "The interval reaches from −15.2 to +10.9 dB")
    quiz = told()[cell(0.9, 0.0)]
    low, high = (quiz["difference"] + side * quiz["margin"] for side in (-1, 1))
    assert f"{quiz['difference']:.1f} {quiz['margin']:.1f} {low:.1f} {high:.1f}" == "-2.1 13.1 -15.2 10.9"
    same = told()["task 0.3, teacher's own loss"]
    assert abs(same["difference"]) + same["margin"] < 0.3


def test_the_factor():
    states("Without it all three seeds end at the fixed curve", "With it one seed of three does")
    assert all(fidelity < curve() + 1 for fidelity in fidelities("factor 1 instead of 100"))
    assert sum(fidelity < curve() + 1 for fidelity in fidelities(cell(0.7, 0.2))) == 1
    assert told()["factor 1 instead of 100"]["verdict"] == "not shown"


def test_the_grid():
    states("From 0.5 up most students end as one fixed curve; without a task share none does")
    cells = grid(stored("what_matters")["rows"])
    free = [f for (a, b), found in cells.items() if round(1 - a - b, 1) == 0 for f in found]
    assert min(free) > curve() + 1
    for share in (0.5, 0.6, 0.7):
        bound = [f for (a, b), found in cells.items() if round(1 - a - b, 1) == share for f in found]
        assert sum(f < curve() + 1 for f in bound) > len(bound) / 2
    states("features do not raise fidelity in any of the three seeds")
    partners = [((a, b), (round(a + b, 1), 0.0)) for a, b in cells if b and (round(a + b, 1), 0.0) in cells]
    for seed in SEEDS:
        assert sum(runs()[cell(*x), seed]["fidelity"] - runs()[cell(*y), seed]["fidelity"] for x, y in partners) < 0
    states("The highest cell is the corner", "As the best of fifteen", "below the corner in all three seeds")
    assert (best_cell(stored("what_matters")["rows"]), len(cells)) == ((1.0, 0.0), 15)
    assert {told()[cell(*place)]["verdict"] for place in ((0.9, 0.1), (0.7, 0.3))} == {"not shown"}
    assert (told()[cell(0.7, 0.2)]["ahead"], told()[cell(0.7, 0.2)]["verdict"]) == (0, "not shown")


def test_the_model_answer_on_grid_searches():
    states(
        "With seed 1 the cell is within a decibel of the corner",
        "Among the cells with α up to 0.7, here too the highest",
    )
    assert runs()[ALONE, 1]["fidelity"] - runs()[cell(0.7, 0.2), 1]["fidelity"] < 1
    means = {place: sum(found) for place, found in grid(stored("what_matters")["rows"]).items() if place[0] <= 0.7}
    assert max(means, key=means.__getitem__) == (0.7, 0.3)


def test_stage_1_time_and_a_smaller_student():
    states("**Stage 1** with the published objective lowers fidelity")
    states("four times the epochs gain more than any part does")
    assert told()["two-stage recipe"]["verdict"] == told()["+ stage 1, teacher's own loss"]["verdict"] == "not shown"
    parts = [line["difference"] for line in told().values() if line["group"] == "parts"]
    assert told()["4 ×: alignment alone"]["difference"] > max(parts) + 1
    states("In each seed alignment alone is above both others, although the intervals still include zero")
    for name in ("4 ×: α 0.9, β 0.1", "4 ×: α 0.7, β 0.2"):
        assert (told()[name]["ahead"], told()[name]["verdict"]) == (0, "not shown")
    states("`nano-161`** has a small spread over seeds", "The published α and β cost it more than half of the gain")
    assert all(line["deviation"] < 0.6 for name, line in told().items() if name.startswith("nano"))
    assert told()["nano: α 0.7, β 0.2"]["difference"] < told()["nano: no teacher"]["difference"] / 2


def test_scores_on_test_pairs():
    states("less than 2 dB below the teacher in PSNR, but 8 dB below the base in fidelity")
    near = [row for row in stored("what_matters")["rows"] if abs(row["fidelity"] - curve()) < 1]
    assert min(row["psnr"] for row in near) > stored("what_matters")["yardsticks"]["teacher_psnr"] - 2
    assert 7.5 < told()[ALONE]["mean"] - curve() < 8.5
    states(
        "the spread over seeds is many times wider than with one",
        "In PSNR on `eval15` the gain from a teacher is shown for `nano-161`",
    )
    on_pairs = told("psnr")
    assert on_pairs["no teacher, its own loss"]["deviation"] > 5 * on_pairs[ALONE]["deviation"]
    assert on_pairs["nano: no teacher"]["verdict"] == "lower"
    assert on_pairs["no teacher, its own loss"]["verdict"] == "not shown"
    assert abs(on_pairs["no teacher, its own loss"]["difference"]) < on_pairs["no teacher, its own loss"]["deviation"]
    levels = [line["mean"] for line in on_pairs.values() if line["group"] != "pairs teacher"]
    assert max(levels) < stored("what_matters")["yardsticks"]["teacher_psnr"]


def test_cost():
    states("make training a third to three quarters longer")
    timed = {name: line["mean"] for name, line in told("seconds").items()}
    costs = [timed[name] / timed[ALONE] for name in told() if name.startswith(("+ SSIM", "+ perc", "+ contr"))]
    assert 1.3 < min(costs) < max(costs) < 1.8


def test_teachers():
    states("compares sixteen ways", "Twelve rows change one of these settings", "Three change more")
    assert len(CHOICES) == len(stored("teacher_search")["rows"]) == 16
    ways = {row["choice"]: row for row in stored("teacher_search")["rows"]}
    gap = {name: ways["base"]["validation_psnr"] - row["validation_psnr"] for name, row in ways.items()}
    states("gains 1.7 dB in validation and 3 dB on `eval15`", "A gamma does not replace physical darkening")
    assert round(gap["no exposure augmentation"], 1) == 1.7
    assert ways["base"]["psnr"] - ways["no exposure augmentation"]["psnr"] > 3
    assert gap["gamma augmentation"] > gap["no exposure augmentation"]
    states("Targets of 0.5 and 0.7 both cost 3 dB or more in validation, and more than 2.5 dB on `eval15`")
    assert 2.5 < ways["base"]["psnr"] - max(ways[f"exposure target {target}"]["psnr"] for target in (0.5, 0.7)) < 3
    states("400 scores like 1600, and 100 scores more than 3 dB lower")
    assert min(gap["exposure target 0.5"], gap["exposure target 0.7"], gap["smoothness 100"]) > 3
    assert abs(gap["smoothness 400"]) < 0.25 > abs(gap["colour constancy 1"])
    states("Without it the score falls by more than 10 dB", "1 dB lower in validation and 2 dB lower on `eval15`")
    assert gap["colour constancy 0"] > 10
    assert round(gap["Zero-DCE++ as published"], 1) == 1.0
    assert round(ways["base"]["psnr"] - ways["Zero-DCE++ as published"]["psnr"], 1) == 2.0
    states("differences of a quarter of a decibel are no ranking", "make no difference that one run could show")
    same = ("network sees 64 pixels", "exposure of patches", "last weights, no average")
    assert all(abs(gap[name]) < 0.25 for name in same)
    states("a standard deviation of about 0.1 dB over seeds on `eval15`")
    seeds = {row["method"]: row for row in stored("seeds")["rows"]}
    assert 0.05 < seeds["zero-dce++"]["psnr_sd"] < 0.1
    states("give the highest validation score in one of their two rows, and only these two rows leave daylight")
    assert sum(name.startswith("self-made pairs") for name in ways) == 2
    assert max(ways.values(), key=lambda row: row["validation_psnr"])["choice"] == "self-made pairs"
    assert all((row["daylight"] < 0.1) == name.startswith("self-made pairs") for name, row in ways.items())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_gradients(seed):
    import torch

    from kdlib import load_model
    from kdlib.data import sample_crops
    from kdlib.exercises.lesson_07 import compare_gradients
    from kdlib.training import distill, make_recipe
    from kdlib.training.distill_curve import RecipeObjective
    from kdlib.training.task import at_scale

    states("to less than a third in both runs", "features and task have larger gradients than output alignment")
    states("The gradient of the task shrinks too, and that of SSIM is small from the start")
    master, crops, found = load_model("zero-dce++"), sample_crops(512, 32), {}
    for epochs in (1, 8):
        quick = {"recipe": make_recipe(alpha=1.0, beta=0.0), "device": "cpu", "progress": False, "seed": seed}
        network = distill("student-565", master, photos=crops, epochs=epochs, **quick).model
        terms_of = RecipeObjective(network, master, make_recipe("one-stage", ssim=0.3), "none")
        with at_scale(1, network, master):
            terms = terms_of(network, (crops[:256],), None, torch.Generator())
        found[epochs] = {name: size for name, (size, _) in compare_gradients(terms, [*network.parameters()]).items()}
    assert found[8]["alignment"] < found[1]["alignment"] / 3
    assert found[8]["task"] < found[1]["task"]
    assert found[1]["ssim"] < min(found[1][name] for name in ("alignment", "features", "task")) / 10
    assert found[8]["features"] > found[1]["features"] / 2
    assert min(found[8]["features"], found[8]["task"]) > found[8]["alignment"]
