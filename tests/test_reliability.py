"""What `make soak` says of what it has found, and that it ends."""

import copy
import json
import os

import pytest

from tests.reliability import __main__ as reliability

GOOD = {
    "kills": {"kills": 20, "kills_during_a_write": 7, "runs": 6, "identical": 6},
    "mutations": {"inputs": 9, "enhanced": 4, "refused": 5, **{name: [] for name in reliability.DEFECTS}},
    "workers": {
        "photos": 500, "outputs": 500, "workers_killed": 1, "identical_to_local": True, "lost": 0, "repeated": 0,
    },
}  # fmt: skip


def run(tmp_path, parts):
    arguments = ["--seconds", "1", "--out", str(tmp_path / "reliability.json")]
    code = reliability.main(arguments, lambda name, *_: parts[name])
    return code, json.loads((tmp_path / "reliability.json").read_text())


def test_all_well(tmp_path):
    code, written = run(tmp_path, GOOD)
    assert code == 0
    assert written["wrong"] == []
    assert written["kills"] == GOOD["kills"]
    assert written["command"] == "python -m tests.reliability --seconds 1 --seed 0"
    assert {"date", "python", "torch", "machine"} <= written["made"].keys()


@pytest.mark.parametrize(
    ("part", "name", "value", "said"),
    [
        ("kills", "identical", 5, "1 of 6 killed trainings came to something else"),
        ("kills", "kills", 0, "no training was killed"),
        ("kills", "failed", "it did not end", "kills failed: it did not end"),
        ("mutations", "inputs", 0, "no file was damaged"),
        *(("mutations", name, ["0 7 a.png"], f"{name}: 0 7 a.png") for name in reliability.DEFECTS),
        ("workers", "lost", 2, "2 photos lost"),
        ("workers", "repeated", 1, "1 photos repeated"),
        ("workers", "workers_killed", 0, "no worker was killed"),
        ("workers", "identical_to_local", False, "the workers' files are not the local engine's"),
        ("workers", "outputs", 499, "the workers' files are not the local engine's"),
    ],
)
def test_what_is_not_well_is_said_and_the_exit_code_is_1(part, name, value, said, tmp_path):
    parts = copy.deepcopy(GOOD)
    parts[part][name] = value
    code, written = run(tmp_path, parts)
    assert code == 1
    assert written["wrong"] == [said]


def test_more_than_ten_minutes_are_refused():
    with pytest.raises(SystemExit):
        reliability.main(["--seconds", "541"])


@pytest.mark.skipif(os.name == "nt", reason="children are ended in the way of Unix")
@pytest.mark.parametrize(
    ("program", "most", "found"),
    [
        ("import time; time.sleep(60)", 0.5, {"failed": "it did not end within 0 s"}),
        ("raise RuntimeError('what')", 60, {"failed": "RuntimeError: what"}),
        (
            "import sys; from pathlib import Path; Path(sys.argv[3], 'found.json').write_text('{\"a\": 1}')",
            60,
            {"a": 1},
        ),
    ],
)
def test_a_part_that_hangs_or_fails_is_no_part_that_went_well(program, most, found, tmp_path):
    assert reliability.watched("kills", 1.0, most, tmp_path / "part", 0, program) == found
