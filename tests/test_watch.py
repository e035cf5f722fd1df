"""``kdlib enhance --watch``: photos as they arrive, each once."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

from kdlib import Enhancer
from kdlib.cli import _watch
from kdlib.enhance.folders import watch as module
from kdlib.enhance.folders.watch import JOURNAL, SETTLED, Watch
from tests import photo_corpus
from tests.helpers import kdlib, said


def photo(path, level=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 12, 3), level, np.uint8)).save(path)
    return path


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def begin(tmp_path, clock):
    """Begin to watch ``in``, with results in ``out``."""
    (tmp_path / "in").mkdir()

    def watch(**options):
        options = {"output": tmp_path / "out", "clock": clock, **options}
        return Watch(tmp_path / "in", enhancer=lambda threads: Enhancer("student-565", threads=1), **options)

    return watch


def settled(watch, clock):
    """Look until everything that is there counts as complete; what was done, and what failed."""
    first = watch.look()
    clock.now += SETTLED
    second = watch.look()
    names = [source.name for look in (first, second) for source, _ in look.done]
    return sorted(names), [line for look in (first, second) for line in look.summary.failed]


def test_a_photo_is_enhanced_when_it_has_arrived_and_only_once(begin, clock, tmp_path):
    watch = begin()
    source = photo(tmp_path / "in" / "a.png")
    assert settled(watch, clock) == (["a.png"], [])
    expected = Enhancer("student-565", threads=1)(np.asarray(Image.open(source)))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), expected)
    assert settled(watch, clock) == ([], [])
    photo(tmp_path / "in" / "b.png")
    assert settled(watch, clock) == (["b.png"], [])


def test_a_photo_that_still_grows_is_waited_for(begin, clock, tmp_path):
    watch = begin()
    whole = photo(tmp_path / "whole.png").read_bytes()
    growing = tmp_path / "in" / "a.png"
    growing.write_bytes(b"")
    for part in range(0, len(whole) + 1, len(whole) // 3):
        growing.write_bytes(whole[:part])
        assert not watch.look().done
        clock.now += 0.9 * SETTLED
    growing.write_bytes(whole)
    assert settled(watch, clock) == (["a.png"], [])


def test_a_photo_whose_copy_stalled_is_enhanced_in_the_end(begin, clock, tmp_path):
    watch = begin()
    whole = photo(tmp_path / "whole.png").read_bytes()
    growing = tmp_path / "in" / "a.png"
    growing.write_bytes(whole[: len(whole) // 2])
    done, [(failed, _)] = settled(watch, clock)
    assert (done, failed) == ([], str(growing))
    assert settled(watch, clock) == ([], [])  # is not tried again while it stays
    growing.write_bytes(whole)
    assert settled(watch, clock) == (["a.png"], [])


@pytest.mark.parametrize("journal", [True, False], ids=["stopped", "killed before its list was written"])
def test_a_new_run_makes_nothing_twice(begin, clock, tmp_path, journal):
    photo(tmp_path / "in" / "a.png")
    assert settled(begin(), clock) == (["a.png"], [])
    made = (tmp_path / "out" / "a.png").stat().st_mtime_ns
    if not journal:
        (tmp_path / "out" / JOURNAL).unlink()
    photo(tmp_path / "in" / "b.png")
    assert settled(begin(), clock) == (["b.png"], [])
    assert (tmp_path / "out" / "a.png").stat().st_mtime_ns == made


def test_results_may_be_taken_away(begin, clock, tmp_path):
    photo(tmp_path / "in" / "a.png")
    watch = begin()
    assert settled(watch, clock) == (["a.png"], [])
    (tmp_path / "out" / "a.png").unlink()
    assert settled(watch, clock) == ([], [])
    assert settled(begin(), clock) == ([], [])


def test_a_changed_photo_keeps_its_result_unless_it_may_be_replaced(begin, clock, tmp_path):
    source = photo(tmp_path / "in" / "a.png")
    watch = begin()
    settled(watch, clock)
    first = (tmp_path / "out" / "a.png").read_bytes()
    photo(source, level=60)
    os.utime(source, ns=(1, 1))
    done, [(_, reason)] = settled(watch, clock)
    assert done == []
    assert "--overwrite replaces it" in reason
    assert (tmp_path / "out" / "a.png").read_bytes() == first
    assert settled(watch, clock) == ([], [])  # is said once
    assert "--overwrite replaces it" in settled(begin(), clock)[1][0][1]  # and by each run
    assert settled(begin(overwrite=True), clock) == (["a.png"], [])
    second = (tmp_path / "out" / "a.png").read_bytes()
    assert second != first
    source.write_bytes(b"no photo")
    assert len(settled(begin(overwrite=True), clock)[1]) == 1
    assert "--overwrite replaces it" in settled(begin(), clock)[1][0][1]
    assert (tmp_path / "out" / "a.png").read_bytes() == second
    photo(source, level=70)
    os.utime(source, ns=(2, 2))
    assert settled(begin(overwrite=True), clock) == (["a.png"], [])
    assert (tmp_path / "out" / "a.png").read_bytes() != second
    assert settled(begin(), clock) == ([], [])


def test_failures_are_tried_again_by_the_next_run(begin, clock, tmp_path):
    (tmp_path / "in").joinpath("a.png").write_bytes(b"no photo")
    watch = begin()
    assert len(settled(watch, clock)[1]) == 1
    assert len(settled(begin(), clock)[1]) == 1


def test_subfolders_are_mirrored_and_results_are_no_photos(begin, clock, tmp_path):
    photo(tmp_path / "in" / "deep" / "a.png")
    photo(tmp_path / "in" / ".hidden.png")
    assert settled(begin(), clock) == ([], [])
    watch = begin(recursive=True, output=tmp_path / "in" / "out", suffix="_bright")
    assert settled(watch, clock) == (["a.png"], [])
    assert (tmp_path / "in" / "out" / "deep" / "a_bright.png").is_file()
    assert settled(watch, clock) == ([], [])


@pytest.mark.skipif(not photo_corpus.HAS_RAW, reason="rawpy is not installed")
@pytest.mark.parametrize("first", ["night.dng", "night.tif"])
def test_a_raw_photo_and_the_tiff_file_beside_it_have_two_results(first, begin, clock, tmp_path):
    raw, (folder, out) = photo_corpus.dng(), (tmp_path / "in", tmp_path / "out")

    def arrive(name):
        photo(folder / name) if name.endswith("tif") else (folder / name).write_bytes(raw)

    watch, names = begin(overwrite=True), ["night.dng", "night.tif"]
    arrive(first)
    assert settled(watch, clock) == ([first], [])
    for name in names:
        if name != first:
            arrive(name)
            assert settled(watch, clock) == ([name], [])
    second = "night_tif.tif" if first == "night.dng" else "night_dng.tif"
    assert {path.name for path in out.glob("*.tif")} == {"night.tif", second}
    for name in ("other.dng", "other.nef", "other.tif"):  # at once
        arrive(name)
    assert settled(watch, clock)[1] == []
    made = {path.name: path.read_bytes() for path in out.glob("*.tif")}
    assert len(made) == 5
    photo(folder / "night.tif", 60)
    assert settled(watch, clock) == (["night.tif"], [])
    changed = {path.name for path in out.glob("*.tif") if path.read_bytes() != made[path.name]}
    assert changed == {"night.tif" if first == "night.tif" else second}


def test_what_is_remembered_does_not_grow_with_the_folder(begin, clock, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PENDING", 3)
    monkeypatch.setattr(module, "_BATCH", 2)
    for number in range(10):
        photo(tmp_path / "in" / f"{number}.png")
    watch, done = begin(), []
    for _ in range(10):
        done += [source.name for source, _ in watch.look().done]
        assert len(watch._pending) <= 3
        clock.now += SETTLED
    assert sorted(done) == [f"{number}.png" for number in range(10)]


def test_bad_folders_and_other_settings_are_refused(begin, clock, tmp_path):
    with pytest.raises(ValueError, match="taken for new photos"):
        begin(output=tmp_path / "in")
    with pytest.raises(NotADirectoryError, match="not a folder"):
        begin(output=photo(tmp_path / "a.png"))
    photo(tmp_path / "in" / "a.png")
    settled(begin(), clock)
    with pytest.raises(ValueError, match="other options"):
        Watch(tmp_path / "in", tmp_path / "out", lambda threads: Enhancer("student-565", strength=0.5), clock=clock)
    (tmp_path / "out" / JOURNAL).write_bytes(b"no database" * 100)
    with pytest.raises(ValueError, match=f"{JOURNAL} is damaged"):
        begin()


def test_a_report_gets_each_failure_and_outlives_runs(tmp_path, monkeypatch):
    photo(tmp_path / "in" / "a.png")
    bad, report = tmp_path / "in" / "b.png", tmp_path / "report.jsonl"
    bad.write_bytes(b"no photo")
    looks = []

    def pause(seconds):
        looks.append(seconds)
        if len(looks) == 4:  # a report that cannot be written ends nothing
            report.rename(tmp_path / "kept.jsonl")
            report.mkdir()
            bad.write_bytes(b"still no photo")
        if len(looks) == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "SETTLED", 0.0)
    monkeypatch.setattr(_watch, "pause", pause)
    report.write_text("before\n", encoding="utf-8")
    words = ["enhance", "--watch", tmp_path / "in", "--model", "student-565", "--workers", 1, "--report", report]
    result = kdlib(*words)
    assert result.exit_code == 1
    assert said(result).count("b.png: not a photo") == 2
    assert "the report could not be written: " in said(result)
    before, line = (tmp_path / "kept.jsonl").read_text(encoding="utf-8").splitlines()
    assert before == "before"
    assert json.loads(line)["photo"] == str(bad)
    assert json.loads(line)["failed"].startswith("not a photo")


def test_the_command_reports_each_photo_and_ends_when_it_is_stopped(tmp_path, monkeypatch):
    photo(tmp_path / "in" / "a.png")
    looks = []

    def pause(seconds):
        looks.append(seconds)
        if len(looks) == 1:
            shutil.move(tmp_path / "in", tmp_path / "away")
        elif len(looks) == 2:
            shutil.move(tmp_path / "away", tmp_path / "in")
        elif len(looks) == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(module, "SETTLED", 0.0)
    monkeypatch.setattr(_watch, "pause", pause)
    before = signal.getsignal(signal.SIGTERM)
    result = kdlib("enhance", "--watch", tmp_path / "in", "--model", "student-565", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert said(result).count("in/a.png →") == 1
    assert "waiting" in said(result)
    assert "1 enhanced" in said(result)
    assert (tmp_path / "in_enhanced" / "a.png").is_file()
    assert signal.getsignal(signal.SIGTERM) is before
    for words, reason in (
        (["--watch", tmp_path / "no"], "no such folder"),
        (["--watch", tmp_path / "in", tmp_path], "one folder"),
        (["--watch", tmp_path / "in", "--preview"], "exclude each other"),
        (["--watch", tmp_path / "in", "--engine", "ray", "--output", tmp_path / "o"], "do not take --engine ray"),
        (["--watch", tmp_path / "in", "-o", tmp_path / "new", "--report", tmp_path / "no" / "r"], "No such file"),
        ([tmp_path / "in", "--preview", "--report", tmp_path / "r.jsonl"], "do not take --report"),
    ):
        refused = kdlib("enhance", *words)
        assert refused.exit_code == 1
        assert reason in said(refused)
