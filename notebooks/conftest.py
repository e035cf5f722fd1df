"""Shorter trainings for ``make test``: KDLIB_TRAININGS=short gives some notebooks the parameters below.

They come after the stored ones, as papermill's do. Every check of a notebook holds for them too: each notebook trains
for as many epochs as its checks need, on fewer patches or smaller photos, and scores smaller photos. Cells whose
outputs depend on the parameters have the tag nbval-ignore-output.
tests/test_super_resolution.py follows the variable too.
"""

import os
from functools import cache
from inspect import getsource
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.helpers import keep_memory

SHORT = {
    "00_distillation": {"steps": 150},
    "03_pretrain": {"epochs": 3, "compare_epochs": 1, "limit": 384},
    "04_distill": {"epochs": 3, "size": 32},
    "05_evaluate": {"data_dir": "small pairs"},
    "08_zero_dce": {"epochs": 4, "network_side": 16, "compare_seeds": 2},
    "09_iat": {"epochs": 3, "size": 48, "side": 32},
    "10_super_resolution": {"epochs": 5, "repeats": 16, "batch_size": 4, "eval_dirs": "small photos"},
    "11_below_a_thousand": {"epochs": 6, "limit": 256},
    "12_every_photo": {"views": 6, "size": 32, "batch_size": 12, "epochs": 6},
    "13_distil_your_own": {"seeds": 2, "teacher_epochs": 2, "epochs": 2},
}
collect_ignore = ["solutions"]  # tests/exercises runs them, in one process
_folders = TemporaryDirectory()


@cache
def folder(kind):
    """The embedded pairs at half the size, or squares from the held-out photos."""
    # Imported here: most runs of pytest collect no notebook.
    from torch.nn.functional import avg_pool2d

    from kdlib.data import evaluation_pairs, sample_photos, to_tensor, write_photo
    from kdlib.data.samples import HELD_OUT

    path = Path(_folders.name, kind.replace(" ", "_"))
    if kind == "small pairs":
        for name, *pair in evaluation_pairs(None, stops=3.5, seed=0):
            for part, photo in zip(("low", "high"), pair, strict=True):
                write_photo(path / part / f"{name}.png", avg_pool2d(photo, 2))
    else:
        for name in HELD_OUT:
            write_photo(path / f"{name}.png", to_tensor(sample_photos()[name])[:, 80:176, 120:216])
    return str(path)


def pytest_collection_modifyitems(items):
    for item in items:
        if getattr(item, "cell_num", None) == 0:  # the first of a notebook
            item.cell.source = f"import ctypes, sys\n{getsource(keep_memory)}\nkeep_memory()\n{item.cell.source}"
    if os.environ.get("KDLIB_TRAININGS", "full") != "short":
        return
    for item in items:
        cell = getattr(item, "cell", None)  # of a notebook
        if cell and item.path.parent.name == "notebooks" and "parameters" in cell.metadata.get("tags", []):
            for name, value in SHORT.get(item.path.stem, {}).items():
                cell.source += f"\n{name} = {(folder(value) if 'dir' in name else value)!r}"
