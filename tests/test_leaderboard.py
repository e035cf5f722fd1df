"""The table of all scores, built from the files in a results folder."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from kdlib.cli import app
from kdlib.evaluation.leaderboard import leaderboard, leaderboard_table

runner = CliRunner()


def row(method, parameters, psnr, **more):
    return {"method": method, "parameters": parameters, "psnr": psnr, "ssim": 0.5, "photos": 15, **more}


@pytest.fixture
def files():
    classical = [row("input", 0, 7.8, fixed_curve=100.0), row("gamma 0.3", 0, 16.7, fixed_curve=100.0)]
    sigmoid = row("student_565_peer, sigmoid", 565, 13.4)
    return {
        "eval15.json": [*classical, row("mine", 161, 17.1, category="zero-reference", fidelity=28.71, ms_1080p=3.456)],
        "seeds.json": [
            *classical,
            row("paired", 650, 19.0, category="real pairs", seeds=3, psnr_sd=0.25, daylight=0.051, daylight_sd=0.012),
            row("mine", 161, 17.0, category="zero-reference", seeds=5, psnr_sd=0.5, fixed_curve_dicm=31.4),
            row("darkened", 650, 18.0, category="self-made pairs", seeds=3, psnr_sd=0.1),
        ],
        "published.json": [*classical, row("zero_dce_official", 79416, 14.9), sigmoid, row("stranger", 10, 12.0)],
    }


@pytest.fixture
def results(tmp_path, files):
    for name, rows in files.items():
        (tmp_path / name).write_text(json.dumps({"data": "eval15", "rows": rows}), encoding="utf-8")
    return tmp_path


def test_every_method_is_listed_once_by_category_then_parameters(results):
    assert [(r["method"], r["category"]) for r in leaderboard(results)] == [
        ("gamma 0.3", "–"),
        ("input", "–"),
        ("mine", "zero-reference"),
        ("student_565_peer, sigmoid", "zero-reference"),
        ("zero_dce_official", "zero-reference"),
        ("darkened", "self-made pairs"),
        ("paired", "real pairs"),
        ("stranger", "?"),
    ]


def test_scores_over_seeds_replace_those_of_the_shipped_weights(results):
    [mine] = [r for r in leaderboard(results) if r["method"] == "mine"]
    assert mine["psnr"] == 17.0
    assert "fidelity" not in mine  # no score is mixed from two measurements


def test_the_table_shows_deviations_percentages_and_missing_values(results):
    lines = leaderboard_table(leaderboard(results)).splitlines()
    assert lines[0] == (
        "| method | class | parameters | PSNR | SSIM | LPIPS | PSNR, GT-mean | SSIM, GT-mean | fidelity, dB "
        "| fixed curve, dB | fixed curve on dicm, dB | daylight | ms, 1080p |"
    )
    by_method = {line.split(" | ")[0].strip("| "): line for line in lines[2:]}
    assert by_method["paired (3 seeds)"] == (
        "| paired (3 seeds) | real pairs | 650 | 19.00 ± 0.25 | 0.500 | – | – | – | – | – | – | 5.1% ± 1.2% | – |"
    )
    assert by_method["zero_dce_official"].startswith("| zero_dce_official | zero-reference | 79,416 | 14.90 | 0.500 |")
    assert by_method["mine (5 seeds)"].endswith("| – | 31.4 | – | 3.46 |")
    assert by_method["input"].endswith("| 100.0 | – | – | – |")


def test_report_prints_the_table_unchanged(results):
    result = runner.invoke(app, ["report", str(results)])
    assert result.exit_code == 0
    assert result.output == leaderboard_table(leaderboard(results)) + "\n"


def test_error_names_a_missing_file(results):
    (results / "seeds.json").unlink()
    result = runner.invoke(app, ["report", str(results)])
    assert result.exit_code == 1
    assert "seeds.json" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"data": "eval15", "rows": [', "damaged"),
        ("[]", "damaged"),
        ('{"data": "eval15", "rows": [{"psnr": 1.0}]}', "damaged"),
        ('{"data": "eval15"}', "damaged"),
        ('{"data": "eval15", "rows": [{"method": "x", "psnr": "high"}]}', "psnr of 'x' must be a number"),
        ('{"data": "eval15", "rows": [{"method": "x", "fixed_curve_dicm": "-"}]}', "fixed_curve_dicm of 'x'"),
        ('{"data": "Set5", "rows": []}', "'Set5'"),
    ],
)
def test_error_names_a_damaged_or_unrelated_file(content, message, results):
    (results / "published.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"published\.json") as failure:
        leaderboard(results)
    assert message in str(failure.value)
