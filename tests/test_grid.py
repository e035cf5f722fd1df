import cv2
import numpy as np
import pytest
import torch

from kdlib import Enhancer
from kdlib.data import sample_photos
from kdlib.gain_grid import DEEP, KNOTS, TAPS, measure_over_exposure
from kdlib.models import count_parameters, create_model, infer_architecture
from kdlib.models.grid import (
    GridNet,
    QuincunxSmoothing,
    knot_weights,
    limit_darkening,
    over_exposure_of,
    split_colour,
    upsample_gains,
    within_white,
)
from kdlib.weights import load_model, save_model
from tests.helpers import random_photo

NAMES = {"grid-960": 960, "grid-teacher": 266_004}
SIZES = [(1, 1), (1, 9), (2, 3), (12, 12), (31, 33), (40, 57)]


def vivid(name="grid-960", seed=0, **overrides):
    """A network whose gains differ from cell to cell; a new one leaves every photo unchanged."""
    torch.manual_seed(seed)
    model = create_model(name, **overrides).eval()
    with torch.no_grad():
        model.knots.weight.normal_(std=0.7)
        model.saturate.weight.normal_(std=0.3)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_number_of_parameters(name):
    assert count_parameters(create_model(name)) == NAMES[name]


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_training_starts_from_the_unchanged_photo(name):
    model, photo = create_model(name), random_photo(40, 57)
    grid = model.grid_of(photo)
    assert not grid.any()
    torch.testing.assert_close(model.apply_grid(photo, grid), photo, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("batch", [1, 3])
@torch.no_grad()
def test_output_has_the_size_of_any_photo_and_is_in_range(batch, size, name):
    model, photo = vivid(name), random_photo(*size, batch=batch)
    enhanced, grid = model(photo)
    assert enhanced.shape == photo.shape
    assert grid.shape == (batch, 9, *(-(min(side, model.side) // -4) for side in size))
    assert enhanced.isfinite().all()
    assert enhanced.min() >= 0
    assert enhanced.max() <= 1
    assert grid[:, :8].abs().max() <= 3
    assert grid[:, 8].abs().max() <= 1


@torch.no_grad()
def test_photos_of_a_batch_are_independent():
    model, photos = vivid(), random_photo(40, 36, batch=3)
    together = model(photos)[0]
    for k in range(3):
        torch.testing.assert_close(together[k : k + 1], model(photos[k : k + 1])[0], atol=1e-5, rtol=0)


def test_shares_of_the_knots_sum_to_one_and_interpolate_linearly():
    luminance = torch.cat([torch.linspace(0, 1, 1001), torch.tensor(KNOTS)]).view(1, 1, 1, -1).double()
    shares = knot_weights(luminance)
    torch.testing.assert_close(shares.sum(dim=1, keepdim=True), torch.ones_like(luminance))
    assert ((shares > 0).sum(dim=1) <= 2).all()
    assert shares.min() >= 0
    knots = torch.tensor(KNOTS, dtype=torch.float64).view(1, -1, 1, 1)
    torch.testing.assert_close((shares * knots).sum(dim=1, keepdim=True), luminance)


@torch.no_grad()
def test_a_pixel_takes_the_gain_of_its_own_luminance():
    model, photo = create_model("grid-960"), torch.tensor(KNOTS).view(1, 1, 1, -1).expand(1, 3, 1, -1)
    gains = torch.tensor([3.0, 0.5, 2.0, 1.0, 0.8, 1.5, 0.6, 0.9, 1.0]).view(1, 9, 1, 1)
    enhanced = model.apply_gains(photo, gains.expand(1, 9, 1, len(KNOTS)))
    torch.testing.assert_close(enhanced, photo * gains[:, :8].view(1, 1, 1, -1), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("luminance", "deep"), [(0.02, 1 - 0.02 / DEEP), (DEEP, 0.0), (0.6, 0.0)])
@torch.no_grad()
def test_chroma_decreases_in_lifted_deep_shadows_and_increases_where_the_gain_darkens(luminance, deep):
    model, expected = create_model("grid-960"), luminance
    photo = torch.tensor([1.5, 1.0, 0.5]).view(1, 3, 1, 1) * luminance
    saturation = {}
    for gain in (0.5, 1.0, 2.0):
        gains = torch.tensor([gain] * 8 + [1.0]).view(1, 9, 1, 1)
        luminance, colour = split_colour(model.apply_gains(photo, gains))
        saturation[gain] = float(colour.abs().sum() / luminance)
        assert luminance.item() == pytest.approx(gain * expected, rel=1e-5), "chroma does not change luminance"
    assert saturation[2.0] == pytest.approx(saturation[1.0] / (1 + 0.2 * deep), rel=1e-5)
    assert saturation[0.5] == pytest.approx(saturation[1.0] * 1.25, rel=1e-5)


@torch.no_grad()
def test_noise_is_not_lifted_and_a_black_photo_stays_black():
    model, noise = create_model("grid-960"), torch.full((1, 1, 1, 1), 1.0)
    lifting = torch.full((1, 9, 2, 2), 2.0)
    lifting[:, 8] = 0
    black = torch.zeros(1, 3, 24, 24)
    assert not model.apply_grid(black, lifting, noise).any()
    for level, least, most in ((0.5 / 255, 1.5, 4.0), (1 / 255, 3.0, 5.0), (30 / 255, 7.0, 7.4)):
        photo = torch.full((1, 3, 24, 24), level)
        gain = float(model.apply_grid(photo, lifting, noise).mean() / level)
        assert least < gain < most
        assert float(model.apply_grid(photo, lifting).mean() / level) == pytest.approx(7.389, rel=1e-3)


def smoothed_by_formula(photo, noise, tolerances):
    """The filter in NumPy and float64, pixel by pixel: photo H×W×3 in 255ths."""
    r, g, b = np.moveaxis(photo.astype(float), 2, 0)
    planes = np.stack([(r + 2 * g + b) / 4, r - b, g - (r + b) / 2])
    height, width = planes.shape[1:]
    for (step, diagonal, colour_only), (light, colour) in zip(TAPS, tolerances, strict=True):
        places = ((-1, -1), (-1, 1), (1, -1), (1, 1)) if diagonal else ((-1, 0), (1, 0), (0, -1), (0, 1))
        after = planes.copy()
        for y, x in np.ndindex(height, width):
            here, weights, sums = planes[:, y, x], 2.0, np.zeros(3)
            for down, right in places:
                there = min(max(y + step * down, 0), height - 1), min(max(x + step * right, 0), width - 1)
                apart = planes[:, *there] - here
                share = apart / (noise * np.array([light, colour, colour]))
                weight = max(1 - (share**2).sum(), 0) ** 2
                weights, sums = weights + weight, sums + weight * apart
            after[colour_only:, y, x] += (sums / weights)[colour_only:]
        planes = after
    y, o, g = planes
    return np.stack([y - g / 2 + o / 2, y + g / 2, y - g / 2 - o / 2], axis=2)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (13, 17)])
@torch.no_grad()
def test_smoothing_computes_what_the_formula_says(size):
    smoothing = QuincunxSmoothing().double()
    smoothing.log_tolerance.sub_(0.4)
    photo = np.random.default_rng(0).normal(90, 9, (*size, 3)).clip(0, 255)
    result = smoothing(torch.from_numpy(photo / 255).permute(2, 0, 1)[None], torch.full((1, 1, 1, 1), 1.2))
    expected = smoothed_by_formula(photo, 1.2, smoothing.log_tolerance.exp().numpy())
    assert size == (1, 1) or np.abs(expected - photo).max() > 1
    np.testing.assert_allclose(255 * result[0].permute(1, 2, 0).numpy(), expected, atol=1e-4)


@torch.no_grad()
def test_smoothing_removes_noise_but_neither_edges_nor_their_colours():
    generator, level = torch.Generator().manual_seed(0), torch.full((1, 1, 1, 1), 1.0)
    noisy = 40 + 1.6 * torch.randn(1, 3, 80, 80, generator=generator)  # luminance has 0.61 times this deviation
    result = 255 * QuincunxSmoothing()(noisy / 255, level)
    for weights in ([0.25, 0.5, 0.25], [1, 0, -1], [-0.5, 1, -0.5]):
        before, after = ((torch.tensor(weights).view(3, 1, 1) * each).sum(dim=1).std() for each in (noisy, result))
        assert after < 0.3 * before
    edge = torch.full((1, 3, 20, 20), 60 / 255)
    edge[..., 10:] = torch.tensor([190, 170, 170]).view(3, 1, 1) / 255
    torch.testing.assert_close(QuincunxSmoothing()(edge, level), edge, atol=1e-6, rtol=0)
    levels = noisy.round() / 255
    torch.testing.assert_close(QuincunxSmoothing()(levels, 0 * level), levels, atol=1e-6, rtol=0)


def test_gains_are_interpolated_between_the_centres_of_cells():
    grid = torch.tensor([0.0, 1.0]).log().clamp_min(-3).view(1, 1, 1, 2)
    full = upsample_gains(grid, (1, 8))[0, 0, 0]
    low = float(torch.tensor(-3.0).exp())
    assert full[:2].tolist() == pytest.approx([low, low])
    assert full[-2:].tolist() == pytest.approx([1.0, 1.0])
    assert full[3].item() == pytest.approx(low + (1 - low) * 0.375)


@pytest.mark.parametrize("name", NAMES)
def test_every_gradient_is_finite_and_every_part_learns(name):
    model = vivid(name)
    photo = torch.rand(1, 3, 80, 80, generator=torch.Generator().manual_seed(0)) * 0.3
    (model(photo)[0] - 0.4).square().mean().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", NAMES)
def test_saved_weights_load_and_give_the_same(name, tmp_path):
    model, photo = vivid(name), random_photo(40, 57)
    again = load_model(save_model(model, tmp_path / "grid.safetensors"))
    assert again.config == model.config
    assert torch.equal(again(photo)[0], model(photo)[0])


@pytest.mark.parametrize("name", NAMES)
def test_architecture_is_inferred_from_the_tensors(name, tmp_path):
    model = create_model(name)
    assert infer_architecture(model.state_dict()) == model.config
    torch.save(model.state_dict(), tmp_path / "grid.pth")
    assert load_model(tmp_path / "grid.pth").config == model.config
    assert infer_architecture(create_model("glance-650").state_dict())["family"] == "glance"


@pytest.mark.parametrize("argument", ["width", "hidden", "side"])
def test_arguments_below_one_are_refused(argument):
    with pytest.raises(ValueError, match="at least 1"):
        GridNet(**{argument: 0})


def test_an_unknown_body_is_refused():
    with pytest.raises(ValueError, match="separable, residual"):
        GridNet(body="dense")


@pytest.mark.parametrize(
    "wrong",
    [torch.rand(3, 8, 8), torch.rand(1, 1, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.rand(1, 3, 0, 8)],
)
def test_input_that_is_not_a_batch_of_photos_is_refused(wrong):
    with pytest.raises(ValueError, match="B×3×H×W"):
        create_model("grid-960")(wrong)


def test_white_is_reached_without_a_change_of_hue():
    lamp = torch.tensor([0.9, 0.5, 0.1]).view(1, 3, 1, 1)
    torch.testing.assert_close(within_white(3 * lamp), lamp / 0.9)
    torch.testing.assert_close(within_white(lamp), lamp)
    torch.testing.assert_close(within_white(torch.full((1, 3, 1, 1), 1.7)), torch.ones(1, 3, 1, 1))
    assert float(within_white(torch.tensor([-0.1, 0.2, 2.0]).view(1, 3, 1, 1)).min()) == 0


def darkening():
    """A network that darkens whatever it may."""
    model = GridNet().eval()
    with torch.no_grad():
        model.knots.bias.fill_(-20.0)
    return model


@torch.no_grad()
def test_white_never_turns_grey():
    model = darkening()
    grid = model.estimate_grid(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    white = model.apply_grid(torch.ones(1, 3, 32, 32), grid)
    assert float(grid[:, -2].min()) > -0.15 - 1e-6
    assert float(grid[:, -3].max()) < -2.9
    assert float(white.min()) > 0.86


def scene(kind):
    """A picture of 300×400 pixels, uint8, that is white on purpose or by over-exposure."""
    picture = np.full((300, 400, 3), 255, np.uint8)
    columns = np.linspace(0.3, 1.3, 400)[None, :, None]
    if kind == "page":
        picture[40:260:12, 30:370] = 20
    elif kind == "paper":
        picture[:] = (236, 233, 228)
        picture[40:260:12, 30:370] = 40
    elif kind == "snow":
        picture[:] = (np.linspace(150, 240, 300)[:, None, None] * np.ones((300, 400, 3))).astype(np.uint8)
    elif kind == "over-exposed sky":
        picture[:] = (255 * columns.clip(0, 1)).astype(np.uint8)
    elif kind == "one colour clipped":
        picture[:] = (columns.clip(0, 1) * (255, 170, 60)).astype(np.uint8)
    else:
        assert kind == "a few clipped pixels"
        picture[:] = 150
        picture[:20, :24] = np.linspace(200, 300, 24).clip(0, 255)[:, None]
    return picture


@pytest.mark.parametrize(
    ("kind", "darker", "white"),
    [
        ("page", 1.0, 0.0),
        ("paper", 0.0, 0.0),
        ("snow", 0.0, 0.0),
        ("over-exposed sky", 1.0, 1.0),
        ("one colour clipped", 1.0, 1.0),
        ("a few clipped pixels", 0.2, 0.2),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_over_exposure_is_clipping_and_that_of_white_a_gradual_transition(dtype, kind, darker, white):
    picture = scene(kind)
    converted = {"uint8": picture, "uint16": picture.astype(np.uint16) * 257, "float32": np.float32(picture / 255)}[
        dtype
    ]
    expected = pytest.approx([darker] * 7 + [white], abs=0.02)
    assert measure_over_exposure(converted).tolist() == expected
    assert measure_over_exposure(np.ascontiguousarray(np.rot90(converted))).tolist() == expected


def test_over_exposure_ignores_alpha_and_takes_grey():
    sky = scene("over-exposed sky")
    assert not measure_over_exposure(np.dstack([scene("paper"), np.full((300, 400), 255, np.uint8)])).any()
    assert measure_over_exposure(sky[..., :1]).tolist() == [1.0] * 8
    assert measure_over_exposure(np.dstack([sky[..., :1], sky[..., :1] // 2])).tolist() == [1.0] * 8


@pytest.mark.parametrize("size", [*SIZES, (255, 256), (257, 900)])
def test_over_exposure_is_the_same_in_torch(size):
    photos = np.random.default_rng(0).random((3, *size, 3), np.float32)
    falling_off = np.select([photos[0, ..., :1] < 0.5, photos[0, ..., :1] < 0.5375], [1.0, 0.95], 0.3) * np.ones(3)
    photos = np.stack([falling_off, photos[1] ** 0.2, photos[2] * 0.9]).astype(np.float32)
    batch = torch.from_numpy(photos).permute(0, 3, 1, 2)
    expected = [measure_over_exposure(photo) for photo in photos]
    np.testing.assert_allclose(over_exposure_of(batch)[..., 0, 0].numpy(), expected, atol=1e-5)
    if size == (257, 900):
        assert 0 < expected[0][-1] < 1
        assert [limits.tolist() for limits in expected[1:]] == [[1] * 8, [0] * 8]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["page", "paper", "snow"])
def test_what_is_white_on_purpose_stays_white(kind):
    picture = scene(kind)
    photo = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    white = picture.min(axis=2) > (200 if kind == "page" else 0)  # ink on a white page may become darker
    apart = (darkening()(photo)[0] - photo)[0].abs().amax(dim=0).numpy()
    assert apart[white].max() < 2e-3  # smoothed
    assert np.array_equal(Enhancer(darkening(), device="cpu", denoise=0)(picture)[white], picture[white])


@torch.no_grad()
def test_an_over_exposed_photo_is_darkened():
    sky = scene("over-exposed sky")
    result = Enhancer(darkening(), device="cpu", denoise=0)(sky)
    assert result[:, 100].max() < 0.1 * sky[:, 100].min()
    bounded = limit_darkening(torch.tensor([1, -2, *[0] * 6, -0.3]).view(1, 9, 1, 1), torch.full((1, 8, 1, 1), 0.5))
    assert bounded.flatten().tolist() == pytest.approx([1, -1, *[0] * 6, -0.3])


def test_training_can_start_from_gains_of_one():
    gains = torch.zeros(1, 9, 1, 1, requires_grad=True)
    limit_darkening(gains, torch.zeros(1, 8, 1, 1)).sum().backward()
    assert bool((gains.grad == 1).all())


def page(paper, ink, picture=None):
    """A page of text as a screenshot shows it, with a picture if given; H×W×3 uint8."""
    drawn = np.full((480, 360, 3), paper, np.uint8)
    for line in range(24, 460, 18):
        cv2.putText(drawn, "The lamp is lit and the street is dark", (16, line), 0, 0.5, (ink,) * 3, 1, cv2.LINE_AA)
    if picture is not None:
        drawn[80:260, 60:300] = cv2.resize(picture, (240, 180), interpolation=cv2.INTER_AREA)
    return drawn


def snow():
    scene = np.full((240, 360, 3), 235, np.uint8)
    scene[180:] = 225
    cv2.circle(scene, (180, 150), 24, (60, 90, 40), -1)
    return scene


@pytest.mark.parametrize("name", ["grid-960", "grid-teacher"])
@pytest.mark.parametrize(
    "photo",
    [
        page(255, 0),
        page(245, 30),
        page(250, 20, sample_photos()["astronaut"]),
        snow(),
    ],
    ids=["page", "paper", "page with a photo", "snow"],
)
def test_pages_and_snow_keep_their_brightness(name, photo):
    enhanced = Enhancer(name, device="cpu")(photo).astype(float)
    assert enhanced.mean() == pytest.approx(photo.mean(), rel=0.15)
    assert np.percentile(enhanced, 95) == pytest.approx(np.percentile(photo, 95), rel=0.06)
