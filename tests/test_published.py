import json
from pathlib import Path

import pytest
import torch
from torchvision.models import squeezenet1_1

from kdlib.evaluation import report, shared_map_psnr
from kdlib.evaluation.metrics import lpips, lpips_available, psnr, ssim
from kdlib.losses import PerceptualLoss
from kdlib.models import count_parameters
from kdlib.weights import load_model

FILES = {
    "zero_dce_official": ("zero-dce", 79_416, 8),
    "zero_dce_bsun": ("zero-dce", 79_416, 8),
    "zero_dce_pp_official": ("zero-dce++", 10_561, 8),
    "student_565_peer": ("student-565", 565, 8),
    "nano_161_peer": ("nano-161", 161, 4),
}
DB, SSIM = 0.006, 0.0006


@pytest.fixture
def published(shared):
    return lambda name, **overrides: load_model(shared / "weights" / f"{name}.pth", **overrides)


@pytest.mark.parametrize(("file", "name", "count", "iterations"), [(k, *v) for k, v in FILES.items()])
def test_published_file_loads_strictly(file, name, count, iterations, shared, published):
    model = published(file)
    tensors = torch.load(shared / "weights" / f"{file}.pth", map_location="cpu", weights_only=True)
    state = model.state_dict()
    assert count_parameters(model) == sum(tensor.numel() for tensor in tensors.values()) == count
    assert model.iterations == iterations
    assert model.scale_factor == (1 if name == "zero-dce" else 12)
    assert len(state) == len(tensors)
    for key, tensor in tensors.items():
        ours = state[key if file != "zero_dce_bsun" else f"e_{key}"]
        if file == "zero_dce_bsun" and tensor.ndim == 4 and tensor.shape[1] == 64:
            ours = torch.cat([ours[:, 32:], ours[:, :32]], dim=1)
        assert torch.equal(ours, tensor), key


@pytest.mark.slow
@pytest.mark.usefixtures("checkpoints")
def test_input_itself_scores_as_stated(eval15):
    scores = report.score(lambda photo: photo, eval15)
    assert scores["psnr"] == pytest.approx(7.77, abs=DB)
    assert scores["ssim"] == pytest.approx(0.195, abs=SSIM)
    assert scores["lpips"] is None
    assert scores["photos"] == 15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "overrides", "db", "similarity"),
    [
        ("zero_dce_official", {}, 14.86, 0.559),
        ("zero_dce_pp_official", {"scale_factor": 12}, 15.36, 0.568),
    ],
)
def test_published_network_scores_as_stated(file, overrides, db, similarity, scored, published):
    found = scored(report.as_method(published(file, **overrides)), psnr, ssim)
    assert found == [pytest.approx(db, abs=DB), pytest.approx(similarity, abs=SSIM)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "overrides", "db"),
    [
        ("zero_dce_bsun", {}, 13.26),
        ("student_565_peer", {"curve_activation": "sigmoid"}, 13.38),
        ("zero_dce_pp_official", {"curve_activation": "sigmoid"}, 10.26),
        ("nano_161_peer", {}, 15.29),
    ],
)
def test_published_variant_scores_as_measured(file, overrides, db, scored, published):
    assert scored(report.as_method(published(file, **overrides)), psnr) == [pytest.approx(db, abs=DB)]


@pytest.mark.slow
@pytest.mark.parametrize("file", ["zero_dce_official", "zero_dce_bsun"])
def test_published_eight_maps_are_one_as_stored(file, eval15, published):
    stored = json.loads((Path(__file__).parents[1] / "results" / "zero_dce_maps.json").read_text(encoding="utf-8"))
    [row] = [row for row in stored["rows"] if row["method"] == file]
    photos = [(name, dark) for name, dark, _ in eval15[:3]]
    assert shared_map_psnr(published(file), photos) == pytest.approx(row["first_three"], abs=0.2)
    assert row["shared_map"] > 40


@pytest.fixture
def _squeezenet(shared, checkpoints):
    network = squeezenet1_1(weights=None)
    network.features.load_state_dict(
        torch.load(shared / "weights" / "squeezenet1_1_features.pth", weights_only=True), strict=True
    )
    torch.save(network.state_dict(), checkpoints / "squeezenet1_1-b8a52dc0.pth")


@pytest.mark.usefixtures("_squeezenet")
def test_published_squeezenet_serves_lpips(eval15):
    _, dark, truth = eval15[0]
    truth = truth[:, :128, :192]
    assert lpips_available()
    distances = [lpips((truth * dim).clamp(0, 1), truth) for dim in (1.0, 0.5, 0.1)]
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert distances[0] < distances[1] < distances[2]
    assert lpips(dark[:, :128, :192], truth) > 0.2


@pytest.mark.usefixtures("_squeezenet")
def test_published_squeezenet_serves_the_perceptual_loss(eval15):
    _, dark, truth = eval15[0]
    dark, truth = dark[None, :, :64, :96], truth[None, :, :64, :96]
    loss = PerceptualLoss()
    assert loss(truth, truth) == 0
    assert 0 < loss((truth * 0.5), truth) < loss(dark, truth)
