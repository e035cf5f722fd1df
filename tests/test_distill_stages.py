"""Distillation stage by stage: short runs on small made-up pairs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kdlib.data import write_photo
from kdlib.enhance.photos.rgb import to_array
from kdlib.losses.levels import LevelLosses, ProgressiveWeights
from kdlib.models import IAT, IATStudent, Stages, create_model
from kdlib.training import loop as loop_module
from kdlib.training.distill_stages import (
    StagesObjective,
    ask_in_stages,
    distill_stages,
    load_fixed_pairs,
    random_window,
    recompose,
)
from tests.helpers import weights_of

QUICK = {"batch_size": 4, "progress": False, "device": "cpu", "size": 32, "side": 24}
TEACHER = {"multiply": 1.0, "add": 1.0, "local": 1.0, "colour": 1.0, "gamma": 1.0}
STAGES = tuple(TEACHER)


def small_student(**arguments):
    torch.manual_seed(0)
    return IATStudent(width=4, global_width=4, blocks=1, **arguments)


def small_teacher(**arguments):
    """Random weights, and a gamma, matrix and maps that differ from photo to photo and from the identity."""
    torch.manual_seed(1)
    model = IAT(width=4, global_width=8, **arguments)
    with torch.no_grad():
        model.local_net.mul_end[0].bias.fill_(2.5)
        model.local_net.mul_end[0].weight.normal_(std=0.1)
        model.local_net.add_end[0].weight.normal_(std=0.1)
        model.global_net.generator.attn.v.weight.normal_(std=0.2)
        model.global_net.gamma_base.fill_(0.7)
        model.global_net.color_base.copy_(0.8 * torch.eye(3) + 0.1)
    return model.eval()


@pytest.fixture(scope="module")
def pairs_dir(tmp_path_factory):
    """Twelve scenes of smooth colours, their dark versions a quarter as bright and a little noisy."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = torch.Generator().manual_seed(0)
    for k in range(12):
        coarse = torch.rand(1, 3, 5, 5, generator=rng)
        truth = F.interpolate(coarse, size=(32, 32), mode="bicubic", align_corners=True)[0].clamp(0.05, 0.95)
        dark = truth / 4 + 0.004 * torch.randn(truth.shape, generator=rng)
        write_photo(folder / "high" / f"{k}.png", to_array(truth))
        write_photo(folder / "low" / f"{k}.png", to_array(dark))
    return folder


def scores(history):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


# Whole runs


@pytest.mark.slow
def test_the_loss_falls_and_the_student_nears_truth_and_teacher(pairs_dir, tmp_path):
    teacher = small_teacher()
    before = weights_of(teacher)
    run = distill_stages(
        small_student(), teacher, pairs_dir, tmp_path, epochs=8, learning_rate=0.01, ema_decay=0.5,
        schedule=ProgressiveWeights({"truth": 1, **TEACHER}, {"truth": 1, **TEACHER}), **QUICK,
    )  # fmt: skip
    first, last = run.history[0], run.history[-1]
    assert last["total"] < 0.6 * first["total"]
    assert run.best_score > first["validation_psnr"] + 2
    assert last["fidelity"] > first["fidelity"] + 2
    assert set(first) >= {"truth", *STAGES, "total", "validation_psnr", "fidelity"}
    assert torch.equal(weights_of(teacher), before)
    assert not run.model.training
    assert (tmp_path / "history.csv").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("level", STAGES)
def test_every_stage_alone_can_be_taught(level, pairs_dir):
    alone = ProgressiveWeights({level: 1.0}, {level: 1.0})
    settings = {"schedule": alone, "epochs": 10, "learning_rate": 0.03, **QUICK}
    history = distill_stages(small_student(), small_teacher(), pairs_dir, **settings).history
    assert history[-1][level] < 0.9 * history[0][level]
    assert history[0].keys() & {"truth", "image", *STAGES} == {level}


def test_the_schedule_advances_with_the_epochs(pairs_dir):
    schedule = ProgressiveWeights({"local": 1.0}, {"truth": 1.0}, warm_up=0.25, late_from=0.75)
    history = distill_stages(small_student(), small_teacher(), pairs_dir, schedule=schedule, epochs=4, **QUICK).history
    found = [row.keys() & {"truth", "local"} for row in history]
    # 0 of 4: warm-up. 1 of 4: the ramp begins, where it still is early. 2 of 4: both. 3 of 4: late.
    assert found == [{"local"}, {"local"}, {"local", "truth"}, {"truth"}]


@pytest.mark.slow
@pytest.mark.parametrize("student", [small_student, small_teacher])
def test_an_interrupted_run_continues_to_the_same_bits(student, pairs_dir, tmp_path, interrupted_in):
    settings = {"data_dir": pairs_dir, "epochs": 4, "noise_gain": 2.0, **QUICK}
    whole = distill_stages(student(), small_teacher(), output_dir=tmp_path / "whole", **settings)
    with interrupted_in(3):
        distill_stages(student(), small_teacher(), output_dir=tmp_path / "parts", **settings)
    resumed = distill_stages(student(), small_teacher(), output_dir=tmp_path / "parts", resume=True, **settings)
    assert torch.equal(weights_of(whole.model), weights_of(resumed.model))
    assert scores(whole.history) == scores(resumed.history)


@pytest.fixture(scope="module")
def taught(pairs_dir, tmp_path_factory):
    """The settings of a finished run, its folder among them."""
    folder = tmp_path_factory.mktemp("taught")
    settings = {"teacher": small_teacher(), "data_dir": pairs_dir, "output_dir": folder, "epochs": 1, **QUICK}
    distill_stages(small_student(), **settings)
    return settings


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    [
        {"distance": "mse"},
        {"side": 16},
        {"noise_gain": 1.5},
        {"whole": 0.9},
        {"asked_at": (48, 32)},
        {"schedule": ProgressiveWeights({"truth": 1}, {"truth": 1})},
        {"teacher": None},
        {"validation_fraction": 0.5},
    ],
)
def test_a_run_with_other_settings_is_not_continued(other, taught):
    before = (taught["output_dir"] / "last.ckpt").read_bytes()
    with pytest.raises(ValueError, match=f"other settings.*{next(iter(other))}"):
        distill_stages(small_student(), **{**taught, **other}, resume=True)
    assert (taught["output_dir"] / "last.ckpt").read_bytes() == before


@pytest.mark.slow
def test_without_a_teacher_the_truth_alone_teaches(pairs_dir):
    settings = {"teacher": None, "epochs": 6, "learning_rate": 0.01, **QUICK}
    for student in (small_student(), IAT(width=4, global_width=8)):
        history = distill_stages(student, data_dir=pairs_dir, **settings).history
        assert history[-1]["total"] < history[0]["total"]
        assert history[0].keys() & {"truth", "truth ssim", "image", "fidelity", *STAGES} == {"truth", "truth ssim"}
    with pytest.raises(ValueError, match="without a teacher there is no 'image'"):
        distill_stages(small_student(), schedule=ProgressiveWeights({"image": 1}, {"truth": 1}), **settings)


def test_self_made_pairs_of_the_embedded_photos(tmp_path):
    dark, truth = load_fixed_pairs("self-made", None, 32, 24, seed=3)
    assert dark.shape == truth.shape
    assert dark.dtype == torch.uint8
    assert dark.float().mean() < 0.5 * truth.float().mean()
    again = load_fixed_pairs("self-made", None, 32, 24, seed=3)
    assert torch.equal(dark, again[0])
    assert torch.equal(truth, again[1])
    run = distill_stages(small_student(), small_teacher(), pairs="self-made", limit=24, epochs=2, **QUICK)
    assert len(run.history) == 2


def test_of_further_photos_the_teachers_answer_is_the_truth(pairs_dir, tmp_path, monkeypatch):
    for k in range(5):
        write_photo(tmp_path / f"{k}.png", to_array(torch.full((3, 40, 40), 0.5 + 0.1 * k)))
    teacher, seen = small_teacher(), []
    real = loop_module.DataLoader

    def caught(data, *arguments, **more):
        seen.append(data.tensors)
        return real(data, *arguments, **more)

    monkeypatch.setattr(loop_module, "DataLoader", caught)
    settings = {"epochs": 1, "further_dir": tmp_path, "further": 4, **QUICK}
    run = distill_stages(small_student(), teacher, pairs_dir, **settings)
    plain = distill_stages(small_student(), teacher, pairs_dir, **{**settings, "further_dir": None})
    with_them, without = seen
    assert len(with_them[0]) == len(without[0]) + 4
    # The pairs are the same as without; those kept back too.
    assert all(torch.equal(a[:-4], b) for a, b in zip(with_them, without, strict=True))
    assert run.history[0].keys() == plain.history[0].keys()
    with torch.no_grad():
        made = teacher(with_them[0][-4:].float() / 255)[0]
    torch.testing.assert_close(with_them[1][-4:].float() / 255, made, atol=0.004, rtol=0)
    with pytest.raises(ValueError, match="without a teacher leave them out"):
        distill_stages(small_student(), None, pairs_dir, **settings)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_network_without_stages_is_refused(role):
    networks = {"student": small_student(), "teacher": small_teacher(), role: create_model("student-565")}
    with pytest.raises(ValueError, match=f"the {role} has no stages: ZeroDCE; distil it with `distill`"):
        distill_stages(**networks, pairs="self-made", limit=24, epochs=1, **QUICK)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"side": 8}, r"side .* must be a number from 16 to 32, not 8"),
        ({"side": 40}, r"side .* must be a number from 16 to 32, not 40"),
        ({"noise_gain": 0.5}, "noise_gain must be a number from 1 to 10"),
        ({"whole": 1.5}, "whole must be a number from 0 to 1, not 1.5"),
        ({"asked_at": (600, 8)}, "asked_at must be a number of at least 16, not 8"),
        ({"distance": "l3"}, "choose from l1, smooth-l1, mse"),
        ({"pairs": "fake"}, "fake"),
        ({"pairs": "real"}, "data_dir"),
        ({"student": small_student(centred=True)}, "centred=True and its teacher centred=False: their multiply"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    settings = {"student": small_student(), "teacher": small_teacher(), "pairs": "self-made", "limit": 24, **QUICK}
    with pytest.raises(ValueError, match=message):
        distill_stages(**{**settings, **arguments}, epochs=1)


def test_networks_that_see_photos_differently_can_share_the_other_levels(pairs_dir):
    schedule = ProgressiveWeights({"local": 1.0, "truth": 1.0}, {"truth": 1.0})
    student = small_student(centred=True)
    assert distill_stages(student, small_teacher(), pairs_dir, schedule=schedule, epochs=1, **QUICK).history


# Windows


def markers(batch=2, side=32):
    """Four times the same three planes: row, column, photo, each in [0, 1]."""
    rows = torch.linspace(0, 1, side).view(1, 1, -1, 1).expand(batch, 1, side, side)
    numbers = torch.arange(batch).view(-1, 1, 1, 1).expand(batch, 1, side, side) / batch
    return torch.cat([rows, rows.transpose(2, 3), numbers], dim=1).repeat(1, 4, 1, 1)


def test_everything_that_belongs_to_a_photo_gets_the_same_window_flip_and_turn():
    generator = torch.Generator().manual_seed(0)
    corners = set()
    for _ in range(60):
        groups = random_window(markers(), 16, 1 / 3, generator).chunk(4, dim=1)
        assert groups[0].shape == (2, 3, 16, 16)
        assert all(torch.equal(groups[0], group) for group in groups[1:])
        window = groups[0][0]
        steps = (window[:, -1, 0] - window[:, 0, 0], window[:, 0, -1] - window[:, 0, 0])
        corners.add(
            tuple(round(float(step[plane].sign() * (step[plane].abs() > 0.1))) for step in steps for plane in (0, 1))
        )
    assert len(corners) == 8  # four turns, each flipped or not


@pytest.mark.parametrize("whole", [0, 1 / 3, 0.8])
def test_windows_differ_in_place_and_size_and_a_share_shows_the_whole_photo(whole):
    generator = torch.Generator().manual_seed(1)
    spans, middles = [], []
    for _ in range(300):
        row = random_window(markers(1), 16, whole, generator)[0, 0]
        spans.append(float(row.max() - row.min()))
        middles.append(float(row.mean()))
    spans = torch.tensor(spans)
    assert spans.min() < 0.55  # hardly more than half of the photo
    assert (spans > 0.93).float().mean() == pytest.approx(whole + (1 - whole) * 2 / 17, abs=0.08)
    assert torch.tensor(middles).std() > 0.05 or whole > 0.5


def test_a_window_of_the_photos_own_side_is_the_photo_turned():
    window = random_window(markers(1, 16), 16, 0.5, torch.Generator().manual_seed(0))
    assert window[0, 0].sort().values.unique().equal(markers(1, 16)[0, 0].unique())


def see_batch(noise_gain, dark, truth, answers, noise, seed=0, side=32, **arguments):
    """One call of the objective: what the student saw, what it was taught, and the truth."""
    caught = {}

    class Catch(LevelLosses):
        def forward(self, weights, student, teacher, truth):
            caught.update(seen=student[0], taught=teacher[0], stages=teacher[1], truth=truth)
            return {}

    schedule = ProgressiveWeights({"truth": 1}, {"truth": 1})
    objective = StagesObjective(schedule, Catch(), side, whole=0.5, noise_gain=noise_gain, **arguments)
    generator = torch.Generator().manual_seed(seed)
    objective(lambda photo: (photo, None), (dark, truth, *answers, noise), None, generator)
    return caught


@pytest.mark.parametrize("centred", [False, True])
def test_the_teachers_answers_stay_those_of_the_photo(centred):
    teacher = small_teacher(centred=centred)
    dark = (60 * torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))).byte()
    answers = ask_in_stages(teacher, dark, torch.device("cpu"))
    with torch.no_grad():
        enhanced, stages = teacher(dark.float() / 255)
    again = recompose(centred, dark.float() / 255, *(answer.float() for answer in answers))
    torch.testing.assert_close(again[0], enhanced, atol=2e-3, rtol=0)
    torch.testing.assert_close(again[1].local, stages.local, atol=2e-3, rtol=2e-3)
    # In training, after flip and turn: the same values in another order, and truth (here 255 − dark) in the same.
    for seed in range(4):
        caught = see_batch(1.0, dark, 255 - dark, answers, torch.zeros(3), seed, centred=centred)
        torch.testing.assert_close(caught["seen"] + caught["truth"], torch.ones(3, 3, 32, 32))
        torch.testing.assert_close(
            caught["taught"].flatten().sort().values, enhanced.flatten().sort().values, atol=2e-3, rtol=0
        )
        direct = recompose(centred, caught["seen"], *caught["stages"][:2], *answers[2:])[0]
        torch.testing.assert_close(caught["taught"], direct)


def test_a_teacher_that_is_asked_at_another_size_answers_as_it_does_there():
    teacher = small_teacher()
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 4, 4, generator=generator)
    dark = F.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(0, 1).mul(80).byte()
    asked = ask_in_stages(teacher, dark, torch.device("cpu"), asked_at=(96, 64))
    assert [answer.shape[2:] for answer in asked[:2]] == [(32, 32)] * 2
    with torch.no_grad():
        large = F.interpolate(dark.float() / 255, size=(64, 96), mode="bicubic", antialias=True).clamp(0, 1)
        enhanced, stages = teacher(large)
    torch.testing.assert_close(asked[2], stages.colour)
    torch.testing.assert_close(asked[3], stages.gamma)
    recomposed = recompose(False, dark.float() / 255, *(answer.float() for answer in asked))[0]
    small = F.interpolate(enhanced, size=(32, 32), mode="bicubic", antialias=True)
    assert (recomposed - small).abs().mean() < 0.01
    as_they_are = ask_in_stages(teacher, dark, torch.device("cpu"))
    assert all(
        torch.equal(a, b)
        for a, b in zip(as_they_are, ask_in_stages(teacher, dark, torch.device("cpu"), (32, 32)), strict=True)
    )
    assert not torch.equal(as_they_are[0], asked[0])


def flat_batch(count, side=32):
    grey = torch.full((count, 3, side, side), 128, dtype=torch.uint8)
    ones, zeros = torch.ones(count, 3, side, side).half(), torch.zeros(count, 3, side, side).half()
    answers = (ones, zeros, torch.eye(3).expand(count, 3, 3), torch.ones(count, 1))
    return grey, answers


def test_noise_is_added_to_the_input_alone_and_as_much_as_stated():
    grey, answers = flat_batch(200)
    gain, level = 3.0, 0.02
    caught = see_batch(gain, grey, grey, answers, torch.full((200,), level))
    for untouched in ("taught", "truth"):
        torch.testing.assert_close(caught[untouched], torch.full((200, 3, 32, 32), 128 / 255))
    variance = (caught["seen"] - 128 / 255).flatten(1).var(dim=1)
    assert variance.sqrt().max() < level * (gain**2 - 1) ** 0.5 * 1.05
    assert variance.sqrt().min() < 0.5 * level
    # A gain drawn evenly from 1 to g has a mean square of (g² + g + 1) / 3; one of these is in the photo already.
    assert variance.mean().item() == pytest.approx(level**2 * ((gain**2 + gain + 1) / 3 - 1), rel=0.1)
    assert (caught["seen"] - 128 / 255).mean().abs() < 1e-3


def test_noise_follows_each_photos_own_level_and_a_gain_of_one_adds_none():
    grey, answers = flat_batch(6)
    levels = torch.tensor([0.0, 0.002, 0.004, 0.006, 0.008, 0.01])
    noisy = see_batch(10.0, grey, grey, answers, levels)["seen"]
    assert torch.equal(noisy[0], torch.full_like(noisy[0], 128 / 255))
    deviations = noisy.flatten(1).std(dim=1)
    assert (deviations[1:] > 0).all()
    assert (deviations <= 10 * levels * 1.1).all()
    assert see_batch(1.0, grey, grey, answers, levels)["seen"].unique().numel() == 1


def test_targets_stay_in_32_bits_under_mixed_precision():
    teacher = small_teacher()
    dark = (60 * torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))).byte()
    answers = ask_in_stages(teacher, dark, torch.device("cpu"))
    plain = see_batch(1.0, dark, dark, answers, torch.zeros(2))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = see_batch(1.0, dark, dark, answers, torch.zeros(2))
    assert torch.equal(plain["taught"], mixed["taught"])
    assert isinstance(mixed["stages"], Stages)
