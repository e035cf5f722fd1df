"""A module that is not installed is named together with the extra that brings it."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

import kdlib
from kdlib.cli import app
from kdlib.extras import EXTRAS, MissingExtraError, needed_by
from tests.helpers import in_new_process

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def distributions(lines):
    """Normalised names of the distributions that lines of requirements install, those of named extras included."""
    found = set()
    for requirement in map(Requirement, lines):
        if requirement.name == PROJECT["name"]:
            for extra in requirement.extras:
                found |= distributions(PROJECT["optional-dependencies"][extra])
        else:
            found.add(re.sub(r"[-_.]+", "-", requirement.name).lower())
    return found


def imported_modules():
    """Top-level names of everything that the package imports, apart from the standard library and itself."""
    names = set()
    for path in Path(kdlib.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"kdlib"}


@pytest.mark.slow
def test_every_module_that_the_package_imports_is_a_dependency_or_in_an_extra():
    core = distributions(PROJECT["dependencies"])
    of_module = importlib.metadata.packages_distributions()
    for module in imported_modules() - {"llvmlite", "triton"}:  # which numba and PyTorch bring with them
        brought_by = {re.sub(r"[-_.]+", "-", name).lower() for name in of_module[module]}
        assert bool(brought_by & core) != (module in EXTRAS), module


def test_every_extra_brings_the_modules_that_it_is_named_for():
    of_module = importlib.metadata.packages_distributions()
    for module, extra in EXTRAS.items():
        brought_by = {re.sub(r"[-_.]+", "-", name).lower() for name in of_module[module]}
        assert brought_by & distributions(PROJECT["optional-dependencies"][extra]), module


def test_the_core_has_no_pytorch_and_dev_has_everything():
    extras = PROJECT["optional-dependencies"]
    assert not {"torch", "torchvision", "matplotlib", "jupyterlab"} & distributions(PROJECT["dependencies"])
    everything = {name for lines in extras.values() for name in distributions(lines)}
    assert distributions(extras["dev"]) == everything


def test_a_missing_module_of_an_extra_is_said_in_one_sentence():
    with pytest.raises(MissingExtraError) as caught, needed_by("light-msafn"):
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")
    assert str(caught.value) == "light-msafn needs PyTorch, which is not installed: pip install 'kdlib[course]'"
    assert caught.value.name == "torch.nn"


def test_the_innermost_need_is_named_and_other_errors_stay_as_they_are():
    with pytest.raises(MissingExtraError) as caught, needed_by("kdlib enhance"), needed_by("light-msafn"):
        raise ModuleNotFoundError(name="torch")
    assert str(caught.value).startswith("light-msafn needs PyTorch")
    with pytest.raises(ModuleNotFoundError, match="typo") as caught, needed_by("kdlib enhance"):
        raise ModuleNotFoundError("typo", name="torhc")
    assert not isinstance(caught.value, MissingExtraError)
    with pytest.raises(ImportError, match="cannot import name"), needed_by("kdlib enhance"):
        raise ImportError("cannot import name", name="torch")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        ("train notebook.ipynb", "papermill", "course"),
        ("evaluate", "skimage", "course"),
        ("evaluate", "torch", "course"),
        ("benchmark", "torch", "course"),
        ("cost zero-dce", "torch", "course"),
        ("sweep sweep.yaml", "optuna", "sweep"),
        ("enhance photo.jpg --engine ray -o out", "ray", "ray"),
    ],
)
def test_commands_name_the_extra_that_they_need(command, missing, extra):
    # In a process of its own: here, the modules are imported already.
    program = f"""
import sys
for name in [name for name in sys.modules if name.startswith("{missing}.")]:
    del sys.modules[name]
sys.modules["{missing}"] = None
from kdlib.cli import app
app()
"""
    done = in_new_process(program, *command.split())
    title = {"torch": "PyTorch"}.get(missing, missing)
    assert done.returncode == 1
    assert not done.stdout.strip()  # a progress bar leaves an empty line
    assert re.fullmatch(
        rf"Error: .+ needs {title}, which is not installed: pip install 'kdlib\[{extra}\]'\n",
        done.stderr,
    )
    assert command.partition(" ")[0] == "enhance" or done.stderr.startswith(f"Error: kdlib {command.split()[0]} needs ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code", "answer"),
    [
        ("report results", 0, r"\| method \| class \|"),
        ("report tests", 1, "no scores at tests"),
        ("evaluate student-56", 1, "did you mean 'student-565'?"),
        ("evaluate student-565 --teacher zero-dc", 1, "did you mean 'zero-dce'?"),
        ("evaluate student-565 --data missing", 1, "missing does not exist"),
        ("evaluate student-565 --append", 1, "--out"),
        ("cost student-565 nano-16", 1, "did you mean 'nano-161'?"),
        ("benchmark --model student-56", 1, "did you mean 'student-565'?"),
        ("benchmark --model missing.pth", 1, "no weights file at missing.pth"),
    ],
)
def test_names_and_files_are_checked_before_pytorch_is_imported(command, code, answer):
    program = "import sys; sys.modules['torch'] = None; from kdlib.cli import app; app()"
    done = subprocess.run(
        [sys.executable, "-c", program, *command.split()], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == code, done.stderr
    assert re.search(answer.replace("?", r"\?"), done.stdout + done.stderr)


@pytest.mark.slow
def test_training_starts_without_the_slow_imports_that_scores_need():
    # In a process that nothing has imported anything into.
    program = "import kdlib.training, sys; print({'scipy', 'torchmetrics', 'torchvision'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


WITHOUT_TORCH = """
import sys

sys.modules["torch"] = None
import kdlib

try:
    kdlib.{name}
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["load_model", "save_model"])
def test_public_names_say_that_they_need_pytorch(name):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH.format(name=name)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"kdlib.{name} needs PyTorch, which is not installed: pip install 'kdlib[course]'\n"


EVERY_MODULE = """
import pkgutil, sys
from importlib import import_module
from kdlib.extras import EXTRAS, MissingExtraError

sys.modules.update(dict.fromkeys([*EXTRAS, "triton"]))
import kdlib

for module in pkgutil.walk_packages(kdlib.__path__, "kdlib."):
    if module.name == "kdlib.__main__":
        continue
    try:
        names = vars(import_module(module.name)).get("__all__", ())
    except MissingExtraError as error:
        print(module.name, error)
        assert str(error).startswith(f"{module.name} needs "), error
        continue
    for name in names:
        try:
            getattr(sys.modules[module.name], name)
        except MissingExtraError as error:
            print(f"{module.name}.{name}", error)
            assert str(error).startswith(f"{module.name}.{name} needs "), error
"""


@pytest.mark.slow
def test_every_module_and_every_public_name_says_which_extra_it_needs():
    done = subprocess.run([sys.executable, "-c", EVERY_MODULE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    needing = {line.partition(" ")[0] for line in done.stdout.splitlines()}
    assert {
        *("kdlib.weights.load_model", "kdlib.models.ZeroDCE", "kdlib.sweep"),
        *("kdlib.experiments.ablation", "kdlib.stages", "kdlib.resampling", "kdlib.data", "kdlib.training"),
    } <= needing
    assert not {"kdlib.enhance", "kdlib.enhance.Enhancer", "kdlib.weights", "kdlib.models", "kdlib.cli"} & needing
    assert not {"kdlib.exercises", "kdlib.exercises.check", "kdlib.notebook"} & needing


WITHOUT_EXTRAS = """
import pkgutil, sys
from importlib import import_module
from kdlib.extras import EXTRAS

sys.modules.update(dict.fromkeys([*EXTRAS, "triton"]))
import kdlib.enhance

needed = ("backends.torch_", "kernels.plain_torch", "kernels.triton", "folders.stores", "folders.cluster_worker",
          "photos.formats.heic", "photos.formats.raw")
for module in pkgutil.walk_packages(kdlib.enhance.__path__, "kdlib.enhance."):
    if not module.name.startswith(tuple(f"kdlib.enhance.{name}" for name in needed)):
        import_module(module.name)
"""


@pytest.mark.slow
def test_enhancing_imports_no_extra_but_where_a_network_a_cluster_or_a_format_needs_one():
    subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS], check=True)


@pytest.mark.slow
def test_help_needs_no_extra(monkeypatch):
    for module in EXTRAS:
        monkeypatch.setitem(sys.modules, module, None)
    runner = CliRunner()
    assert runner.invoke(app, ["--help"]).exit_code == 0
    for command in (
        "enhance",
        "video",
        "camera",
        "train",
        "evaluate",
        "report",
        "benchmark",
        "cost",
        "sweep",
        "progress",
        "export",
    ):
        assert runner.invoke(app, [command, "--help"]).exit_code == 0
    for command in ("list", "fetch", "verify"):
        assert runner.invoke(app, ["weights", command, "--help"]).exit_code == 0
