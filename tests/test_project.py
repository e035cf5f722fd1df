"""The files around the code agree with each other."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from kdlib.cli._super_resolution import COLUMNS as SHARPENING
from kdlib.evaluation.benchmark import speed_table
from kdlib.evaluation.leaderboard import leaderboard, leaderboard_table
from kdlib.evaluation.report import markdown_table
from kdlib.experiments.cluster_cost import engines_table
from kdlib.sweep import read_sweep

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    every = [Requirement(line) for line in project["dependencies"] + extras]
    return [requirement for requirement in every if requirement.name != project["name"]]


def constraints():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", pin.name).lower(): pin for pin in pins}


def test_every_requirement_has_a_lower_bound_and_a_tested_version_that_meets_it():
    pins = constraints()
    for requirement in requirements():
        assert any(clause.operator == ">=" for clause in requirement.specifier), f"{requirement} has no lower bound"
        pin = pins[re.sub(r"[-_.]+", "-", requirement.name).lower()]
        [clause] = pin.specifier
        assert clause.operator == "=="
        assert Version(clause.version) in requirement.specifier, f"{pin} does not meet {requirement}"


def test_constraints_hold_versions_and_no_addresses():
    for pin in constraints().values():
        assert pin.url is None
    assert "://" not in (ROOT / "constraints.txt").read_text(encoding="utf-8")


def test_conda_installs_what_make_installs():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    [by_pip] = [part["pip"] for part in environment["dependencies"] if isinstance(part, dict)]
    [line] = [line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if " -e " in line]
    from_make = [
        word for word in shlex.split(line.split("install", 1)[1]) if not word.startswith("--") and word != "on"
    ]
    assert shlex.split(" ".join(by_pip)) == from_make
    [python] = [part for part in environment["dependencies"] if str(part).startswith("python=")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert Version(python.split("=")[1]) in Requirement(f"python{project['requires-python']}").specifier


def test_what_the_texts_tell_to_make_can_be_made():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    told = {
        name
        for text in ("README.md", "CONTRIBUTING.md")
        for name in re.findall(r"(?:^|`)make ([a-z]+)", (ROOT / text).read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {"setup", "distill", "test", "lab"} <= told <= targets
    assert set(re.findall(r"^# make ([a-z]+)", makefile, re.MULTILINE)) <= targets


def test_weights_and_catalogue_match():
    listed = json.loads((ROOT / "weights" / "catalogue.json").read_text(encoding="utf-8"))
    files = {path.name for path in (ROOT / "weights").glob("*.safetensors")}
    assert files == {entry["file"] for entry in listed.values()}
    for entry in listed.values():
        card = (ROOT / "weights" / entry["file"]).with_suffix(".md").read_text(encoding="utf-8")
        for heading in ("Class", "Data", "Command", "Seed", "Hardware", "Scores", "Licence", "Limits"):
            assert f"**{heading}**" in card, f"the card of {entry['file']} says nothing about {heading}"
        assert entry["category"] in card


CONFIGURATIONS = [path for path in sorted((ROOT / "configs").glob("*.yaml")) if not path.stem.startswith("sweep_")]
SWEEPS = sorted((ROOT / "configs").glob("sweep_*.yaml"))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_configurations_fit_the_notebook_that_they_name(path):
    text = path.read_text(encoding="utf-8")
    command = re.search(rf"papermill (notebooks/\w+\.ipynb) (runs/[\w-]+\.ipynb) -f configs/{path.name}", text)
    assert command, f"{path.name} does not say how to run it"
    notebook = nbformat.read(ROOT / command[1], as_version=4)
    [cell] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    known = {line.split(":")[0] for line in cell.source.splitlines()}
    given = yaml.safe_load(text)
    assert set(given) <= known, f"{command[1]} does not know {set(given) - known}"
    assert Path(given["output_dir"]).name == path.stem


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_sweeps_fit_the_notebook_that_they_name(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("KDLIB_RUNS", raising=False)
    assert f"kdlib sweep configs/{path.name}" in path.read_text(encoding="utf-8")
    sweep = read_sweep(path)
    assert sweep.output == ROOT / "runs" / path.stem
    assert sweep.resumable


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_as_readers_and_tools_need_them(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert all(cell.execution_count for cell in code), "a cell without execution count is never compared"
    assert all(len(cell.source.splitlines()) <= 30 for cell in code)
    assert len(notebook.cells) - len(code) >= len(code) * 0.6, "more code than prose"
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_name_no_folder_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|Users|work|tmp|usr)/", text)


def test_the_readme_lists_every_notebook_and_no_missing_file():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        assert f"notebooks/{path.name}" in readme
    for link in re.findall(r"\]\((?!https?:|#)([^)]+)\)", readme):
        assert (ROOT / link).exists(), f"README links to {link}, which does not exist"


def sharpening_rows(results):
    """Of both test sets, each row with its set."""
    tests = {"Set5": "super_resolution", "Set14": "super_resolution_set14"}
    found = {test: json.loads((results / f"{name}.json").read_text(encoding="utf-8")) for test, name in tests.items()}
    return [{"test": test, **row} for test, content in found.items() for row in content["rows"]]


def test_the_shipped_student_beats_the_published_one_and_takes_a_third_of_its_teachers_time():
    rows = {(row["test"], row["method"]): row for row in sharpening_rows(ROOT / "results")}
    for test, least in (("Set5", 30.5), ("Set14", 27.5)):
        student, teacher = rows[test, "light-msafn"], rows[test, "msafn-32"]
        assert student["psnr_y"] > max(least, rows[test, "light_msafn_peer"]["psnr_y"])
        assert 3 * student["ms_per_megapixel"] < teacher["ms_per_megapixel"]


def test_the_readmes_tables_are_the_results():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert leaderboard_table(leaderboard(ROOT / "results")) in readme
    for name in ("distill_embedded", "distill_folder"):
        metrics = json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))
        assert f"| {metrics['fidelity']:.1f} dB |" in readme
    speed = json.loads((ROOT / "results" / "benchmark.json").read_text(encoding="utf-8"))
    assert speed_table(speed) in readme
    denoised = json.loads((ROOT / "results" / "denoise.json").read_text(encoding="utf-8"))["rows"]
    assert markdown_table([row for row in denoised if row["parameters"]]) in readme
    assert markdown_table(sharpening_rows(ROOT / "results"), {"test": ("test", "s"), **SHARPENING}) in readme
    video = json.loads((ROOT / "results" / "video.json").read_text(encoding="utf-8"))
    for key in ("enhance_ms", "decode_ms", "encode_ms"):
        assert f"{video[key]:.1f} ms" in readme
    for key in ("output", "source"):
        assert f"{video['steadiness'][key]:.2%}" in readme


def test_the_readmes_figures_of_a_cluster_are_measured():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    measured = ROOT / "results" / "scale.json"
    assert measured.is_file() == ("core-seconds" in readme)
    if measured.is_file():
        assert engines_table(json.loads(measured.read_text(encoding="utf-8"))) in readme


def test_the_readmes_times_of_notebooks_are_measured():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    measurements = json.loads((ROOT / "results" / "notebooks.json").read_text(encoding="utf-8"))["notebooks"]
    for name, measured in measurements.items():
        [row] = [line for line in readme.splitlines() if line.startswith(f"| [{name}]")]
        assert row.endswith(f"| {measured['seconds']:.0f} s |")
