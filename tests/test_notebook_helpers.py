from pathlib import Path

import pytest

from kdlib.notebook import check_parameters, project_path, shown_path, versions

EXPECTED = {"learning_rate": float, "epochs": int, "data_dir": str, "perceptual": bool}
VALUES = {"learning_rate": 1e-4, "epochs": 3, "data_dir": None, "perceptual": False}


def check(**changes):
    check_parameters({**VALUES, **changes}, optional=("data_dir",), **EXPECTED)


def test_right_parameters_pass():
    check()
    check(data_dir="photos")


def test_none_is_refused_where_it_is_no_default():
    with pytest.raises(TypeError, match="'epochs' takes int, got NoneType"):
        check(epochs=None)


def test_a_parameter_in_capitals_is_no_constant():
    with pytest.raises(NameError, match="unknown parameter 'EPOCHS'"):
        check(EPOCHS=3)
    check(COLUMNS=3)


@pytest.mark.parametrize(
    ("name", "nearest"), [("epoch", "epochs"), ("learning_rat", "learning_rate"), ("datadir", "data_dir")]
)
def test_unknown_parameter_suggests_the_nearest(name, nearest):
    with pytest.raises(NameError, match=f"unknown parameter '{name}': did you mean '{nearest}'"):
        check(**{name: 1})


def test_unknown_parameter_lists_them_all():
    with pytest.raises(NameError) as caught:
        check(zzz="1")
    assert "did you mean" not in str(caught.value)
    assert "This notebook takes learning_rate, epochs, data_dir, perceptual." in str(caught.value)


def test_what_a_notebook_imports_and_ipython_adds_is_no_parameter():
    check(_i1="x = 1", __name__="__main__", In=["x = 1"], Out={1: 2}, Path=Path, pytest=pytest, check=check)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 2.5}, r"parameter 'epochs' takes int, got float 2\.5"),
        ({"epochs": "3"}, "parameter 'epochs' takes int, got str '3'"),
        ({"epochs": True}, "parameter 'epochs' takes int, got bool True"),
        ({"learning_rate": True}, "parameter 'learning_rate' takes float, got bool True"),
        ({"perceptual": 1}, "parameter 'perceptual' takes bool, got int 1"),
        ({"data_dir": ["a"]}, "parameter 'data_dir' takes str, got list"),
    ],
)
def test_wrong_type_is_named(changes, message):
    with pytest.raises(TypeError, match=message):
        check(**changes)


def test_whole_number_is_a_float():
    check(learning_rate=1)


def test_number_that_yaml_reads_as_text_comes_with_a_hint():
    with pytest.raises(TypeError, match=r"got str '1e-4'\. In a YAML file write 1\.0e-4, not 1e-4"):
        check(learning_rate="1e-4")
    with pytest.raises(TypeError) as caught:
        check(epochs="3")
    assert "YAML" not in str(caught.value)


@pytest.fixture
def project(tmp_path):
    for folder in ("notebooks", "kdlib", "data"):
        (tmp_path / "project" / folder).mkdir(parents=True)
    return tmp_path / "project"


@pytest.mark.parametrize("working_directory", [".", "notebooks"])
def test_path_means_the_same_from_both_working_directories(working_directory, project, monkeypatch):
    monkeypatch.chdir(project / working_directory)
    assert project_path("data/photos").resolve() == project / "data" / "photos"
    assert project_path(Path("../shared")).resolve() == project.parent / "shared"
    assert shown_path(project_path("data/photos")) == "data/photos"


def test_path_is_left_alone_in_other_folders_called_notebooks(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert project_path("data") == Path("data")


def test_absolute_path_stays_and_home_is_known(project, monkeypatch):
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


def test_runs_can_be_sent_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLIB_RUNS", str(tmp_path))
    assert project_path("runs/04_distill") == tmp_path / "04_distill"
    assert shown_path(project_path("runs/04_distill")) == "runs/04_distill"
    assert project_path("results/eval15.json").name == "eval15.json"
    assert not project_path("results/eval15.json").is_relative_to(tmp_path)
