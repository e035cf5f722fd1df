import ast
import base64
import io
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Optional

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from nbformat import NotebookNode
from PIL import Image

from kdlib.data import sample_photos
from kdlib.data.samples import HELD_OUT
from kdlib.notebook import check_parameters, parameters_of, project_path, shown_path, versions, write_metrics
from kdlib.training import Run

CELL = """learning_rate: float = 1e-4  # peak of the schedule
epochs: int = 3
data_dir: Optional[str] = None
perceptual: bool = False
"""
refresh = runpy.run_path(str(Path(__file__).resolve().parents[1] / "notebooks" / "refresh.py"))
NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


def check(**changes):
    """After a cell of parameters and one of plain assignments, as papermill injects it."""
    namespace = {"Optional": Optional}
    exec(CELL, namespace)
    check_parameters({**namespace, **changes})


def test_valid_parameters_pass():
    check()
    check(data_dir="photos")


def test_none_is_refused_unless_the_parameter_is_optional():
    with pytest.raises(TypeError, match="'epochs' takes int, got NoneType"):
        check(epochs=None)
    with pytest.raises(TypeError, match="'data_dir' takes str or None, got int 3"):
        check(data_dir=3)


def test_a_parameter_written_in_capitals_is_refused():
    with pytest.raises(NameError, match="unknown parameter 'EPOCHS'"):
        check(EPOCHS=3)
    check(COLUMNS=3)


@pytest.mark.parametrize(
    ("name", "nearest"), [("epoch", "epochs"), ("learning_rat", "learning_rate"), ("datadir", "data_dir")]
)
def test_error_on_an_unknown_parameter_suggests_the_nearest(name, nearest):
    with pytest.raises(NameError, match=f"unknown parameter '{name}': did you mean '{nearest}'"):
        check(**{name: 1})


def test_error_on_an_unknown_parameter_lists_all_known_ones():
    with pytest.raises(NameError) as caught:
        check(zzz="1")
    assert "did you mean" not in str(caught.value)
    assert "This notebook takes learning_rate, epochs, data_dir, perceptual." in str(caught.value)


def test_metrics_have_the_parameters_and_name_no_folder(tmp_path):
    namespace = {"Optional": Optional}
    exec(f'{CELL}device: str = "cpu"\nteacher: str = "runs/mine/student.safetensors"\nresume: bool = True', namespace)
    namespace |= {"data_dir": "far/away/photos", "epochs": 5, "other": 3}
    run = Run(torch.nn.Identity(), best_epoch=4, seconds=1.26, device="cpu", precision="32-true")
    path = write_metrics(tmp_path / "metrics.json", namespace, run, {"learning_rate": 0.5}, fidelity=40.0)
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written.pop("made")
    assert written.pop("parameters") == {
        "data": "photos", "learning_rate": 0.5, "epochs": 5, "perceptual": False, "teacher": "student.safetensors",
    }  # fmt: skip
    assert written == {
        "fidelity": 40.0, "best_epoch": 4, "skipped_batches": 0, "seconds": 1.3, "device": "cpu",
        "precision": "32-true",
    }  # fmt: skip
    embedded = write_metrics(path, namespace | {"data_dir": None}, run)
    assert json.loads(embedded.read_text(encoding="utf-8"))["parameters"]["data"] == "embedded"


def test_imports_and_names_added_by_ipython_are_not_parameters():
    check(_i1="x = 1", __name__="__main__", In=["x = 1"], Out={1: 2}, Path=Path, pytest=pytest, check=check)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 2.5}, r"parameter 'epochs' takes int, got float 2\.5"),
        ({"epochs": "3"}, "parameter 'epochs' takes int, got str '3'"),
        ({"epochs": True}, "parameter 'epochs' takes int, got bool True"),
        ({"learning_rate": True}, "parameter 'learning_rate' takes float, got bool True"),
        ({"perceptual": 1}, "parameter 'perceptual' takes bool, got int 1"),
        ({"data_dir": ["a"]}, "parameter 'data_dir' takes str or None, got list"),
    ],
)
def test_error_names_a_wrong_type(changes, message):
    with pytest.raises(TypeError, match=message):
        check(**changes)


def test_an_integer_is_accepted_as_a_float():
    check(learning_rate=1)


def test_error_on_a_number_that_yaml_reads_as_text_gives_a_hint():
    with pytest.raises(TypeError, match=r"got str '1e-4'\. In a YAML file write 1\.0e-4, not 1e-4"):
        check(learning_rate="1e-4")
    with pytest.raises(TypeError) as caught:
        check(epochs="3")
    assert "YAML" not in str(caught.value)


def test_a_cell_without_annotations_is_refused():
    with pytest.raises(TypeError, match="no parameter has a type: write name: type = value"):
        check_parameters({"epochs": 3})


def test_parameters_are_found_where_annotations_are_those_of_the_last_statement_alone():
    """As from Python 3.14 on in IPython."""
    values = {"In": ["", "%broken", CELL], "Optional": Optional, "__annotate__": lambda form: {"perceptual": bool}}
    values |= {"learning_rate": 1e-4, "epochs": 3, "data_dir": None, "perceptual": False}
    check_parameters(values)
    with pytest.raises(TypeError, match="'epochs' takes int, got str 'x'"):
        check_parameters({**values, "epochs": "x"})
    with pytest.raises(NameError, match="did you mean 'epochs'"):
        check_parameters({**values, "epoch": 3})


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_reads_the_parameters_that_are_checked(path):
    [cell] = [cell for cell in nbformat.read(path, as_version=4).cells if "parameters" in cell.metadata.get("tags", [])]
    namespace = {"Optional": Optional}
    exec(cell.source, namespace)
    check_parameters(namespace)
    read = parameters_of(path)
    assert list(read) == [node.target.id for node in ast.parse(cell.source).body]
    assert all(parameter["inferred_type_name"] != "None" and parameter["help"] for parameter in read.values())
    assert cell.metadata.jupyter.source_hidden


@pytest.fixture
def project(tmp_path):
    for folder in ("notebooks/solutions", "kdlib", "data"):
        (tmp_path / "project" / folder).mkdir(parents=True)
    return tmp_path / "project"


@pytest.mark.parametrize("working_directory", [".", "notebooks", "notebooks/solutions"])
def test_path_resolves_identically_from_all_working_directories(working_directory, project, monkeypatch):
    monkeypatch.chdir(project / working_directory)
    assert project_path("data/photos").resolve() == project / "data" / "photos"
    assert project_path(Path("../shared")).resolve() == project.parent / "shared"
    assert shown_path(project_path("data/photos")) == "data/photos"


def test_path_is_unchanged_in_other_folders_called_notebooks(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert project_path("data") == Path("data")


def test_absolute_path_is_unchanged_and_home_is_expanded(project, monkeypatch):
    monkeypatch.chdir(project / "notebooks")
    monkeypatch.setenv("HOME", str(project))
    monkeypatch.setenv("USERPROFILE", str(project))
    assert project_path(project / "data") == project / "data"
    assert project_path("~/data") == project / "data"


def test_shown_path_hides_the_folders_of_the_machine(project):
    assert shown_path(project / "data") == "…/data"
    assert shown_path("results/scores.json") == "results/scores.json"


def test_versions_are_on_one_line():
    line = versions("torch", "numpy")
    assert line.startswith("Python 3.")
    assert ", torch 2" in line
    assert ", numpy " in line
    assert "\n" not in line


def test_runs_can_be_redirected(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLIB_RUNS", str(tmp_path))
    assert project_path("runs/04_distill") == tmp_path / "04_distill"
    assert shown_path(project_path("runs/04_distill")) == "runs/04_distill"
    assert project_path("results/eval15.json").name == "eval15.json"
    assert not project_path("results/eval15.json").is_relative_to(tmp_path)


@pytest.mark.slow
def test_refresh_explains_itself_and_refuses_missing_notebooks():
    script = Path(__file__).resolve().parents[1] / "notebooks" / "refresh.py"
    helped = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True)
    assert "Execute notebooks in place" in helped.stdout
    assert "NOTEBOOK" in helped.stdout
    refused = subprocess.run([sys.executable, script, "none.ipynb"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "no notebook at" in refused.stderr
    assert "Traceback" not in refused.stderr


def drawing():
    """A chart with text and a scale of colours, as a notebook shows it."""
    figure, axes = plt.subplots(figsize=(6, 3), dpi=80)
    axes.plot([0, 1, 4, 9], label="squares")
    axes.set_title("A chart")
    shown = axes.imshow([[0, 1], [2, 3]], cmap="coolwarm", extent=(0, 1, 0, 4))
    figure.colorbar(shown)
    buffer = io.BytesIO()
    figure.savefig(buffer)
    plt.close(figure)
    return Image.open(buffer).convert("RGB")


def stored(picture):
    """A picture as an output, and what refresh makes of it."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    output = NotebookNode(data=NotebookNode({"image/png": base64.b64encode(buffer.getvalue()).decode()}), metadata={})
    refresh["shrink"](output)
    [(kind, encoded)] = output.data.items()
    return kind, Image.open(io.BytesIO(base64.b64decode(encoded))), len(encoded) / len(buffer.getvalue())


def test_a_photo_is_stored_as_jpeg_of_the_same_size():
    photo = Image.fromarray(sample_photos()[HELD_OUT[0]])
    kind, shown, share = stored(photo)
    assert kind == "image/jpeg"
    assert shown.size == photo.size
    assert share < 0.3
    assert np.abs(np.asarray(shown).astype(int) - photo).mean() < 6


def test_a_drawing_keeps_its_text_and_colours():
    picture = drawing()
    kind, shown, share = stored(picture)
    assert kind == "image/png"
    assert shown.mode == "P"
    assert share < 0.7
    assert np.abs(np.asarray(shown.convert("RGB")).astype(int) - picture).max() <= 8


def test_a_picture_that_is_transparent_stays_as_it_is():
    kind, shown, _ = stored(Image.effect_noise((90, 90), 50).convert("RGBA").rotate(45))
    assert kind == "image/png"
    assert shown.mode == "RGBA"


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_output_folder_is_refused_before_anything_is_written(empty):
    namespace = {}
    exec('output_dir: str = "runs/some"', namespace)
    check_parameters(namespace)
    with pytest.raises(ValueError, match="'output_dir' is empty: name the folder"):
        check_parameters({**namespace, "output_dir": empty})


@pytest.mark.parametrize(
    "path", [path for path in NOTEBOOKS if "output_dir" in parameters_of(path)], ids=lambda p: p.stem
)
def test_every_notebook_that_writes_checks_its_folder_first(path):
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    [first] = [at for at, source in enumerate(cells) if "check_parameters(globals())" in source]
    assert not any(word in source for source in cells[:first] for word in ("output_dir)", "mkdir(", "save_model("))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_notebook_ends_in_an_assertion_without_words_after_its_training(path):
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    trained = [at for at, source in enumerate(cells) if re.search(r"^ *run = \w+\($", source, re.MULTILINE)]
    for source in cells[trained[0] :] if trained else ():
        for node in ast.walk(ast.parse(source)):
            assert not isinstance(node, ast.Assert) or node.msg is not None, ast.unparse(node)
