import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from kdlib.data import Darkening, darken, sample_crops
from kdlib.data.pairs import find_scenes, load_pairs, split_scenes, well_exposed
from kdlib.models import GlanceNet, create_model
from kdlib.training import pairs as training
from kdlib.training import train_pairs
from kdlib.training.pairs import (
    KEPT_BRIGHT,
    CurveObjective,
    PairSource,
    SmoothingObjective,
    fixed_curve,
    load_training_set,
    log_error,
)
from kdlib.training.task import Task

QUICK = {"batch_size": 8, "progress": False, "device": "cpu"}
SMALL = {"size": 16, "limit": 48, "epochs": 2, "smoothing_epochs": 1, **QUICK}


def scene(seed, side=32):
    """A smooth random photo, 1×3×S×S in [0, 1]; each seed gives a different scene."""
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=True)


def several_exposures(scenes, side=32):
    """Each scene at four consecutive exposures: 4·scenes × 3×S×S, uint8."""
    rng = torch.Generator().manual_seed(0)
    photos = []
    for seed in range(scenes):
        photos += [scene(seed, side)] + [darken(scene(seed, side), Darkening((v, v)), generator=rng) for v in (1, 2, 3)]
    return torch.cat(photos).mul(255).round().byte()


def save(photo, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo[0].permute(1, 2, 0).mul(255).round().byte().numpy()).save(path)


@pytest.fixture
def pair_folder(tmp_path):
    """A folder of six real pairs and one pair whose truth shows another scene."""
    rng = torch.Generator().manual_seed(0)
    for k in range(7):
        save(darken(scene(k, 40), Darkening((2, 2)), generator=rng), tmp_path / "low" / f"{k}.png")
        save(scene(100 if k == 3 else k, 40), tmp_path / "high" / f"{k}.png")
    return tmp_path


# Scenes


def test_a_scene_keeps_its_number_at_every_exposure():
    numbers = find_scenes(several_exposures(6)).view(6, 4)
    assert (numbers == numbers[:, :1]).all()
    assert len(numbers[:, 0].unique()) == 6


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.99])
def test_no_scene_is_split(fraction, seed):
    photos = several_exposures(6)
    train, held = split_scenes(photos, fraction, seed)
    assert sorted([*train.tolist(), *held.tolist()]) == list(range(24))
    assert not {k // 4 for k in train.tolist()} & {k // 4 for k in held.tolist()}
    assert len(train) >= 4
    assert len(held) >= 4
    if fraction == 0.2:
        assert len(held) == 8, "5 photos are asked for, one scene has 4: two scenes"


def test_the_split_depends_on_the_seed_alone():
    photos = several_exposures(6)
    first, again = split_scenes(photos, 0.2, 3), split_scenes(photos, 0.2, 3)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({tuple(sorted(split_scenes(photos, 0.2, seed)[1].tolist())) for seed in range(6)}) > 1


def test_one_scene_cannot_be_split():
    with pytest.raises(ValueError, match=r"at least 2 scenes.*all 4 photos show the same scene"):
        split_scenes(several_exposures(1), 0.2, 0)


# Targets


def test_well_exposed_is_neither_dark_nor_bright_nor_blown_out():
    def grey(level):
        return torch.full((3, 20, 20), level, dtype=torch.uint8)

    blown, nearly, red = grey(100), grey(100), grey(100)
    blown[:, :2] = 255  # a tenth of the pixels
    nearly[:, 0, :19] = 255  # less than a twentieth
    red[0, :2] = 255  # one channel alone is not blown out
    photos = torch.stack([grey(50), grey(70), grey(160), grey(175), blown, nearly, red])
    assert well_exposed(photos).tolist() == [False, True, True, False, False, True, True]


def test_a_folder_without_a_well_exposed_photo_is_refused(tmp_path):
    for k in range(3):
        save(scene(k) * 0.05, tmp_path / f"{k}.png")
    with pytest.raises(ValueError, match=r"at least 2 well-exposed photos as targets .*; 0 of 3 are"):
        train_pairs("glance-650", tmp_path, size=16, epochs=1, **QUICK)


# Real pairs


def test_aligned_pairs_are_loaded_and_a_warning_names_the_others(pair_folder):
    with pytest.warns(UserWarning, match="skipped the pair 3.*misaligned"):
        dark, truth = load_pairs(pair_folder, size=24)
    assert dark.shape == truth.shape == (6, 3, 24, 24)
    assert dark.dtype == truth.dtype == torch.uint8
    assert (dark.float().mean(dim=(1, 2, 3)) < truth.float().mean(dim=(1, 2, 3))).all()


def test_a_pair_with_an_unreadable_photo_is_skipped_with_a_warning(pair_folder):
    (pair_folder / "high" / "5.png").write_bytes(b"no photo")
    with pytest.warns(UserWarning, match="skipped the pair 5"), pytest.warns(UserWarning, match="skipped the pair 3"):
        dark, _ = load_pairs(pair_folder, size=24)
    assert len(dark) == 5


def test_pairs_that_all_fail_are_an_error(tmp_path):
    save(scene(0) * 0.2, tmp_path / "low" / "a.png")
    save(scene(1), tmp_path / "high" / "a.png")
    with pytest.warns(UserWarning, match="misaligned"), pytest.raises(ValueError, match="none of the 1 pairs"):
        load_pairs(tmp_path, size=24)


def test_a_limit_takes_pairs_at_even_intervals(pair_folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pairs 0, 2 and 4 are loaded and the misaligned one is not
        dark, _ = load_pairs(pair_folder, size=24, limit=3)
    with pytest.warns(UserWarning, match="misaligned"):
        everything, _ = load_pairs(pair_folder, size=24)
    assert len(dark) == 3
    assert torch.equal(dark[1], everything[2])


def test_real_pairs_without_a_folder_are_refused():
    with pytest.raises(ValueError, match=r"real pairs come from a folder with low/ and high/"):
        train_pairs("glance-650", pairs="real", epochs=1, **QUICK)


def test_error_on_an_unknown_source_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'imagined'.*self-made, real"):
        train_pairs("glance-650", pairs="imagined", epochs=1, **QUICK)


@pytest.mark.slow
def test_our485_loses_its_eight_misaligned_pairs(shared):
    folder = shared / "data" / "lol_v1" / "our485"
    if not folder.is_dir():
        pytest.skip("LOL-v1's training set is not present")
    with pytest.warns(UserWarning, match="misaligned") as caught:
        dark, _ = load_pairs(folder, size=32)
    assert len(dark) == 477
    assert sum("misaligned" in str(warning.message) for warning in caught) == 8


# What training sees


def test_synthetic_pairs_keep_the_truth_and_darken_all_but_a_fraction():
    bright = round(40 * KEPT_BRIGHT)
    truth = sample_crops(40, 16, 0, darkened=False)
    dark, wanted = PairSource("self-made")((truth,), torch.Generator().manual_seed(0))
    straight, mirrored = truth.float() / 255, truth.flip(-1).float() / 255
    assert torch.equal(wanted, straight) or torch.equal(wanted, mirrored)
    assert torch.equal(dark[:bright], wanted[:bright])
    assert all(not torch.equal(*pair) for pair in zip(dark[bright:], wanted[bright:], strict=True))
    assert dark[bright:].mean() < 0.7 * wanted[bright:].mean()


def test_both_photos_of_a_pair_are_mirrored_together():
    truth = sample_crops(8, 16, 0, darkened=False)
    for seed in range(6):
        dark, wanted = PairSource("real")((truth, truth), torch.Generator().manual_seed(seed))
        assert torch.equal(dark, wanted)


def test_the_loss_is_proportional_to_psnr():
    rng = torch.Generator().manual_seed(0)
    truth = torch.rand(5, 3, 8, 8, generator=rng)
    enhanced = truth + torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]).view(-1, 1, 1, 1)
    squared = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]) ** 2
    assert float(log_error(enhanced, truth)) == pytest.approx(float(0.1 * torch.log(squared + 1e-3).mean()), rel=1e-5)
    assert log_error(truth, truth) < log_error(truth + 0.01, truth)


# Two parts


def numbers(model, but=()):
    return {name: p.detach().clone() for name, p in model.named_parameters() if name not in but}


def test_a_fixed_curve_stays_and_the_smoothing_changes():
    torch.manual_seed(0)
    model = create_model("glance-650")
    before = numbers(model)
    truth = sample_crops(8, 48, 0, darkened=False)
    objective, rng = SmoothingObjective(PairSource("self-made")), torch.Generator().manual_seed(0)
    with fixed_curve(model):
        optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
        for _ in range(3):
            optimiser.zero_grad()
            sum(objective(model, (truth,), None, rng).values()).backward()
            optimiser.step()
    after = numbers(model)
    assert not torch.equal(after["smoothing.log_tolerance"], before["smoothing.log_tolerance"])
    assert not torch.equal(after["globals.weight"][6], before["globals.weight"][6])
    for name in before:
        rows = slice(0, 6) if name.startswith("globals") else slice(None)
        if name != "smoothing.log_tolerance":
            assert torch.equal(after[name][rows], before[name][rows]), f"{name} moved"


def test_afterwards_the_curve_learns_again():
    model = create_model("glance-650")
    with fixed_curve(model):
        pass
    model(torch.rand(1, 3, 24, 24))[0].sum().backward()
    assert all(p.requires_grad for p in model.parameters())
    assert model.globals.bias.grad[:6].abs().max() > 0


def test_both_parts_hold_out_the_same_photos(monkeypatch, tmp_path):
    """Photos held out from the curve are held out from the smoothing, although the latter trains on larger photos."""
    seen = []
    real = Task.train

    def recording(task, *rest):
        seen.append(task.data.tensors[-1])
        return real(task, *rest)

    monkeypatch.setattr(Task, "train", recording)
    generator = torch.Generator().manual_seed(0)
    for i in range(30):  # single clipped pixels vanish at half the size, where the photo counts as well exposed
        photo = 0.2 + 0.4 * torch.rand(64, 64, 3, generator=generator)
        if i % 2:
            photo[torch.rand(64, 64, generator=generator) < 0.1] = 1.0
        save(photo.permute(2, 0, 1)[None], tmp_path / f"{i:02}.png")
    train_pairs("glance-650", tmp_path, size=32, epochs=1, smoothing_epochs=1, device="cpu", progress=False)
    small, large = seen
    assert len(small) == len(large)
    assert large.shape[-1] == 2 * small.shape[-1]
    shrunk = torch.nn.functional.avg_pool2d(large.float(), 2)
    assert (shrunk - small.float()).abs().max() < 3
    judged_apart = [len(load_training_set("self-made", tmp_path, size, None, 0)[0]) for size in (32, 64)]
    assert judged_apart[0] != judged_apart[1]  # otherwise this test could not fail


def test_the_first_part_leaves_the_smoothing_alone():
    model = create_model("glance-650")
    truth = sample_crops(8, 32, 0, darkened=False)
    objective = CurveObjective(PairSource("self-made"), 0.1)
    sum(objective(model, (truth,), None, torch.Generator().manual_seed(0)).values()).backward()
    assert model.smoothing.log_tolerance.grad is None
    assert model.globals.weight.grad[:6].abs().max() > 0


@pytest.mark.slow
def test_the_second_part_keeps_the_curve_of_the_first():
    torch.manual_seed(0)
    alone = train_pairs("glance-650", **{**SMALL, "smoothing_epochs": 0})
    both = train_pairs("glance-650", **SMALL)
    photo = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(both.model.curve_map(photo)[:, :6], alone.model.curve_map(photo)[:, :6])
    tolerances = [run.model.smoothing.log_tolerance for run in (alone, both)]
    assert not torch.equal(*tolerances)
    assert all(p.requires_grad for p in both.model.parameters()), "the model can be trained further"
    assert both.seconds > sum(row["seconds"] for row in both.history), "the first part's time counts too"


# Training


def validation(history):
    return [row["validation_psnr"] for row in history]


def test_a_short_training_improves_the_validation():
    run = train_pairs("glance-650", **{**SMALL, "limit": 96, "epochs": 6, "smoothing_epochs": 0, "learning_rate": 0.02})
    scores = validation(run.history)
    assert max(scores) > scores[0] + 1
    assert run.best_score == max(scores)
    assert isinstance(run.model, GlanceNet)


@pytest.mark.filterwarnings("ignore:skipped the pair 3")
@pytest.mark.parametrize("pairs", ["self-made", "real"])
def test_both_kinds_of_pairs_from_a_folder(pair_folder, tmp_path_factory, pairs):
    folder = pair_folder if pairs == "real" else pair_folder / "high"
    output = tmp_path_factory.mktemp("run")
    run = train_pairs("glance-650", folder, output, pairs=pairs, size=24, epochs=1, smoothing_epochs=1, **QUICK)
    assert np.isfinite(run.best_score)
    for part in (output, output / "smoothing"):
        assert {path.name for path in part.iterdir()} >= {"history.csv", "last.ckpt", "best.ckpt"}


def interrupt(monkeypatch, after, part):
    """Stop the run after the given number of batches of a part."""
    objective = {"curve": CurveObjective, "smoothing": SmoothingObjective}[part]
    original, calls = objective.__call__, []

    def counted(self, *args):
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(objective, "__call__", counted)


TWICE = {**SMALL, "smoothing_epochs": 2}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A run with two epochs of each part, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return train_pairs("glance-650", None, folder, **TWICE), folder


@pytest.mark.slow
@pytest.mark.parametrize(("part", "after"), [("curve", 8), ("smoothing", 8)])
def test_a_resumed_run_ends_like_one_that_was_never_interrupted(uninterrupted, tmp_path, monkeypatch, part, after):
    whole, finished = uninterrupted
    with monkeypatch.context() as patch:
        interrupt(patch, after, part)
        with pytest.raises(KeyboardInterrupt):
            train_pairs("glance-650", None, tmp_path / "cut", **TWICE)
    assert (tmp_path / "cut" / ("smoothing" if part == "smoothing" else "") / "last.ckpt").is_file()
    resumed = train_pairs("glance-650", None, tmp_path / "cut", resume=True, **TWICE)
    assert validation(resumed.history) == validation(whole.history)
    for folder in ("", "smoothing"):
        paths = [run / folder / "history.csv" for run in (finished, tmp_path / "cut")]
        rows = [[row.rsplit(",", 1)[0] for row in path.read_text().splitlines()] for path in paths]  # but for seconds
        assert rows[0] == rows[1]
    for name, parameter in whole.model.named_parameters():
        assert torch.equal(parameter, resumed.model.get_parameter(name)), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:skipped the pair 3")
def test_a_run_is_not_resumed_with_other_pairs(uninterrupted, pair_folder):
    _, folder = uninterrupted
    with pytest.raises(ValueError, match="other settings"):
        train_pairs("glance-650", pair_folder, folder, **{**TWICE, "pairs": "real", "resume": True})
    with pytest.raises(ValueError, match=r"other settings \(validation_fraction 0.1 → 0.5\)"):
        train_pairs("glance-650", None, folder, **{**TWICE, "validation_fraction": 0.5, "resume": True})


def test_a_zero_dce_network_learns_from_pairs(tmp_path):
    run = train_pairs("student-565", None, tmp_path, network_side=16, **{**SMALL, "epochs": 3})
    assert run.model.network_side == 16
    assert {"error", "smoothness", "validation_psnr"} <= set(run.history[0])
    assert len(run.history) == 3
    assert max(validation(run.history)) > 0
    assert not (tmp_path / "smoothing").exists(), "it has no smoothing to train"


def test_the_validation_is_never_trained_on(monkeypatch):
    seen = []
    original = Task.train

    def spy(task, *rest):
        seen.append({photo.numpy().tobytes() for photo in task.data.tensors[-1]})
        return original(task, *rest)

    splits = []

    def remembered(photos, fraction, seed):
        train, held = split_scenes(photos, fraction, seed)
        splits.append({photo.numpy().tobytes() for photo in photos[held]})
        return train, held

    monkeypatch.setattr(Task, "train", spy)
    monkeypatch.setattr(training, "split_scenes", remembered)
    train_pairs("glance-650", **SMALL)
    (held,) = splits  # one for both parts
    assert held
    assert not seen[0] & held
