"""Lesson 06 states what the code and ``results/`` say."""

import json
import re

import numpy as np
import pytest
import torch

from kdlib import load_model
from kdlib.data import Darkening, darken, sample_photos, to_array, to_tensor
from kdlib.enhance.kernels.separable import small_copy
from kdlib.exercises.lesson_06 import equal_strength
from kdlib.models import apply_curve, count_parameters
from tests.helpers import NOTEBOOKS, prose

PAGE = prose("06_enhance_anything")
SOURCE = (NOTEBOOKS / "06_enhance_anything.ipynb").read_text(encoding="utf-8")


def stored(name):
    return json.loads((NOTEBOOKS.parent / "results" / f"{name}.json").read_text(encoding="utf-8"))


def cell_with(text):
    [cell] = [
        cell for cell in json.loads(SOURCE)["cells"] if cell["cell_type"] == "code" and text in "".join(cell["source"])
    ]
    return "".join(cell["source"])


def test_the_networks_have_the_sizes_that_are_quoted():
    teacher, student, nano = (load_model(name) for name in ("zero-dce++", "student-565", "nano-161"))
    sizes = [count_parameters(model) for model in (teacher, student, nano)]
    assert "10,561 parameters, the student 565 and the nano student 161" in PAGE
    assert sizes == [10_561, 565, 161]
    assert round(sizes[0] / sizes[1]) == 19
    assert "trained for four iterations of the curve instead of eight" in PAGE
    assert (student.iterations, nano.iterations) == (8, 4)


def test_the_traffic_that_is_counted():
    namespace = {}
    exec(cell_with("iteration = [").partition("viz_speed")[0], namespace)
    published, per_iteration = namespace["published"], sum(r + w for _, r, w in namespace["iteration"])
    passes, total, loop = re.search(r"(\d+) passes move (\d+) bytes for each sample, and (\d+) of these", PAGE).groups()
    assert (int(passes), int(total), int(loop)) == (
        len(published),
        namespace["carried"]["published"],
        8 * per_iteration,
    )
    assert "390 bytes for each sample in the published form, 3 in the fused one" in PAGE
    assert namespace["carried"] == {"published": 390, "fused": 3}
    low, high = re.search(
        r"32 operations are ([\d.]+) operations for each byte.*? and (\d+) in the fused", PAGE
    ).groups()
    assert (low, high) == (f"{32 / 390:.2f}", f"{32 / 3:.0f}")


def test_averaging_all_pixels_lowers_the_noise_sixfold():
    photo = to_tensor(sample_photos()["motorcycle"])[None]
    generator = torch.Generator().manual_seed(0)
    dark = (darken(photo, Darkening(stops=(4, 4), cast=0), generator=generator)[0] for _ in range(2))
    shots = [to_array(shot)[:492, :732] for shot in dark]
    planes = (torch.from_numpy(shot).permute(2, 0, 1)[None] / 255 for shot in shots)
    picked = [torch.nn.functional.interpolate(p, size=(41, 61), mode="bilinear")[0] for p in planes]
    averaged = [torch.from_numpy(small_copy(shot, (41, 61))) for shot in shots]
    ratio = (picked[0] - picked[1]).std() / (averaged[0] - averaged[1]).std()
    assert "prediction holds for the copies" in PAGE
    assert ratio == pytest.approx(6, rel=0.15)
    maps = [[load_model("student-565").estimate_curve(c[None]) for c in copies] for copies in (picked, averaged)]
    assert (maps[0][0] - maps[0][1]).std() > 4 * (maps[1][0] - maps[1][1]).std()


def test_the_comparison_with_other_methods():
    rows = {(row["method"], row["size"]): row["ms"] for row in stored("benchmark")["rows"]}
    for size in {size for _, size in rows}:
        assert rows["OpenCV CLAHE", size] > rows["kdlib", size] > rows["cv2.LUT", size]
        eager = rows["PyTorch, eager", size]
        assert eager > max(rows["ONNX Runtime", size], rows["torch.compile", size]) > rows["kdlib", size]


def test_a_stronger_map_equals_more_iterations_near_black_and_nearly_elsewhere():
    ramp = torch.linspace(0, 1, 256, dtype=torch.float64).expand(1, 3, 1, -1)
    s = equal_strength(-0.15, 16)
    curves = [apply_curve(ramp, torch.full_like(ramp, r), n) for r, n in ((-0.15, 16), (-0.15 * s, 8))]
    assert "differ by a few hundredths" in PAGE
    assert 0.02 < float((curves[0] - curves[1]).abs().max()) < 0.05
    black = np.array([float(curve[0, 0, 0, 1]) for curve in curves])
    assert black[0] == pytest.approx(black[1], rel=0.02)


def test_smoothing_over_time_in_a_real_video():
    assert "`results/video.json` shows the same" in PAGE
    steadiness = stored("video")["steadiness"]
    assert steadiness["unsmoothed"] < steadiness["output"] < steadiness["source"]
