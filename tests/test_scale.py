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
from kdlib.inference.folder import plan
from kdlib.scale import dataset, enhance_dataset
from kdlib.scale.stores import place, plan_inputs, tasks_of
from kdlib.scale.worker import DEATHS, Ledger

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="workers are found in /proc")


@pytest.fixture(scope="module")
def cluster():
    """One for all tests: starting Ray takes longer than they do."""
    dataset._require_ray()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the workers import the store below
        with dataset._cluster(None, 2):
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


@linux
def test_a_thousand_photos_with_a_worker_killed_midway(cluster, tmp_path):
    photos = make_photos(tmp_path / "in", 1000)
    summary, standing = enhance_and_kill(photos, tmp_path / "out")
    assert 0 < standing < 1000, "the worker was not killed midway"
    assert (summary.done, summary.kept, summary.failed) == (1000, 0, [])
    assert files_in(tmp_path / "out") == by_the_local_engine(photos, tmp_path / "expected")


def test_stores_and_a_photo_that_kills_every_worker(cluster, tmp_path, guarded):
    photos = make_photos(tmp_path / "store" / "in", 20)
    expected = by_the_local_engine(photos, tmp_path / "expected")
    for name in ("killer.png", "lost.png"):
        (photos / name).write_bytes((photos / "00000.jpg").read_bytes())
    summary = enhance_dataset([guarded("in")], guarded("out"), workers=1, recursive=True)
    assert files_in(tmp_path / "store" / "out") == expected
    [(killer, died), (lost, why)] = summary.failed
    assert (killer, lost) == ("guarded://in/killer.png", "guarded://in/lost.png")
    assert f"{DEATHS} workers died over it" in died
    assert "cannot be fetched (RuntimeError: the shelf is empty)" in why
    assert summary.done == 20


def test_a_folder_that_cannot_be_listed_ends_the_run(cluster, tmp_path, guarded):
    make_photos(tmp_path / "store" / "secret", 1)
    with pytest.raises(PermissionError, match=r"^nobody may look into it$"):
        enhance_dataset([guarded("secret")], guarded("out"), workers=1)


def test_the_command_with_a_cluster_of_its_own(album, tmp_path):
    """Damaged photos are listed and the rest is done; then only what is missing."""
    expected = by_the_local_engine(album, tmp_path / "expected")
    (album / "broken.jpg").write_bytes(b"these are words")
    out, report = tmp_path / "out", tmp_path / "report.jsonl"
    command = [sys.executable, "-m", "kdlib", "enhance", f"file://{album}", "-o", f"file://{out}", "--engine", "ray"]
    command += ["--workers", "2", "--recursive", "--resume", "--report", str(report)]
    (out / "3").mkdir(parents=True)
    (out / "3" / "00013.bmp").write_bytes(b"of an earlier run")
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    assert "19 enhanced, 1 kept" in run.stdout
    assert f"{album}/broken.jpg: not a photo" in run.stdout
    assert "1 of 21 could not be enhanced" in run.stdout
    assert run.stderr == ""
    assert files_in(out) == expected | {"3/00013.bmp": b"of an earlier run"}
    [line] = map(json.loads, report.read_text().splitlines())
    assert line["photo"] == f"{album}/broken.jpg"
    assert "not a photo" in line["failed"]


# Which photos, and where to


def chosen(inputs, output, recursive, suffix):
    given = plan_inputs(inputs, place(output), suffix)
    tasks = tasks_of(given, place(output), recursive=recursive, suffix=suffix, resume=False)
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("album/none.png -o out", "album/none.png: no such file or folder"),
        ("album/*.gif -o out", "no such file"),
        ("album -o album", "would be overwritten by its result"),
        ("album/00000.jpg album -o out", "would both be written to"),
        ("album/00000.jpg twin/00000.jpg -o out", "would both be written to"),
        ("album twin/album -o out", "would both be written to"),
        ("album -o full", "full is not empty; --overwrite replaces what is there, --resume keeps it"),
        ("album -o nowhere://out", "nowhere"),
        ("album -o out --strength 3", "strength is a number from 0 to 2, not 3"),
        ("album -o out --model none.safetensors", "no weights file at none.safetensors"),
        ("album -o out --device cuda", "--engine ray works on CPUs"),
        ("album", "needs an --output folder"),
        ("album -o out --engine local --address auto", "--address names a cluster"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_ray_starts(arguments, message, album, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dataset, "_cluster", None)
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
