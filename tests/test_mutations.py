"""Damaged files of every kind: a few hundred here, many thousands with `python -m tests.reliability.mutations`."""

import json
import sys
from pathlib import Path

import pytest
from PIL import features

from kdlib.enhance.photos.photo_file import MAX_PIXELS, MAX_SIDE
from tests.fuzz import make_corpus
from tests.reliability import mutations
from tests.reliability.mutations import Worker, soak

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="workers are watched in the way of Unix")
ROOT = Path(__file__).parents[1]
CORPUS = sorted(make_corpus.CORPUS.iterdir())
DEFECTS = ("crashes", "hangs", "over_memory", "outputs_of_failed_inputs", "unreadable_results")


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    worker = Worker(tmp_path_factory.mktemp("worker"))
    yield worker
    worker.stop()


@pytest.mark.slow
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_sound_file_goes_through(path, worker):
    if path.suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    kind = mutations._SUFFIXES.get(path.suffix, "photo")
    assert worker.run(kind, path.suffix, path.read_bytes()) == ("enhanced", "")


def test_corpus_is_small_and_complete():
    made = make_corpus.photos().keys() | {path.name for path in CORPUS if path.suffix in mutations._SUFFIXES}
    assert made <= {path.name for path in CORPUS}
    assert sum(path.stat().st_size for path in CORPUS) < 100_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "outcome", "detail"),
    [
        (b"well", "enhanced", ""),
        (b"die", "crashes", "exit code -11"),
        (b"wait", "hangs", "more than"),
        (b"fail", "crashes", "KeyError"),
        (b"grow", "over_memory", "bytes more than before"),
        (b"leave", "outputs_of_failed_inputs", ".result.txt.part"),
    ],
)
def test_every_defect_is_noticed(content, outcome, detail, tmp_path):
    idle = Worker(tmp_path, idle=True, timeout=0.5 if content == b"wait" else 5.0)
    found, why = idle.run("planted", ".txt", content)
    idle.stop()
    assert found == outcome
    assert detail in why


@pytest.mark.slow
def test_damaged_files_are_enhanced_or_refused_and_nothing_else(tmp_path, worker):
    result = soak(120, tmp_path, most=400, workers=[worker])
    assert {name: result[name] for name in DEFECTS} == {name: [] for name in DEFECTS}
    assert result["inputs"] == result["enhanced"] + result["refused"] == 400
    # Neither are nearly all sound, nor so broken that none gets beyond its first bytes.
    assert result["enhanced"] > 40
    assert len(result["reasons"]) > 30


def test_which_files_is_decided_by_the_seed():
    corpus = {kind: {"a.jpg": CORPUS[0].read_bytes()} for kind in ("photo", "weights", "video")}
    files = [mutations._input(corpus, f"{seed} 0") for seed in (0, 0, 1)]
    assert files[0] == files[1] != files[2]


@pytest.mark.slow
def test_committed_result_has_no_defect_and_is_the_guides():
    result = json.loads((ROOT / "results" / "mutations.json").read_text(encoding="utf-8"))
    assert result["inputs"] >= 10_000
    assert not any(result[name] for name in DEFECTS)
    guide = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    assert f"{result['inputs']:,} damaged files" in guide
    assert f"more than {result['bytes_allowed'] / 1e6:.0f} MB in addition" in guide
    assert result["command"] in guide


@pytest.mark.slow
def test_memory_is_what_the_guides_say():
    measured = json.loads((ROOT / "results" / "memory.json").read_text(encoding="utf-8"))
    *others, avif = sorted(size for sides in measured["bytes_a_pixel"].values() for size in sides.values())
    enlarging = measured["enlarging_by_threads"]
    assert max(enlarging.values()) < 2**31
    limits, larger = (
        " ".join((ROOT / "docs" / name).read_text(encoding="utf-8").split())
        for name in ("limits.md", "super-resolution.md")
    )
    assert f"{others[0]} to {others[-1]} bytes of memory a pixel, AVIF {avif}" in limits
    few, many = (f"{enlarging[threads] / 1e9:.1f} GB" for threads in ("2", "16"))
    assert f"{few} of memory with two threads, {many} with 16" in larger
    assert avif < mutations.BYTES_PER_PIXEL
    assert f"{MAX_PIXELS // 10**6} million pixels" in limits
    assert f"{MAX_SIDE:,} a side" in limits
