"""What the page "Distillation from zero" says is what was measured, and what its derivations claim is so."""

import json
import re
import statistics
from pathlib import Path

import pytest
import torch

from kdlib.experiments.ablation import summarise
from kdlib.experiments.digits import PER_CLASS, SEEDS, SEQUENCES, STEPS, TEMPERATURE, VARIANTS, split_digits
from kdlib.losses import kl_divergence, logit_loss, soft_target_loss, soften
from tests.helpers import prose

CONTENT = json.loads((Path(__file__).parents[2] / "results" / "distillation.json").read_text(encoding="utf-8"))
ROWS = CONTENT["rows"]
ON_DIGITS = {line["variant"]: line for line in summarise([r for r in ROWS if "accuracy" in r], "accuracy", VARIANTS)}
ON_WORDS = {
    score: {line["variant"]: line for line in summarise([r for r in ROWS if score in r], score, SEQUENCES)}
    for score in ("valid", "distinct")
}
PAGE = prose("00_distillation")


def column(variant, key="accuracy"):
    return [row[key] for row in ROWS if row["variant"] == variant]


def mean(variant, key="accuracy"):
    return f"{statistics.fmean(column(variant, key)):.1f}%"


def difference(line, places=1):
    size, margin = (f"{value:.{places}f}" for value in (abs(line["difference"]), line["margin"]))
    if size == margin:  # another digit shows which of the two is larger
        return difference(line, places + 1)
    return f"{line['difference']:+.{places}f} ± {margin}".replace("-", "−")


def gain(variant):
    return difference(ON_DIGITS[variant])


def test_everything_was_measured_with_the_same_seeds():
    names = {variant.name for variant in (*VARIANTS, *SEQUENCES)}
    assert {row["variant"] for row in ROWS} == names
    seeds = sorted({row["seed"] for row in ROWS})
    assert seeds == list(SEEDS[: len(seeds)])
    for name in names:
        assert sorted(row["seed"] for row in ROWS if row["variant"] == name) == seeds
    settings = CONTENT["settings"]
    assert (settings["steps"], settings["per_class"], settings["temperature"]) == (STEPS, PER_CLASS, TEMPERATURE)


# Each sentence of the page with its numbers left open, and what has to stand there.
SENTENCES = [
    ("it recognises {} of the digits that it has not seen", [mean("labels alone")]),
    ("on the same fifty images, recognises {} if each label", [mean("soft targets, T = 8")]),
    ("the teacher recognises {} of the test set and the student alone {}", [mean("teacher"), mean("labels alone")]),
    ("its probability for the best class averages {} on", [mean("teacher", "confidence")]),
    (
        "half labels and half soft targets reach {} with the factor and {} without it",
        [mean("labels and soft targets"), mean("labels and soft targets without T²")],
    ),
    ("the difference is {} percentage points", [gain("labels and soft targets without T²")]),
    ("Hard targets give {}, exactly the same as labels", [mean("hard targets")]),
    ("Soft targets at T = 1 are hardly better, {} percentage", [gain("soft targets, T = 1")]),
    (
        "Soft targets at T = 8 are better by {} percentage points, with {} seeds ahead",
        [gain("soft targets, T = 8"), "{ahead} of {seeds}".format_map(ON_DIGITS["soft targets, T = 8"])],
    ),
    (
        "the shuffled targets give {}, {} percentage points against the true ones",
        [mean("wrong classes shuffled"), gain("wrong classes shuffled")],
    ),
    ("so that nothing false is said either, the student reaches {}:", [mean("wrong classes even")]),
    ("learned from labels recognises {} of them", [mean("no 3, labels", "recognised")]),
    (
        "from soft targets at T = 8 recognises {}, and {} with the shift",
        [mean("no 3, T = 8", "recognised"), mean("no 3, T = 8", "recognised_shifted")],
    ),
    ("lifts the student of labels to {} only", [mean("no 3, labels", "recognised_shifted")]),
    (
        "matching logits gives {}; against soft targets at T = 8 the difference is {} percentage",
        [mean("logits"), gain("logits")],
    ),
    (
        "The five networks together reach {}, each alone {}; the one that learned from them reaches {}.",
        [mean("ensemble into one", "ensemble"), mean("ensemble into one", "member"), mean("ensemble into one")],
    ),
    ("Noise is surprisingly good: {} without", [mean("noise")]),
    ("images give {} ({} against noise)", [mean("generator"), gain("generator")]),
    (
        "change the small student by {} percentage points, and the large one by {}.",
        [gain("all images, width 2, soft targets"), gain("all images, width 32, soft targets")],
    ),
    ("fifty images the large student gains {}.", [gain("5 per class, width 32, soft targets")]),
    (
        "labels give {}, soft targets give {} at T = 1 ({}), and {} at T = 8 ({})",
        [
            mean("two numbers, labels"), mean("two numbers, T = 1"), gain("two numbers, T = 1"),
            mean("two numbers, T = 8"), gain("two numbers, T = 8"),
        ],
    ),
    (
        "with {} and {} instead of {}, change the student by {} and {} points",
        [
            mean("teacher of width 2", "teacher"), mean("teacher of width 8", "teacher"), mean("teacher"),
            gain("teacher of width 2"), gain("teacher of width 8"),
        ],
    ),
    (
        "label smoothing of 0.1 recognises {} of the test set, but its student reaches {}: {} points",
        [
            mean("teacher with smoothed labels", "teacher"), mean("teacher with smoothed labels"),
            gain("teacher with smoothed labels"),
        ],
    ),
    (
        "changes the share of valid numbers by {} percentage points and the count of different ones by {}; forward KL "
        "on the teacher's sequences by {} points and {} numbers",
        [
            difference(ON_WORDS[score][f"words: {way}"], places)
            for way in ("reverse KL", "forward KL") for score, places in (("valid", 1), ("distinct", 0))
        ],
    ),
    ("On fifty images this knowledge is worth {} percentage points", [gain("soft targets, T = 8")]),
]  # fmt: skip


@pytest.mark.parametrize(("sentence", "numbers"), SENTENCES, ids=[sentence[:40] for sentence, _ in SENTENCES])
def test_the_numbers_of_the_page_were_measured(sentence, numbers):
    assert sentence.format(*numbers) in PAGE
    assert len(re.findall(r"\{\}", sentence)) == len(numbers)


def test_the_tables_of_the_page_were_measured():
    told = {"higher": "better", "lower": "worse", "not shown": "not shown"}
    shown = {
        "soft targets, T = 8": "soft targets, T = 8",
        "hints, then labels": "hints, then labels",
        "attention, then labels": "attention, then labels",
        "relations, then labels": "relations, then labels",
        "born again, few images": "born again, fifty images",
        "born again, all images": "born again, all images",
        "ensemble into one": "ensemble into one, all images",
    }
    for name, label in shown.items():
        assert f"| {label} | {gain(name)} | {told[ON_DIGITS[name]['verdict']]} |" in PAGE
    ways = {
        "teacher": "(the teacher itself)",
        "data": "data, cross-entropy",
        "teacher's sequences": "the teacher's sequences, cross-entropy",
        "forward KL": "the teacher's sequences, forward KL",
        "reverse KL": "its own sequences, reverse KL",
    }
    for way, label in ways.items():
        valid, distinct = (statistics.fmean(column(f"words: {way}", score)) for score in ("valid", "distinct"))
        assert f"| {label} | {valid:.0f}% | {distinct:.0f} |" in PAGE


def verdict(variant):
    return ON_DIGITS[variant]["verdict"]


def average(variant):
    return ON_DIGITS[variant]["mean"]


def test_what_the_page_says_about_soft_targets_is_so():
    soft = [ON_DIGITS[f"soft targets, T = {t}"] for t in (8, 16, 32)]
    assert all(line["verdict"] == "higher" for line in soft)
    assert "so a gain is not shown" in PAGE
    assert verdict("logits") == "not shown"
    assert max(line["mean"] for line in soft) - min(line["mean"] for line in soft) < 1.5
    assert ON_DIGITS["soft targets, T = 1"]["difference"] < 1.5
    gained = average("soft targets, T = 8") - average("labels alone")
    assert average("wrong classes shuffled") - average("labels alone") < gained / 6
    assert verdict("wrong classes shuffled") == verdict("wrong classes even") == "lower"
    assert average("wrong classes even") - average("labels alone") < gained / 3
    for other in ("hints", "attention", "relations"):
        assert average(f"{other}, then labels") - average("labels alone") < 0.6 * gained
    assert average("noise") > average("generator") + 10
    assert "one of the ten students fails altogether and answers at about chance, 10%" in PAGE
    for case in ("born again, few images", "born again, all images"):
        failed, *others = sorted(column(case))
        assert failed < 12
        assert min(others) > 70


def test_what_the_page_says_about_the_withheld_class_is_so():
    assert max(column("no 3, labels", "recognised")) == 0


def test_what_the_page_says_about_failures_is_so():
    assert verdict("all images, width 2, soft targets") == verdict("all images, width 32, soft targets") == "not shown"
    assert verdict("5 per class, width 32, soft targets") == "higher"
    assert verdict("two numbers, T = 8") == "lower"
    smoothed = statistics.fmean(column("teacher with smoothed labels", "teacher"))
    assert smoothed > average("teacher")
    assert verdict("teacher with smoothed labels") == "lower"


def test_reverse_kl_on_own_samples_is_more_valid_and_less_varied():
    assert ON_WORDS["valid"]["words: reverse KL"]["verdict"] == "higher"
    assert ON_WORDS["distinct"]["words: reverse KL"]["verdict"] == "lower"


def test_hard_targets_are_the_labels():
    assert column("hard targets") == column("labels alone")


def test_the_first_derivative_is_as_the_page_says():
    student = torch.randn(1, 10, dtype=torch.float64, requires_grad=True)
    teacher = 3 * torch.randn(1, 10, dtype=torch.float64)
    for temperature in (1.0, 8.0):
        p, q = soften(teacher, temperature), soften(student, temperature)
        [found] = torch.autograd.grad(kl_divergence(p, q), student)
        assert torch.allclose(found, (q - p) / temperature)


def test_the_limit_is_the_squared_error_of_centred_logits():
    student, teacher = (5 * torch.randn(50, 10, dtype=torch.float64) for _ in range(2))
    assert soft_target_loss(student, teacher, 1e4) / logit_loss(student, teacher) == pytest.approx(1, abs=1e-3)
    assert soft_target_loss(student, teacher, 1.0) / logit_loss(student, teacher) != pytest.approx(1, abs=0.1)


def test_a_split_has_no_image_twice():
    split = split_digits(0)
    assert (len(split.pool), len(split.test)) == (1200, 597)
    assert split.pool_labels[split.few(5)].tolist() == [digit for digit in range(10) for _ in range(5)]
