"""Which extra of the package brings a module that is not installed, said in one sentence.

``pip install kdlib`` is enough to enhance photos and videos. PyTorch, Jupyter, Ray and Optuna are in extras.
"""

from collections.abc import Iterator
from contextlib import contextmanager

_MODULES = {
    "course": (
        "IPython", "ipywidgets", "jupyterlab", "lightning_fabric", "matplotlib", "nbclient", "nbformat", "papermill",
        "skimage", "sklearn", "torch", "torchinfo", "torchmetrics", "torchvision", "tqdm", "yaml",
    ),
    "benchmark": ("onnxscript",),
    "onnx": ("onnx", "onnxruntime"),
    "heic": ("pillow_heif",),
    "raw": ("rawpy",),
    "ray": ("fsspec", "pyarrow", "ray"),
    "sweep": ("filelock", "optuna"),
}  # fmt: skip
EXTRAS = {module: extra for extra, modules in _MODULES.items() for module in modules}
"""Top-level module → the extra that installs it."""
_TITLES = {"torch": "PyTorch", "pillow_heif": "pillow-heif"}
_TERMS = {"pillow_heif": " (its wheels are under the GPLv2)"}


class MissingExtraError(ModuleNotFoundError):
    """A module is missing that one of the package's extras installs; ``name`` is the module's.

    Attributes:
        importing: whether the message is about a module of the package, and not what the user asked for.
    """

    importing = False


def with_extra(error: ImportError, what: str, *, importing: bool = False) -> ImportError:
    """Return the error as a sentence that names the extra and ``what`` needs it: a model, a function or a command.

    An error of a module that no extra installs comes back as it is, and so does one that names a model, a function or a
    command already. One that names a module of the package, which was ``importing`` others, gets the new subject.
    """
    module = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or module not in EXTRAS:
        return error
    if isinstance(error, MissingExtraError) and not error.importing:
        return error
    found = MissingExtraError(
        f"{what} needs {_TITLES.get(module, module)}, which is not installed: pip install 'kdlib[{EXTRAS[module]}]'"
        f"{_TERMS.get(module, '')}",
        name=error.name,
    )
    found.importing = importing
    return found


@contextmanager
def needed_by(what: str, *, importing: bool = False) -> Iterator[None]:
    """Around imports that ``what`` needs: a model, a function or a command, or a module ``importing`` others.

    Raises:
        MissingExtraError: a module is missing that an extra installs; see :func:`with_extra`.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise with_extra(error, what, importing=importing) from None
