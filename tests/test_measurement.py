from __future__ import annotations

import json

import pytest

from kdlib.experiments.measurement import Measurement


def test_rows_are_written_one_by_one_and_found_again(tmp_path):
    path = tmp_path / "new" / "what.json"
    first = Measurement(path, {"sides": (1, 2)}, yardsticks={})
    assert not path.exists()
    first.add({"name": "a", "seed": 0, "score": 1.5})
    assert json.loads(path.read_text(encoding="utf-8"))["rows"] == first.rows
    again = Measurement(path, {"sides": (1, 2)}, yardsticks={"would": "be new"})
    assert again.content["yardsticks"] == {}
    assert again.done("name", "seed") == {("a", 0)}
    again.add({"name": "b", "seed": 0, "score": 2.5})
    assert Measurement(path, {"sides": [1, 2]}).done("name") == {("a",), ("b",)}


def test_other_settings_are_refused_by_name_and_the_file_stays(tmp_path):
    path = tmp_path / "what.json"
    Measurement(path, {"epochs": 3, "old": 1}).add({"seed": 0})
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"what\.json .*other settings \(epochs 3 → 4, old 1 → None, new None → 2\)"):
        Measurement(path, {"epochs": 4, "new": 2})
    assert path.read_bytes() == before


def test_what_was_changed_beside_the_rows_is_written_when_asked_for(tmp_path):
    measurement = Measurement(tmp_path / "what.json", {})
    measurement.content["yardsticks"] = {"bicubic": 28.4}
    measurement.write()
    assert Measurement(tmp_path / "what.json", {}).content["yardsticks"] == {"bicubic": 28.4}
