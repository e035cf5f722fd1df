"""Shorter trainings for ``make test``: KDLIB_TRAININGS=short gives some notebooks the parameters below.

They come after the stored ones, as papermill's do. Every check of a notebook holds for them too: each notebook trains
for as many epochs as its checks need, on fewer patches or smaller photos. tests/test_super_resolution.py follows the
variable too.
"""

import os

SHORT = {
    "03_pretrain": {"epochs": 3, "compare_epochs": 1},
    "04_distill": {"epochs": 8},
    "08_zero_dce": {"network_side": 16, "compare_seeds": 2},
    "09_iat": {"epochs": 4, "side": 32},
    "10_super_resolution": {"repeats": 16},
}


def pytest_collection_modifyitems(items):
    if os.environ.get("KDLIB_TRAININGS", "full") != "short":
        return
    for item in items:
        cell = getattr(item, "cell", None)  # of a notebook
        if cell and "parameters" in cell.metadata.get("tags", []):
            given = SHORT.get(item.path.stem, {})
            cell.source += "".join(f"\n{name} = {value!r}" for name, value in given.items())
