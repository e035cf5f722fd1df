"""Running code cells of a lesson, so that a test can hold its prose to what they compute."""

import nbformat
import pytest
import torch

from tests.helpers import NOTEBOOKS


def run_cells(name, folder, until="", also=()):
    """Return the variables of a lesson after its code cells before the heading ``until``, or after all of them.

    Some lessons switch gradients off; afterwards they are as they were, for the tests that follow.

    Args:
        name: of the notebook, without ".ipynb".
        folder: replaces ``runs/``.
        until: beginning of a Markdown cell.
        also: a fragment of each further code cell that is run, in this order.
    """
    import matplotlib.pyplot as plt

    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    ends = [at for at, cell in enumerate(cells) if cell.cell_type == "markdown" and cell.source.startswith(until)]
    [end] = ends if until else [len(cells)]
    sources = [cell.source for cell in cells[:end] if cell.cell_type == "code"]
    for fragment in also:
        [found] = [cell.source for cell in cells[end:] if cell.cell_type == "code" and fragment in cell.source]
        sources.append(found)
    namespace = {"__name__": "__main__"}
    with torch.enable_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDLIB_RUNS", str(folder))
        patch.setenv("MPLBACKEND", "agg")
        patch.chdir(NOTEBOOKS)
        patch.setattr(plt, "show", lambda: plt.close("all"))
        for source in sources:
            exec(compile(source, name, "exec"), namespace)
    return namespace
