"""Multiply-adds, compared with sums computed by hand, and timing results."""

import json

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from kdlib.cli import app
from kdlib.evaluation import cost, milliseconds, multiply_adds
from kdlib.models import create_model
from kdlib.weights import save_model


def test_multiply_adds_of_layers_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2, groups=8))
    assert multiply_adds(model, 10, 12) == 10 * 12 * (8 * 3 * 9 + 8 * 25)
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7))
    assert multiply_adds(pooled, 10, 12) == 21


def test_zero_dce_uses_every_weight_once_per_pixel():
    model = create_model("zero-dce")
    weights = sum(p.numel() for p in model.parameters() if p.ndim == 4)
    assert multiply_adds(model, 7, 9) == 63 * weights


@pytest.mark.parametrize(("name", "giga"), [("iat", 6.00), ("iat-student", 4.83)])
def test_multiply_adds_of_iat_and_its_student(name, giga):
    assert multiply_adds(create_model(name), 400, 600) / 1e9 == pytest.approx(giga, abs=0.005)


def test_counting_computes_nothing_and_leaves_the_network_unchanged():
    model = create_model("iat-student").train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    assert multiply_adds(model, 20_000, 30_000) > 2400 * multiply_adds(model, 400, 600)
    assert model.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_folding_keeps_the_count_and_value_dependent_networks_are_counted():
    student = create_model("iat-student")
    assert multiply_adds(student.folded(), 40, 60) == multiply_adds(student, 40, 60)
    assert multiply_adds(create_model("glance-650"), 64, 64) > 0


def test_times_are_returned_as_rows_relative_to_the_first_network(monkeypatch):
    monkeypatch.setattr(
        cost,
        "measure",
        lambda runs, repeats: {name: [(k + 1) * ms / 1000 for ms in (1, 2, 3, 4, 50)] for k, name in enumerate(runs)},
    )
    rows = milliseconds({"a": nn.Conv2d(3, 1, 1), "b": nn.Conv2d(3, 2, 1)}, [(8, 4), (4, 4)], repeats=5)
    assert [(row["method"], row["width"], row["height"]) for row in rows] == [
        ("a", 8, 4), ("b", 8, 4), ("a", 4, 4), ("b", 4, 4),
    ]  # fmt: skip
    assert [row["ms"] for row in rows[:2]] == [3, 6]
    assert [row["times_faster"] for row in rows[:2]] == [1, 0.5]
    assert rows[1]["parameters"] == 8
    assert rows[0]["ms_quartiles"] == [2, 4]


def test_each_network_runs_on_photos_of_the_given_size():
    seen = []

    class Net(nn.Module):
        def forward(self, photo):
            seen.append(tuple(photo.shape))
            assert not self.training
            return photo

    [row] = milliseconds({"net": Net().train()}, [(9, 5)], repeats=2)
    assert set(seen) == {(1, 3, 5, 9)}
    assert row["times_faster"] == 1


@pytest.mark.parametrize("arguments", [{"repeats": 0}, {"threads": 0}, {"models": {}}])
def test_timing_nothing_is_refused(arguments):
    with pytest.raises(ValueError, match=r"at least (1|one)"):
        milliseconds(**{"models": {"a": nn.Identity()}, "sizes": [(4, 4)], **arguments})


def test_the_command_writes_a_row_for_each_network_and_size(tmp_path):
    torch.manual_seed(0)
    student = save_model(create_model("iat-student", width=4, global_width=4), tmp_path / "student.safetensors")
    out = tmp_path / "cost.json"
    arguments = ["cost", "student-565", str(student), "--fold", "--size", "24x16", "--size", "40x8", "--repeats", "1"]
    result = CliRunner().invoke(app, [*arguments, "--threads", "1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    content = json.loads(out.read_text(encoding="utf-8"))
    names = ["student-565", "student", "student, folded"]
    assert [(row["method"], row["width"], row["height"]) for row in content["rows"]] == [
        (name, *size) for size in ((24, 16), (40, 8)) for name in names
    ]
    plain, folded = content["rows"][1:3]
    assert plain["multiply_adds"] == folded["multiply_adds"] > 0
    assert plain["parameters"] > folded["parameters"]
    assert content["command"].startswith("kdlib cost student-565 ")
    refused = CliRunner().invoke(app, ["cost", "student-565", "--size", "big"])
    assert refused.exit_code == 1
    assert "size 'big' is unknown" in " ".join(refused.output.split())


def test_multiply_adds_of_small_networks_are_shown_in_millions(tmp_path):
    torch.manual_seed(0)
    model = create_model("nano-161")
    path = save_model(model, tmp_path / "nano.safetensors")
    result = CliRunner().invoke(app, ["cost", str(path), "--size", "600x400", "--repeats", "1"])
    assert result.exit_code == 0, result.output
    assert "multiply-adds, M" in " ".join(result.output.split())
    count = multiply_adds(model, 400, 600) / 1e6
    assert count > 0.1
    assert f" {count:,.2f} " in result.output
