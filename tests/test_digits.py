"""The losses of classifiers, and the experiments on digits and number words."""

import json
import math
from functools import partial

import pytest
import torch

from kdlib.experiments import digits
from kdlib.experiments.digits import Variant, digit_network, measure, missing_class_shift
from kdlib.experiments.number_words import CharacterModel, decode, divergence, encode, in_words, written
from kdlib.losses import attention_transfer_loss, hint_loss, kl_divergence, relation_loss, soft_target_loss, soften


def logits(seed, rows=4):
    return 4 * torch.randn(rows, 10, generator=torch.Generator().manual_seed(seed))


def test_a_temperature_keeps_the_order_and_evens_the_values():
    cold, warm = soften(logits(0), 1.0), soften(logits(0), 8.0)
    assert torch.equal(cold.argsort(1), warm.argsort(1))
    assert (warm.amax(1) < cold.amax(1)).all()
    assert torch.allclose(soften(logits(0), 1e6), torch.full((4, 10), 0.1), atol=1e-4)
    with pytest.raises(ValueError, match="temperature"):
        soften(logits(0), 0)


def test_the_divergence_is_zero_for_equals_and_has_a_direction():
    p, q = soften(logits(0)), soften(logits(1))
    assert kl_divergence(p, p) == 0
    assert kl_divergence(p, q) != pytest.approx(float(kl_divergence(q, p)), rel=0.01)
    assert kl_divergence(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.25, 0.75]])) == pytest.approx(math.log(4))


def test_soft_targets_are_the_divergence_of_both_softened_times_t_squared():
    for temperature in (0.5, 1.0, 8.0):
        expected = temperature**2 * kl_divergence(soften(logits(1), temperature), soften(logits(0), temperature))
        assert torch.isclose(soft_target_loss(logits(0), logits(1), temperature), expected)
    assert soft_target_loss(torch.tensor([[0.0, 400.0]]), torch.tensor([[400.0, 0.0]]), 1.0) == pytest.approx(400)


def test_attention_sees_places_and_not_strength_or_channels():
    features = torch.rand(3, 4, 4, 4)
    assert attention_transfer_loss(features, 5 * torch.cat([features, features], dim=1)) == pytest.approx(0, abs=1e-6)
    assert attention_transfer_loss(features, features.flip(-1)) > 0.01


def test_relations_see_neither_scale_nor_rotation():
    features = torch.rand(6, 2, 3, 3)
    assert relation_loss(features, 7 * features.flip(1) + 1) == pytest.approx(0, abs=1e-6)
    assert relation_loss(features, features.roll(1, dims=0)) > 1e-3


def test_a_hint_teaches_student_and_projection_only():
    student, teacher = torch.rand(2, 3, 4, 4, requires_grad=True), torch.rand(2, 5, 4, 4, requires_grad=True)
    projection = torch.nn.Conv2d(3, 5, 1)
    hint_loss(student, teacher, projection).backward()
    assert student.grad is not None
    assert projection.weight.grad is not None
    assert teacher.grad is None


def test_the_shift_makes_a_class_as_frequent_as_wanted():
    answers = logits(0, rows=1000)
    shift = missing_class_shift(answers, withheld=3, share=0.3)
    answers[:, 3] += shift
    assert (answers.argmax(1) == 3).float().mean() == pytest.approx(0.3, abs=0.005)


def test_the_first_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other = digit_network(2, seed=1), digit_network(2, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, one.parameters(), other.parameters()))
    assert digit_network(2, seed=1, bottleneck=2)(torch.rand(3, 1, 8, 8)).shape == (3, 10)
    assert one[:4](torch.rand(3, 1, 8, 8)).shape == (3, 4, 4, 4)


def test_a_measurement_continues_and_trains_nothing_twice(tmp_path):
    path, trained = tmp_path / "rows.json", []

    def scores(bench):
        trained.append(bench.seed)
        return {"accuracy": 50 + bench.seed + 0.001}

    variants = [Variant("one", "group", scores, against="one")]
    measure(path, seeds=(0,), variants=variants)
    measure(path, seeds=(0, 1), variants=variants)
    assert trained == [0, 1]
    found = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert found == [{"variant": "one", "seed": seed, "accuracy": 50.0 + seed} for seed in (0, 1)]


@pytest.mark.slow
def test_a_taught_student_has_learned_from_the_teacher(monkeypatch):
    monkeypatch.setattr(digits, "fit", partial(digits.fit, steps=200))  # half as many as in the experiment
    bench = digits.Bench(0)
    bench._teachers[digits.TEACHER_WIDTH, 0.0] = teacher = digit_network(8, 0)
    digits.fit(teacher, bench.pool, bench.labels, digits.label_loss, rate=0.01, seed=0)
    teacher.requires_grad_(False)
    by = {variant.name: variant.measure for variant in digits.VARIANTS}
    withheld = by["no 3, T = 8"](bench)
    assert withheld["recognised_shifted"] > 30
    assert by["no 3, labels"](bench)["recognised"] == 0
    assert by["soft targets, T = 8"](bench)["accuracy"] > by["wrong classes shuffled"](bench)["accuracy"] + 2


def test_numbers_are_written_as_in_english():
    assert [in_words(number) for number in (0, 13, 20, 42, 100, 305, 999)] == [
        "zero", "thirteen", "twenty", "forty-two", "one hundred", "three hundred and five",
        "nine hundred and ninety-nine",
    ]  # fmt: skip
    every = [in_words(number) for number in range(1000)]
    assert len(set(every)) == 1000
    assert decode(encode(every)) == every


def test_a_character_depends_on_those_before_it_alone():
    model, sequences = CharacterModel(4, 12, seed=0), encode(["forty-two", "nine"])
    changed = sequences.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 20
    same = (model(sequences) == model(changed)).all(dim=2).all(dim=0)
    assert same[:6].all()
    assert not same[6:10].any()
    assert same[10:].all()  # four characters later it is forgotten
    assert written(sequences).sum(1).tolist() == [10, 5]


def test_samples_end_once_and_stay_ended():
    sequences = CharacterModel(4, 12, seed=0).sample(50, torch.Generator().manual_seed(0))
    ended = (sequences == 0).cumsum(1) > 0
    assert (sequences[ended] == 0).all()


def test_the_divergence_of_sequences_has_both_directions():
    one, other = (CharacterModel(4, 12, seed).requires_grad_(False) for seed in (0, 1))
    sequences = encode(["forty-two", "nine"])
    assert divergence(one, one, sequences) == pytest.approx(0, abs=1e-6)
    forward = divergence(one, other, sequences)
    assert torch.isclose(forward, divergence(other, one, sequences, reverse=True))
    assert forward > 0
