import kdlib.files

from . import behaviour, classical, cost, metrics, report, tables
from .behaviour import daylight_change, daylight_photos, fixed_curve_psnr, shared_map_psnr
from .classical import classical_methods
from .cost import milliseconds, multiply_adds
from .metrics import fidelity, gt_mean, lpips, lpips_available, psnr, quantise, ssim
from .report import compare, over_seeds, score
from .tables import markdown_table

write_json = kdlib.files.write_json
__all__ = [
    "behaviour", "classical", "classical_methods", "compare", "cost", "daylight_change", "daylight_photos", "fidelity",
    "fixed_curve_psnr", "gt_mean", "lpips", "lpips_available", "markdown_table", "metrics", "milliseconds",
    "multiply_adds", "over_seeds", "psnr", "quantise", "report", "score", "shared_map_psnr", "ssim", "tables",
    "write_json",
]  # fmt: skip
