"""What distillation adds: students with a teacher and the same students alone, on bracketed scenes.

``python -m kdlib.experiments.taught_or_alone BRACKETS --taught FILE … --alone FILE …`` writes
``results/every_photo_seeds.json``. The files come from ``configs/grid-960.yaml`` with one ``seed`` after the other, and
from the same with ``teachers: ""``; the order of the seeds is the same in both lists.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from kdlib.data.brackets import read_brackets
from kdlib.evaluation.brackets import paired_difference, score_brackets
from kdlib.evaluation.report import as_method, over_seeds
from kdlib.files import write_json
from kdlib.weights import load_model


def compare(taught: Sequence[str | Path], alone: Sequence[str | Path], folder: str | Path) -> dict[str, Any]:
    """Score both kinds of students on the same scenes.

    Args:
        taught, alone: names or weights files, one for each seed.
        folder: see :func:`kdlib.data.brackets.read_brackets`.

    Returns:
        ``rows`` of both kinds over their seeds; ``by_seed``, the difference of each seed in dB, taught minus alone,
        with its 95% interval over scenes; and ``difference``, that of the means over the seeds.

    Raises:
        ValueError: not the same number of files in both lists, or none.
        OSError, PhotoError: weights or photos that cannot be read.
    """
    if len(taught) != len(alone) or not taught:
        raise ValueError(f"as many students alone as taught are needed, at least one: {len(taught)} and {len(alone)}")
    files = {"taught": taught, "alone": alone}
    methods = {f"{kind} {n}": as_method(load_model(file)) for kind, own in files.items() for n, file in enumerate(own)}
    scored = {row["method"]: row for row in score_brackets(methods, read_brackets(folder))}
    rows = {kind: [scored[f"{kind} {n}"] for n in range(len(own))] for kind, own in files.items()}
    return {
        "rows": [over_seeds(kind, of_kind) for kind, of_kind in rows.items()],
        "by_seed": [paired_difference(*pair) for pair in zip(rows["taught"], rows["alone"], strict=True)],
        "difference": paired_difference(*(_mean_over_seeds(kind, of_kind) for kind, of_kind in rows.items())),
    }


def _mean_over_seeds(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    scenes = {scene: fmean(row["scenes"][scene] for row in rows) for scene in rows[0]["scenes"]}
    return {"method": name, "scenes": scenes}


def main() -> None:
    """Compare the students and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a subfolder of exposures for each scene")
    parser.add_argument("--taught", nargs="+", required=True, help="weights files, a seed each")
    parser.add_argument("--alone", nargs="+", required=True, help="likewise, in the same order")
    parser.add_argument("--out", type=Path, default=Path("results/every_photo_seeds.json"))
    chosen = parser.parse_args()
    result = compare(chosen.taught, chosen.alone, chosen.folder)
    files = {kind: " ".join(Path(file).name for file in getattr(chosen, kind)) for kind in ("taught", "alone")}
    command = f"python -m kdlib.experiments.taught_or_alone {chosen.folder.name} " + " ".join(
        f"--{kind} {names}" for kind, names in files.items()
    )
    write_json(chosen.out, {"command": command, **result})
    print("taught minus alone: {:.2f} dB, 95% interval {:.2f} to {:.2f}".format(*result["difference"]))


if __name__ == "__main__":
    main()
