"""What several test files share."""

import ctypes
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import nbformat
import numpy as np
import torch
from typer.testing import CliRunner

from kdlib.cli import app
from kdlib.noise import TOP
from tests.reliability.kills import CONTEXT

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def prose(name):
    """The Markdown of a notebook, its white space collapsed: ``prose("04_distill")``."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    return " ".join(" ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown").split())


def kdlib(*arguments):
    """Run ``kdlib`` with these arguments."""
    return CliRunner().invoke(app, [*map(str, arguments)])


def said(result):
    """What a command has printed, in one line."""
    return " ".join(result.output.split())


def in_new_process(program, *arguments):
    """Run a program as ``python -c`` does: its ``returncode``, ``stdout`` and ``stderr``.

    The process is forked from one that has imported PyTorch, which takes seconds, and imports kdlib itself.
    """
    with TemporaryDirectory() as folder:
        child = CONTEXT.Process(target=_run, args=(program, arguments, folder))
        child.start()
        child.join()
        stdout, stderr = (Path(folder, name).read_text(encoding="utf-8") for name in ("1", "2"))
    return SimpleNamespace(returncode=child.exitcode, stdout=stdout, stderr=stderr)


def _run(program, arguments, folder):
    for stream in (1, 2):
        os.dup2(os.open(Path(folder, str(stream)), os.O_WRONLY | os.O_CREAT), stream)
    for name in [name for name in sys.modules if name.partition(".")[0] == "kdlib"]:
        del sys.modules[name]
    sys.argv = ["-c", *arguments]
    exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})


def keep_memory():
    """Have this process keep the memory that it frees.

    Networks at 600×400 otherwise spend half their time on getting it anew.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        libc.mallopt(-4, 0)  # M_MMAP_MAX


def random_photo(height, width, batch=1, seed=0):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def as_tensor(photo):
    """A photo as the model takes it: 1×3×H×W in [0, 1], grey three times."""
    colours = photo[..., :3] if photo.shape[2] >= 3 else photo[..., :1].repeat(3, axis=2)
    return torch.from_numpy(colours.astype(np.float32) / np.float32(TOP[photo.dtype.name])).permute(2, 0, 1)[None]


def weights_of(model):
    return torch.cat([tensor.detach().flatten().float() for tensor in model.state_dict().values()])
