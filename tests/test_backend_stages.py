"""IAT and its student through an Enhancer: the model's own results, in parts, and for every kind of photo."""

import json
import sys
from itertools import product

import av
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from kdlib import Enhancer
from kdlib.cli import app
from kdlib.enhance.backends import torch_stages as backend
from kdlib.enhance.photos.rgb import read_photo
from kdlib.enhance.video.enhance import enhance_video
from kdlib.evaluation import benchmark as speed
from kdlib.models import create_model
from kdlib.noise import TOP
from kdlib.weights import catalogue, load_model, save_model
from tests.helpers import as_tensor

NAMES = ["iat", "iat-student", "folded"]
SIZES = [(1, 1), (1, 9), (9, 1), (7, 5), (33, 70)]


def vivid(name, seed=0, **overrides):
    """A model of which no part can go unnoticed: its maps differ from place to place, colour to colour."""
    torch.manual_seed(seed)
    model = create_model("iat-student" if name == "folded" else name, **overrides)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith(("gamma_1", "gamma_2")):
                tensor.fill_(0.5)
            elif "generator.attn.v" in key or key in {"color_head.weight", "gamma_head.0.weight"}:
                tensor.normal_(std=0.1)
            elif key.endswith(("gamma_base", "gamma_head.0.bias")):
                # A gamma of 0.85: one much lower makes rounding errors near black a thousand times as large.
                tensor.fill_(0.85 if key.endswith("base") else 1.7)
            elif key.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif key.endswith("running_mean") or ("end.0" in key and key.endswith("weight")):
                tensor.normal_(std=0.05)
    return model.folded() if name == "folded" else model.eval()


@pytest.fixture(params=NAMES)
def model(request):
    return vivid(request.param)


@pytest.fixture
def enhancer(model):
    enhancer = Enhancer(model, device="cpu", threads=1)
    assert enhancer.backend == "torch"
    return enhancer


def dark(size, channels=3, dtype="uint8"):
    """A noisy photo, its colours in the darker half and unlike each other, its alpha anywhere."""
    values = np.random.default_rng(sum(size) + channels).random((*size, channels))
    colours = channels - 1 if channels in {2, 4} else channels
    values[..., :colours] *= np.linspace(0.5, 0.2, colours)
    return (values.astype(np.float32) * TOP[dtype]).astype(dtype)


@torch.no_grad()
def by_the_model(model, photo, strength=1.0):
    """What the model itself makes of a photo, in its dtype; alpha as it is, grey the mean of the colours."""
    y = model(as_tensor(photo))[0][0].permute(1, 2, 0).double().numpy()
    colours = 3 if photo.shape[2] >= 3 else 1
    y = y if colours == 3 else y.mean(2, keepdims=True)
    top, result = TOP[photo.dtype.name], photo.copy()
    x = photo[..., :colours].astype(np.float64) / top
    y = (x + strength * (y - x)).clip(0, 1) * top
    result[..., :colours] = y if photo.dtype == np.float32 else np.floor(y + 0.5)
    return result


def close(result, expected):
    """As close as rounding of float32 leaves it: whole numbers one apart at most, and that seldom in 8 bits."""
    assert type(result) is type(expected)
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    apart = np.abs(result.astype(np.float64) - expected.astype(np.float64))
    if result.dtype == np.float32:
        return apart.max() <= 1e-5
    return apart.max() <= 1 and (result.dtype != np.uint8 or (apart > 0).sum() <= max(2, 0.001 * apart.size))


# The model's own result


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("size", SIZES)
def test_result_is_the_model_s_own(size, dtype, model, enhancer):
    photo = dark(size, dtype=dtype)
    before = photo.copy()
    result = enhancer(photo)
    assert close(result, by_the_model(model, photo))
    assert result.tobytes() != photo.tobytes()
    assert photo.tobytes() == before.tobytes()


@pytest.mark.parametrize("overrides", [{"centred": True}, {"guarded": True}, {"width": 5}])
@pytest.mark.parametrize("name", NAMES)
def test_arguments_of_the_architecture_hold(name, overrides):
    model, photo = vivid(name, **overrides), dark((40, 30))
    assert close(Enhancer(model, device="cpu")(photo), by_the_model(model, photo))


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_grey_stays_grey_and_alpha_untouched(channels, dtype, model, enhancer):
    photo = dark((21, 30), channels, dtype)
    result = enhancer(photo)
    assert close(result, by_the_model(model, photo))
    if channels != 1:
        assert result[..., -1].tobytes() == photo[..., -1].tobytes()
    else:
        assert np.array_equal(enhancer(photo[..., 0]), result[..., 0])


@pytest.mark.parametrize("kind", ["batch", "tensor", "RGB", "L", "RGBA", "strided", "read-only"])
def test_every_kind_of_photo_comes_back_as_what_it_was(kind, model, enhancer):
    photo = dark((18, 25), {"L": 1, "RGBA": 4}.get(kind, 3))
    expected = by_the_model(model, photo)
    if kind == "batch":
        other = dark((18, 25))[::-1]
        result = enhancer(np.stack([photo, other]))
        assert close(result, np.stack([expected, by_the_model(model, other.copy())]))
    elif kind == "tensor":
        result = enhancer(torch.from_numpy(photo))
        assert isinstance(result, torch.Tensor)
        assert close(result.numpy(), expected)
    elif kind == "strided":
        assert close(enhancer(photo[:, ::-1]), by_the_model(model, photo[:, ::-1].copy()))
    elif kind == "read-only":
        photo.flags.writeable = False
        assert close(enhancer(photo), expected)
    else:
        result = enhancer(Image.fromarray(photo[..., 0] if kind == "L" else photo))
        assert result.mode == kind
        assert close(np.asarray(result).reshape(photo.shape), expected)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("without", ["", "numba"])
@pytest.mark.parametrize("name", NAMES)
def test_weights_file_gives_what_its_model_gives(name, without, suffix, tmp_path, monkeypatch):
    # Of what a .pth file does not tell, the student's is taken to be as published.
    model = vivid(name, **({} if name == "iat" else {"centred": True, "guarded": False, "most_gamma": 1.0}))
    path = tmp_path / f"model.{suffix}"
    if suffix == "pth":
        torch.save(model.state_dict(), path)
    else:
        save_model(model, path)
    if without:
        monkeypatch.setitem(sys.modules, without, None)  # as where it is not installed
    photo = dark((20, 31))
    for given in (path, str(path)):
        assert close(Enhancer(given, device="cpu")(photo), by_the_model(model, photo))


@pytest.mark.parametrize("name", ["iat", "iat-student"])
def test_shipped_model_is_found_by_its_name(name, tmp_path, monkeypatch):
    model, photo = vivid(name), dark((15, 20))
    path = save_model(model, tmp_path / "model.safetensors")
    entry = catalogue.CatalogueEntry(name, path, catalogue.sha256_of(path), "", "")
    monkeypatch.setattr(catalogue, "catalogue", lambda: {name: entry})
    assert close(Enhancer(name, device="cpu")(photo), by_the_model(model, photo))


@pytest.mark.parametrize("name", ["iat_lol_v1_official", "iat_student_peer"])
def test_published_file_through_the_enhancer_is_the_model(name, shared):
    path = shared / "weights" / f"{name}.pth"
    photo = read_photo(shared / "data" / "lol_v1" / "eval15" / "low" / "1.png")[:200, :300].copy()
    expected = by_the_model(load_model(path), photo)
    assert expected.mean() > 3 * photo.mean()
    assert close(Enhancer(path, device="cpu")(photo), expected)


@pytest.mark.parametrize("name", NAMES)
def test_model_given_is_left_alone_and_later_training_does_not_reach_the_enhancer(name):
    model, photo = vivid(name).train(), dark((12, 15))
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    learning = [parameter.requires_grad for parameter in model.parameters()]
    enhancer = Enhancer(model, device="cpu")
    before = enhancer(photo)
    assert model.training
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert [parameter.requires_grad for parameter in model.parameters()] == learning
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3)
    assert enhancer(photo).tobytes() == before.tobytes()


def test_model_in_half_precision_works_in_single(model):
    photo = dark((20, 20))
    half = model.to(torch.bfloat16)
    assert close(Enhancer(half, device="cpu")(photo), by_the_model(half.float(), photo))


# Parts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "tile"),
    [*product([(75, 100), (64, 33), (1, 70)], [32, 50]), *product([(20, 29), (13, 7), (1, 70)], [3])],
)
@torch.no_grad()
def test_parts_join_as_the_whole(size, tile, model, monkeypatch):
    monkeypatch.setattr(backend, "_TILE", tile)
    photo = dark(size, dtype="float32")
    enhancer = Enhancer(model.double().float(), device="cpu")
    known = enhancer.estimate(photo)  # without local maps, which apply() computes part by part
    result, expected = enhancer.apply(photo, known), by_the_model(model, photo)
    assert np.abs(result - expected).max() <= 1e-5
    assert close(enhancer(photo), expected)
    assert enhancer.apply(photo, known, out=photo) is photo  # parts that were read before they are written to
    assert photo.tobytes() == result.tobytes()


@torch.no_grad()
def test_reach_is_how_far_a_pixel_is_felt(model):
    model, side = model.double(), 2 * model.reach + 3
    centre = side // 2
    image = torch.rand(1, 3, side, side, dtype=torch.float64)
    touched = image.clone()
    touched[..., centre, centre] = 1 - touched[..., centre, centre]
    there = (model.local_stage(image) != model.local_stage(touched))[0].any(0).nonzero()
    assert (there - centre).abs().max() == model.reach


@torch.no_grad()
def test_local_stage_and_decision_are_those_of_a_call(model):
    image = as_tensor(dark((30, 20)))
    _, stages = model(image)
    colour, gamma, local = model.decide(image)
    torch.testing.assert_close(model.local_stage(image), stages.local)
    torch.testing.assert_close(colour, stages.colour)
    torch.testing.assert_close(gamma, stages.gamma)
    assert local is None or torch.equal(local, stages.local)


@pytest.mark.parametrize("side", [1, 24, 99])
@torch.no_grad()
def test_larger_photo_is_shrunk_for_colour_and_gamma_alone(side, model):
    photo = dark((60, 100), dtype="float32")
    photo[:, :50] *= 0.3
    enhancer = Enhancer(model, max_network_side=side, device="cpu")
    size = (-(-60 * side // 100), side)
    small = torch.nn.functional.adaptive_avg_pool2d(as_tensor(photo), size)
    colour, gamma, _ = model.decide(small)
    estimate = enhancer.estimate(photo)
    assert (estimate.shape, estimate.dtype) == ((1, 1, 10), np.float32)
    assert np.abs(estimate[0, 0, :9] - colour.flatten().numpy()).max() <= 1e-5
    assert np.abs(estimate[0, 0, 9] - gamma.item()) <= 1e-5
    mixed = torch.einsum("bij,bjhw->bihw", colour, model(as_tensor(photo))[1].local)
    expected = (mixed.clamp(1e-8, 1) ** gamma.view(1, 1, 1, 1))[0].permute(1, 2, 0).contiguous().numpy()
    assert close(enhancer(photo), expected)
    assert close(enhancer.apply(photo, estimate), expected)


# Strength, maps and what is refused


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_strength_0_gives_the_photo_bit_for_bit(channels, dtype, model):
    photo = dark((13, 17), channels, dtype)
    assert Enhancer(model, strength=0, device="cpu")(photo).tobytes() == photo.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.25, 1.5, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_strength_multiplies_the_difference_to_the_photo(channels, strength, model):
    photo = dark((20, 26), channels)
    result = Enhancer(model, strength=strength, device="cpu")(photo)
    assert close(result, by_the_model(model, photo, strength))
    assert result.tobytes() != by_the_model(model, photo).tobytes()


def test_an_edited_map_is_what_is_applied(model, enhancer):
    photo = dark((20, 30))
    black = enhancer.estimate(photo)
    black[..., :9] = 0
    black[..., 9] = 1
    assert not enhancer.apply(photo, black).any()
    assert close(enhancer.apply(photo, enhancer.estimate(photo).astype(np.float64)), by_the_model(model, photo))


@pytest.mark.parametrize(
    ("curve_map", "says"),
    [
        (np.zeros((2, 1, 10), np.float32), "shape 1×1×10, not 2×1×10"),
        (np.zeros((1, 1, 3), np.float32), "shape 1×1×10, not 1×1×3"),
        (np.zeros(10, np.float32), "shape 1×1×10, not 10"),
        (np.full((1, 1, 10), np.nan, np.float32), "NaN or infinite"),
    ],
)
def test_wrong_map_is_refused(curve_map, says, enhancer):
    with pytest.raises(ValueError, match=says):
        enhancer.apply(dark((5, 5)), curve_map)


def test_denoise_is_refused_and_none_or_0_is_right(model):
    for amount in (0.5, 2):
        with pytest.raises(ValueError, match=f"no denoising, which {amount:g} asks for; leave it out, or give 0"):
            Enhancer(model, denoise=amount, device="cpu")
    assert Enhancer(model, device="cpu").denoise == Enhancer(model, denoise=0, device="cpu").denoise == 0


# Threads


@pytest.mark.slow
def test_threads_are_no_more_than_asked_for_and_as_before_afterwards(model, monkeypatch):
    seen = []
    stage = type(model).local_stage
    monkeypatch.setattr(
        type(model), "local_stage", lambda self, x: (seen.append(torch.get_num_threads()), stage(self, x))[1]
    )
    before = torch.get_num_threads()
    photo = dark((20, 20))
    try:
        for available, wanted in ((3, 2), (3, 1), (2, 4)):
            torch.set_num_threads(available)
            enhancer = Enhancer(model, threads=wanted, device="cpu")
            enhancer.apply(photo, enhancer.estimate(photo))
            assert seen.pop() == min(available, wanted)
            assert torch.get_num_threads() == available
    finally:
        torch.set_num_threads(before)


# Commands


@pytest.fixture(params=["iat", "iat-student"])
def file(request, tmp_path):
    return save_model(vivid(request.param, width=4), tmp_path / f"{request.param}.safetensors")


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, " ".join(result.output.split())


def test_enhance_command(file, tmp_path):
    photo = dark((30, 40))
    Image.fromarray(photo).save(tmp_path / "photo.png")
    code, says = run("enhance", tmp_path / "photo.png", "-o", tmp_path / "out.png", "--model", file, "--device", "cpu")
    assert code == 0, says
    assert close(read_photo(tmp_path / "out.png"), by_the_model(load_model(file), photo))
    code, says = run("enhance", tmp_path / "photo.png", "-o", tmp_path / "x.png", "--model", file, "--denoise", 1)
    assert code == 1
    assert "no denoising" in says
    assert not (tmp_path / "x.png").exists()


@pytest.mark.slow
def test_evaluate_command_times_the_enhancer(file, tmp_path, monkeypatch):
    # Small: 1080p would take a test half a minute.
    monkeypatch.setitem(speed.SIZES, "1080p", (64, 36))
    for kind in ("low", "high"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        Image.fromarray(dark((40, 48))).save(tmp_path / "data" / kind / "1.png")
    code, says = run("evaluate", file, "--data", tmp_path / "data", "--time", "--out", tmp_path / "scores.json")
    assert code == 0, says
    rows = {row["method"]: row for row in json.loads((tmp_path / "scores.json").read_text())["rows"]}
    assert rows[file.stem]["ms_1080p"] > 0
    assert rows[file.stem]["psnr"] > 0


@pytest.mark.slow
def test_benchmark_measures_up_to_1080p_and_says_so_beyond(file):
    quick = ("--size", "32x24", "--repeats", 1, "--threads", 1, "--without", speed.ONNX, "--without", speed.COMPILED)
    code, says = run("benchmark", "--model", file, *quick)
    assert code == 0, says
    assert "not asked for" in says
    code, says = run("benchmark", "--model", file)
    assert code == 1
    assert "out of memory at 4K; use sizes up to 1080p" in says


def test_video_smooths_colour_and_gamma_and_gives_each_frame_its_own_local_maps(model, tmp_path):
    """Frames that differ in where they are bright: a local map of the frame before would show as a ghost."""
    frames = [np.roll(dark((48, 64)) // 2 + np.uint8(60) * (np.arange(64) < 32)[:, None], 16 * k, 1) for k in range(3)]
    with av.open(tmp_path / "in.mkv", "w") as container:
        stream = container.add_stream("ffv1", 10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.astype(np.uint8), "rgb24")))
        container.mux(stream.encode())
    enhancer, applied = Enhancer(model, device="cpu"), []

    class Spy:
        def estimate(self, image):
            return enhancer.estimate(image)

        def apply(self, image, curve_map, out=None):
            before = image.copy()
            result = enhancer.apply(image, curve_map, out)
            applied.append((before, curve_map, result.copy()))
            return result

    report = enhance_video(tmp_path / "in.mkv", tmp_path / "out.mkv", Spy(), smoothing=1.0)
    assert report.frames == 3
    whole = [entry for entry in applied if entry[0].shape == (48, 64, 3)]
    smoothed = [entry for entry in whole if np.abs(entry[1] - enhancer.estimate(entry[0])).max() > 1e-6]
    assert smoothed, "nothing was smoothed"
    for before, curve_map, after in whole:
        with torch.no_grad():
            local = model.local_stage(as_tensor(before))
        colour, gamma = (torch.from_numpy(part) for part in (curve_map[0, 0, :9].reshape(3, 3), curve_map[0, 0, 9:]))
        expected = torch.einsum("ij,bjhw->bihw", colour, local).clamp(1e-8, 1) ** gamma
        expected = np.floor(expected[0].permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)
        assert close(after, expected)
