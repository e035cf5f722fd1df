"""One trial of a sweep, in a process of its own.

The folder holds ``parameters.json``. The notebook writes ``metrics.json`` there; if it fails, ``failed.txt`` says why.
"""

import json
import os
import threading
from pathlib import Path

PARAMETERS, METRICS, FAILED, NOTEBOOK = "parameters.json", "metrics.json", "failed.txt", "notebook.ipynb"


def main(notebook: str, folder: str) -> int:
    """Run the notebook. Returns 0, or 1 if it failed."""
    # The sweep holds the other end of standard input: if the sweep is killed, the trial and its kernel end, too.
    # Otherwise two trials might soon write to one folder.
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    import papermill  # type: ignore[import-untyped]

    place = Path(folder)
    for old in (METRICS, FAILED):
        (place / old).unlink(missing_ok=True)
    parameters = json.loads((place / PARAMETERS).read_text(encoding="utf-8"))
    try:
        papermill.execute_notebook(notebook, str(place / NOTEBOOK), parameters, progress_bar=False)
    except Exception as error:  # anything that the notebook raises
        name, value = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", error)
        (place / FAILED).write_text(f"{name}: {value}", encoding="utf-8")
        return 1
    return 0


def _end_with_the_sweep() -> None:
    # Not sys.stdin: an ending interpreter would wait for its lock.
    while os.read(0, 1):
        pass
    os._exit(1)
