from __future__ import annotations

import json

import pytest
import torch

from kdlib.enhance.photos.rgb import write_photo
from kdlib.experiments.exposure_targets import (
    measure_targets,
    own_size_crops,
    photos_with_bright_areas,
    summarise_targets,
    tone_change,
)
from kdlib.models import create_model

QUICK = {"photos": 8, "epochs": 1, "device": "cpu", "progress": False}


def constant_map(r):
    """A network whose curve map is r everywhere."""
    model = create_model("zero-dce")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.e_conv7.bias.fill_(torch.atanh(torch.tensor(r)))
    return model.eval()


@pytest.fixture
def half_bright():
    photo = torch.full((1, 3, 32, 32), 0.1)
    photo[..., :16] = 0.8
    return photo


def test_a_negative_map_brightens_both_and_a_positive_one_darkens_both(half_bright):
    brighter, darker = (tone_change(constant_map(r), half_bright) for r in (-0.2, 0.2))
    assert brighter["bright"] > 0 > darker["bright"]
    assert brighter["dark"] > 0 > darker["dark"]
    assert (brighter["darkened"], darker["darkened"]) == (0.0, 1.0)
    assert (brighter["positive"], darker["positive"]) == (0.0, 1.0)


def test_the_change_is_that_of_the_bright_pixels_alone(half_bright):
    x = torch.tensor(0.8)
    for _ in range(8):
        x = x - 0.2 * (x * x - x)
    assert tone_change(constant_map(-0.2), half_bright)["bright"] == pytest.approx(float(x) - 0.8, abs=1e-5)


def test_a_loss_too_small_to_show_is_not_darkened(half_bright):
    change = tone_change(constant_map(0.01), half_bright)
    assert -0.02 < change["bright"] < 0
    assert change["darkened"] == 0


def test_photos_without_bright_areas_are_left_out(tmp_path):
    dark, lamp = torch.full((3, 240, 240), 0.2), torch.full((3, 240, 240), 0.2)
    lamp[:, 100:140, 100:140] = 0.9
    write_photo(tmp_path / "dark.png", dark)
    with pytest.raises(ValueError, match=r"no photo in .* is brighter than 0\.7 on 2% of its centre"):
        photos_with_bright_areas(tmp_path)
    write_photo(tmp_path / "lamp.png", lamp)
    assert photos_with_bright_areas(tmp_path).shape == (1, 3, 192, 192)


def test_embedded_photos_have_bright_areas():
    assert len(photos_with_bright_areas()) >= 1


def test_crops_keep_a_photos_own_pixels(tmp_path):
    columns = torch.arange(512).expand(3, 512, 512) // 2
    for name in ("a", "b"):
        write_photo(tmp_path / f"{name}.png", columns.float() / 255)
    crops = own_size_crops(tmp_path, 2, 32)
    assert crops.shape == (2, 3, 32, 32)
    assert (crops.int().diff(dim=-1) <= 1).all()
    assert torch.equal(own_size_crops(tmp_path, 2, 32), crops)


@pytest.mark.slow
def test_a_measurement_goes_on_where_it_was_and_refuses_other_settings(tmp_path, before_call):
    path = tmp_path / "targets.json"
    settings = {"model": "nano-161", "objectives": ("zero-dce",), "seeds": (0,), **QUICK}
    first = measure_targets(path, targets=(0.4,), **settings)
    written = []
    before_call("os.rename", path.name, written.append)
    both = measure_targets(path, targets=(0.4, 0.7), **settings)
    assert len(written) == 1, "a run was repeated"
    assert [row["target"] for row in both["rows"]] == [0.4, 0.7]
    assert both["rows"][0] == first["rows"][0]
    assert json.loads(path.read_text(encoding="utf-8"))["rows"] == both["rows"]
    with pytest.raises(ValueError, match="epochs 1 → 2"):
        measure_targets(path, targets=(0.4,), **{**settings, "epochs": 2})


def test_a_summary_has_means_and_deviations_over_seeds():
    rows = [
        {
            "objective": "zero-dce",
            "target": 0.4,
            "seed": seed,
            "bright": b,
            "darkened": 1.0,
            "positive": 1.0,
            "dark": 0.1,
        }
        for seed, b in enumerate((-0.1, -0.3))
    ]
    [line] = summarise_targets(rows)
    assert (line["objective"], line["target"], line["seeds"]) == ("zero-dce", 0.4, 2)
    assert line["bright"] == pytest.approx(-0.2)
    assert line["bright_sd"] == pytest.approx(0.1 * 2**0.5)
    [alone] = summarise_targets(rows[:1])
    assert alone["bright_sd"] is None
