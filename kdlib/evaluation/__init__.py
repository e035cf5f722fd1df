"""Measurements of finished models and classical methods: quality, fidelity to a teacher, behaviour, cost and speed.

Nothing here may train a model; experiments that train and then measure are in :mod:`kdlib.experiments`.
"""

from kdlib.evaluation.behaviour import daylight_change, daylight_photos, fixed_curve_psnr, shared_map_psnr
from kdlib.evaluation.classical import classical_methods
from kdlib.evaluation.cost import milliseconds, multiply_adds
from kdlib.evaluation.metrics import fidelity, gt_mean, lpips, lpips_available, psnr, quantise, ssim
from kdlib.evaluation.report import compare, markdown_table, over_seeds, score
from kdlib.files import write_json

__all__ = [
    "classical_methods", "compare", "daylight_change", "daylight_photos", "fidelity", "fixed_curve_psnr", "gt_mean",
    "lpips", "lpips_available", "markdown_table", "milliseconds", "multiply_adds", "over_seeds", "psnr", "quantise",
    "score", "shared_map_psnr", "ssim", "write_json",
]  # fmt: skip
