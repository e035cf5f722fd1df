"""Enlarging through an Enhancer: the network's own result, tile by tile, for every kind of photo and file."""

import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms, features
from typer.testing import CliRunner

from kdlib import Enhancer
from kdlib.cli import app
from kdlib.enhance.backends import torch_super_resolution as backend
from kdlib.enhance.photos.formats.exif import with_size
from kdlib.enhance.photos.photo_file import decode_photo, encode_photo, resized
from kdlib.enhance.photos.rgb import read_photo, to_tensor
from kdlib.enhance.video.camera import view
from kdlib.enhance.video.enhance import enhance_video
from kdlib.evaluation.benchmark import benchmark
from kdlib.evaluation.metrics import psnr
from kdlib.models import create_model
from kdlib.noise import TOP
from kdlib.resampling import as_stored, crop_to_multiple, enlarge, shrink
from kdlib.weights import load_model, save_model

NAMES = ["msafn", "light-msafn"]
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
AVIF = pytest.param("avif", marks=pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF"))


def vivid(name="light-msafn", seed=0, **overrides):
    """A tiny network that changes a photo visibly, far from what it sees, and whose gates depend on what it shows."""
    model = create_model(name, **{"width": 4, "blocks": 1, "residual": True, **overrides})
    torch.manual_seed(seed)
    for module in model.modules():  # whatever training starts from
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.reset_parameters()
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            if tensor.ndim == 4 and not key.startswith("recon"):
                tensor.mul_(2)
        model.recon[2].weight.normal_(std=0.3)
        for gate in model.gate_modules():
            gate.fc[0].weight.normal_(std=3)
            gate.fc[2].weight.normal_(std=3)
    return model.eval()


@pytest.fixture
def model():
    return vivid()


@pytest.fixture
def enhancer(model):
    return Enhancer(model, device="cpu", threads=1)


@pytest.fixture
def tiles_of_32(monkeypatch):
    monkeypatch.setattr(backend, "_TILE", 32)


def photo(size, channels=3, dtype="uint8", seed=0):
    """Blocks of random colour, over which brightness and the share of edges change from place to place."""
    generator = np.random.default_rng(seed + sum(size) + channels)
    blocks = generator.random((-(-size[0] // 3), -(-size[1] // 3), channels)).repeat(3, 0).repeat(3, 1)
    values = blocks[: size[0], : size[1]] * np.linspace(0.2, 1, size[1])[:, None]
    return (values * TOP[dtype]).astype(np.float32).astype(dtype)


@torch.no_grad()
def by_the_model(model, image, strength=1.0, gates=None):
    """What bicubic and the network make of a whole photo (H×W×C), in its dtype; alpha by bicubic alone."""
    top, colours = TOP[image.dtype.name], 3 if image.shape[2] >= 3 else 1
    x = torch.from_numpy(image.astype(np.float32) / np.float32(top)).permute(2, 0, 1)[None]
    large = enlarge(x, model.upscale).clamp(0, 1)
    y = model(large[:, :colours].expand(-1, 3, -1, -1), gates)[0]
    y = y if colours == 3 else y.mean(1, keepdim=True)
    y = large[:, :colours] + strength * (y - large[:, :colours])
    result = torch.cat([y.clamp(0, 1), large[:, colours:]], dim=1)[0].permute(1, 2, 0).double().numpy() * top
    return result.astype(np.float32) if image.dtype == np.float32 else np.floor(result + 0.5).astype(image.dtype)


def apart(a, b):
    """The largest difference in steps of 1/255, or of whole numbers."""
    assert (type(a), a.shape, a.dtype) == (type(b), b.shape, b.dtype)
    return np.abs(a.astype(np.float64) - b.astype(np.float64)).max() * (255 if a.dtype == np.float32 else 1)


def close(result, expected):
    # A float32 has 24 binary digits; 16 bits of a photo are kept but for rounding, which adds up over the layers.
    return apart(result, expected) <= {"uint8": 1, "uint16": 3, "float32": 0.01}[result.dtype.name]


# ------------------------------------------------------------------------------------------------- the result


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (7, 5), (33, 20)])
def test_result_is_the_network_s_own(size, dtype, model, enhancer):
    image = photo(size, dtype=dtype)
    before = image.copy()
    result = enhancer(image)
    assert result.shape == (4 * size[0], 4 * size[1], 3)
    assert close(result, by_the_model(model, image))
    assert image.tobytes() == before.tobytes()
    assert (enhancer.upscale, enhancer.backend) == (4, "torch")


@pytest.mark.parametrize("overrides", [{"residual": False}, {"recurrent": False}, {"upscale": 2}, {"upscale": 3}])
@pytest.mark.parametrize("name", NAMES)
def test_arguments_of_the_architecture_hold(name, overrides, tiles_of_32):
    model, image = vivid(name, **overrides), photo((18, 31))
    assert close(Enhancer(model, device="cpu")(image), by_the_model(model, image))


@pytest.mark.parametrize("dtype", TOP)
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_grey_stays_grey_and_alpha_is_enlarged_by_bicubic(channels, dtype, model, enhancer):
    image = photo((11, 14), channels, dtype)
    result = enhancer(image)
    assert close(result, by_the_model(model, image))
    if channels == 1:
        assert np.array_equal(enhancer(image[..., 0]), result[..., 0])
    else:
        alone = Enhancer(model, strength=0, device="cpu")(np.ascontiguousarray(image[..., -1]))
        assert np.array_equal(result[..., -1], alone)


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_strength_multiplies_the_difference_to_bicubic(strength, model):
    image = photo((12, 10))
    assert close(Enhancer(model, strength=strength, device="cpu")(image), by_the_model(model, image, strength))


def test_strength_0_is_bicubic_without_the_network(model, monkeypatch):
    enhancer, image = Enhancer(model, strength=0, device="cpu"), photo((12, 10))
    monkeypatch.setattr(enhancer._backend, "model", None)
    large = as_stored(enlarge(to_tensor(image)[None], 4))[0].permute(1, 2, 0).numpy()
    assert apart(enhancer(image), np.floor(large * 255 + 0.5).astype(np.uint8)) <= 1


@pytest.mark.parametrize("kind", ["batch", "tensor", "16-bit tensor", "strided", "read-only", "big-endian"])
def test_every_kind_of_array_comes_back_as_what_it_was(kind, model, enhancer):
    image = photo((9, 13), dtype="uint16" if kind in {"16-bit tensor", "big-endian"} else "uint8")
    expected = by_the_model(model, image)
    if kind == "batch":
        result = enhancer(np.stack([image, image[::-1]]))
        assert close(result, np.stack([expected, by_the_model(model, image[::-1].copy())]))
    elif "tensor" in kind:
        result = enhancer(torch.from_numpy(image))
        assert isinstance(result, torch.Tensor)
        assert close(result.numpy(), expected)
    elif kind == "strided":
        assert close(enhancer(image[:, ::-1]), by_the_model(model, image[:, ::-1].copy()))
    elif kind == "big-endian":
        result = enhancer(image.astype(">u2"))
        assert result.dtype == ">u2"
        assert close(result.astype("<u2"), expected)
    else:
        image.flags.writeable = False
        assert close(enhancer(image), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_every_mode_of_pillow_comes_back_as_what_it_was(mode, enhancer):
    image = Image.fromarray(photo((9, 13)))
    if mode in {"PA", "LA", "RGBA"}:
        image = image.convert("LA" if mode == "LA" else "RGBA")
        image.putalpha(Image.fromarray(photo((9, 13), 1)[..., 0]))
    if mode == "PA":
        alpha = image.getchannel("A")
        image = image.convert("RGB").quantize(256).convert("PA")
        image.putalpha(alpha)
    elif mode == "I;16":
        image = Image.fromarray(photo((9, 13), 1, "uint16")[..., 0])
    elif mode == "F":
        image = Image.fromarray(photo((9, 13), 1, "float32")[..., 0])
    else:
        image = image.convert(mode)
    result = enhancer(image)
    assert (result.mode, result.size) == (mode, (52, 36))
    if mode in {"RGB", "L", "RGBA", "LA", "I;16", "F"}:
        samples = np.asarray(image)
        samples = samples.astype(np.uint16) if mode == "I;16" else samples
        assert apart(np.asarray(result).astype(samples.dtype), enhancer(samples)) == 0
    if "A" in mode:
        assert np.array_equal(np.asarray(result.getchannel("A")), enhancer(np.asarray(image.convert("RGBA")))[..., 3])


def test_a_transparent_colour_stays_and_no_other_takes_it(enhancer):
    image = Image.fromarray(np.full((6, 5), 100, np.uint8))
    image.putpixel((2, 3), 101)
    image.info["transparency"] = 101
    transparent = np.asarray(enhancer(image)) == 101
    assert np.argwhere(transparent).min(0).tolist() == [12, 8]
    assert transparent.sum() == 16


def test_out_is_filled_and_returned(enhancer):
    image = photo((6, 7))
    out = np.zeros((24, 28, 3), np.uint8)
    assert enhancer(image, out=out) is out
    assert np.array_equal(out, enhancer(image))
    tensor = torch.zeros(24, 28, 3, dtype=torch.uint8)
    assert enhancer(torch.from_numpy(image), out=tensor) is tensor
    assert np.array_equal(tensor.numpy(), out)


@pytest.mark.parametrize("kind", ["size", "dtype", "overlap", "overlapping tensors"])
def test_an_out_that_will_not_do_is_refused(kind, enhancer):
    memory = np.zeros((24, 28, 3), np.uint8)
    image, out, message = {
        "size": (photo((6, 7)), np.zeros((6, 7, 3), np.uint8), "result of enlarging by 4 is 24×28×3"),
        "dtype": (photo((6, 7)), np.zeros((24, 28, 3), np.uint16), "shape and dtype must be the same"),
        "overlap": (memory[:6, :7], memory, "out overlaps the photo"),
        "overlapping tensors": (torch.from_numpy(memory)[:6, :7], torch.from_numpy(memory), "out overlaps the photo"),
    }[kind]
    with pytest.raises(ValueError, match=message):
        enhancer(image, out=out)


# ------------------------------------------------------------------------------------------------- tiles and gates


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("size", [(8, 8), (9, 17), (31, 8), (37, 41)])
@pytest.mark.parametrize("name", NAMES)
def test_tiles_are_the_whole(name, size, dtype, tiles_of_32):
    model, image = vivid(name), photo(size, dtype=dtype)
    enhancer = Enhancer(model, device="cpu", threads=1)
    gates = enhancer._backend.estimate(image, 1024, 1).gates
    result = enhancer.apply(image, enhancer.estimate(image))  # gates that are given: tile by tile
    assert len(enhancer._backend._parts(size[0])) * len(enhancer._backend._parts(size[1])) >= (
        1 if size == (8, 8) else 3
    )
    assert close(result, by_the_model(model, image, gates=gates))
    assert close(result, by_the_model(model, image))
    assert close(result, enhancer(image))


def test_an_enlarged_tile_is_bit_for_bit_that_of_the_whole(enhancer):
    image = torch.from_numpy(photo((40, 50), dtype="float32"))
    whole = enlarge(image.permute(2, 0, 1)[None], 4).clamp(0, 1)
    for top, bottom, left, right in [(0, 8, 0, 8), (7, 9, 13, 50), (1, 40, 1, 2), (32, 40, 48, 50)]:
        part = enhancer._backend._enlarged(image, top, bottom, left, right)
        assert torch.equal(part, whole[..., 4 * top : 4 * bottom, 4 * left : 4 * right])


def test_threads_change_nothing(model, tiles_of_32):
    image, before = photo((37, 41)), torch.get_num_threads()
    alone, several = (Enhancer(model, device="cpu", threads=n)(image) for n in (1, 3))
    assert apart(alone, several) <= 1
    assert torch.get_num_threads() == before


def test_a_flat_photo_shows_no_seams(tiles_of_32):
    """With sampled gates, in which tiles could differ, and away from the photo's border, which the network sees."""
    model = vivid()
    result = Enhancer(model, device="cpu", max_network_side=32)(np.full((40, 40), 0.5, np.float32))
    inner = result[model.reach : -model.reach, model.reach : -model.reach]
    assert np.ptp(inner) < 1e-5
    assert abs(inner.mean() - 0.5) > 1e-3


def test_without_border_seams_would_show(tiles_of_32, monkeypatch):
    """The tests before this one can fail."""
    enhancer, image = Enhancer(vivid(), device="cpu"), photo((37, 41))
    monkeypatch.setattr(enhancer._backend, "_border", 2)
    assert apart(enhancer.apply(image, enhancer.estimate(image)), enhancer(image)) > 1


@pytest.mark.parametrize("upscale", [2, 3, 4])
@pytest.mark.parametrize(
    ("height", "width", "pixels"), [(1, 1, 1), (100, 100, 16), (750, 1000, 1 << 18), (3, 5000, 1 << 18), (300, 7, 4096)]
)
def test_sampled_tiles_lie_apart_within_the_photo_and_within_the_budget(height, width, pixels, upscale):
    tiles = backend.gate_tiles(height, width, pixels, upscale)
    assert len({(bottom - top, right - left) for top, bottom, left, right in tiles}) == 1
    covered = np.zeros((height, width), int)
    for top, bottom, left, right in tiles:
        assert 0 <= top < bottom <= height
        assert 0 <= left < right <= width
        covered[top:bottom, left:right] += 1
    assert covered.max() == 1
    assert covered.sum() <= max(1, pixels // upscale**2)
    assert covered.sum() >= min(height * width, pixels // upscale**2) * 0.3
    rows, columns = np.nonzero(covered)
    assert abs(rows.mean() - (height - 1) / 2) <= 1  # spread evenly
    assert abs(columns.mean() - (width - 1) / 2) <= 1


def test_a_whole_photo_is_sampled_as_long_as_it_is_small_enough():
    assert backend.gate_tiles(128, 128, 1 << 18, 4) == [(0, 128, 0, 128)]
    assert len(backend.gate_tiles(128, 129, 1 << 18, 4)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_sampled_gates_are_near_those_of_the_whole(name, model):
    """A photo whose brightness changes from left to right, of which the network sees a fifth."""
    image = photo((90, 120))
    sampled, whole = (Enhancer(vivid(name), device="cpu", max_network_side=side) for side in (400, 4096))
    assert len(backend.gate_tiles(90, 120, 200**2, 4)) > 1
    tops = [np.abs(sampled.estimate(image) - whole.estimate(image)).max()]
    assert 0 < tops[0] < 0.1
    near = psnr(to_tensor(sampled(image)), to_tensor(whole(image)))
    far = psnr(to_tensor(Enhancer(vivid(name), strength=0, device="cpu")(image)), to_tensor(whole(image)))
    assert near > 45 > 30 > far


def test_a_map_can_be_applied_to_another_photo(enhancer, model):
    image, other = photo((20, 20)), photo((12, 30), seed=5)
    result = enhancer.apply(other, enhancer.estimate(image))
    gates = enhancer._backend.estimate(image, 1024, 1).gates
    assert close(result, by_the_model(model, other, gates=gates))
    assert apart(result, enhancer(other)) > 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((1, 1, 5)), "1×1×32, not 1×1×5"),
        (np.full((1, 1, 32), 1.5), "outside"),
        (np.full((1, 1, 32), np.nan), "outside"),
    ],
)
def test_a_map_of_another_network_is_refused(values, message, enhancer):
    with pytest.raises(ValueError, match=message):
        enhancer.apply(photo((5, 5)), values)


# ------------------------------------------------------------------------------------------------- options and limits


def test_upscale_is_the_network_s_own(model):
    assert Enhancer(model, upscale=4, device="cpu").upscale == 4
    with pytest.raises(ValueError, match="enlarges photos by 4, and upscale asks for 2"):
        Enhancer(model, upscale=2, device="cpu")
    with pytest.raises(ValueError, match="does not enlarge photos, and upscale asks for 4"):
        Enhancer(upscale=4, device="cpu")
    assert Enhancer(device="cpu").upscale == 1
    with pytest.raises(ValueError, match="this network has no denoising"):
        Enhancer(model, denoise=1, device="cpu")


def test_weights_files_are_told_apart(tmp_path):
    path = save_model(vivid(), tmp_path / "sharp.safetensors")
    image = photo((6, 5))
    assert np.array_equal(Enhancer(path, device="cpu")(image), Enhancer(vivid(), device="cpu")(image))
    assert Enhancer(str(path), device="cpu").upscale == 4


def test_videos_cameras_and_the_benchmark_refuse(enhancer, tmp_path):
    with pytest.raises(ValueError, match="enlarges photos by 4, which is far too slow"):
        enhance_video(tmp_path / "a.mp4", tmp_path / "b.mp4", enhancer)
    with pytest.raises(ValueError, match="enlarges photos by 4, which is far too slow"):
        view("0", enhancer, lambda _: False)
    path = save_model(vivid(), tmp_path / "sharp.safetensors")
    with pytest.raises(ValueError, match="kdlib evaluate --time"):
        benchmark(str(path))
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        container.add_stream("mpeg4", rate=5).width = 32
    for command in (["video", str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")], ["camera", "0"], ["benchmark"]):
        result = CliRunner().invoke(app, [*command, "--model", str(path)])
        assert result.exit_code == 1
        assert "enlarges photos" in result.output
    assert not (tmp_path / "b.mp4").exists()


# ------------------------------------------------------------------------------------------------- files


def kdlib(*arguments):
    return CliRunner().invoke(app, ["enhance", *map(str, arguments)])


@pytest.fixture
def weights(tmp_path):
    return save_model(vivid(), tmp_path / "weights" / "sharp.safetensors")


def exif_of(width, height):
    exif = Image.Exif()
    exif[0x010F] = "Kam"
    exif[0x0100], exif[0x0101] = width, height
    exif.get_ifd(ExifTags.IFD.Exif).update({0xA002: width, 0xA003: height, 0x9003: "2024:05:06 07:08:09"})
    return exif


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", AVIF])
def test_a_file_is_enlarged_and_tells_so(suffix, weights, tmp_path):
    source, out = tmp_path / f"small.{suffix}", tmp_path / "out" / f"big.{suffix}"
    exif = exif_of(20, 16)
    if suffix == "tif":
        del exif[0x0100], exif[0x0101]
    Image.fromarray(photo((16, 20))).save(source, exif=exif.tobytes(), icc_profile=ICC)
    before = source.read_bytes()
    result = kdlib(source, "-o", out, "--model", weights, "--upscale", 4)
    assert result.exit_code == 0, result.output
    with Image.open(out) as image:
        assert image.size == (80, 64)
        assert image.info["icc_profile"] == ICC
        told = image.getexif()
        assert told[0x010F] == "Kam"
        inner = told.get_ifd(ExifTags.IFD.Exif)
        assert (inner[0xA002], inner[0xA003], inner[0x9003]) == (80, 64, "2024:05:06 07:08:09")
        if suffix != "tif":
            assert (told[0x0100], told[0x0101]) == (80, 64)
    assert source.read_bytes() == before
    if suffix in {"png", "tif"}:
        assert np.array_equal(decode_photo(out).pixels, Enhancer(weights, device="cpu")(photo((16, 20))))


def test_a_bmp_file_too(weights, tmp_path):
    Image.fromarray(photo((5, 6))).save(tmp_path / "a.bmp", dpi=(300, 300))
    assert kdlib(tmp_path / "a.bmp", "-o", tmp_path / "b.bmp", "--model", weights).exit_code == 0
    with Image.open(tmp_path / "b.bmp") as image:
        assert image.size == (24, 20)
        assert round(image.info["dpi"][0]) == 300


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_size_tags_are_changed_and_nothing_else(prefix, order):
    def entry(tag, kind, value):
        return struct.pack(f"{order}HHI", tag, kind, 1) + value

    def short(value):
        return struct.pack(f"{order}HH", value, 0)

    def block(kind, width, height):
        first = struct.pack(f"{order}H", 4) + entry(256, *kind(width)) + entry(257, *kind(height))
        first += entry(274, 3, short(6)) + entry(34665, 4, struct.pack(f"{order}I", 8 + 2 + 4 * 12 + 4)) + bytes(4)
        inner = struct.pack(f"{order}H", 3) + entry(40961, 3, short(1)) + entry(40962, *kind(width))
        inner += entry(40963, *kind(height)) + bytes(4)
        return (
            prefix + {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8) + first + inner + b"maker note"
        )

    def long(value):
        return 4, struct.pack(f"{order}I", value)

    expected = block(long, 70_000, 64)
    assert with_size(block(long, 20, 16), 70_000, 64) == expected
    assert with_size(block(lambda value: (3, short(value)), 20, 16), 70_000, 64) == expected


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"II*\0", b"II*\0\x08\0\0\0", b"II*\0\x08\0\0\0\xff\xff", b"rubbish" * 9]
)
def test_exif_data_that_cannot_be_read_are_left_alone(exif):
    assert with_size(exif, 4, 4) == exif


def test_a_pillow_image_s_exif_data_follow(enhancer):
    image = Image.fromarray(photo((16, 20)))
    image.info["exif"] = exif_of(20, 16).tobytes()
    before = image.info["exif"]
    inner = enhancer(image).getexif().get_ifd(ExifTags.IFD.Exif)
    assert (inner[0xA002], inner[0xA003]) == (80, 64)
    assert image.info["exif"] == before


def test_a_folder_is_enlarged_and_run_again(weights, tmp_path):
    folder, out = tmp_path / "album", tmp_path / "out"
    folder.mkdir()
    for k, name in enumerate(("a.png", "b.jpg", "c.bmp")):
        Image.fromarray(photo((10, 8), seed=k)).save(folder / name)
    (folder / "bad.png").write_bytes(b"no photo")
    result = kdlib(folder, "-o", out, "--model", weights, "--workers", 2)
    assert result.exit_code == 1
    assert "3 enhanced" in result.output
    assert "bad.png" in result.output
    for name in ("a.png", "b.jpg", "c.bmp"):
        with Image.open(out / name) as image:
            assert image.size == (32, 40)
    assert "3 kept" in kdlib(folder, "-o", out, "--model", weights, "--resume").output


def test_the_limit_of_pixels_is_the_result_s(weights, tmp_path):
    Image.fromarray(photo((5, 4))).save(tmp_path / "a.png")
    refused = kdlib(tmp_path / "a.png", "-o", tmp_path / "b.png", "--model", weights, "--max-pixels", 319)
    assert refused.exit_code == 1
    assert "16 × 20 pixels, enlarged from 4 × 5, are more than the limit of 319; --max-pixels 320" in " ".join(
        refused.output.split()
    )
    assert kdlib(tmp_path / "a.png", "-o", tmp_path / "b.png", "--model", weights, "--max-pixels", 320).exit_code == 0


def test_a_result_that_the_format_cannot_hold_is_refused_at_once(weights, tmp_path):
    Image.fromarray(photo((1, 4096))).save(tmp_path / "a.webp")
    result = kdlib(tmp_path / "a.webp", "-o", tmp_path / "b.webp", "--model", weights)
    assert result.exit_code == 1
    assert "too many for WEBP, which allows 16,383 on a side" in " ".join(result.output.split())


@pytest.mark.parametrize(("model", "asked"), [("glance-650", 4), (None, 3)])
def test_another_upscale_is_refused(model, asked, weights, tmp_path):
    Image.fromarray(photo((5, 4))).save(tmp_path / "a.png")
    result = kdlib(tmp_path / "a.png", "-o", tmp_path / "b.png", "--model", model or weights, "--upscale", asked)
    assert result.exit_code == 1
    assert f"upscale asks for {asked}" in " ".join(result.output.split())
    assert not (tmp_path / "b.png").exists()


def test_a_photo_of_its_own_size_keeps_its_metadata_as_they_are(tmp_path):
    Image.fromarray(photo((16, 20))).save(tmp_path / "a.jpg", exif=exif_of(999, 999), icc_profile=ICC)
    decoded = decode_photo(tmp_path / "a.jpg")
    assert b"Exif" in encode_photo(decoded, tmp_path / "b.jpg").read_bytes()
    assert replace(resized(decoded, decoded.pixels)).container != decoded.container
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.getexif().get_ifd(ExifTags.IFD.Exif)[0xA002] == 999


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone can forget a peak")
def test_memory_does_not_grow_with_the_result(tmp_path):
    """A tiny network, a result of 12 megapixels: less than it would take as floating point numbers.

    PyTorch alone takes 0.7 to 1 GB, depending on how much of its libraries the kernel has mapped ahead.
    """
    path = save_model(vivid(recurrent=False), tmp_path / "sharp.safetensors")
    program = (
        "import sys, numpy as np; from kdlib import Enhancer\n"
        "def status(name):\n"
        "    [line] = [line for line in open('/proc/self/status') if line.startswith(name)]\n"
        "    return int(line.split()[1])\n"
        "enhance = Enhancer(sys.argv[1], device='cpu', threads=1)\n"
        "enhance(np.zeros((64, 64, 3), np.uint8))\n"
        "before = status('VmRSS')\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"  # forgets the peak
        "enhance(np.zeros((750, 1000, 3), np.uint8))\n"
        "print(status('VmHWM') - before)"
    )
    # Not a forked process: memory that it inherits might take the growth.
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) / 1024 < 3000 * 4000 * 3 * 4 / 2**20


@pytest.mark.parametrize(("name", "most"), [("light-msafn", 7), ("msafn", 2)])
def test_many_threads_do_not_take_more_memory_for_tiles_than_is_allowed(name, most, monkeypatch):
    """At published sizes a tile takes 130 and 450 MB: these many, and what PyTorch is, are within 2 GiB."""
    asked = []
    monkeypatch.setattr(backend, "over_rows", lambda _work, tiles, threads: asked.append((tiles, threads)))
    enhancer = Enhancer(create_model(name), device="cpu", threads=64)
    enhancer.apply(photo((240, 240)), np.full((1, 1, sum(enhancer._backend.gate_widths)), 0.5))
    assert asked == [(25, most)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", TOP)
def test_a_gpu_gives_what_the_cpu_gives(dtype, model, tiles_of_32):
    """But for its convolutions, which round to fewer digits."""
    image = photo((37, 41), dtype=dtype)
    on_gpu, on_cpu = (Enhancer(model, device=device) for device in ("cuda", "cpu"))
    wanted, top = on_cpu(image), TOP[dtype]
    there = on_gpu(torch.from_numpy(image).cuda())
    assert there.is_cuda
    in_tiles = on_gpu.apply(image, on_cpu.estimate(image))
    for result in (on_gpu(image), there.cpu().numpy(), in_tiles):
        assert (type(result), result.shape, result.dtype) == (type(wanted), wanted.shape, wanted.dtype)
        near, far = (np.square((other.astype(float) - wanted) / top).mean() for other in (result, wanted[:, ::-1]))
        assert near < 1e-5 < far  # 50 dB


@pytest.mark.parametrize("given", [False, True])
def test_a_network_that_overflows_behind_its_gates_is_an_error(given, model, enhancer):
    gates = enhancer.estimate(photo((9, 9)))
    with torch.no_grad():
        model.recon[0].weight.mul_(1e30)
        model.recon[2].weight.mul_(1e30)
    spoilt = Enhancer(model, device="cpu", threads=1)
    with pytest.raises(ValueError, match="NaN or infinite; its weights are damaged"):
        spoilt.apply(photo((9, 9)), gates) if given else spoilt(photo((9, 9)))


# ------------------------------------------------------------------------------------------------- published weights


@pytest.mark.slow
def test_published_weights_beat_bicubic_through_an_enhancer(shared):
    model = load_model(shared / "weights" / "light_msafn_peer.pth")
    sharp = crop_to_multiple(to_tensor(read_photo(shared / "data/super_resolution/Set5/img_003.webp")))
    small = as_stored(shrink(sharp[None]))[0]
    image = np.floor(small.permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)
    ours, bicubic = (to_tensor(Enhancer(model, strength=s, device="cpu")(image)) for s in (1, 0))
    assert psnr(ours, sharp) > psnr(bicubic, sharp) + 1
