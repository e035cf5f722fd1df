"""The file of scores that a lesson leaves beside the network that it has trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdlib.files import write_json
from kdlib.training.state import Run


def write_metrics(path: str | Path, run: Run, parameters: Mapping[str, Any], **scores: Any) -> Path:
    """Write ``metrics.json``: parameters, scores and what the run itself says (epoch kept, seconds, device).

    Args:
        path: of the file, which is replaced.
        parameters: what the run depends on, by name.
        scores: further entries, values that JSON has.

    Returns:
        The path.
    """
    facts = {name: getattr(run, name) for name in ("best_epoch", "skipped_batches", "device", "precision")}
    content = {"parameters": dict(parameters), **scores, **facts, "seconds": round(run.seconds, 1)}
    return write_json(path, content)
