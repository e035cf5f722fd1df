"""Which exercises have passed on this machine: ``runs/progress.json``."""

import json
from pathlib import Path

from kdlib.files import held, replacing, strict_json
from kdlib.notebook import project_path


def path() -> Path:
    """Return where progress is kept, from the project's folder and from its notebooks' folders alike."""
    return project_path("runs/progress.json")


def passed() -> set[str]:
    """Return the numbers of the exercises that have passed; none if there is no file, or no valid one."""
    try:
        numbers = strict_json(path().read_bytes())["passed"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return set()
    return {number for number in numbers if isinstance(number, str)} if isinstance(numbers, list) else set()


def remember(number: str) -> str:
    """Add an exercise to those that have passed, and return an empty string, or why it could not be recorded.

    What runs in ``notebooks/solutions/`` is not the reader's and is not recorded.
    """
    if Path.cwd().parts[-2:] == ("notebooks", "solutions"):
        return ""
    file = path()
    try:
        with held(file.parent):  # two notebooks may run at the same time
            if number not in (numbers := passed()):
                with replacing(file) as partial:
                    partial.write_text(json.dumps({"passed": sorted({*numbers, number})}, indent=2) + "\n", "utf-8")
    except OSError as error:
        return f" (not recorded: {error})"
    return ""
