"""Training super-resolution networks: short runs of tiny networks on small made-up photos."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kdlib.data import SharpImages, Vimeo90K, write_photo
from kdlib.enhance.photos.rgb import to_array
from kdlib.evaluation.super_resolution import psnr_y
from kdlib.losses.super_resolution import SOFT_LOSSES, mimicry, softened_divergence
from kdlib.models import create_model
from kdlib.resampling import blur
from kdlib.training.super_resolution import (
    SuperResolutionObjective,
    distill_super_resolution,
    middle,
    open_images,
    scenes,
    split_images,
)
from tests.helpers import weights_of

QUICK = {"batch_size": 4, "patch": 32, "progress": False, "device": "cpu", "learning_rate": 0.003}
PLAIN = {"alpha": 1.0, "soft_loss": "l1", "teacher_decay": 0.0, "ssim": 0.0, "mimic": 0.0, "brightness": 0.0,
         "noise": 0.0, "upscale": 4}  # fmt: skip


def tiny(name="light-msafn", seed=0, **arguments):
    torch.manual_seed(seed)
    return create_model(name, **{"width": 4, "blocks": 1, "residual": True, **arguments})


def answering(seed=1, **arguments):
    """A teacher whose answer is not its photo."""
    model = tiny("msafn", seed, **arguments).eval()
    torch.nn.init.normal_(model.recon[2].weight, std=0.05)
    return model


@pytest.fixture(scope="module")
def sharp_dir(tmp_path_factory):
    """Ten photos of bars and discs with hard edges: what super-resolution is for."""
    folder = tmp_path_factory.mktemp("sharp")
    rng = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(72.0), torch.arange(88.0), indexing="ij")
    for k in range(10):
        a, b, c, period = torch.rand(4, generator=rng).tolist()
        bars = ((a * x + b * y) % (9 + 8 * period) < 6).float()
        disc = ((x - 80 * c).square() + (y - 60 * a).square() < 400).float()
        colours = torch.rand(3, 3, 1, 1, generator=rng)
        photo = colours[0] * bars + colours[1] * (1 - bars)
        write_photo(folder / f"{k}.png", to_array(torch.lerp(photo, colours[2].expand_as(photo), disc)))
    return folder


# Whole runs


@pytest.mark.slow
def test_without_a_teacher_a_network_gets_better_than_bicubic(sharp_dir, tmp_path):
    run = distill_super_resolution(
        tiny(width=8), None, sharp_dir, tmp_path, epochs=16, repeats=6, ssim=0.1, optimiser="adamw", **QUICK
    )
    _, held = split_images(sharp_dir, 32, 0.1, 0)
    wanted = torch.stack(held).float() / 255
    bicubic = psnr_y(blur(wanted)[0], wanted[0])
    assert run.best_score > bicubic + 1
    assert set(run.history[0]) >= {"truth", "truth ssim", "total", "validation_psnr", "validation_ssim"}
    assert "teacher" not in run.history[0]
    assert run.history[-1]["truth"] < run.history[0]["truth"]
    assert (tmp_path / "best.ckpt").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("soft_loss", ["l1", pytest.param("mse", marks=pytest.mark.exhaustive)])
def test_a_student_nears_its_teacher(sharp_dir, soft_loss):
    teacher = answering()
    before = weights_of(teacher)
    run = distill_super_resolution(
        tiny(), teacher, sharp_dir, alpha=0.0, soft_loss=soft_loss, brightness=0.0, epochs=6, repeats=4, **QUICK
    )
    assert run.history[0].keys() & {"truth", "teacher", "mimic"} == {"teacher"}
    assert run.history[-1]["teacher"] < 0.7 * run.history[0]["teacher"]
    assert torch.equal(weights_of(teacher), before)


@pytest.mark.slow
def test_the_terms_are_those_that_were_asked_for(sharp_dir):
    terms = {"truth", "truth ssim", "teacher", "mimic"}
    wanted = {
        (("alpha", 1.0),): {"truth"},
        (("alpha", 0.5), ("mimic", 0.1)): {"truth", "teacher", "mimic"},
        (("alpha", 1.0), ("mimic", 0.1), ("ssim", 0.1)): {"truth", "truth ssim", "mimic"},
    }
    for settings, names in wanted.items():
        history = distill_super_resolution(tiny(), answering(), sharp_dir, epochs=1, **dict(settings), **QUICK).history
        assert history[0].keys() & terms == names


def test_the_teachers_share_decays_with_the_epochs():
    objective = SuperResolutionObjective(answering(), **{**PLAIN, "alpha": 0.25, "teacher_decay": 0.5})
    shares = []
    for progress in (0.0, 0.5, 1.0):
        objective.advance(progress)
        shares.append(objective.share)
    assert shares == [0.75, 0.5625, 0.375]
    batch = tuple(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8) for _ in range(2))
    student = tiny()
    last = objective(student, batch, None, torch.Generator().manual_seed(0))
    objective.advance(0.0)
    first = objective(student, batch, None, torch.Generator().manual_seed(0))
    torch.testing.assert_close(last["truth"], first["truth"] * 0.625 / 0.25)
    torch.testing.assert_close(last["teacher"], first["teacher"] / 2)


@pytest.mark.slow
def test_an_interrupted_run_continues_to_the_same_bits(sharp_dir, tmp_path, interrupted_in):
    settings = {
        "data": sharp_dir, "epochs": 4, "repeats": 2, "noise": 0.02, "ema_decay": 0.9, "averaged": True,
        "teacher_decay": 1.0, **QUICK,
    }  # fmt: skip
    whole = distill_super_resolution(tiny(), answering(), output_dir=tmp_path / "whole", **settings)
    with interrupted_in(3):
        distill_super_resolution(tiny(), answering(), output_dir=tmp_path / "parts", **settings)
    resumed = distill_super_resolution(tiny(), answering(), output_dir=tmp_path / "parts", resume=True, **settings)
    assert torch.equal(weights_of(whole.model), weights_of(resumed.model))


def test_the_embedded_photos_are_there_without_a_folder():
    run = distill_super_resolution(tiny(), None, epochs=1, repeats=1, **QUICK)
    assert run.best_score > 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 1.5}, "alpha must be a number from 0 to 1, not 1.5"),
        ({"teacher_decay": -1}, "teacher_decay must be a number from 0 to 1"),
        ({"brightness": 2.0}, "brightness must be a number from 0 to 1, not 2.0"),
        ({"ssim": -0.1}, "ssim must be a number of at least 0"),
        ({"mimic": float("inf")}, "mimic must be a number of at least 0"),
        ({"soft_loss": "cosine"}, "choose from l1, mse, kl"),
        ({"patch": 30}, "patch is a multiple of 4"),
        (
            {"student": "student-565"},
            "student is not a super-resolution network: ZeroDCE; distil it with `distill`",
        ),
        (
            {"teacher": create_model("iat", width=4, global_width=8)},
            "teacher is not a super-resolution network: IAT",
        ),
        ({"teacher": create_model("msafn", width=4, blocks=1, upscale=2)}, "enlarged ×4, its teacher on ×2"),
        ({"data": "no/such/folder"}, "no/such/folder"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        distill_super_resolution(**{"student": tiny(), "epochs": 1, **QUICK, **arguments})


# Data


def test_images_kept_back_are_not_trained_on(sharp_dir):
    images, held = split_images(sharp_dir, 32, 0.3, seed=4)
    everything = SharpImages(sharp_dir)
    assert (len(images), len(held)) == (7, 3)
    middles = [middle(images[k], held[0].shape[-1]) for k in range(len(images))]
    assert not any(torch.equal(a, b) for a in middles for b in held)
    again = split_images(everything, 32, 0.3, seed=4)[1]
    assert all(torch.equal(a, b) for a, b in zip(held, again, strict=True))
    with pytest.raises(ValueError, match="10 images are too few"):
        split_images(sharp_dir, 32, 1.0, seed=0)


def test_several_folders_are_one_set_of_images(sharp_dir, tmp_path):
    more = tmp_path / "more"
    for k in range(3):
        write_photo(more / f"{k}.png", to_array(torch.rand(3, 40 + 8 * k, 48)))
    (more / "broken.png").write_bytes(b"no photo")
    with pytest.warns(UserWarning, match=r"broken\.png"):
        images = open_images([sharp_dir, str(more)], least_side=32)
    assert len(images) == 14
    assert torch.equal(images[3], SharpImages(sharp_dir)[3])
    assert torch.equal(images[10], images[13])  # 0.png: the broken one sorts last, and the first of its set is next
    assert images.unreadable == [str(more / "broken.png")]
    assert isinstance(open_images([sharp_dir], least_side=32), SharpImages)
    with pytest.raises(ValueError, match="no data set"):
        open_images([], least_side=32)
    with pytest.warns(UserWarning, match=r"broken\.png"):
        run = distill_super_resolution(tiny(), None, [sharp_dir, more], epochs=1, repeats=1, **QUICK)
    assert len(run.history) == 1


@pytest.fixture
def vimeo_dir(tmp_path):
    """Five clips in the list for training, of frames that tell their clip by their colour, and one for tests."""
    root, clips = tmp_path / "vimeo", [f"00001/{k:04d}" for k in range(1, 7)]
    for k, clip in enumerate(clips):
        for frame in range(1, 4):
            colour = torch.tensor([k, frame, 0.0])[:, None, None] * 20 / 255
            write_photo(root / "sequences" / clip / f"im{frame}.png", colour.expand(3, 32, 40))
    (root / "tri_trainlist.txt").write_text("\n".join(clips[:5]))
    (root / "tri_testlist.txt").write_text(clips[5])
    return root


def test_a_folder_of_vimeo_is_read_by_its_list_for_training(vimeo_dir, sharp_dir):
    images = open_images(str(vimeo_dir), least_side=32)
    assert isinstance(images, Vimeo90K)
    assert len(images) == 15  # no clip of the test
    joined = open_images([sharp_dir, vimeo_dir], least_side=32)
    assert (len(joined), len(scenes(joined))) == (25, 15)
    assert scenes(joined)[9:12] == [range(9, 10), range(10, 13), range(13, 16)]


def test_no_clip_is_both_trained_on_and_kept_back(vimeo_dir):
    images, held = split_images(vimeo_dir, 32, 0.4, seed=0)

    def clip(photo):
        return int(photo[0, 0, 0])

    assert (len(images), len(held)) == (9, 2)
    assert {clip(photo) for photo in held} & {clip(images[k]) for k in range(9)} == set()
    assert {int(photo[1, 0, 0]) for photo in held} == {40}  # the second of three frames
    with pytest.raises(ValueError, match="5 clips are too few"):
        split_images(vimeo_dir, 32, 1.0, seed=0)


@pytest.mark.slow
def test_loaders_beside_the_training_change_nothing(vimeo_dir, tmp_path):
    settings = {"alpha": 0.5, "repeats": 2, **QUICK, "batch_size": 7}
    alone = distill_super_resolution(tiny(), answering(), vimeo_dir, epochs=2, **settings).model
    helped = distill_super_resolution(tiny(), answering(), vimeo_dir, tmp_path, epochs=2, workers=2, **settings).model
    assert torch.equal(weights_of(helped), weights_of(alone))
    settings |= {"epochs": 2, "resume": True}
    finished = distill_super_resolution(tiny(), answering(), vimeo_dir, tmp_path, **settings).model
    assert torch.equal(weights_of(finished), weights_of(alone)), "their number is no other run"


def test_the_middle_of_a_photo():
    photo = torch.arange(3 * 6 * 8).view(3, 6, 8)
    assert torch.equal(middle(photo, 4), photo[:, 1:5, 2:6])


def test_photos_too_small_to_be_scored_are_refused_before_the_training(tmp_path):
    for k in range(3):
        write_photo(tmp_path / "small" / f"{k}.png", torch.rand(3, 17, 18))
    with pytest.raises(ValueError, match="square of 16×16 pixels here, and need one of 19×19 at least"):
        distill_super_resolution(tiny(), None, tmp_path / "small", tmp_path / "run", epochs=1, **{**QUICK, "patch": 16})
    assert not (tmp_path / "run").exists()


def test_a_photo_that_is_met_exactly_does_not_hide_how_the_epochs_differ(tmp_path):
    for k in range(3):  # white, which answers are cut off at
        write_photo(tmp_path / f"{k}.png", torch.ones(3, 40, 40))
    run = distill_super_resolution(tiny(), None, tmp_path, epochs=1, repeats=1, **{**QUICK, "learning_rate": 1e-9})
    assert run.best_score == 100


# Losses


def test_divergence_is_that_of_the_definition_and_does_not_see_a_brightness():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.rand(2, 2, 3, 5, 4, generator=generator)
    value = 0.0
    for b in range(2):
        for c in range(3):
            p, q = ((image[b, c].flatten().double() / 0.2).softmax(0) for image in (teacher, student))
            value += float((p * (p / q).log()).sum()) * 0.2**2 / 6
    assert softened_divergence(student, teacher, 0.2).item() == pytest.approx(value, rel=1e-4)
    assert softened_divergence(teacher + 0.3, teacher).item() == pytest.approx(0, abs=1e-7)
    assert softened_divergence(student, teacher) > 1e-4


def test_divergence_refuses_what_would_make_it_nan_or_spread():
    photo = torch.rand(1, 3, 4, 4)
    with pytest.raises(ValueError, match="temperature must be a number above 0, not 0"):
        softened_divergence(photo, photo, 0.0)
    with pytest.raises(ValueError, match=r"got \(1, 3, 4, 4\) and \(1, 3, 1, 1\)"):
        softened_divergence(photo, photo[..., :1, :1])


def test_mimicry_compares_where_features_are_strong_whatever_their_number():
    features = torch.rand(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    assert mimicry(3 * features, features.repeat(1, 2, 1, 1)).item() == pytest.approx(0, abs=1e-6)
    assert mimicry(features, features.flip(-1)) > 0.05
    assert mimicry(torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, 4)).item() == 0


@pytest.mark.parametrize("name", SOFT_LOSSES)
def test_every_soft_loss_pulls_towards_the_teacher(name):
    generator = torch.Generator().manual_seed(0)
    teacher = F.interpolate(torch.rand(1, 3, 4, 4, generator=generator), size=16)
    student = torch.full_like(teacher, 0.5).requires_grad_()
    SOFT_LOSSES[name](student, teacher).backward()
    assert (student.grad * (student.detach() - teacher)).sum() > 0
