"""The file of scores beside a trained network."""

import json

from torch import nn

from kdlib.training.metrics import write_metrics
from kdlib.training.state import Run


def test_metrics_hold_parameters_scores_and_facts_of_the_run(tmp_path):
    run = Run(nn.Identity(), best_epoch=3, skipped_batches=1, seconds=1.26, device="cpu", precision="32-true")
    path = write_metrics(tmp_path / "metrics.json", run, {"epochs": 4}, eval="embedded", scores=[{"psnr": 20.5}])
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content.pop("made")["torch"]
    assert content == {
        "parameters": {"epochs": 4}, "eval": "embedded", "scores": [{"psnr": 20.5}], "best_epoch": 3,
        "skipped_batches": 1, "device": "cpu", "precision": "32-true", "seconds": 1.3,
    }  # fmt: skip
