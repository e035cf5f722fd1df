"""Names and folders as they come: spaces, any script, dashes, links in circles, no permission, two runs at a time."""

import json
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdlib.enhance.folders.memory import MEMORY
from kdlib.enhance.photos.photo_file import decode_photo
from kdlib.files import MadeMeanwhileError, replacing
from tests.fuzz.make_corpus import CORPUS
from tests.helpers import kdlib, said

posix = pytest.mark.skipif(os.name == "nt", reason="such names, links and permissions are Unix's")
NAMES = [
    "with space.png", " leading.png", "-dash.png", "--overwrite.png", "-", "été.png", "é.png",
    "ночь.png", "夜.png", "ليل.png", "🌃.png", "it's \"quoted\".png", "100%d.png", "a[1].png", "*.png", "?.png",
    "#1.png", "~me.png", "$HOME.png", "[bold]red.png", "a:b.png", "back\\slash.png", "new\nline.png", "dot..png",
    "x" * 251 + ".png", "夜" * 83 + ".png",
]  # fmt: skip


def photo(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 60, (12, 16, 3), dtype=np.uint8)).save(path, "PNG")
    return path


def names(folder):
    """All names below a folder but that of the memory of what made the results."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != MEMORY)


# Names


@pytest.mark.slow
@posix
def test_photos_of_any_name_in_a_folder(tmp_path):
    photos = [name for name in NAMES if name.endswith(".png")]
    folder = tmp_path / "my -photos [2024] ✓"
    for n, name in enumerate(photos):
        photo(folder / name, n)
    (folder / "-").write_text("no photo")
    result = kdlib("enhance", folder, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    # What is one name on some systems is two on others.
    assert {unicodedata.normalize("NFC", name) for name in names(tmp_path / "out")} == {
        unicodedata.normalize("NFC", name) for name in photos
    }
    for path in (tmp_path / "out").glob("[!.]*"):
        assert decode_photo(path).pixels.mean() > decode_photo(folder / path.name).pixels.mean()


@posix
@pytest.mark.parametrize("name", NAMES)
def test_photo_of_any_name_by_itself(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / name)
    given = "./-" if name == "-" else name  # a dash alone is standard input
    result = kdlib("enhance", "-o", "out", "--", given)  # behind -- nothing is an option
    assert result.exit_code == 0, result.output
    assert names(tmp_path / "out") == [name]


@posix
@pytest.mark.parametrize(
    "name", ["with space.mp4", "-dash.mp4", "夜 🌃.mp4", "a:b.mp4", "%03d.mp4", "a[1].mp4", "pipe:1.mp4"]
)
def test_video_of_any_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(CORPUS / "silent.mp4", name)
    result = kdlib("video", "--model", "student-565", "--", name, f"out {name}")
    assert result.exit_code == 0, result.output
    assert names(tmp_path) == sorted([name, f"out {name}"])


@pytest.mark.slow
@posix
def test_data_folders_and_results_of_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("夜 1.png", "-2.png"):
        photo(tmp_path / "-my pairs 夜" / "low" / name)
        photo(tmp_path / "-my pairs 夜" / "high" / name, 1)
    result = kdlib("evaluate", "nano-161", "--data", "-my pairs 夜", "--out", "-rés 1/-scores.json")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "-rés 1" / "-scores.json").is_file()


@posix
@pytest.mark.parametrize("name", ["~nobody-of-that-name/a.png", "~nobody-of-that-name", "a\0b.png", "x" * 300])
def test_names_that_cannot_be_are_told(name, tmp_path):
    result = kdlib("enhance", name, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "no such file or folder" in said(result)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_names_of_failed_photos_do_nothing_to_the_terminal(tmp_path):
    names = [b"\xff.jpg", b"\x1b]0;title\x07.jpg", b"\xc2\x9b31m.jpg", "\u202egpj.exe.jpg".encode()]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_text("no photo")
    report, environment = tmp_path / "report.jsonl", os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    command = [sys.executable, "-m", "kdlib", "enhance", tmp_path, "-o", tmp_path / "out", "--report", report]
    run = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert run.returncode == 1, run.stderr
    assert "4 of 4 could not be enhanced" in run.stdout.decode()
    for shown in (b"\\udcff.jpg", b"\\x1b]0;title\\x07.jpg", b"\\x9b31m.jpg", b"\\u202egpj.exe.jpg"):
        assert shown in run.stdout
    assert b"\x1b" not in run.stdout
    lines = report.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    assert sorted(os.path.basename(json.loads(line)["photo"]) for line in lines) == sorted(map(os.fsdecode, names))


# Links


@posix
def test_links_in_circles(tmp_path, monkeypatch):
    photo(tmp_path / "album" / "a.png")
    (tmp_path / "album" / "again").symlink_to(tmp_path / "album")
    (tmp_path / "album" / "b.png").symlink_to("b.png")
    (tmp_path / "album" / "c.png").symlink_to("d.png")
    (tmp_path / "album" / "d.png").symlink_to("c.png")
    result = kdlib("enhance", tmp_path / "album", "-r", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert names(tmp_path / "out") == ["a.png"]
    monkeypatch.chdir(tmp_path)
    result = kdlib("enhance", "album/**/*.png", "-o", "other")
    assert result.exit_code == 0, result.output
    assert names(tmp_path / "other") == ["a.png"]
    result = kdlib("enhance", "album/b.png", "-o", "more")
    assert result.exit_code == 1
    assert "Too many levels of symbolic links" in said(result)
    result = kdlib("video", "album/b.png", "out.mp4")
    assert result.exit_code == 1
    assert "no such file" in said(result)
    result = kdlib("evaluate", "nano-161", "--data", "album/again/b.png")
    assert result.exit_code == 1


@posix
def test_targets_that_are_links(tmp_path):
    source = photo(tmp_path / "a.png")
    out, precious = tmp_path / "out", tmp_path / "precious"
    out.mkdir()
    precious.write_text("mine")
    (out / "a.png").symlink_to("a.png")  # in a circle
    assert "1 of 1 results exist" in said(kdlib("enhance", source, "-o", out))
    result = kdlib("enhance", source, "-o", out, "--overwrite")
    assert result.exit_code == 0, result.output
    assert decode_photo(out / "a.png").pixels.shape == (12, 16, 3)
    (out / "a.png").unlink()
    (out / "a.png").symlink_to(precious)
    assert kdlib("enhance", source, "-o", out).exit_code == 1  # it exists
    assert kdlib("enhance", source, "-o", out, "--overwrite").exit_code == 0
    assert not (out / "a.png").is_symlink()
    assert precious.read_text() == "mine"
    (tmp_path / "round").symlink_to("round")
    assert "round is not a folder" in said(kdlib("enhance", source, "-o", tmp_path / "round"))


@posix
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe"])
def test_no_result_goes_through_what_lies_in_the_place_of_its_part(kind, tmp_path):
    # An archive of photos may hold it: with its link, results would be written over any file of the user's.
    source, precious = photo(tmp_path / "a.png"), tmp_path / "precious"
    part = tmp_path / ".a_enhanced.png.part"
    if kind == "pipe":
        os.mkfifo(part)
    else:
        part.symlink_to(precious)
    if kind == "link":
        precious.write_text("mine")
    result = kdlib("enhance", source)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a_enhanced.png").is_file()
    assert not (tmp_path / "a_enhanced.png").is_symlink()
    assert precious.read_text() == "mine" if kind == "link" else not precious.exists()
    assert not os.path.lexists(part)


@posix
def test_no_file_is_written_through_a_second_name(tmp_path):
    # As a run leaves it that is killed when its result has its name, and the temporary one is not yet gone.
    result, part = tmp_path / "a.png", tmp_path / ".a.png.part"
    result.write_text("whole")
    os.link(result, part)

    def fail():
        with replacing(result) as place:
            place.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert result.read_text() == "whole"
    assert names(tmp_path) == ["a.png"]


# Permissions


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
@pytest.mark.parametrize("command", ["enhance", "video", "evaluate"])
def test_folder_that_may_not_be_written(command, tmp_path):
    locked = tmp_path / "locked"
    photo(locked / "low" / "a.png")
    photo(locked / "high" / "a.png", 1)
    shutil.copyfile(CORPUS / "silent.mp4", locked / "a.mp4")
    locked.chmod(0o555)
    try:
        arguments = {
            "enhance": (locked / "low" / "a.png", "-o", locked / "out"),
            "video": (locked / "a.mp4", locked / "out.mp4"),
            "evaluate": ("nano-161", "--data", locked, "--out", locked / "scores.json"),
        }[command]
        result = kdlib(command, *arguments)
        assert result.exit_code == 1
        assert f"no permission to write to {locked}" in result.output.replace("\n", "")
    finally:
        locked.chmod(0o755)


@posix
@pytest.mark.parametrize(("call", "of"), [("open", ".?.png.part"), ("os.mkdir", "out")])
def test_missing_permission_is_told_for_each_photo(call, of, tmp_path, before_call):
    album = tmp_path / "album"
    for name in ("a.png", "b.png"):
        photo(album / name)

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    before_call(call, of, refused)
    result = kdlib("enhance", album, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert said(result).replace(" ", "").count(f"nopermissiontowriteto{tmp_path / 'out'}") == 2
    assert "2 of 2 could not be enhanced" in said(result)


def test_output_that_is_a_file(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    result = kdlib("enhance", photo(tmp_path / "a.png"), "-o", tmp_path / "notes.txt")
    assert result.exit_code == 1
    assert "is not a folder; give a folder or an unused name" in said(result)
    assert (tmp_path / "notes.txt").read_text() == "mine"


# An output inside the input


@posix
@pytest.mark.parametrize("inside", ["out", "deep/out", "link/out"])
def test_output_inside_the_input_is_no_input_of_the_next_run(inside, tmp_path):
    album = tmp_path / "album"
    photo(album / "a.png")
    photo(album / "deep" / "b.png")
    (album / "link").symlink_to(album / "deep")
    for extra in ((), ("--resume",), ("--overwrite",)):
        result = kdlib("enhance", album, "-r", "-o", album / inside, *extra)
        assert result.exit_code == 0, result.output
        assert names((album / inside).resolve()) == ["a.png", "deep", "deep/b.png"]
    (tmp_path / "alias").symlink_to(album)
    result = kdlib("enhance", album, "-o", tmp_path / "alias")
    assert result.exit_code == 1
    assert "would be overwritten by its result" in said(result)


def test_video_into_its_own_folder(tmp_path):
    shutil.copyfile(CORPUS / "silent.mp4", tmp_path / "a.mp4")
    before = (tmp_path / "a.mp4").read_bytes()
    result = kdlib("video", tmp_path / "a.mp4", tmp_path / "." / "a.mp4", "--overwrite")
    assert result.exit_code == 1
    assert "is the source itself" in said(result)
    assert kdlib("video", tmp_path / "a.mp4", tmp_path / "b.mp4", "--model", "nano-161").exit_code == 0
    assert (tmp_path / "a.mp4").read_bytes() == before


# Two runs at a time


@posix
def test_file_that_another_run_is_writing_is_left_to_it(tmp_path):
    album = tmp_path / "album"
    for name in ("a.png", "b.png"):
        photo(album / name)
    shutil.copyfile(CORPUS / "silent.mp4", tmp_path / "a.mp4")
    with replacing(tmp_path / "out" / "a.png") as part, replacing(tmp_path / "out.mp4"):
        part.write_text("of the other run")
        result = kdlib("enhance", album, "-o", tmp_path / "out")
        assert result.exit_code == 1
        assert "a.png is being written by another run" in said(result)
        assert "1 enhanced" in result.output
        result = kdlib("video", tmp_path / "a.mp4", tmp_path / "out.mp4")
        assert result.exit_code == 1
        assert "out.mp4 is being written by another run" in said(result)
        assert part.read_text() == "of the other run"
    assert (tmp_path / "out" / "a.png").read_text() == "of the other run"
    assert names(tmp_path / "out") == ["a.png", "b.png"]


@pytest.mark.parametrize(("option", "code"), [((), 1), (("--resume",), 0), (("--overwrite",), 0)])
def test_result_that_another_run_has_made_meanwhile(option, code, tmp_path, before_call):
    source, target = photo(tmp_path / "a.png"), tmp_path / "out" / "a.png"

    def meanwhile(path):
        if path == source:
            target.parent.mkdir(exist_ok=True)
            target.write_text("of the other run")

    before_call("open", source.name, meanwhile)
    result = kdlib("enhance", source, "-o", tmp_path / "out", *option)
    assert result.exit_code == code, result.output
    assert names(tmp_path / "out") == ["a.png"]
    if option == ("--overwrite",):
        assert decode_photo(target).pixels.shape == (12, 16, 3)
    else:
        assert target.read_text() == "of the other run"
        assert ("0 enhanced, 1 kept" if option else "another run has written it in the meantime") in said(result)


def test_without_links_nothing_is_replaced_either(tmp_path, before_call):
    def unsupported(*_, **__):
        raise OSError("not on this disk")

    before_call("os.link", "a", unsupported)
    with replacing(tmp_path / "a", overwrite=False) as part:
        part.write_text("first")
    with pytest.raises(MadeMeanwhileError), replacing(tmp_path / "a", overwrite=False) as part:
        part.write_text("second")
    assert (tmp_path / "a").read_text() == "first"
    assert names(tmp_path) == ["a"]


def test_a_report_that_cannot_be_written_costs_neither_results_nor_reasons(tmp_path, monkeypatch):
    monkeypatch.setattr("kdlib.cli.enhance._LISTED", 1)
    photo(tmp_path / "album" / "a.png")
    for name in ("b.png", "c.png"):
        (tmp_path / "album" / name).write_text("no photo")
    command = ("enhance", tmp_path / "album", "-o", tmp_path / "out", "--report")
    refused = kdlib(*command, tmp_path / "album")
    assert refused.exit_code == 1
    assert "album is a folder; give --report the name of a file" in said(refused)
    assert not (tmp_path / "out").exists()
    result = kdlib(*command, tmp_path / "album" / "a.png" / "report.jsonl")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "1 enhanced" in said(result)
    assert all(f"{name}: not a photo" in said(result) for name in ("b.png", "c.png"))
    assert "the report could not be written" in said(result)
    assert names(tmp_path / "out") == ["a.png"]


@pytest.mark.slow
@posix
@pytest.mark.parametrize("option", [(), ("--overwrite",)])
def test_two_runs_into_one_folder(option, tmp_path):
    album, out = tmp_path / "album", tmp_path / "out"
    for n in range(40):
        photo(album / f"{n}.png", n)
    command = [sys.executable, "-m", "kdlib", "enhance", str(album), "-o", str(out), "--workers", "2", *option]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "COLUMNS": "1000"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment}
    runs = [subprocess.Popen(command, **pipes) for _ in range(2)]
    outputs = [run.communicate(timeout=120)[0] for run in runs]
    assert names(out) == sorted(f"{n}.png" for n in range(40))
    for path in out.glob("[!.]*"):
        assert decode_photo(path).pixels.mean() > decode_photo(album / path.name).pixels.mean()
    for run, output in zip(runs, outputs, strict=True):
        assert "Traceback" not in output
        assert run.returncode in (0, 1)
        # Each says that it did all, or why not.
        assert run.returncode == 0 or "another run" in output or "results exist" in output, output
