"""Scores against ground truth, and fidelity of a student to its teacher."""

from kdlib.evaluation.metrics import fidelity, gt_mean, lpips, lpips_available, psnr, quantise, ssim
from kdlib.evaluation.report import classical_methods, compare, markdown_table, score
from kdlib.files import write_json

__all__ = [
    "classical_methods",
    "compare",
    "fidelity",
    "gt_mean",
    "lpips",
    "lpips_available",
    "markdown_table",
    "psnr",
    "quantise",
    "score",
    "ssim",
    "write_json",
]
