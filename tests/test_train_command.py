"""`kdlib train`: the training of a notebook by itself, on one process or several."""

from __future__ import annotations

import ast
import builtins
import os
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from papermill.cli import papermill
from test_distributed import together
from typer.testing import CliRunner

from kdlib import load_model
from kdlib.cli import app
from kdlib.data import load_photos, sample_crops, write_photo
from kdlib.models import create_model
from kdlib.notebook import value_of
from kdlib.training import distill
from kdlib.training.from_notebook import train_from_notebook, training_cells
from kdlib.training.super_resolution import distill_super_resolution
from tests.helpers import in_new_process

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
DISTILL, SHARPEN = (ROOT / "notebooks" / f"{name}.ipynb" for name in ("04_distill", "10_super_resolution"))
SMALL = {"epochs": 1, "batch_size": 7, "size": 16, "device": "cpu", "seed": 3}
runner = CliRunner()


def parameters_of(path):
    notebook = nbformat.read(path, as_version=4)
    [cell] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    return cell.source.splitlines()


def parameter(path, name):
    """What a notebook gives a parameter."""
    [line] = [line for line in parameters_of(path) if line.startswith(f"{name}:")]
    return ast.literal_eval(line.split("=")[1].split("#")[0].strip())


def words(parameters):
    return [word for name, value in parameters.items() for word in ("-p", name, str(value))]


def best(folder):
    return torch.load(folder / "best.ckpt", weights_only=True)["model"]


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Training photos: fewer than the embedded crops, which take most of the time."""
    place = tmp_path_factory.mktemp("photos")
    for number, photo in enumerate(sample_crops(40, SMALL["size"])):
        write_photo(place / f"{number:02}.png", photo / 255)
    return place


@pytest.fixture(scope="module")
def distilled(folder):
    photos = load_photos(folder, size=SMALL["size"]).photos
    settings = {name: SMALL[name] for name in ("epochs", "batch_size", "device", "seed")}
    return distill(
        "student-565", load_model("zero-dce++"), photos=photos, progress=False, learning_rate=0.01,
        recipe=parameter(DISTILL, "recipe"), augmentation="darken-once", **settings,
    ).model  # fmt: skip


@pytest.mark.slow
def test_training_from_notebook_04_is_calling_the_library(distilled, folder, tmp_path):
    given = f"epochs: 7\nbatch_size: 7\nsize: 16\ndevice: cpu\ndata_dir: {folder}\n"
    (tmp_path / "given.yaml").write_text(given)
    given = ["-f", str(tmp_path / "given.yaml"), *words({"epochs": 1, "seed": 3, "output_dir": tmp_path / "run"})]
    result = runner.invoke(app, ["train", str(DISTILL), *given])
    assert result.exit_code == 0, result.output
    assert equal(best(tmp_path / "run"), distilled.state_dict())
    # No evaluation, no figure: only what papermill goes on from with the same parameters.
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["best.ckpt", "history.csv", "last.ckpt"]
    assert "-p resume True" in result.output
    before = (tmp_path / "run" / "last.ckpt").stat().st_mtime_ns
    assert runner.invoke(app, ["train", str(DISTILL), *given, "--resume"]).exit_code == 0
    assert (tmp_path / "run" / "last.ckpt").stat().st_mtime_ns == before, "a finished run is trained again"


SHARP = {"epochs": 1, "repeats": 1, "patch": 24, "batch_size": 3, "device": "cpu", "ema_decay": 0.9}


@pytest.mark.slow
def test_training_from_notebook_10_is_calling_the_library(tmp_path):
    result = runner.invoke(app, ["train", str(SHARPEN), *words({**SHARP, "output_dir": tmp_path})])
    assert result.exit_code == 0, result.output
    rate = float(parameter(SHARPEN, "learning_rate"))
    settings = {**SHARP, "ssim": 0.1, "clip_norm": 0.5, "averaged": True, "learning_rate": rate, "progress": False}
    torch.manual_seed(0)
    narrow = create_model("msafn", width=12, blocks=2, drop=0.0, residual=True)
    teacher = distill_super_resolution(narrow, None, **settings).model
    assert equal(best(tmp_path / "teacher"), teacher.state_dict())
    torch.manual_seed(0)
    pupil = create_model("light-msafn", width=8, blocks=2, drop=0.0, recurrent=True, residual=True)
    student = distill_super_resolution(pupil, teacher, **settings).model
    assert equal(best(tmp_path), student.state_dict())


def sharpen_together(folder, printed):
    with open(printed / os.environ["RANK"], "w") as file:
        sys.stdout = file
        namespace = train_from_notebook(SHARPEN, {**SHARP, "output_dir": str(folder)})
        sys.stdout = sys.__stdout__
    return [value.numpy() for value in namespace["run"].model.state_dict().values()], str(namespace["output"])


@pytest.mark.slow
def test_two_processes_train_notebook_10_and_one_goes_on_from_there(tmp_path):
    (tmp_path / "printed").mkdir()
    (weights, folder), (others, away) = together(2, sharpen_together, tmp_path / "run", tmp_path / "printed")
    assert all((one == other).all() for one, other in zip(weights, others, strict=True))
    assert Path(folder) == tmp_path / "run"
    assert not Path(away).exists(), "the other process wrote somewhere and left it there"
    assert "best epoch 1 of 1" in (tmp_path / "printed" / "0").read_text()
    assert not (tmp_path / "printed" / "1").read_text()
    # The student's checkpoint is one of this teacher, whose own draws were those of two processes.
    namespace = train_from_notebook(SHARPEN, {**SHARP, "output_dir": str(tmp_path / "run"), "resume": True})
    again = [value.numpy() for value in namespace["run"].model.state_dict().values()]
    assert all((one == other).all() for one, other in zip(weights, again, strict=True))


@pytest.mark.slow
def test_torchrun_reaches_the_same_weights(distilled, folder, tmp_path):
    program = "import runpy; runpy.run_module('torch.distributed.run', run_name='__main__', alter_sys=True)"
    command = ["--standalone", "--nproc-per-node", "2", "-m", "kdlib", "train", str(DISTILL)]
    result = in_new_process(program, *command, *words({**SMALL, "data_dir": folder, "output_dir": tmp_path / "run"}))
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.count("best epoch 1 of 1") == 1
    for name, value in best(tmp_path / "run").items():
        assert (value - distilled.state_dict()[name]).abs().max() <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([DISTILL, "-p", "epoch", "3"], "unknown parameter 'epoch': did you mean 'epochs'?"),
        ([DISTILL, "-p", "epochs", "many"], "parameter 'epochs' takes int, got str 'many'. (in cell 5 of 04_distill"),
        ([DISTILL, "-f", "no/such.yaml"], "no parameters file at no/such.yaml"),
        ([DISTILL, "-p", "batch_size", "0", "-p", "size", "16"], "batch_size must be a whole number of at least 1"),
        ([ROOT / "notebooks" / "01_architecture.ipynb"], "has no cells tagged 'train'"),
        ([ROOT / "README.md"], "README.md cannot be read as a notebook"),
        ([ROOT / "nothing.ipynb"], "no notebook at"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(arguments, message, tmp_path):
    where = ["-p", "output_dir", str(tmp_path)] if arguments[0] == DISTILL else []
    result = runner.invoke(app, ["train", *map(str, arguments), *where])
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{{", "given.yaml is not valid YAML: while"),
        ("epochs: 1\nseed: 3\nepochs: 2", "given.yaml is not valid YAML: 'epochs' appears twice"),
        ("- epochs", "given.yaml holds no parameters: write them as name: value"),
        ("epochs", "given.yaml holds no parameters"),
    ],
)
def test_a_file_of_no_parameters_is_named(content, message, tmp_path):
    (tmp_path / "given.yaml").write_text(content)
    result = runner.invoke(app, ["train", str(DISTILL), "-f", str(tmp_path / "given.yaml")])
    assert result.exit_code == 1
    assert message in result.output
    assert isinstance(result.exception, SystemExit)


def small_notebook(path, code):
    cells = [nbformat.v4.new_code_cell("output_dir: str = 'x'", metadata={"tags": ["parameters"]})]
    cells.append(nbformat.v4.new_code_cell(code, metadata={"tags": ["train"]}))
    kernel = {"name": "python3", "language": "python", "display_name": "Python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


def test_a_loss_that_is_no_number_is_said_in_a_sentence(tmp_path):
    code = "from kdlib.training.loop import NonFiniteLossError\nraise NonFiniteLossError('was NaN')"
    small_notebook(tmp_path / "nan.ipynb", code)
    result = runner.invoke(app, ["train", str(tmp_path / "nan.ipynb")])
    assert result.exit_code == 1
    assert "was NaN (in cell 2 of nan.ipynb)" in result.output
    assert isinstance(result.exception, SystemExit)


def test_a_notebook_whose_name_begins_with_a_dash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small_notebook("-dash.ipynb", "open('trained', 'w').close()")
    result = runner.invoke(app, ["train", "--", "-dash.ipynb"])
    assert result.exit_code == 0, result.output
    assert Path("trained").is_file()


def test_values_mean_what_they_mean_to_papermill(monkeypatch):
    seen = {}
    monkeypatch.setattr("kdlib.training.from_notebook.train_from_notebook", lambda path, given: seen.update(given))
    given = {"alpha": "None", "resume": "True", "rate": "1e-3", "epochs": "3", "name": "a=b", "shift": "-0.5"}
    assert runner.invoke(app, ["train", str(DISTILL), *words(given)]).exit_code == 0
    assert seen == {"alpha": None, "resume": True, "rate": 1e-3, "epochs": 3, "name": "a=b", "shift": -0.5}


def test_words_are_read_as_by_the_command_of_papermill(monkeypatch):
    given = ["True", "false", "None", "3", "-3", " 3", "1_000", "1e-3", "inf", "0x10", "", "a", "[1]", "١"]
    read = {}
    monkeypatch.setattr("papermill.cli.execute_notebook", lambda **arguments: read.update(arguments["parameters"]))
    papermill.main(["in.ipynb", "out.ipynb", *words(dict(enumerate(given)))], standalone_mode=False)
    for word, value in zip(given, read.values(), strict=True):
        assert (value_of(word), type(value_of(word))) == (value, type(value))


def test_a_magic_in_a_training_is_refused(tmp_path):
    notebook = nbformat.read(DISTILL, as_version=4)
    notebook.cells[1].source = "%matplotlib inline"
    nbformat.write(notebook, tmp_path / "magic.ipynb")
    with pytest.raises(ValueError, match=r"cell 2 has a magic"):
        list(training_cells(tmp_path / "magic.ipynb", {}))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_with_a_resumable_training_has_all_of_it_tagged(path):
    resumable = any(line.startswith("resume:") for line in parameters_of(path))
    tagged = [c for c in nbformat.read(path, as_version=4).cells if "train" in c.metadata.get("tags", [])]
    assert resumable == bool(tagged)
    if not tagged:
        return
    tree = ast.parse("\n".join(code for _, code in training_cells(path, {})))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    defined = {node.id for node in names if isinstance(node.ctx, ast.Store)} | set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            defined.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.FunctionDef):
            defined.add(node.name)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
    assert not {node.id for node in names} - defined, "what a training needs is not tagged"
    assert "resume=resume" in tagged[-1].source
