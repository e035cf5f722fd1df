import numpy as np
import pytest

from kdlib.enhance.kernels.denoise import denoise_photo
from kdlib.noise import measure_noise

RNG = np.random.default_rng(0)
KINDS = [np.uint8, np.uint16, np.float32]


def as_kind(photo, dtype):
    """A uint8 photo in another dtype."""
    return {np.uint8: photo, np.uint16: photo.astype(np.uint16) * 257, np.float32: np.float32(photo / 255)}[dtype]


def noisy(level=110.0, sigma=6.0, shape=(96, 300, 3)):
    return (level + sigma * RNG.standard_normal(shape)).round().clip(0, 255).astype(np.uint8)


def constant_map(r, channels=3):
    return np.full((2, 3, channels), r, np.float32)


def brighten(photo, r, iterations=8):
    for _ in range(iterations):
        photo = photo + r * (photo * photo - photo)
    return photo


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 1), (40, 50, 2), (40, 50, 3), (40, 50, 4)])
def test_kind_is_kept_alpha_too_and_amount_zero_changes_nothing(shape, dtype):
    photo = as_kind(noisy(shape=shape), dtype)
    before = photo.copy()
    assert np.array_equal(denoise_photo(photo, 0), photo)
    result = denoise_photo(photo, 1, noise=6)
    assert np.array_equal(photo, before)
    assert (result.shape, result.dtype) == (photo.shape, photo.dtype)
    if shape[2:] in {(2,), (4,)}:
        assert np.array_equal(result[..., -1], photo[..., -1])
        result, photo = result[..., :-1], photo[..., :-1]
    assert result.std() < 0.5 * photo.std()


def test_noise_falls_by_more_than_three_quarters_in_luminance_and_colour():
    photo = noisy(sigma=4)
    result = denoise_photo(photo, 1, noise=4 * 0.61)
    for weights in ([0.25, 0.5, 0.25], [1, 0, -1], [-0.5, 1, -0.5]):
        assert (result @ weights).std() < 0.25 * (photo @ weights).std()
    assert abs(result.mean() - photo.mean()) < 0.1


def test_amount_sets_how_much():
    photo = noisy()
    left = [denoise_photo(photo, amount, noise=1.0).std() for amount in (0, 0.5, 1, 2)]
    assert left == sorted(left, reverse=True)
    assert len(set(left)) == 4


def test_amount_hardly_above_zero_changes_nothing():
    photo = noisy()
    assert np.array_equal(denoise_photo(photo, 1e-30), photo)
    assert np.array_equal(denoise_photo(photo, 1, noise=0), photo)


@pytest.mark.parametrize("vertical", [True, False])
def test_an_edge_stays_sharp_amid_noise(vertical):
    clean = np.full((96, 300, 3), 80.0)
    clean[:, 150:] = 140, 150, 130
    photo = (clean + 4 * RNG.standard_normal(clean.shape)).round().astype(np.uint8)
    if not vertical:
        photo, clean = photo.swapaxes(0, 1), clean.swapaxes(0, 1)
    result = denoise_photo(np.ascontiguousarray(photo), 1, noise=1.5)
    across = result.astype(float).mean(0 if vertical else 1)
    truth = clean.mean(0 if vertical else 1)
    assert np.abs(across - truth).max() < 1.5  # also in the columns that touch the edge


def test_colour_does_not_bleed_over_an_edge_of_luminance():
    photo = np.full((40, 60, 3), 60, np.uint8)
    photo[:, 30:] = 190, 170, 170
    assert np.array_equal(denoise_photo(photo, 1, noise=1.5), photo)


@pytest.mark.parametrize("dtype", KINDS)
def test_a_constant_photo_is_unchanged(dtype):
    photo = as_kind(np.full((30, 400, 3), (13, 200, 77), np.uint8), dtype)
    result = denoise_photo(photo, 2, curve_map=constant_map(-0.3), noise=1.5)
    if dtype == np.float32:
        assert np.abs(result - photo).max() < 1e-6
    else:
        assert np.array_equal(result, photo)


def test_grey_stays_grey_and_equals_one_channel():
    grey = noisy(shape=(60, 70))
    coloured = denoise_photo(np.repeat(grey[..., None], 3, 2), 1, noise=1.5, curve_map=constant_map(-0.1))
    assert (coloured[..., 0] == coloured[..., 1]).all()
    assert (coloured[..., 0] == coloured[..., 2]).all()
    alone = denoise_photo(grey, 1, noise=1.5, curve_map=constant_map(-0.1, channels=1))
    assert np.array_equal(alone, coloured[..., 0])


def test_dtypes_agree():
    photo = noisy(shape=(50, 280, 3))
    small, wide, real = (denoise_photo(as_kind(photo, dtype), 1, noise=1.2) for dtype in KINDS)
    assert np.abs(wide / 257 - small).max() <= 0.51
    assert np.abs(real * 255 - wide / 257).max() < 0.01


def plain(photo, limits, gain):
    """The filter, said once more in NumPy and float64: photo H×W×3 in 255ths, limits as the differences themselves."""
    r, g, b = np.moveaxis(photo.astype(float), 2, 0)
    planes = np.stack([(r + 2 * g + b) / 4, r - b, g - (r + b) / 2])
    height, width = planes.shape[1:]
    for n, (luminance, edge, colour) in enumerate(limits):
        reach = 2**n
        padded = np.pad(planes, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
        level = planes[0] / 255
        slope = (level + (1 - level) * gain) ** 2 / gain
        sums, weights = np.zeros_like(planes), np.ones_like(planes)
        for down in (0, 1, 2):
            for right in (0, 1, 2):
                tap = padded[:, down * reach :, right * reach :][:, :height, :width] - planes
                share = 1 if 1 in (down, right) else 0.5
                y, c = (tap[0] / slope) ** 2, (tap[1] ** 2 + tap[2] ** 2) / slope**2
                own = share * np.maximum(1 - y / luminance**2, 0) ** 2
                its = share * np.maximum(1 - y / edge**2 - c / colour**2, 0) ** 2
                weight = np.stack([own, its, its])
                sums += weight * tap
                weights += weight
        planes = planes + sums / weights
    y, o, g = planes
    return np.stack([y - g / 2 + o / 2, y + g / 2, y - g / 2 - o / 2], axis=2).clip(0, 255)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3), (9, 1, 3), (2, 3, 3), (5, 4, 3), (30, 255, 3), (31, 521, 3)])
def test_it_computes_what_the_plain_formula_says(shape):
    photo = as_kind(noisy(level=70, sigma=20, shape=shape), np.float32)
    r = np.float32(-0.2)
    result = denoise_photo(photo, 0.8, noise=1.3, curve_map=constant_map(r), threads=2)
    tolerance = 0.8 * 1.3
    limits = [(7 / 2**n * tolerance, 18 / 1.5**n * tolerance, 30 / 1.5**n * tolerance) for n in range(3)]
    expected = plain(photo * 255.0, limits, gain=(1 - float(r)) ** 8)
    assert np.abs(result * 255.0 - expected).max() < 2e-3


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("height", [13, 14, 28, 61, 200])
def test_the_result_does_not_depend_on_the_number_of_threads(height, in_place):
    photo = noisy(shape=(height, 300, 3))
    curve_map = RNG.uniform(-0.4, 0.1, (7, 9, 3)).astype(np.float32)
    expected = denoise_photo(photo, 1, noise=1.0, curve_map=curve_map)
    for threads in (1, 2, 3, 5):
        given = photo.copy()
        out = given if in_place else np.empty_like(photo)
        assert denoise_photo(given, 1, noise=1.0, curve_map=curve_map, out=out, threads=threads) is out
        assert np.array_equal(out, expected)


def test_strided_photos_give_the_same():
    photo = noisy(shape=(40, 60, 3))
    turned = denoise_photo(photo[:, ::-1], 1, noise=1.0)
    assert np.array_equal(turned, denoise_photo(np.ascontiguousarray(photo[:, ::-1]), 1, noise=1.0))


def test_tolerance_follows_the_slope_of_the_curve():
    """The same noise on both sides: only where the curve was steep, it is noise."""
    photo = noisy(sigma=6, shape=(90, 400, 3))
    curve_map = np.zeros((2, 8, 3), np.float32)
    curve_map[:, :4] = -0.4
    result = denoise_photo(photo, 1, curve_map=curve_map, noise=0.4)
    lifted, left = result[:, :150], result[:, 250:]
    assert lifted.std() < 0.3 * photo[:, :150].std()
    assert left.std() > 0.9 * photo[:, 250:].std()


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.0])
@pytest.mark.parametrize("r", [0.0, -0.15, -0.3])
def test_noise_is_measured_as_it_was_before_the_curve(sigma, r):
    dark = np.full((256, 256, 3), 9.0) + sigma * RNG.standard_normal((256, 256, 3))
    bright = np.float32(brighten(dark / 255, r))
    luminance_sigma = sigma * np.sqrt(0.25**2 + 0.5**2 + 0.25**2)
    # The flattest blocks are a little below it.
    assert 0.7 * luminance_sigma < measure_noise(bright, curve_map=constant_map(r)) < 1.05 * luminance_sigma


def test_texture_in_a_part_of_the_photo_is_not_taken_for_noise():
    photo = noisy(sigma=1.2, shape=(240, 240, 3))
    alone = measure_noise(photo)
    photo[:, 60:] = noisy(sigma=30, shape=(240, 180, 3))
    assert measure_noise(photo) < 1.2 * alone


@pytest.mark.parametrize("level", [0, 255])
def test_clipped_areas_do_not_hide_the_noise(level):
    photo = noisy(sigma=1.2, shape=(240, 240, 3))
    alone = measure_noise(photo)
    photo[:, :120] = level
    assert 0.8 * alone < measure_noise(photo) < 1.2 * alone


def test_measured_noise_has_limits():
    assert measure_noise(np.full((64, 64, 3), 90, np.uint8)) == 0.18
    assert measure_noise(np.zeros((64, 64), np.uint8)) == 0.18
    assert measure_noise(noisy(sigma=50, shape=(8, 8, 3))) == 0.18  # too small to tell
    assert measure_noise(noisy(sigma=30)) == 1.5


@pytest.mark.parametrize("channels", [3, 24])
def test_maps_for_each_iteration_count_like_one_for_all(channels):
    photo = noisy()
    expected = denoise_photo(photo, 1, curve_map=constant_map(-0.2))
    assert np.array_equal(denoise_photo(photo, 1, curve_map=constant_map(-0.2, channels)), expected)
    assert not np.array_equal(denoise_photo(photo, 1, curve_map=constant_map(-0.2), iterations=4), expected)


def test_a_clear_message_when_something_does_not_fit():
    photo = noisy(shape=(20, 20, 3))
    for amount in (-0.1, 2.1, float("nan")):
        with pytest.raises(ValueError, match="from 0 to 2"):
            denoise_photo(photo, amount)
    with pytest.raises(TypeError, match="float64"):
        denoise_photo(photo / 255)
    with pytest.raises(ValueError, match="cannot have 5 channels"):
        denoise_photo(photo, curve_map=constant_map(-0.2, channels=5))


def test_brightened_lol_photos_come_nearer_to_the_truth(shared):
    from kdlib.data import read_photo

    folder = shared / "data" / "lol_v1" / "our485"
    curve_map = constant_map(-0.3)
    for name in ("100.webp", "12.webp", "15.webp"):
        dark, truth = (read_photo(folder / side / name).astype(float) for side in ("low", "high"))
        bright = (brighten(dark / 255, -0.3) * 255).round().astype(np.uint8)
        result = denoise_photo(bright, 1, curve_map=curve_map)
        # As bright as the truth, so that the noise decides, not the exposure.
        errors = [((photo * (truth.mean() / photo.mean()) - truth) ** 2).mean() for photo in (bright, result)]
        assert errors[1] < errors[0]
