"""What the fuzzers share: for how long, from what, and how inputs are changed."""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import atheris

from tests.reliability.mutate import mutated

CORPUS = Path(__file__).parent / "corpus"
_STARTS = {
    b"\xff\xd8": ".jpg",
    b"\x89P": ".png",
    b"RI": ".webp",
    b"BM": ".bmp",
    b"II": ".tif",
    b"MM": ".tif",
    b"PK": ".pth",
    b"\x08\x08": ".onnx",
}


def run(target: Callable[[bytes], None], folder: Path, suffixes: set[str]) -> None:
    """Fuzz until the time is up or a defect is found, whose input is then written to a file.

    The exit code is 0 if there was none. An input may take five seconds and two gigabytes.

    Args:
        target: takes an input; raises at a defect.
        folder: for what is found on the way, and then removed.
        suffixes: of the files of the corpus to start from.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--runs", type=int, default=-1, help="inputs, if they come before the time is up")
    parser.add_argument("--found", type=Path, default=Path(), help="a folder for the input that shows a defect")
    parser.add_argument("inputs", nargs="*", type=Path, help="inputs to try once, instead")
    given = parser.parse_args()
    if given.inputs:
        for path in given.inputs:
            target(path.read_bytes())
        return
    seeds = {path.name: path.read_bytes() for path in CORPUS.iterdir() if path.suffix in suffixes}
    found = folder / "corpus"
    found.mkdir()
    for name, content in seeds.items():
        (found / name).write_bytes(content)

    def watched(data: bytes) -> None:
        try:
            target(data)
        except Exception:
            # libFuzzer's own file may never come: its clock can end the process while Python is still closing down.
            given.found.mkdir(parents=True, exist_ok=True)
            (given.found / f"crash-{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)
            raise

    for content in seeds.values():
        watched(content)  # imports and compiles, which libFuzzer's clock could take for an input that hangs

    def change(data: bytes, most: int, seed: int) -> bytes:
        # Blind changes hardly get beyond lengths and checksums.
        rng = random.Random(seed)
        if rng.random() < 0.3:
            return atheris.Mutate(data, most)
        kind = _STARTS.get(data[:2], ".avif" if data[4:8] == b"ftyp" else ".safetensors")
        others = [content for name, content in seeds.items() if name.endswith(kind)] or [data]
        return mutated(data, kind, others, rng)[:most]

    options = [
        *("-timeout=5", "-rss_limit_mb=2048", "-max_len=65536", "-print_final_stats=1", "-verbosity=0"),
        *(f"-max_total_time={given.seconds}", f"-runs={given.runs}", f"-artifact_prefix={given.found.resolve()}/"),
    ]
    atheris.Setup([sys.argv[0], *options, str(found)], watched, custom_mutator=change)
    try:
        atheris.Fuzz()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
