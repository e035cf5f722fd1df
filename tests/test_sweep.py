"""`kdlib sweep`: every point once, whatever happens to the processes."""

import csv
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from typer.testing import CliRunner

from kdlib.cli import app
from kdlib.sweep import Range, read_sweep, run_sweep
from kdlib.sweep.queue import Queue, finished
from kdlib.viz.sweep import plot_sweep
from tests.helpers import kdlib, said

PARAMETERS = "x: float = 0.0\nname: str = 'a'\noutput_dir: str = 'runs/x'\nresume: bool = False"
# x = 2 never ends unless it is resumed, x = 3 fails.
WORK = """
import json, os, time
from pathlib import Path

folder = Path(output_dir)
(folder / "kernel.txt").write_text(str(os.getpid()))
with open(folder / "begun.txt", "a") as file:
    file.write("again " if resume and (folder / "begun.txt").stat().st_size else "first ")
if x == 3:
    raise ValueError("three is too many")
while x == 2 and "again" not in (folder / "begun.txt").read_text():
    time.sleep(0.1)
(folder / "metrics.json").write_text(json.dumps({"score": {"mean": -((x - 1) ** 2)}}))
"""


@pytest.fixture
def sweep_of(tmp_path):
    """Writes a sweep of a tiny notebook: the path of its YAML."""
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(WORK),
        ],
        metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "python3"}},
    )
    nbformat.write(notebook, tmp_path / "tiny.ipynb")

    def write(space="{x: [0, 1, 2, 3]}", more="", metric="score.mean"):
        path = tmp_path / "sweep.yaml"
        path.write_text(
            f"notebook: {tmp_path}/tiny.ipynb\noutput_dir: {tmp_path}/out\nmetric: {metric}\nspace: {space}\n{more}"
        )
        return path

    return write


@pytest.fixture
def open_queue():
    """Opens queues as other processes would, and closes them."""
    opened = []

    def open_one(*arguments, **options):
        opened.append(Queue(*arguments, **options))
        return opened[-1]

    yield open_one
    for queue in opened:
        queue.close()


def start(path):
    command = [sys.executable, "-m", "kdlib", "sweep", str(path), "--jobs", "2"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(what, process=None):
    deadline = time.monotonic() + 120
    while not what():
        assert process is None or process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_then_finished_by_two_processes_at_once(sweep_of, tmp_path):
    path, out = sweep_of("{x: [1, 2, 3]}"), tmp_path / "out"
    first = start(path)
    # Two at once: 2 has begun and waits for ever, 3 has failed.
    wait_for((out / "trial-0001" / "begun.txt").exists, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    kernel = Path("/proc", (out / "trial-0001" / "kernel.txt").read_text())
    wait_for(lambda: not kernel.exists())
    two = [start(path), start(path)]
    for process in two:
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 1, output
        assert "2 done, 1 failed" in output
        assert "trial-0002: ValueError: three is too many" in output
    begun = {folder.name: (folder / "begun.txt").read_text().split() for folder in out.glob("trial-*")}
    assert begun.pop("trial-0001") == ["first", "again"]
    assert all(Counter(runs)["again"] <= (runs[0] == "first") for runs in begun.values())
    rows = list(csv.DictReader((out / "results.csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["trial"], row["x"], row["state"], row["metric"]) for row in rows] == [
        ("0", "1", "done", "0.0"),
        ("1", "2", "done", "-1.0"),
        ("2", "3", "failed", ""),
    ]
    assert json.loads((out / "results.json").read_text())["rows"][2]["reason"] == "ValueError: three is too many"
    assert (out / "results.png").read_bytes().startswith(b"\x89PNG")
    assert "2 done, 1 failed" in said(kdlib("sweep", path, "--jobs", "2"))
    assert begun == {name: (out / name / "begun.txt").read_text().split() for name in begun}, "a point was repeated"


# The queue


@pytest.mark.slow
def test_points_are_claimed_once_by_many(sweep_of, open_queue):
    sweep = read_sweep(sweep_of(f"{{x: {list(range(12))}}}"))
    queues = [open_queue(sweep) for _ in range(3)]

    def work(queue):
        claims = []
        while claim := queue.claim():
            claims.append((claim.point, claim.parameters["x"]))
            queue.finish(claim, 1.0, float(claim.point))
        return claims

    with ThreadPoolExecutor(3) as pool:
        claims = [claim for part in pool.map(work, queues) for claim in part]
    assert sorted(claims) == [(k, k) for k in range(12)]
    assert finished(queues[0].rows())
    assert [row["metric"] for row in queues[0].rows()] == list(range(12))
    assert open_queue(sweep).claim() is None


def test_a_point_that_two_machines_let_wait_is_run_once(sweep_of, open_queue):
    queue = open_queue(read_sweep(sweep_of("{x: [5]}")))
    queue._study.enqueue_trial({"x": 5}, user_attrs={"point": 0})
    claim = queue.claim()
    assert queue.claim() is None
    queue.finish(claim, 1.0, 2.0)
    queue._study.enqueue_trial({"x": 5}, user_attrs={"point": 0})
    assert queue.claim() is None
    assert [row["metric"] for row in queue.rows()] == [2.0]


@pytest.mark.slow
def test_a_process_on_another_machine_that_falls_silent_loses_its_trial(sweep_of, open_queue, tmp_path):
    sweep = read_sweep(sweep_of("{x: {low: 0.0, high: 1.0}}", "trials: 1"))
    there = open_queue(sweep, grace=1)
    lost = there.claim()
    shared = replace(sweep, output=tmp_path / "here", storage=sweep.storage)
    here = open_queue(replace(shared, name=sweep.name), grace=1)
    assert there.is_ours(lost)
    deadline = time.monotonic() + 60
    while (found := here.claim()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
        here.refill()
    assert found.parameters == lost.parameters
    assert not there.is_ours(lost)
    there.finish(lost, 1.0, 5.0)
    here.finish(found, 1.0, 7.0)
    assert [row["metric"] for row in here.rows()] == [7.0]


def test_failed_points_run_again_only_when_asked(sweep_of, open_queue):
    sweep = read_sweep(sweep_of("{x: [0, 1]}"))
    first = open_queue(sweep)
    first.finish(first.claim(), 1.0, None, "no memory")
    first.finish(first.claim(), 1.0, 1.0)
    assert open_queue(sweep).claim() is None
    retried = open_queue(sweep, retry=True).claim()
    assert retried.parameters == {"x": 0}


@pytest.mark.slow
def test_ranges_are_searched_within_their_bounds(sweep_of, open_queue):
    space = "{x: {low: 1.0e-3, high: 1.0, log: true}, name: [a, b]}"
    queue = open_queue(read_sweep(sweep_of(space, "trials: 15\ndirection: minimize")))
    values = []
    while claim := queue.claim():
        values.append(claim.parameters["x"])
        queue.finish(claim, 1.0, claim.parameters["x"])
    assert len(values) == len(set(values)) == 15
    assert all(1e-3 <= value <= 1 for value in values)
    assert min(np.median(values), 0.1) < 0.1, "it looks where it is low"
    assert {row["name"] for row in queue.rows()} == {"a", "b"}


def test_other_settings_do_not_join_the_same_table(sweep_of, open_queue):
    open_queue(read_sweep(sweep_of()))
    with pytest.raises(ValueError, match=r"other settings \(parameters {} → {'name': 'b'}\); use another output_dir"):
        open_queue(read_sweep(sweep_of(more="parameters: {name: b}")))


def test_a_misspelt_metric_may_be_corrected_until_a_trial_is_done(sweep_of, open_queue):
    queue = open_queue(read_sweep(sweep_of(metric="score.maen")))
    queue.finish(queue.claim(), 1.0, None, "metrics.json has no score.maen")
    queue = open_queue(read_sweep(sweep_of()), retry=True)
    queue.finish(queue.claim(), 1.0, 0.5)
    with pytest.raises(ValueError, match=r"other settings \(metric 'score.mean' → 'score.maen'\)"):
        open_queue(read_sweep(sweep_of(metric="score.maen")))


def test_a_trial_that_cannot_be_begun_waits_for_another_process(sweep_of, open_queue, before_call):
    sweep = read_sweep(sweep_of())

    def full(_path):
        raise OSError("no space left on the disk")

    before_call("open", ".parameters.json.part", full)
    with pytest.raises(OSError, match="no space left"):
        run_sweep(sweep)
    assert {row["state"] for row in open_queue(sweep).rows()} == {"waiting"}


def test_a_database_that_fails_on_the_way_is_said_in_a_sentence(sweep_of, tmp_path, before_call):
    def fail(_path):
        with sqlite3.connect(tmp_path / "out" / "sweep.db") as database:
            database.execute("DROP TABLE trials")
        raise OSError("no space left on the disk")

    before_call("os.mkdir", "trial-0000", fail)
    result = CliRunner().invoke(app, ["sweep", str(sweep_of())])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    output = said(result)
    assert "out has failed (" in output
    assert "no such table: trials" in output
    assert "start the sweep again: what is done is kept" in output


# What cannot be meant


@pytest.mark.slow
def test_a_misspelt_metric_is_told_by_its_trials(sweep_of):
    path = sweep_of(space="{x: [1]}", metric="score.maen")
    output = said(CliRunner().invoke(app, ["sweep", str(path)]))
    assert "metrics.json has no score.maen: did you mean 'mean'? where maen should be, there is mean" in output


@pytest.mark.parametrize(
    ("space", "more", "message"),
    [
        (
            "{nmae: [b]}",
            "",
            "unknown parameter 'nmae': did you mean 'name'? tiny.ipynb takes x, name, output_dir, resume",
        ),
        ("{x: [1]}", "parameters: {nam: b}", "unknown parameter 'nam': did you mean 'name'?"),
        ("{x: [1]}", "parameters: {x: 1}", "x stands in parameters and in space"),
        ("{x: [1]}", "parameters: {output_dir: x}", "the sweep gives each trial an output_dir of its own"),
        ("{x: [1]}", "parameters: 3", "parameters is a list of names and values, not 3"),
        ("{x: [1]}", "directon: maximize", "unknown key 'directon': did you mean 'direction'?"),
        ("{x: [1]}", "direction: up", "direction is maximize or minimize, not 'up'"),
        ("{x: [1]}", "jobs: many", "jobs must be a whole number of at least 0, not 'many'"),
        ("{x: [1]}", "jobs: true", "jobs must be a whole number of at least 0, not True"),
        ("{x: [1]}", "seed: -1", "seed must be a whole number of at least 0, not -1"),
        ("{x: [1]}", "where: [x]", "where is a text, not ['x']"),
        ("{x: [1]}", "storage: 5", "storage is a text, not 5"),
        ("{x: [1]}", "seed: 1\nseed: 2", "'seed' appears twice"),
        ("{x: [1], x: [2]}", "", "'x' appears twice in"),
        ("{x: [1, 1.0]}", "", "x takes a list of different numbers"),
        ("{x: [1e999, .inf]}", "", "x takes a list of different numbers"),
        ("{x: [1]}", "trials: 4", "a grid runs each of its points once: leave trials out"),
        ("{x: [1]}", "where: x > 1", "a point for where to let through"),
        ("{x: [1]}", "where: y > 1", "where: 'y > 1' cannot be used (name 'y' is not defined)"),
        ("{x: [1]}", "where: __import__('os')", "it holds more than comparisons, sums and products"),
        ("{x: [1, 1]}", "", "x takes a list of different numbers"),
        ("{x: []}", "", "x takes a list of different numbers"),
        ("{x: 3}", "", "x takes a list of values, or low and high"),
        ("{x: {low: 0, hihg: 1}}", "trials: 1", "x takes a list of values, or low and high"),
        ("{x: {low: 1e-4, high: 1}}", "trials: 1", "in YAML write 1.0e-4, not 1e-4"),
        ("{x: {low: 2, high: 1}}", "trials: 1", "low is below high"),
        ("{x: {low: 0, high: 1, log: true}}", "trials: 1", "above 0 with log: true"),
        ("{x: {low: 1, high: 2, log: maybe}}", "trials: 1", "x: log is true or false, not 'maybe'"),
        ("{x: {low: 1, high: 2, step: 3}}", "trials: 1", "x: step is above 0, and at most high less low, not 3"),
        ("{x: {low: 1, high: 2, step: 0}}", "trials: 1", "x: step is above 0"),
        ("{x: {low: 0, high: 1}}", "", "x has a range: say how many trials"),
        ("{x: [1, .nan]}", "", "x takes a list of different numbers"),
        ("{x: {low: 0, high: .inf}}", "trials: 1", "low, high and step are numbers, not [0, inf]"),
        ("{x: [1]}", "parameters: {name: .nan}", "name takes a number, word, truth value or list, not nan"),
        ("{x: [1]", "", "is not valid YAML"),
        ("", "", "space is missing"),
        ("{x: [1]}", "storage: nothing://here", "the database of the sweep cannot be opened"),
    ],
)
def test_malformed_sweeps_are_refused_before_anything_runs(space, more, message, sweep_of, tmp_path):
    result = CliRunner().invoke(app, ["sweep", str(sweep_of(space, more))])
    assert result.exit_code == 1
    assert message in said(result)
    assert not list(tmp_path.glob("out/trial-*"))


def test_names_that_mean_something_else_to_databases_are_refused(sweep_of, tmp_path):
    path = sweep_of()
    text = path.read_text()
    for name in ("why?", "100%", "{x}"):
        path.write_text(text.replace("/out", f"/{name}"))
        with pytest.raises(ValueError, match=r"sweep\.yaml: output_dir has a name without % \? { }"):
            read_sweep(path)
        assert not (tmp_path / name).exists()
    for key, value in (("output_dir", "[a]"), ("metric", "3"), ("notebook", "5")):
        path.write_text(f"{text}".replace(f"{key}: ", f"{key}: {value} #"))
        with pytest.raises(ValueError, match=f"sweep.yaml: {key} is a text, not"):
            read_sweep(path)


def test_numbers_of_any_size_are_numbers_and_dates_are_words(sweep_of):
    huge = 10**400
    assert read_sweep(sweep_of(f"{{x: [1, {huge}]}}")).space == {"x": (1, huge)}
    assert read_sweep(sweep_of("{name: [2026-01-01]}")).space == {"name": ("2026-01-01",)}  # as papermill has it


def test_a_missing_extra_is_named(sweep_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    result = CliRunner().invoke(app, ["sweep", str(sweep_of())])
    assert result.exit_code == 1
    assert "pip install 'kdlib[sweep]'" in said(result)


# The picture


def row(metric, **swept):
    return {"state": "done" if metric is not None else "failed", "metric": metric, **swept}


def test_two_lists_make_a_heat_map_with_the_best_marked():
    rows = [row(None if (a, b) == (1, 0) else a + b, a=a, b=b) for a in (0, 1) for b in (0, 5, 10)]
    figure = plot_sweep(rows, {"a": (0, 1), "b": (0, 5, 10)}, "score", "minimize")
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_array_equal(np.ma.filled(shown, np.nan), [[0, np.nan], [5, 6], [10, 11]])
    assert [text.get_text() for text in figure.axes[0].texts if "best" in text.get_text()] == ["0\nbest"]
    plt.close(figure)


@pytest.mark.parametrize(
    ("space", "panels"),
    [
        ({"a": Range(1, 100, log=True)}, 1),
        ({"a": ("x", "y")}, 1),
        ({"a": Range(1, 100), "b": ("x", "y")}, 1),
        ({"a": Range(1, 100), "b": ("x", "y"), "c": (None, 1)}, 3),
    ],
)
def test_other_spaces_have_a_picture_too(space, panels):
    places = {"a": [7, 20] if isinstance(space["a"], Range) else ["x", "y"], "b": ["x", "y"], "c": [None, 1]}
    rows = [row(float(k), **{name: places[name][k] for name in space}) for k in range(2)]
    figure = plot_sweep(rows, space, "score")
    assert sum(bool(ax.get_xlabel()) for ax in figure.axes) == panels
    assert figure.axes[0].get_xscale() == ("log" if getattr(space["a"], "log", False) else "linear")
    plt.close(figure)
