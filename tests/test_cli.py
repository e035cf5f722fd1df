from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import kdlib
from kdlib.cli import app
from kdlib.data import write_photo
from kdlib.evaluation import classical_methods
from kdlib.models import create_model
from kdlib.weights.catalogue import DEFAULT_MODEL, catalogue
from tests.helpers import in_new_process

ROOT = Path(__file__).parents[1]
runner = CliRunner()


@pytest.fixture
def pairs(tmp_path):
    truth = torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(0))
    for name, scale in (("a", 0.2), ("b", 0.4)):
        write_photo(tmp_path / "pairs" / "low" / f"{name}.png", truth * scale)
        write_photo(tmp_path / "pairs" / "high" / f"{name}.png", truth)
    return tmp_path / "pairs"


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    return kdlib.save_model(create_model("nano-161"), tmp_path / "mine.safetensors")


@pytest.mark.slow
def test_evaluate_writes_the_scores_it_prints(pairs, model, tmp_path):
    out = tmp_path / "scores.json"
    result = runner.invoke(
        app, ["evaluate", str(model), "--data", str(pairs), "--teacher", str(model), "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    rows = {row["method"]: row for row in json.loads(out.read_text(encoding="utf-8"))["rows"]}
    assert rows.keys() == {*classical_methods(), "mine"}
    assert rows["mine"]["parameters"] == 161
    assert rows["mine"]["photos"] == 2
    assert rows["mine"]["fidelity"] is None  # it is its own teacher
    assert f"{rows['mine']['psnr']:.2f}" in result.output


@pytest.mark.slow
def test_evaluate_appends_without_losing_rows(pairs, model, tmp_path):
    out = tmp_path / "scores.json"
    base = ["evaluate", str(model), "--data", str(pairs), "--out", str(out)]
    assert runner.invoke(app, base).exit_code == 0
    assert runner.invoke(app, [*base, "--curve-activation", "sigmoid", "--append"]).exit_code == 0
    methods = [row["method"] for row in json.loads(out.read_text(encoding="utf-8"))["rows"]]
    assert sorted(methods) == sorted([*classical_methods(), "mine", "mine, sigmoid"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["no-such-model"], "no-such-model"), (["missing.pth"], "missing.pth"), (["--data", "missing"], "missing")],
)
def test_evaluate_fails_with_a_sentence(arguments, message, model):
    result = runner.invoke(app, ["evaluate", *([] if arguments[0] != "--data" else [str(model)]), *arguments])
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_shipped_weights_verify():
    result = runner.invoke(app, ["weights", "verify"])
    assert result.exit_code == 0
    assert "zero-dce++: as catalogued" in result.output


def test_weights_are_listed_with_their_licence_and_what_they_are_for():
    lines = runner.invoke(app, ["weights", "list"]).output.splitlines()
    entry = catalogue()["student-565"]
    at = lines.index("student-565  student-565.safetensors")
    assert lines[at + 1 : at + 4] == [f"  {text}" for text in (entry.use, entry.made, entry.licence)]


@pytest.mark.parametrize("command", ["enhance", "video", "camera"])
def test_help_says_what_each_shipped_model_is_for(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    lines = [line.strip(" │") for line in runner.invoke(app, [command, "--help"]).output.splitlines()]
    assert [line for line in lines if line.startswith("• ")] == [f"• {e.name}: {e.use}" for e in catalogue().values()]
    assert all(entry.use for entry in catalogue().values())
    assert f"[default: {DEFAULT_MODEL}]" in lines


def test_the_page_on_photos_names_the_default_model():
    page = (ROOT / "docs" / "photos-and-videos.md").read_text(encoding="utf-8")
    assert re.findall(r"`([^`]+)` \(default\) \|", page)[:1] == [DEFAULT_MODEL]


def test_help_without_a_catalogue_still_helps(monkeypatch):
    """The list is made where the options are declared, so that a damaged installation must not end every command."""
    monkeypatch.setenv("COLUMNS", "300")
    program = (
        "import kdlib.weights.catalogue as module\n"
        "def damaged(): raise ValueError('damaged')\n"
        "module.catalogue = damaged\n"
        "from kdlib.cli import app; app(['enhance', '--help'], standalone_mode=False)"
    )
    done = in_new_process(program)
    assert done.returncode == 0, done.stderr
    assert "path of a weights file" in " ".join(done.stdout.replace("│", " ").split())


def test_only_the_module_of_the_running_command_is_imported():
    program = (
        "import sys; from kdlib.cli import app; app(['weights', 'list'], standalone_mode=False)\n"
        "print(*sorted(name for name in sys.modules if name.startswith('kdlib.cli.') and '._' not in name))"
    )
    done = in_new_process(program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "kdlib.cli.weights"


@pytest.mark.slow
def test_evaluate_scores_denoising_beside_a_gaussian(pairs, model, tmp_path):
    out = tmp_path / "scores.json"
    arguments = ["evaluate", str(model), "--data", str(pairs), "--denoise", "0", "--denoise", "1", "--out", str(out)]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    rows = {row["method"]: row for row in json.loads(out.read_text(encoding="utf-8"))["rows"]}
    assert list(rows)[len(classical_methods()) :] == [
        "mine",
        "mine, Gaussian of sigma 1",
        "mine, denoise 0",
        "mine, denoise 1",
    ]
    # Noise all over, which smoothing takes away: nearer to a truth that is noise itself, it cannot come.
    assert rows["mine, denoise 0"]["psnr"] == pytest.approx(rows["mine"]["psnr"], abs=0.2)
    assert rows["mine, Gaussian of sigma 1"]["psnr"] < rows["mine"]["psnr"]
    assert rows["mine, denoise 1"]["psnr"] != rows["mine, denoise 0"]["psnr"]


def test_version_is_printed():
    result = runner.invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.output == f"kdlib {kdlib.__version__}\n"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("enhance", "Inputs are never changed. Photos that cannot be enhanced"),
        ("video", "The video is still complete, and the exit code 0."),
        ("sweep", "with one database, and they share the work."),
    ],
)
def test_help_breaks_lines_at_the_width_of_the_terminal_only(command, sentence, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    lines = runner.invoke(app, [command, "--help"]).output.splitlines()
    assert any(sentence in line for line in lines)


def test_messages_about_the_device_name_the_option(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    result = runner.invoke(app, ["enhance", str(tmp_path / "a.png"), "--device", "mps"])
    assert result.exit_code == 1
    assert "PyTorch finds none here; use --device cpu" in result.output
