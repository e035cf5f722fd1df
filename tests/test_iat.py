"""IAT and its convolutional student; published weights and their scores are tested if the reference data is present."""

import pytest
import torch

from kdlib.enhance.photos.rgb import list_photos, read_photo, to_tensor
from kdlib.evaluation import daylight_photos
from kdlib.evaluation.metrics import psnr, ssim
from kdlib.evaluation.report import through_enhancer
from kdlib.models import IAT, IATStudent, count_parameters, create_model, infer_architecture
from kdlib.stages import BLACK, WHITE_FLOOR, apply_colour_and_gamma, guard_colour
from kdlib.weights import load_model, save_model
from tests.helpers import random_photo

NAMES = ["iat", "iat-student"]
COUNTS = {"iat": 91_154, "iat-student": 43_504}
FILES = {"iat_lol_v1_official": "iat", "iat_lol_v2_official": "iat", "iat_student_peer": "iat-student"}
SIZES = [(1, 1), (1, 7), (2, 3), (33, 50), (64, 65)]
DB, SSIM = 0.006, 0.0006


def vivid(name, seed=0, **overrides):
    """A model with weights and batch statistics far from their initial values, so that every part has an effect."""
    torch.manual_seed(seed)
    model = create_model(name, **overrides)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith(("gamma_1", "gamma_2")):
                tensor.fill_(0.5)
            elif "generator.attn.v" in key or key.startswith(("color_head.weight", "gamma_head.0.weight")):
                tensor.normal_(std=0.2)
            elif key.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif key.endswith("running_mean") or ("end.0" in key and key.endswith("weight")):
                tensor.normal_(std=0.05)
            elif ".bn" in key and key.endswith(("weight", "bias")):
                tensor.uniform_(0.2, 0.8)
    return model.eval()


def by_hand(photo, stages, centred):
    """An independent implementation of the composition."""
    seen = 2 * photo - 1 if centred else photo
    local = seen * stages.multiply + stages.add
    torch.testing.assert_close(stages.local, local)
    mixed = torch.einsum("bij,bjhw->bihw", stages.colour, local)
    return mixed.clamp(1e-8, 1) ** stages.gamma.view(-1, 1, 1, 1)


# The architectures


@pytest.mark.parametrize("name", NAMES)
def test_parameter_counts(name):
    assert count_parameters(create_model(name)) == COUNTS[name]


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_photos_of_any_size_are_composed_from_their_stages(name, size, centred):
    photo = random_photo(*size, batch=2)
    enhanced, stages = vivid(name, centred=centred)(photo)
    assert enhanced.shape == stages.multiply.shape == stages.add.shape == stages.local.shape == photo.shape
    assert stages.colour.shape == (2, 3, 3)
    assert stages.gamma.shape == (2, 1)
    assert stages.multiply.min() >= 0
    assert stages.add.abs().max() <= 1
    assert enhanced.min() >= 0
    assert enhanced.max() <= 1
    torch.testing.assert_close(enhanced, by_hand(photo, stages, centred))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_photos_of_a_batch_are_independent(name):
    model, photos = vivid(name), random_photo(20, 17, batch=3)
    together = model(photos)[0]
    for k in range(3):
        torch.testing.assert_close(together[k : k + 1], model(photos[k : k + 1])[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_training_starts_near_the_identity(name):
    torch.manual_seed(0)
    photo = random_photo(48, 40, batch=2)
    enhanced, stages = create_model(name).eval()(photo)
    assert (enhanced - photo).abs().max() < 0.1
    assert (stages.multiply - 1).abs().max() < 0.1
    assert stages.add.abs().max() < 0.1
    assert torch.equal(stages.colour, torch.eye(3).expand(2, 3, 3))
    assert (stages.gamma - 1).abs().max() < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name):
    model = vivid(name).train()
    enhanced, stages = model(random_photo(40, 40, batch=2))
    (enhanced.square().mean() + stages.gamma.square().mean()).backward()
    unmoved = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unmoved == []


def test_stochastic_depth_skips_branches_only_in_training():
    drop = vivid("iat").local_net.mul_blocks[2].drop_path
    ones = torch.ones(2000, 1, 1, 1)
    assert torch.equal(drop(ones), ones)
    torch.manual_seed(0)
    kept = drop.train()(ones)
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.9])
    assert (kept == 0).float().mean() == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: IAT(width=0), "at least 1"),
        (lambda: IAT(global_width=6), "multiple of 4"),
        (lambda: IATStudent(blocks=0), "at least 1"),
        (lambda: create_model("iat-student", depth=3), "depth"),
    ],
)
def test_invalid_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("name", NAMES)
def test_input_that_is_not_a_batch_of_photos_is_refused(name):
    with pytest.raises(ValueError, match="expected a B×3×H×W"):
        create_model(name)(torch.rand(1, 4, 8, 8))


# Colour matrix and gamma


@pytest.mark.parametrize("gamma", [-50.0, 0.0, 0.3, 1.0, 2.2, 50.0])
def test_black_and_saturated_pixels_have_finite_values_and_gradients(gamma):
    levels = torch.tensor([-3.0, -1e-8, 0.0, 1e-9, 1e-8, 0.2, 1.0, 1.0001, 50.0])
    image = levels.expand(1, 3, 1, -1).clone().requires_grad_()
    colour = torch.eye(3)[None].clone().requires_grad_()
    exponent = torch.tensor([[gamma]], requires_grad=True)
    enhanced = apply_colour_and_gamma(image, colour, exponent)
    enhanced.square().sum().backward()
    for tensor in (enhanced, image.grad, colour.grad, exponent.grad):
        assert tensor.isfinite().all()
    assert enhanced.max() <= 1
    assert image.grad[0, 0, 0, 5] > 0


def test_black_is_finite_in_half_precision():
    image = torch.zeros(1, 3, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    enhanced = apply_colour_and_gamma(image, torch.eye(3, dtype=torch.bfloat16)[None], torch.full((1, 1), 0.5))
    enhanced.sum().backward()
    assert enhanced.dtype == torch.bfloat16
    torch.testing.assert_close(enhanced.float(), torch.full((1, 3, 2, 2), BLACK**0.5), rtol=0.01, atol=0)
    assert image.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_photo_of_black_and_white_has_finite_gradients(name):
    model = vivid(name).train()
    photo = torch.zeros(2, 3, 24, 24)
    photo[..., 12:] = 1
    photo.requires_grad_()
    model(photo)[0].square().mean().backward()
    assert photo.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_guarding_keeps_white_bright_and_leaves_bright_rows_unchanged():
    wild = 5 * torch.randn(200, 3, 3, generator=torch.Generator().manual_seed(0))
    guarded, white = guard_colour(wild), wild.sum(dim=2)
    assert (white < -5).any()
    assert guarded.sum(dim=2).min() > WHITE_FLOOR - 1e-5
    bright = white >= WHITE_FLOOR
    assert torch.equal(guarded[bright], wild[bright])
    # A row that is too dark moves towards the identity in a straight line.
    share = (guarded - torch.eye(3))[~bright] / (wild - torch.eye(3))[~bright]
    torch.testing.assert_close(share[:, 0], share[:, 2], atol=1e-4, rtol=1e-3)
    assert (share > 0).all()
    assert (share < 1).all()


@pytest.mark.parametrize("guarded", [False, True])
def test_a_negative_colour_matrix_turns_a_photo_black(guarded):
    model = create_model("iat-student", guarded=guarded)
    with torch.no_grad():
        model.color_head.bias.fill_(-1)  # every row of the matrix is 0 once and −1 twice
    grey = (0.5 + random_photo(16, 16, batch=2)[:, :1] / 2).expand(-1, 3, -1, -1)
    enhanced, stages = model(grey)
    enhanced.mean().backward()
    learns = model.shared_conv1.weight.grad.any() or model.mul_end[0].bias.grad.any()
    assert stages.local.min() > 0
    if guarded:
        assert enhanced.min() > 0.05
        assert learns
    else:
        assert (stages.colour.sum(dim=2) < 0).all()
        assert enhanced.max() < 1e-6
        assert not learns  # nor can training undo it


def test_mixed_precision_does_not_round_the_photo():
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    colour, gamma = torch.eye(3)[None], torch.ones(1, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        shown = apply_colour_and_gamma(image, colour.bfloat16(), gamma.bfloat16())
    assert shown.dtype == torch.float32
    assert (shown - image.clamp_min(1e-8)).abs().max() < 1e-6


@torch.no_grad()
def test_iat_can_be_guarded():
    for guarded in (False, True):
        model = create_model("iat", guarded=guarded)
        model.global_net.color_base.fill_(-1)
        colour = model(random_photo(16, 16))[1].colour
        torch.testing.assert_close(colour.sum(dim=2), torch.full((1, 3), WHITE_FLOOR if guarded else -3.0))


# Folding


@pytest.mark.parametrize("centred", [False, True])
@torch.no_grad()
def test_folding_preserves_the_output(centred):
    model, photo = vivid("iat-student", centred=centred), random_photo(33, 50, batch=2)
    model.train()
    folded = model.folded()
    assert model.training  # this one stays as it is
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())
    assert sum(isinstance(part, torch.nn.BatchNorm2d) for part in model.modules()) == 10
    model.eval()
    torch.testing.assert_close(folded(photo)[0], model(photo)[0], atol=1e-5, rtol=0)
    exact = model.double().folded()(photo.double())
    for ours, wanted in zip(exact[1], model(photo.double())[1], strict=True):
        torch.testing.assert_close(ours, wanted, atol=1e-12, rtol=0)


def test_folding_is_idempotent():
    once = vivid("iat-student").folded()
    twice = once.folded()
    assert twice.config == once.config == {**create_model("iat-student").config, "folded": True}
    assert all(torch.equal(a, b) for a, b in zip(once.parameters(), twice.parameters(), strict=True))


# Files


@pytest.mark.parametrize("overrides", [{}, {"width": 8, "centred": True}, {"guarded": True}])
@pytest.mark.parametrize("name", [*NAMES, "folded"])
@torch.no_grad()
def test_saved_models_are_restored(name, overrides, tmp_path):
    model = vivid("iat-student", **overrides).folded() if name == "folded" else vivid(name, **overrides)
    again = load_model(save_model(model, tmp_path / "model.safetensors"))
    assert type(again) is type(model)
    assert again.config == model.config
    photo = random_photo(9, 14)
    assert torch.equal(again(photo)[0], model(photo)[0])


@pytest.mark.parametrize("folded", [False, True])
def test_the_students_architecture_is_inferred_from_its_tensors(folded):
    model = IATStudent(width=6, global_width=10, blocks=3)
    config = infer_architecture((model.folded() if folded else model).state_dict())
    wanted = {"family": "iat-student", "width": 6, "global_width": 10, "blocks": 3, "folded": folded}
    assert wanted.items() <= config.items()


def test_iats_architecture_is_inferred_from_its_tensors():
    config = infer_architecture(IAT(width=6, global_width=20).state_dict())
    assert config == {"family": "iat", "width": 6, "global_width": 20}


@pytest.mark.parametrize("name", NAMES)
def test_incomplete_tensors_are_refused(name, tmp_path):
    state = create_model(name).state_dict()
    gone = "global_net.gamma_linear.weight" if name == "iat" else "color_head.weight"
    for missing in (gone, list(state)[5]):
        torch.save({key: tensor for key, tensor in state.items() if key != missing}, tmp_path / "cut.pth")
        with pytest.raises(ValueError, match=missing.replace(".", r"\.")):
            load_model(tmp_path / "cut.pth")


# The published files


@pytest.mark.parametrize(("file", "name"), FILES.items())
def test_published_weights_load_strictly(file, name, shared, tmp_path):
    path = shared / "weights" / f"{file}.pth"
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    torch.save({f"module.{key}": tensor for key, tensor in tensors.items()}, tmp_path / "parallel.pth")
    for model in (load_model(path), load_model(tmp_path / "parallel.pth")):
        state = model.state_dict()
        assert count_parameters(model) == COUNTS[name]
        assert state.keys() == tensors.keys()
        assert all(torch.equal(state[key], tensor) for key, tensor in tensors.items())
    renamed = {key if n else f"{key}_": tensor for n, (key, tensor) in enumerate(reversed(tensors.items()))}
    torch.save(renamed, tmp_path / "renamed.pth")
    with pytest.raises(ValueError, match="bias_"):
        load_model(tmp_path / "renamed.pth")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "overrides", "db", "similarity"),
    [
        ("iat_lol_v1_official", {}, 23.38, 0.808),
        ("iat_lol_v2_official", {"centred": True}, 18.43, 0.766),
        ("iat_student_peer", {}, 18.39, 0.768),
        ("iat_student_peer", {"guarded": True}, 18.39, 0.768),
    ],
)
def test_published_network_scores_as_stated(file, overrides, db, similarity, shared, scored):
    model = load_model(shared / "weights" / f"{file}.pth", **overrides)
    found = scored(through_enhancer(model), psnr, ssim)  # in parts, which is twice as fast as the whole
    assert found == [pytest.approx(db, abs=DB), pytest.approx(similarity, abs=SSIM)]


@pytest.mark.slow
@torch.no_grad()
def test_the_published_student_turns_photos_black_unless_its_matrix_is_guarded(shared):
    photo = to_tensor(read_photo(shared / "data" / "no_reference" / "DICM" / "45.jpg"))[None]
    file = shared / "weights" / "iat_student_peer.pth"
    enhanced, stages = load_model(file)(photo)
    assert enhanced.max() < 0.5 / 255
    assert stages.local.isfinite().all()
    assert stages.local.mean() > 0.5
    assert stages.colour.max() < 0
    assert 0.99 < stages.gamma <= 1
    guarded, kept = load_model(file, guarded=True)(photo)
    assert guarded.mean() > 0.15
    assert torch.equal(kept.local, stages.local)
    assert torch.equal(kept.gamma, stages.gamma)


@pytest.mark.slow
@torch.no_grad()
def test_the_shipped_student_turns_no_photo_black(shared):
    model = load_model("iat-student")
    files = list_photos(shared / "data" / "no_reference")
    assert len(files) > 40
    photos = {str(file): to_tensor(read_photo(file)) for file in files}
    for name, photo in {**photos, **daylight_photos()}.items():
        smaller = photo[None, :, ::2, ::2]
        assert model(smaller)[0].mean() > 0.5 * smaller.mean(), f"{name} has turned dark"


@pytest.mark.slow
@torch.no_grad()
def test_the_published_student_turns_nine_photos_black_because_they_are_bright(shared):
    model = load_model(shared / "weights" / "iat_student_peer.pth")
    files = list_photos(shared / "data" / "no_reference" / "DICM")
    photos = sorted((to_tensor(read_photo(file))[None, :, ::2, ::2] for file in files), key=torch.mean)
    black = [n for n, photo in enumerate(photos) if model(photo)[0].mean() < 1e-3]
    assert (len(black), len(photos)) == (9, 32)
    assert min(black) >= 14
    assert all(model(photos[n] / 4)[0].mean() > 0.02 for n in black)
