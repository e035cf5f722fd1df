"""Running code cells of a lesson, so that a test can hold its prose to what they compute."""

import ast
from functools import cache

import nbformat
import pytest
import torch

from kdlib.data import load_photos
from tests.helpers import NOTEBOOKS

DRAWING = ("viz.", "viz_grid.", "viz_glance.", "plt.", "table(")


@cache
def photos_of(folder=None, size=64, limit=None, seed=0):
    """What ``load_photos`` gives lessons 03 and 04, where it takes seconds and no cell changes it."""
    return load_photos(folder, size=size, limit=limit, seed=seed)


def without_figures(source):
    """The code of a cell without its statements that only draw or only show something, which cost time."""
    body = ast.parse(source).body
    kept = [node for node in body if not (isinstance(node, ast.Expr) and ast.unparse(node).startswith(DRAWING))]
    return ast.unparse(ast.Module(kept, type_ignores=[]))


def run_cells(name, folder, until="", also=(), without=(), smaller=()):
    """Return the variables of a lesson after its code cells before the heading ``until``, or after all of them.

    What only draws is left out; `make test` draws every figure when it executes the notebook itself. Some lessons
    switch gradients off; afterwards they are as they were, for the tests that follow.

    Args:
        name: of the notebook, without ".ipynb".
        folder: replaces ``runs/``.
        until: beginning of a Markdown cell.
        also: a fragment of each further code cell that is run, in this order.
        smaller: pairs of a fragment, which one cell has, and a replacement with which the cell computes less.
        without: a fragment of each code cell that is not run, because it is slow and no test asks for its variables.
    """
    import matplotlib.pyplot as plt

    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    ends = [at for at, cell in enumerate(cells) if cell.cell_type == "markdown" and cell.source.startswith(until)]
    [end] = ends if until else [len(cells)]
    sources = [cell.source for cell in cells[:end] if cell.cell_type == "code"]
    for fragment in also:
        [found] = [cell.source for cell in cells[end:] if cell.cell_type == "code" and fragment in cell.source]
        sources.append(found)
    for fragment in without:
        [left_out] = [source for source in sources if fragment in source]
        sources.remove(left_out)
    for fragment, replacement in smaller:
        [at] = [k for k, source in enumerate(sources) if fragment in source]
        sources[at] = sources[at].replace(fragment, replacement)
    namespace = {"__name__": "__main__"}
    with torch.enable_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDLIB_RUNS", str(folder))
        patch.setenv("MPLBACKEND", "agg")
        patch.chdir(NOTEBOOKS)
        patch.setattr(plt, "show", lambda: plt.close("all"))
        for source in sources:
            exec(compile(without_figures(source), name, "exec"), namespace)
    return namespace
