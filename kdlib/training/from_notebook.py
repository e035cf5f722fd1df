"""The training of a notebook alone: in this process, without a kernel, figures or evaluation."""

import contextlib
import linecache
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdlib.checks import unknown_name
from kdlib.notebook import parameters_of
from kdlib.training.processes import leave, rank

RUN = {"parameters", "injected-parameters", "train"}


def train_from_notebook(path: str | Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Run the cells of a notebook that are tagged ``train``, after its parameters.

    Under torchrun or Slurm every process runs them. Only the first one prints and writes: the others get an
    ``output_dir`` that is thrown away.

    Args:
        path: a notebook in which everything that its training needs, up to its call, is tagged.
        parameters: by name, as papermill takes them; all others keep the notebook's values.

    Returns:
        The names that the cells have defined.

    Raises:
        FileNotFoundError, ValueError: no notebook with a training, or a parameter that it does not have. An exception
            from a cell carries a note that names the cell.
    """
    path = Path(path)
    away = tempfile.TemporaryDirectory() if rank() else None
    cells = list(training_cells(path, parameters, {"output_dir": away.name} if away else {}))
    linecache.cache.update({name: (len(code), None, code.splitlines(True), name) for name, code in cells})
    namespace: dict[str, Any] = {"__name__": "__main__"}
    try:
        with _alone_or_silent(), _without_figures():
            for name, code in cells:
                try:
                    exec(compile(code, name, "exec"), namespace)
                except Exception as error:
                    error.add_note(f"in {name}")
                    raise
    finally:
        leave()
        if away:
            away.cleanup()
    return namespace


def training_cells(
    path: Path, parameters: Mapping[str, Any], instead: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, str]]:
    """The code of a notebook's own parameters, of the given ones, and of its training, each with the name of its cell.

    Args:
        instead: parameters that override those given, if the notebook has them.
    """
    import papermill  # type: ignore[import-untyped]
    from IPython.core.inputtransformer2 import TransformerManager

    known = parameters_of(path)
    for name in parameters:
        if name not in known:
            raise ValueError(unknown_name("parameter", name, known, f"{path.name} takes"))
    given = {**parameters, **{name: value for name, value in (instead or {}).items() if name in known}}
    notebook = papermill.execute_notebook(str(path.absolute()), None, given, prepare_only=True)
    # The injected cell is not counted, so that numbers are those of the file.
    number, found = 0, False
    for cell in notebook.cells:
        tags = set(cell.metadata.get("tags", []))
        number += "injected-parameters" not in tags
        if cell.cell_type != "code" or not tags & RUN:
            continue
        code = TransformerManager().transform_cell(cell.source)
        if "get_ipython()" in code:
            raise ValueError(f"{path}: cell {number} has a magic or a shell command, which needs a kernel")
        found = found or "train" in tags
        yield f"cell {number} of {path.name}", code
    if not found:
        raise ValueError(f"{path} has no cells tagged 'train': run it with papermill")


@contextlib.contextmanager
def _alone_or_silent() -> Iterator[None]:
    """Silence all processes but the first."""
    if rank() == 0:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


@contextlib.contextmanager
def _without_figures() -> Iterator[None]:
    """Let cells draw their figures without showing them."""
    import matplotlib.pyplot as plt

    before = plt.get_backend()
    plt.switch_backend("agg")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")
            yield
    finally:
        plt.close("all")
        plt.switch_backend(before)
