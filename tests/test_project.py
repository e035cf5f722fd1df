"""The files around the code agree with each other."""

from __future__ import annotations

import json
import math
import re
import runpy
import shlex
import tomllib
from functools import cache
from pathlib import Path

import nbformat
import pytest
import torch
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from kdlib.cli._super_resolution import COLUMNS as SUPER_RESOLUTION
from kdlib.enhance.photos.photo_file import MAX_PIXELS, MAX_SIDE
from kdlib.evaluation import markdown_table
from kdlib.evaluation.benchmark import speed_table
from kdlib.evaluation.brackets import COLUMNS as BRACKETS
from kdlib.evaluation.brackets import LOOKS
from kdlib.evaluation.leaderboard import leaderboard, leaderboard_table
from kdlib.experiments.cluster_cost import engines_table
from kdlib.experiments.exported_files import export_table, litert_table
from kdlib.experiments.folder_speed import folder_table
from kdlib.experiments.video_stages import video_table
from kdlib.gain_grid import MOST_LOSS_OF_WHITE
from kdlib.models import ARCHITECTURES, count_parameters, create_model
from kdlib.sweep import read_sweep
from kdlib.training import LoopConfig
from kdlib.weights.header import MAX_BYTES
from tests.web.__main__ import times_table

ROOT = Path(__file__).resolve().parent.parent
# The ten rows of the README's table, in the words of ``kdlib report``.
README_EVERY_PHOTO = {"input", "CLAHE", "six numbers", "student-565", "glance-650", "grid-960", "grid-teacher"}
# The columns of the two tables of docs/results.md.
LEADING = ("method", "category", "parameters", "psnr", "ssim", "daylight")
FURTHER = ("method", "lpips", "gt_mean_psnr", "gt_mean_ssim", "fidelity", "fixed_curve", "fixed_curve_dicm", "ms_1080p")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_BYTES = runpy.run_path(str(ROOT / "notebooks" / "refresh.py"))["MOST_BYTES"]
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))


def page(name):
    return (ROOT / name).read_text(encoding="utf-8")


def stored(name):
    return json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))


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
        for text in ("README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
        for name in re.findall(r"(?:^|`)make ([a-z]+)", page(text), re.MULTILINE)
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


each_stored_notebook = pytest.mark.parametrize(
    "path", [*NOTEBOOKS, *SOLUTIONS], ids=lambda path: f"{'solution-' * (path in SOLUTIONS)}{path.stem}"
)


@each_stored_notebook
def test_notebooks_are_stored_as_readers_and_tools_need_them(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == (path in NOTEBOOKS)
    assert all(cell.execution_count for cell in code), "a cell without execution count is never compared"
    assert all(len(cell.source.splitlines()) <= 30 for cell in code)
    assert path in SOLUTIONS or len(notebook.cells) - len(code) >= len(code) * 0.6, "more code than prose"
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)


@each_stored_notebook
def test_notebooks_name_no_folder_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|Users|work|tmp|usr)/", text)


@each_stored_notebook
def test_a_notebook_is_light(path):
    assert path.stat().st_size <= MOST_BYTES, "show fewer or smaller pictures"


def test_all_notebooks_together_are_light():
    assert sum(path.stat().st_size for path in (*NOTEBOOKS, *SOLUTIONS)) <= 7_000_000


def test_solutions_belong_to_lessons():
    assert {path.name for path in SOLUTIONS} <= {path.name for path in NOTEBOOKS}


def test_the_course_lists_every_notebook():
    course = page("docs/course.md")
    for path in NOTEBOOKS:
        assert f"(../notebooks/{path.name})" in course


def super_resolution_rows(results):
    """Of both test sets, each row with its set."""
    tests = {"Set5": "super_resolution", "Set14": "super_resolution_set14"}
    found = {test: json.loads((results / f"{name}.json").read_text(encoding="utf-8")) for test, name in tests.items()}
    return [{"test": test, **row} for test, content in found.items() for row in content["rows"]]


def test_the_shipped_student_beats_the_published_one_and_takes_a_third_of_its_teachers_time():
    rows = {(row["test"], row["method"]): row for row in super_resolution_rows(ROOT / "results")}
    for test, least in (("Set5", 30.5), ("Set14", 27.5)):
        student, teacher = rows[test, "light-msafn"], rows[test, "msafn-32"]
        assert student["psnr_y"] > max(least, rows[test, "light_msafn_peer"]["psnr_y"])
        assert 3 * student["ms_per_megapixel"] < teacher["ms_per_megapixel"]


def test_the_tables_of_results_are_the_results():
    text = page("docs/results.md")
    scores = leaderboard(ROOT / "results")
    every = (leaderboard_table(scores), leaderboard_table(scores, [*LEADING, *FURTHER[1:]]))
    assert len({tuple(sorted(table.split("\n")[0].split(" | "))) for table in every}) == 1, "a column is missing"
    assert leaderboard_table(scores, LEADING) in text
    assert leaderboard_table(scores, FURTHER) in text
    assert speed_table(stored("benchmark")) in text
    assert speed_table(stored("benchmark_grid-960")) in text
    assert markdown_table([row for row in stored("denoise")["rows"] if row["parameters"]]) in text
    assert markdown_table(super_resolution_rows(ROOT / "results"), {"test": ("test", "s"), **SUPER_RESOLUTION}) in text
    assert engines_table(stored("scale")) in page("docs/clusters.md")
    assert export_table(stored("export")) in page("docs/export.md")
    assert litert_table(stored("export")) in page("docs/export.md")
    columns = {
        "method": ("trained on", "s"),
        "fidelity": ("fidelity, dB", ".1f"),
        "worst": ("worst photo, dB", ".1f"),
        "seconds": ("training time, s", ".0f"),
    }
    names = {
        "distill_embedded": "embedded photos (`make distill`)",
        "distill_folder": "2002 photos (`-f configs/student-565.yaml`)",
    }
    distilled = [
        {**run, "method": names[name], "worst": min(found["worst"] for found in run["fidelity_by_set"].values())}
        for name in names
        for run in [stored(name)]
    ]
    assert markdown_table(distilled, columns) in text


def test_the_tables_of_every_photo_are_the_results():
    rows = stored("every_photo")["rows"]
    assert markdown_table(rows, BRACKETS) in page("docs/results.md")
    assert markdown_table(rows, LOOKS) in page("docs/results.md")
    keys = ("method", "parameters", "psnr", "psnr_dark", "psnr_bright", "psnr_backlit", "ssim")
    chosen = [row for row in rows if row["method"] in README_EVERY_PHOTO]
    assert len(chosen) == len(README_EVERY_PHOTO)
    assert markdown_table(chosen, {key: BRACKETS[key] for key in keys}) in page("README.md")


def test_the_courses_times_are_measured():
    course = page("docs/course.md").splitlines()
    measured = stored("notebooks")["notebooks"]
    for path in NOTEBOOKS:
        [row] = [line for line in course if line.startswith(f"| [{path.stem}]")]
        assert row.endswith(f"| {measured[path.stem]['seconds']:.0f} s |")


def test_the_minutes_for_exercises_are_the_sum_of_those_stated_at_each():
    course = page("docs/course.md")
    all_minutes = 0
    for path in NOTEBOOKS:
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
        minutes = [int(found) for cell in cells for found in re.findall(r"importance ★+ · (\d+) minutes", cell)]
        stated = re.search(r"about (\d+) minutes to read, and (\d+) for the exercises", cells[0])
        assert int(stated[2]) == 5 * round(sum(minutes) / 5)
        [row] = [line for line in course.splitlines() if line.startswith(f"| [{path.stem}]")]
        assert row.split(" | ")[-3:-1] == list(stated.groups())
        all_minutes += int(stated[1]) + int(stated[2])
    assert f"together they are about {round(all_minutes / 60)} hours" in course


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebooks_state_about_what_was_measured(path):
    opening = nbformat.read(path, as_version=4).cells[0].source
    seconds, gib = re.search(r"about (\d+) seconds with one CPU thread, and take ([\d.]+) GiB", opening).groups()
    measured = stored("notebooks")["notebooks"][path.stem]
    assert float(seconds) == pytest.approx(measured["seconds"], rel=0.25)
    assert float(gib) == pytest.approx(measured["peak_gib"], rel=0.25)


def test_the_claims_about_every_photo_hold():
    rows = {row["method"]: row for row in stored("every_photo")["rows"]}
    grid, six = rows["grid-960"], rows["six numbers"]
    for key in ("psnr", "ssim", "psnr_dark", "psnr_middle", "psnr_backlit"):
        assert grid[key] > max(row[key] for name, row in rows.items() if not name.startswith("grid"))
    assert six["psnr_bright"] > grid["psnr_bright"]
    assert abs(grid["contrast"] - 1) < abs(six["contrast"] - 1)
    assert abs(grid["chroma"] - 1) < abs(six["chroma"] - 1)
    assert grid["lpips"] < min(row["lpips"] for name, row in rows.items() if not name.startswith("grid"))
    assert grid["reversals"] > max(rows[name]["reversals"] for name in ("CLAHE", "fused copies"))
    assert grid["psnr"] < 20.4
    assert grid["psnr_backlit"] < 20.8
    assert grid["ssim"] >= 0.785
    assert math.exp(-MOST_LOSS_OF_WHITE) == pytest.approx(0.86, abs=0.005)
    assert grid["daylight"] <= 0.04


def test_the_claims_of_the_pages_hold():
    rows = {row["method"]: row for row in leaderboard(ROOT / "results")}
    published = [row for name, row in rows.items() if name.split(",")[0].endswith(("_official", "_peer", "_bsun"))]
    published = [row for row in published if row["category"] == "zero-reference"]
    assert len(published) > 4
    for key in ("psnr", "ssim"):
        assert all(rows["gamma 0.3"][key] >= row[key] for row in published)
        others = [row for name, row in rows.items() if row["category"] != "real pairs" and name != "glance-650"]
        assert all(rows["glance-650"][key] > row[key] for row in others)
    trained = [row for row in rows.values() if row["category"] == "zero-reference"]
    assert all(row["daylight"] > 0.2 for row in trained)
    assert all(row["daylight"] < 0.05 for row in rows.values() if row["category"] == "self-made pairs")
    for name in ("student-565", "student-565-pairs"):
        taught, alone = rows[name], rows[f"{name}, no teacher"]
        gain, error = taught["psnr"] - alone["psnr"], math.hypot(taught["psnr_sd"], alone["psnr_sd"]) / math.sqrt(3)
        assert 0 < gain < 4.30 * error  # Student's t for 95 % and two degrees of freedom
        assert taught["psnr_sd"] < alone["psnr_sd"] / 10
    assert rows["student-565"]["ssim"] < 0.6
    assert rows["iat-student"]["psnr"] < 22
    assert rows["iat-student"]["ssim"] < 0.79
    times = {name: rows[name]["ms_1080p"] for name in ("glance-650", "student-565", "nano-161", "iat-student")}
    shares = [round(times["glance-650"] / times[name]) for name in ("student-565", "nano-161")]
    assert shares == [8, 15]
    assert 40 <= times["iat-student"] / times["glance-650"] < 50
    assert rows["student-565"]["parameters"] * 19 == pytest.approx(rows["zero-dce++"]["parameters"], rel=0.05)
    for test in ("super_resolution", "super_resolution_set14"):
        found = {row["method"]: row for row in stored(test)["rows"]}
        student, teacher = found["light-msafn"], found["msafn-32"]
        assert student["psnr_y"] > teacher["psnr_y"]
        assert student["ms_per_megapixel"] < teacher["ms_per_megapixel"] / 4
    epochs = [stored(f"weights_{name}")["parameters"]["epochs"] for name in ("light-msafn", "msafn-32")]
    assert epochs[0] >= 3 * epochs[1]
    starts = {fit["engine"]: [] for fit in stored("scale")["fits"]}
    for fit in stored("scale")["fits"]:
        starts[fit["engine"]].append(fit["start"])
    assert 1 <= min(starts["local"]) <= max(starts["local"]) <= 2
    assert 20 <= min(starts["ray"]) <= max(starts["ray"]) < 23
    assert stored("scale")["repeats"] == 2
    assert LoopConfig().checkpoint_minutes == 10


def test_workflows_may_only_read_and_a_release_waits_for_the_tests_and_a_date():
    workflows = {path.stem: page(path) for path in (ROOT / ".github" / "workflows").glob("*.yml")}
    assert all("\npermissions:\n  contents: read\njobs:\n" in text for text in workflows.values())
    release = workflows["release"]
    assert "  test:\n    uses: ./.github/workflows/ci.yml\n  github:\n    needs: test\n" in release
    [pattern] = re.findall(r"grep -qE \"(.*)\" CHANGELOG\.md", release)
    pattern = pattern.replace("${GITHUB_REF_NAME#v}", "0.2.0")
    assert re.search(pattern, "## [0.2.0] - 2030-01-31")
    assert not re.search(pattern, "## [0.2.0] - unreleased")
    assert "there is no network" in workflows["wheel"]


def test_the_wheel_leaves_out_the_weights_that_the_catalogue_says_it_does():
    listed = json.loads(page("weights/catalogue.json"))
    project = tomllib.loads(page("pyproject.toml"))
    left_out = [f"weights/{Path(entry['file']).stem}.*" for entry in listed.values() if entry.get("in_repository")]
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["exclude"] == left_out


def test_the_tables_of_models_and_weights_are_those_of_the_package():
    listed = json.loads(page("weights/catalogue.json"))
    models = re.findall(r"^\| `([^`]+)` \| ([\d,]+) \| (.*?) \|", page("docs/models.md"), re.MULTILINE)
    with torch.device("meta"):
        counted = {name: f"{count_parameters(create_model(name)):,}" for name in ARCHITECTURES}
    assert {name: count for name, count, _ in models} == counted
    assert {name for _, _, shipped in models for name in re.findall(r"`([^`]+)`", shipped)} == listed.keys()
    weights = re.findall(
        r"^\| `([^`]+)` \| `([^`]+)` \| (.*?) \| ([\d,]+) \| \[card\]\((.*?)\) \|",
        page("weights/README.md"),
        re.MULTILINE,
    )
    assert {name: (file, category) for name, file, category, _, _ in weights} == {
        name: (entry["file"], entry["category"]) for name, entry in listed.items()
    }
    for name, file, _, count, card in weights:
        assert card == Path(file).with_suffix(".md").name
        assert page(f"weights/{card}").startswith(f"# {name} ({count} parameters)")


def spread(row, key, digits):
    return f"{row[key]:.{digits}f} ± {row[f'{key}_sd']:.{digits}f}"


def rounded(number):
    """One significant digit: what a busy machine can tell of times."""
    return f"{float(f'{number:.1g}'):.0f}"


@cache
def measured_sentences():
    """What pages say of measurements, with the numbers of ``results/``."""
    rows = {row["method"]: row for row in leaderboard(ROOT / "results")}
    every = {row["method"]: row for row in stored("every_photo")["rows"]}
    grid, six = every["grid-960"], every["six numbers"]
    ahead, low, high = grid["over_six_numbers"]
    (with_one, without), (gain, least, most) = (stored("every_photo_seeds")[key] for key in ("rows", "difference"))
    ms = {(row["method"], row["size"]): row["ms"] for row in stored("benchmark")["rows"]}
    [default_ms] = [
        row["ms"] for row in stored("benchmark_grid-960")["rows"] if (row["method"], row["size"]) == ("kdlib", "12 MP")
    ]
    ratios, video, denoised = stored("benchmark")["ratios"], stored("video"), stored("denoise")["rows"]
    ssim = {row["method"]: row["ssim"] for row in denoised}
    memory, damaged, soak = stored("memory"), stored("mutations"), stored("reliability")
    corpus = stored("video_corpus")
    *others, avif = sorted(size for sides in memory["bytes_a_pixel"].values() for size in sides.values())
    few, many = (f"{memory['enlarging_by_threads'][threads] / 1e9:.1f} GB" for threads in ("2", "16"))
    glance, real, student, pairs = (
        rows[name] for name in ("glance-650", "glance-650-real", "student-565", "student-565-pairs")
    )
    alone, pairs_alone = (rows[f"{name}, no teacher"] for name in ("student-565", "student-565-pairs"))
    nano = rows["nano-161"]
    by_seed = [f"{run['daylight']:.0%}" for run in real["runs"]]
    figures = {key: f"{video[key]:.1f} ms" for key in ("enhance_ms", "decode_ms", "encode_ms")}
    steady = {key: f"{video['steadiness'][key]:.2%}" for key in video["steadiness"]}
    kills, workers = soak["kills"], soak["workers"]
    assert kills["identical"] == kills["runs"]
    assert workers["identical_to_local"]
    assert workers["outputs"] == workers["photos"]
    return {
        "README.md": [
            f"`grid-960` reaches {every['grid-960']['psnr']:.2f} dB and an SSIM of {every['grid-960']['ssim']:.3f}, "
            f"`glance-650` {every['glance-650']['psnr']:.2f} dB and {every['glance-650']['ssim']:.3f}",
            f"`grid-960` takes about {rounded(default_ms)} ms, and `student-565` "
            f"takes about {rounded(ms['kdlib', '12 MP'])} ms for a photo of 12 megapixels",
            f"takes about {rounded(ratios['12 MP']['PyTorch, eager'])} times as long in PyTorch, and about "
            f"{rounded(ratios['12 MP']['torch.compile'])} times as long when compiled",
            f"matches the output of its teacher to {student['fidelity']:.0f} dB",
            "A fixed gamma of 0.3 scores at least as high as every published zero-reference network",
        ],
        "docs/photos-and-videos.md": [
            f"takes {ms['kdlib', '1080p']:.2f} ms for a photo of 1920×1080 pixels",
            f"takes {ms['PyTorch, eager', '1080p']:.0f} ms in PyTorch",
            f"`glance-650` takes {figures['enhance_ms']} a frame, in addition to {figures['decode_ms']} for decoding "
            f"and {figures['encode_ms']} for encoding",
            f"changes by {steady['output']} from frame to frame (standard deviation), that of the dark original by "
            f"{steady['source']}. Smoothing over time does not improve this figure ({steady['unsmoothed']} without it)",
            f"itself adds, from {steady['gain_unsmoothed']} to {steady['gain']}",
            f"raises the SSIM of `student-565` from {ssim['student-565']:.3f} to {ssim['student-565, denoise 1']:.3f}",
        ],
        "docs/page.md": [
            " ".join(times_table(stored("web")).split()),
            f"together have {stored('web')['bytes_compressed']['all'] / 1000:.0f} KB compressed",
        ],
        "docs/super-resolution.md": [f"takes {few} of memory with two threads, {many} with 16"],
        "docs/limits.md": [
            f"{MAX_PIXELS // 10**6} million pixels",
            f"{MAX_SIDE:,} a side",
            f"more than {MAX_BYTES // 2**20} MiB",
            f"takes {others[0]} to {others[-1]} bytes of memory a pixel, AVIF {avif},",
            f"{damaged['inputs']:,} damaged files",
            f"photos with up to {damaged['max_pixels'] // 10**6} megapixels",
            f"took over {damaged['seconds_allowed']:.0f} s, none needed more than "
            f"{damaged['bytes_allowed'] / 1e6:.0f} MB in addition to the program",
            f"made {sum(corpus[key] for key in ('enhanced', 'differing', 'refused_wrongly'))} healthy videos in "
            f"{len(corpus['containers'])} kinds of files",
            f"{corpus['enhanced']} were enhanced with every frame at its time, as ffprobe sees it, "
            f"{corpus['differing']} differed and {corpus['refused_wrongly']} were refused. "
            f"The {corpus['refused_truly']} files without",
            f"{kills['runs']} trainings were killed {kills['kills']} times, {kills['kills_during_a_write']} of these",
            f"With {workers['workers_killed']} workers killed, Ray wrote all {workers['photos']:,} photos",
        ],
        "docs/export.md": [f"more than {MAX_BYTES // 2**20} MiB"],
        "docs/clusters.md": [engines_table(stored("scale")).split("\n\n")[1]],
        "docs/results.md": [
            f"It reaches {grid['psnr']:.2f} dB and an SSIM of {grid['ssim']:.3f}, `glance-650` "
            f"{every['glance-650']['psnr']:.2f} dB and {every['glance-650']['ssim']:.3f}. On backlit photos it is "
            f"{grid['psnr_backlit'] - six['psnr_backlit']:.1f} dB ahead of the six numbers. Over all scenes its lead "
            f"is {ahead:.2f} dB, with a 95% interval from {low:.2f} to {high:.2f} dB",
            f"reaches {with_one['psnr']:.2f} ± {with_one['psnr_sd']:.2f} dB and an SSIM of "
            f"{with_one['ssim']:.3f} with a teacher, and {without['psnr']:.2f} ± {without['psnr_sd']:.2f} dB "
            f"and {without['ssim']:.3f} without one",
            f"is {gain:.2f} dB, with a 95% interval over scenes from {least:.2f} to {most:.2f} dB",
            f"{grid['hue_shift']:.1f}° on average instead of {six['hue_shift']:.1f}°",
            "The gain of white is therefore at least 0.86",
            "they were 20.4 dB, 20.8 dB on backlit photos and an SSIM of 0.785",
            "A fixed gamma of 0.3 scores at least as high as every published zero-reference network",
            f"reaches {spread(glance, 'psnr', 2)} dB and an SSIM of {spread(glance, 'ssim', 3)}; "
            f"trained on real pairs, {spread(real, 'psnr', 2)} dB and {spread(real, 'ssim', 3)}",
            f"to {student['fidelity']:.0f} dB, `nano-161` to {nano['fidelity']:.0f} dB",
            f"`student-565` reaches {ssim['student-565, denoise 1']:.2f}",
            f"{spread(alone, 'psnr', 2)} dB with the zero-reference losses and {spread(pairs_alone, 'psnr', 2)} dB "
            f"from self-made pairs; with a teacher, {spread(student, 'psnr', 2)} and {spread(pairs, 'psnr', 2)}",
            f"{pairs['fidelity']:.0f} dB for `student-565-pairs` and {rows['nano-161-pairs']['fidelity']:.0f} dB for "
            "`nano-161-pairs`",
            f"change it by {by_seed[0]}, {by_seed[1]} and {by_seed[2]}",
            f"22 dB with an SSIM of 0.79 for `iat-student`: it reaches {rows['iat-student']['psnr']:.1f} dB and "
            f"{rows['iat-student']['ssim']:.2f}",
            f"{video['width']}×{video['height']} pixels, {video['frames']:,} frames",
            " ".join(video_table(stored("video_stages")).split()),
            " ".join(folder_table(stored("folder")).split()),
            f"{stored('folder')['photos']} photos of {stored('folder')['size']}",
            f"takes {stored('folder')['start_ratio']} times the CPU time of importing NumPy, numba and OpenCV",
            f"| decoding, a frame | {figures['decode_ms']} | | enhancing, a frame | {figures['enhance_ms']} | "
            f"| encoding, a frame | {figures['encode_ms']} | | steadiness of the dark original | {steady['source']} | "
            f"| steadiness of the result | {steady['output']} | "
            f"| steadiness without smoothing over time | {steady['unsmoothed']} | "
            f"| steadiness of the enhancement alone | {steady['gain']} | "
            f"| steadiness of the enhancement alone, without smoothing over time | {steady['gain_unsmoothed']} |",
            f"`student-565` took {student['ms_1080p']:.2f} ms at 1080p in one run and {ms['kdlib', '1080p']:.2f} ms in "
            "the other",
        ],
        "docs/index.md": [],
        "docs/models.md": [],
        "docs/training.md": [],
    }


# Numbers of pages that are no measurements: settings, thresholds and aims.
SETTINGS = {"45 dB", "0.60", "Python 3.11"}


@cache
def counts_of_parameters():
    """Of all networks."""
    counts = {row["parameters"] for row in leaderboard(ROOT / "results")}
    counts |= {row["parameters"] for row in super_resolution_rows(ROOT / "results")}
    with torch.device("meta"):
        return counts | {count_parameters(create_model(name)) for name in ARCHITECTURES}


def test_measured_numbers_of_the_pages_are_in_results():
    for name, sentences in measured_sentences().items():
        text = " ".join(page(name).split())
        for sentence in sentences:
            assert sentence in text, f"{name} does not say: {sentence}"


@pytest.mark.parametrize("name", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_pages_have_no_number_that_is_not_measured(name):
    text = re.sub(r"^```.*?^```$|^\|[^\n]*\|$|`[^`]+`|\]\([^)]*\)", " ", page(name), flags=re.MULTILINE | re.DOTALL)
    text = " ".join(text.split())
    known = [*SETTINGS, *(f"{count:,}" for count in counts_of_parameters())]
    known += [re.sub(r"`[^`]+`", " ", sentence) for sentence in measured_sentences().get(name, [])]
    for fact in sorted((" ".join(fact.split()) for fact in known), key=len, reverse=True):
        text = text.replace(fact, "")
    left = re.findall(r"\d[\d,]*\.\d+|\d+,\d{3}|\d+\s?(?:dB|ms|s|MB|GB|MiB|TB|%)(?!\w)|\d+ million", text)
    assert not left, f"{name} has numbers that no file in results/ holds: {left}"


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "weights").glob("*.safetensors")))
def test_scores_on_cards_are_the_results(name):
    card, run = page(f"weights/{name}.md"), stored(f"weights_{name}")
    assert f", {run['seconds']:.0f} s. From `results/weights_{name}.json`" in card
    assert f"epoch {run['best_epoch']})" in card
    model = card.removeprefix("# ").split(" (")[0]
    rows = {row["method"]: row for row in stored("eval15")["rows"]}
    if model not in rows:
        for test, file in (("Set5", "super_resolution"), ("Set14", "super_resolution_set14")):
            found = {row["method"]: row for row in stored(file)["rows"]}
            assert f"({found[model]['parameters']:,} parameters)" in card
            own, bicubic = (f"{found[row]['psnr_y']:.2f}" for row in (model, "bicubic"))
            assert f"{test} {own} dB, SSIM {found[model]['ssim_y']:.4f} (bicubic {bicubic}, " in card
            assert f"{found['bicubic']['ssim_y']:.4f})" in card
        return
    row = rows[model]
    assert f"({row['parameters']:,} parameters)" in card
    assert (
        f"{row['psnr']:.2f} dB PSNR, {row['ssim']:.3f} SSIM, {row['lpips']:.3f} LPIPS; "
        f"{row['gt_mean_psnr']:.2f} dB after GT-mean. From `results/eval15.json`" in card
    )
    changed = f"{row['daylight']:.1%} in mean brightness, at most {row['daylight_worst']:.1%}"
    assert changed in card
    seeds = {row["method"]: row for row in stored("seeds")["rows"] if row.get("seeds")}
    assert (model in seeds) == ("Over 3 seeds" in card)
    if model in seeds:
        several = seeds[model]
        scores = f"{spread(several, 'psnr', 2)} dB, {spread(several, 'ssim', 3)}, {spread(several, 'lpips', 3)}"
        assert f"Over {several['seeds']} seeds: {scores} (`results/seeds.json`)" in card
        by_seed = ", ".join(f"{run['daylight']:.1%}" for run in several["runs"])
        assert f"{changed}; by seed {by_seed}." in card
        if several.get("fidelity") is not None:
            assert f"Fidelity to its teacher on eval15: {several['fidelity']:.1f} dB over 3 seeds" in card
