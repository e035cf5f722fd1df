"""Kill trainings, damage files and kill workers on Ray for some minutes, and write what was survived.

``python -m tests.reliability --seconds 540 --out results/reliability.json``
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from kdlib.files import write_json
from tests.reliability.mutations import DEFECTS

SHARES = {"kills": 0.4, "mutations": 0.4, "workers": 0.2}
MOST = 600.0  # seconds altogether
_ALLOWED = 540.0  # of which the parts share at most this: each finishes what it is at
_SOAK = "import sys; from tests.reliability.__main__ import soak_part; soak_part(*sys.argv[1:])"


def soak_part(part: str, seconds: str, folder: str, seed: str) -> None:
    """In a child: one part, whose result is left in the folder."""
    found = import_module(f"tests.reliability.{part}").soak(float(seconds), Path(folder), int(seed))
    Path(folder, "found.json").write_text(json.dumps(found), encoding="utf-8")


def watched(part: str, seconds: float, most: float, folder: Path, seed: int, program: str = _SOAK) -> dict[str, Any]:
    """What a part has found, in a process of its own; ``failed``, if it fails or takes more than ``most`` seconds."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-c", program, part, str(seconds), str(folder), str(seed)]
    with open(folder / "log.txt", "wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        child.wait(most)
    except subprocess.TimeoutExpired:
        return {"failed": f"it did not end within {most:.0f} s"}
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)  # all that it has started, but for Ray's, which end with it
            child.wait()
    if child.returncode:
        said = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return {"failed": said[-1] if said else f"exit code {child.returncode}"}
    return dict(json.loads((folder / "found.json").read_text(encoding="utf-8")))


def wrong(parts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What was lost, crashed, hung or differed, a sentence each; none if all is well, and each part did something."""
    said = [f"{name} failed: {found['failed']}" for name, found in parts.items() if "failed" in found]
    kills, mutations, workers = ({} if "failed" in parts[name] else parts[name] for name in SHARES)
    if kills and not (kills["kills"] and kills["runs"]):
        said.append("no training was killed")
    if kills and kills["identical"] != kills["runs"]:
        said.append(f"{kills['runs'] - kills['identical']} of {kills['runs']} killed trainings came to something else")
    if mutations and not mutations["inputs"]:
        said.append("no file was damaged")
    said += [f"{name}: {line}" for name in DEFECTS for line in mutations.get(name, ())]
    if workers and not (workers["workers_killed"] and workers["photos"]):
        said.append("no worker was killed")
    said += [f"{workers[name]} photos {name}" for name in ("lost", "repeated") if workers.get(name)]
    if workers and not (workers["identical_to_local"] and workers["outputs"] == workers["photos"]):
        said.append("the workers' files are not the local engine's")
    return said


def soak(seconds: float, seed: int, folder: Path, watch: Callable[..., dict[str, Any]] = watched) -> dict[str, Any]:
    """All parts, one after the other, each for its share of the time; each may end as late as leaves the others theirs
    within ten minutes."""
    end, parts, to_come = time.monotonic() + MOST, {}, 1.0
    for name, share in SHARES.items():
        to_come -= share
        most = end - time.monotonic() - to_come * seconds
        parts[name] = watch(name, share * seconds, most, folder / name, seed)
        print(name, {key: value for key, value in parts[name].items() if key != "reasons"}, flush=True)
    return {**parts, "wrong": wrong(parts)}


def main(arguments: list[str] | None = None, watch: Callable[..., dict[str, Any]] = watched) -> int:
    """Run each part as ``watch`` does: 0 if nothing was lost, crashed, hung or differed, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability")
    parser.add_argument("--seconds", type=float, default=_ALLOWED)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    if not 0 < given.seconds <= _ALLOWED:
        parser.error(f"--seconds is at most {_ALLOWED:.0f}, so that all ends within {MOST:.0f}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        found = soak(given.seconds, given.seed, Path(scratch), watch)
    for line in found["wrong"]:
        print(line)
    if given.out:
        command = f"python -m tests.reliability --seconds {given.seconds:g} --seed {given.seed}"
        write_json(given.out, {"command": command, "seed": given.seed, **found})
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
