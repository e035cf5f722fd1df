"""`kdlib benchmark --folder`: both sides do what they say; paces themselves are not tested."""

import json

import numpy as np
import pytest
from PIL import Image

from kdlib.enhance import Enhancer
from kdlib.enhance.photos.photo_file import decode_photo
from kdlib.experiments import folder_speed as speed
from tests.helpers import kdlib, said


def test_the_floor_writes_what_the_photo_has_and_the_command_the_enhanced_one(tmp_path):
    [path] = speed.write_photos(tmp_path / "in", 120, 80, 1, metadata=True)
    speed._decode_and_encode([path], tmp_path / "floor", threads=1)
    enhancer = Enhancer("student-565", threads=1, device="cpu")
    speed._enhance([path], tmp_path / "out", enhancer, threads=1)
    photo, floor, ours = map(Image.open, (path, tmp_path / "floor" / path.name, tmp_path / "out" / path.name))
    assert floor.size == ours.size == (120, 80)
    assert photo.quantization == floor.quantization == ours.quantization
    assert photo.layer == floor.layer == ours.layer
    for key in ("exif", "icc_profile"):
        assert photo.info[key] == floor.info[key] == ours.info[key]
    assert np.abs(np.asarray(floor).astype(int) - np.asarray(photo)).mean() < 3
    assert np.asarray(ours).mean() > np.asarray(photo).mean() + 20


def test_made_photos_have_the_size_and_repeat(tmp_path):
    paths = speed.write_photos(tmp_path / "in", 64, 48, 8)
    assert [path.name for path in paths] == [f"{k:06}.jpg" for k in range(8)]
    assert {decode_photo(path).pixels.shape for path in paths} == {(48, 64, 3)}
    assert paths[0].read_bytes() == paths[6].read_bytes() != paths[1].read_bytes()


def test_paces_are_medians_of_the_blocks():
    floor, slower = [(1.0, 2.0), (1.0, 2.0), (3.0, 2.0)], [(2.0, 2.0), (4.0, 8.0), (3.0, 4.0)]
    assert speed._paces(floor, slower).tolist() == [0.5, 0.5]


def test_the_command_measures_both_models_and_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "_STARTS", 1)
    times = {speed.IMPORTS: {"wall": 0.5, "cpu": 0.4}, speed.START: {"wall": 1.0, "cpu": 0.6}}
    monkeypatch.setattr(speed, "_starts", lambda *_: times)
    out = tmp_path / "folder.json"
    result = kdlib("benchmark", "--folder", "--size", "64x48", "--photos", 3, "--threads", 1, "--out", out)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    assert found["photos"] == 3
    assert [row["method"] for row in found["rows"]] == [speed.FLOOR, "student-565", "grid-960"]
    assert all(row["photos_per_second"] > 0 and row["cpu_each"] >= 0 for row in found["rows"])
    assert found["start_ratio"] == 1.5
    assert "| student-565 |" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--folder", "--data", "empty"], "no JPEG photos in empty"),
        (["--folder", "--photos", "0"], "photos"),
        (["--folder", "--size", "64x48", "--size", "4K"], "give --size once"),
        (["--data", "empty"], "add --folder"),
    ],
)
def test_bad_requests_say_what_to_do(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    result = kdlib("benchmark", *arguments)
    assert result.exit_code == 1
    assert message in said(result)
