"""`kdlib enhance --engine ray`: the local engine's files, whatever happens to the workers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from reliability import guarded_store  # noqa: F401 - registers the store
from reliability.workers import by_the_local_engine, enhance_and_kill, files_in, make_photos
from typer.testing import CliRunner

from kdlib.cli import app
from kdlib.enhance import Enhancer
from kdlib.enhance.folders import cluster as dataset
from kdlib.enhance.folders.cluster_worker import DEATHS, Ledger
from kdlib.enhance.folders.local import plan
from kdlib.enhance.folders.memory import LocalMemory
from kdlib.enhance.folders.stores import place, plan_inputs, tasks_of
from kdlib.experiments import cluster_cost as engines
from kdlib.scale import enhance_dataset

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")
linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="workers are found in /proc")


@pytest.fixture(scope="module")
def cluster():
    """One for all tests: starting Ray takes longer than they do."""
    dataset.require_ray()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the workers import the store below
        with dataset.cluster(None, 2):
            yield


@pytest.fixture
def album(tmp_path):
    return make_photos(tmp_path / "album", 20)


@pytest.fixture
def guarded(tmp_path, monkeypatch):
    """Addresses in a store; its folder is this test's."""
    (tmp_path / "store").mkdir()
    monkeypatch.setenv("KDLIB_GUARDED", str(tmp_path / "store"))
    return "guarded://{}".format


# Nothing lost


@pytest.mark.slow
@linux
def test_a_worker_that_is_killed_midway_costs_no_photo(cluster, tmp_path):
    """In parts of 8 photos, to another format and quality, in which two have one name; `make soak` takes 500."""
    photos = make_photos(tmp_path / "in", 99)
    (photos / "00000.bmp").write_bytes((photos / "00003.bmp").read_bytes())  # beside 00000.jpg
    options = {"wanted": "JPEG", "quality": 60}
    summary, standing = enhance_and_kill(photos, tmp_path / "out", **options)
    assert 0 < standing < 100, "the worker was not killed midway"
    assert (summary.done, summary.kept, summary.failed) == (100, 0, [])
    found = files_in(tmp_path / "out")
    assert found == by_the_local_engine(photos, tmp_path / "expected", **options)
    assert {"00000.jpg", "00000_bmp.jpg"} <= set(found)
    assert all(name.endswith((".jpg", ".jpeg")) and content[:2] == b"\xff\xd8" for name, content in found.items())


@pytest.mark.slow
def test_stores_and_a_photo_that_kills_every_worker(cluster, tmp_path, guarded):
    photos = make_photos(tmp_path / "store" / "in", 20)
    expected = by_the_local_engine(photos, tmp_path / "expected")
    for name in ("killer.png", "lost.png"):
        (photos / name).write_bytes((photos / "00000.jpg").read_bytes())
    summary = enhance_dataset([guarded("in")], guarded("out"), workers=1, recursive=True)
    assert files_in(tmp_path / "store" / "out") == expected
    [(killer, died), (lost, why)] = summary.failed
    assert (killer, lost) == ("guarded://in/killer.png", "guarded://in/lost.png")
    assert f"{DEATHS} workers died on it" in died
    assert "cannot be fetched (RuntimeError: the shelf is empty)" in why
    assert summary.done == 20


@pytest.mark.slow
def test_a_folder_that_cannot_be_listed_ends_the_run(cluster, tmp_path, guarded):
    make_photos(tmp_path / "store" / "secret", 1)
    with pytest.raises(PermissionError, match=r"^nobody may look into it$"):
        enhance_dataset([guarded("secret")], guarded("out"), workers=1)


@pytest.mark.slow
def test_the_command_on_a_running_cluster(cluster, album, tmp_path):
    """Damaged photos are listed and the rest is done, but for what an earlier run has left."""
    import ray

    expected = by_the_local_engine(album, tmp_path / "expected")
    (album / "broken.jpg").write_bytes(b"these are words")
    out, report = tmp_path / "out", tmp_path / "report.jsonl"
    command = [sys.executable, "-m", "kdlib", "enhance", f"file://{album}", "-o", f"file://{out}", "--engine", "ray"]
    command += ["--workers", "1", "--recursive", "--resume", "--report", str(report)]
    LocalMemory(out, "", Enhancer().settings, keeps=True).begin()
    (out / "3").mkdir()
    (out / "3" / "00013.bmp").write_bytes(b"of an earlier run")
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    assert ray.nodes()[0]["Alive"]
    assert "19 enhanced, 1 kept" in run.stdout
    assert f"→ file://{out}\n" in run.stdout
    assert f"{album}/broken.jpg: not a photo" in run.stdout
    assert "1 of 21 could not be enhanced" in run.stdout
    assert run.stderr == ""
    assert files_in(out) == expected | {"3/00013.bmp": b"of an earlier run"}
    [line] = map(json.loads, report.read_text().splitlines())
    assert line["photo"] == f"{album}/broken.jpg"
    assert "not a photo" in line["failed"]


# Which photos, and where to


def chosen(inputs, output, recursive, suffix, wanted=None):
    given = plan_inputs(inputs, place(output), suffix, wanted)
    tasks = tasks_of(given, place(output), recursive=recursive, suffix=suffix, resume=False, wanted=wanted)
    return sorted((task.source.path, task.target.path) for task in tasks)


@pytest.mark.parametrize("recursive", [True, False])
@pytest.mark.parametrize(
    ("inputs", "output", "suffix"),
    [
        (["album"], "out", ""),
        (["album"], "album/out", "_x"),
        (["album"], "album", "_x"),
        (["album", "twin"], "out", "-y"),
        (["album/00000.jpg", "twin"], "out", ""),
        (["album/*.png", "album/*.jpg"], "out", "_z"),
    ],
)
def test_the_plan_is_the_local_engines(inputs, output, suffix, recursive, album, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "twin", 3, seed=1)
    (tmp_path / "twin" / "00000.jpg").rename(tmp_path / "twin" / "other.jpg")
    for extra in (".hidden.png", ".cache/a.png", "00000_x.jpg", "out/old.png", "notes.txt"):
        (album / extra).parent.mkdir(exist_ok=True)
        (album / extra).write_bytes(b"x")
    (album / "link.png").symlink_to(tmp_path / "twin" / "other.jpg")
    (album / "loop").symlink_to(album)
    (album / "broken.png").symlink_to(tmp_path / "none.png")
    local = plan(inputs, Path(output), recursive=recursive, suffix=suffix)
    expected = sorted((str(job.source.absolute()), str(job.target.absolute())) for job in local)
    assert chosen(inputs, output, recursive, suffix) == expected
    assert len(expected) > 1


@pytest.mark.parametrize("inputs", [["album"], ["album/a.jpg", "album/a.png"]])
@pytest.mark.parametrize("wanted", ["JPEG", "PNG", "TIFF"])
def test_the_plan_for_another_format_is_the_local_engines(inputs, wanted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "album" / "deep").mkdir(parents=True)
    for name in ("a.jpg", "a.png", "b.bmp", "deep/a.png", "deep/c.jpeg", "deep/c.webp"):
        (tmp_path / "album" / name).touch()
    local = plan(inputs, Path("out"), recursive=True, suffix="_x", wanted=wanted)
    expected = sorted((str(job.source.absolute()), str(job.target.absolute())) for job in local)
    assert chosen(inputs, "out", True, "_x", wanted) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("album/none.png -o out", "album/none.png: no such file or folder"),
        ("album/*.gif -o out", "no such file"),
        ("album -o album", "would be overwritten by its result"),
        ("album/00000.jpg album -o out", "would both be written to"),
        ("album/00000.jpg twin/00000.jpg -o out", "would both be written to"),
        ("album twin/album -o out", "would both be written to"),
        ("album -o full", "full is not empty; --overwrite replaces existing results, --resume keeps them"),
        ("album -o nowhere://out", "nowhere"),
        ("album/00000.jpg -o x.jpg", "x.jpg names a file; --engine ray writes into a folder"),
        ("album -o out --strength 3", "strength must be a number from 0 to 2, not 3"),
        ("album -o out --model none.safetensors", "no weights file at none.safetensors"),
        ("album -o out --device cuda", "--engine ray runs on CPUs"),
        ("album", "needs an --output folder"),
        ("album -o out --engine local --address auto", "--address names a Ray cluster"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_ray_starts(arguments, message, album, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # nobody answers there
    make_photos(tmp_path / "twin" / "album", 1)
    make_photos(tmp_path / "twin", 1)
    make_photos(tmp_path / "full", 1)
    before = files_in(tmp_path)
    result = CliRunner().invoke(app, ["enhance", "--engine", "ray", *arguments.split()])
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())
    assert files_in(tmp_path) == before


def test_a_missing_extra_is_named(album, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    result = CliRunner().invoke(app, ["enhance", str(album), "-o", str(tmp_path / "out"), "--engine", "ray"])
    assert result.exit_code == 1
    assert "pip install 'kdlib[ray]'" in " ".join(result.output.split())


@pytest.mark.slow
def test_the_local_engine_imports_neither_ray_nor_fsspec(album, tmp_path):
    program = (
        "import sys; from kdlib.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'ray', 'fsspec', 'torch'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", program, "enhance", str(album / "00000.jpg"), "-o", str(tmp_path / "out")]
    subprocess.run(command, check=True)


def test_the_ledger_blames_the_photo_that_was_announced_last():
    ledger = Ledger()
    assert not ledger.begin("part")
    assert ledger.begin("part")  # a worker has died, over which photo is not known
    assert [ledger.announce("part", name) for name in "abc"] == [0, 0, 0]
    assert ledger.begin("part")
    assert [ledger.announce("part", name) for name in "abc"] == [0, 0, 1]
    ledger.end("part")
    assert not ledger.begin("part")


# What it costs


@pytest.fixture
def timed(monkeypatch):
    """Runs that take 1 s + 0.5 s a photo (local) and 7 s + 0.6 s (Ray) on one core, half as long a photo on two."""
    called = []

    def seconds(folder, count, engine, workers, model):
        called.append((len(list((folder / "in").iterdir())), count, engine, workers))
        return (1 + 0.5 * count / workers if engine == "local" else 7 + 0.6 * count / workers), 1000 * count

    monkeypatch.setattr(engines, "_time", seconds)
    return called


@pytest.mark.slow
def test_figures_of_the_engines_follow_from_their_seconds(timed, tmp_path):
    result = engines.measure_engines(tmp_path, ["12 MP", "320x240"], photos=4, repeats=2, price=0.1)
    assert {(count, of) for of, count, *_ in timed if of == 4} == {(1, 4), (2, 4), (4, 4)}
    assert max(count for _, count, *_ in timed) == round(4 * (12e6 / (320 * 240)) ** 0.75)
    [line] = [fit for fit in result["fits"] if (fit["size"], fit["engine"], fit["workers"]) == ("12 MP", "ray", 2)]
    assert (line["start"], line["each"]) == (7, 0.3)
    # 7 + 0.3 n / k < 1 + 0.25 n
    assert result["pays"]["12 MP"] == {"1": None, "2": 60, "10": 28, "100": 25}
    projection = result["projection"]
    assert projection["core_hours"] == round(1e8 * 0.6 / 3600)
    assert projection["days"]["10"] == round(1e8 * 0.6 / 3600 / 16 / 10 / 24, 1)
    assert projection["cost"] == round(1e8 * 0.6 / 3600 * 0.1)
    assert projection["terabytes"]["written"] == 0.1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_writes_the_figures(timed, tmp_path):
    arguments = ["benchmark", "--engines", "--size", "320x240", "--photos", "4", "--out", str(tmp_path / "scale.json")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "| Ray on 1 such machine pays from | never |" in result.output
    written = json.loads((tmp_path / "scale.json").read_text())
    assert written["projection"] is None
    assert engines.engines_table(written) in result.output


@pytest.mark.parametrize(("option", "value"), [("--photos", "3"), ("--repeats", "-1"), ("--size", "8K")])
def test_wrong_measurements_are_refused(option, value):
    result = CliRunner().invoke(app, ["benchmark", "--engines", option, value])
    assert result.exit_code == 1
    assert value in result.output
