"""`kdlib benchmark --video`: the stages alone do what they do in the whole; times themselves are not tested."""

import json

import numpy as np
import pytest

from kdlib.enhance import Enhancer
from kdlib.experiments import video_stages as stages
from tests.clips import frames_of, rgb_of
from tests.helpers import kdlib, said


def test_the_video_pans_to_and_fro_and_the_stages_take_its_frames(tmp_path):
    turns = [stages._turning(number) for number in range(2 * stages._KEPT)]
    assert turns[: stages._KEPT] == list(range(stages._KEPT))
    assert turns[stages._KEPT :] == [*range(stages._KEPT - 2, -1, -1), 1]
    source = stages.write_video(tmp_path / "in.mp4", 96, 64, 34)
    shown = [rgb_of(frame) for frame in frames_of(source)[0]]
    assert len(shown) == 34
    assert np.abs(shown[29] - shown[0]).mean() > 5
    assert np.abs(shown[31] - shown[27]).mean() < 2 < np.abs(shown[31] - shown[30]).mean()
    enhancer = Enhancer("student-565", threads=1, device="cpu")
    dark, bright = stages._pictures(source, enhancer)
    assert len(dark) == len(bright) == stages._KEPT
    assert np.abs(dark[3].rgb - shown[3]).mean() < 2
    assert bright[3].rgb.mean() > 1.5 * dark[3].rgb.mean()
    stages._encode(source, tmp_path / "alone.mp4", bright, 34, 1)
    encoded, times = frames_of(tmp_path / "alone.mp4")
    assert times == frames_of(source)[1]
    assert np.abs(rgb_of(encoded[31]) - bright[27].rgb).mean() < 3


def test_the_bound_is_the_slowest_stage_or_the_cores(monkeypatch):
    monkeypatch.setattr(stages, "available_threads", lambda: 2)
    times = {"decode": (0.1, 0.1), "enhance": (0.2, 0.4), "encode": (0.5, 0.9), "whole": (0.84, 1.5)}
    row = stages._summary({name: [pair, (9, 9), (0.01, 0.01)] for name, pair in times.items()}, 10)
    assert row["ms"] == {"decode": 10, "enhance": 20, "encode": 50, "whole": 84}
    assert row["slowest"] == "encode"
    assert row["over_slowest"] == 1.68
    assert row["bound_ms"] == 70  # 1.4 s of two cores for ten frames
    assert row["over_bound"] == 1.2
    times["encode"] = (0.8, 0.8)
    row = stages._summary({name: [pair] for name, pair in times.items()}, 10)
    assert (row["bound_ms"], row["over_bound"]) == (80, 1.05)


def test_the_command_measures_both_models(tmp_path):
    out = tmp_path / "stages.json"
    result = kdlib("benchmark", "--video", "--size", "64x48", "--frames", 30, "--out", out)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    assert [row["model"] for row in found["rows"]] == ["student-565", "grid-960"]
    assert (found["size"], found["frames"]) == ("64×48", 30)
    assert all(row["ms"][name] > 0 for row in found["rows"] for name in (*stages.STAGES, "whole"))
    assert "| student-565 |" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--frames", "3"], "frames must be"), (["--size", "4K", "--size", "1080p"], "give --size once")],
)
def test_bad_requests_say_what_to_do(arguments, message):
    result = kdlib("benchmark", "--video", *arguments)
    assert result.exit_code == 1
    assert message in said(result)
