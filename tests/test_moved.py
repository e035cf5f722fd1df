"""Modules that moved can be imported under their old names for one more release."""

import sys
from importlib import import_module

import pytest

from kdlib._moved import MOVED
from tests.helpers import in_new_process

pytestmark = pytest.mark.filterwarnings("ignore:.* drops the old name:DeprecationWarning")  # of packages on the way


@pytest.fixture(autouse=True)
def _forgotten():
    """Each test imports the old names for the first time."""

    def forget():
        for name in [name for name in sys.modules if name in MOVED or name.rpartition(".")[0] in MOVED]:
            del sys.modules[name]

    forget()
    yield
    forget()


@pytest.mark.parametrize("old", MOVED)
def test_old_name_warns_and_is_the_same_module(old):
    new = MOVED[old]
    known = import_module(new)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new};") as caught:
        found = import_module(old)
    if any(name.startswith(f"{old}.") for name in MOVED):
        assert all(getattr(found, name) is getattr(known, name) for name in known.__all__)
    else:
        assert found is known
    assert known.__name__ == known.__spec__.name == new
    assert caught[-1].filename.endswith("__init__.py")  # importlib's, which was called here


def test_a_module_below_a_moved_package_is_the_same_module():
    with pytest.warns(DeprecationWarning, match=r"kdlib\.data\.photo_formats\.png is now"):
        old = import_module("kdlib.data.photo_formats.png")
    assert old is import_module("kdlib.enhance.photos.formats.png")


def test_old_names_do_not_replace_attributes_of_new_packages():
    packages = {name: import_module(name) for name in ("kdlib.enhance", "kdlib.data", "kdlib.models", "kdlib.weights")}
    import_module("kdlib.enhance.video")
    before = {name: dict(vars(package)) for name, package in packages.items()}
    for old in MOVED:
        with pytest.warns(DeprecationWarning, match="is now"):
            import_module(old)
    for name, package in packages.items():
        assert {key: value for key, value in vars(package).items() if key in before[name]} == before[name]


def test_a_name_that_there_never_was_is_missing():
    with (
        pytest.warns(DeprecationWarning, match="is now"),
        pytest.raises(ModuleNotFoundError, match=r"kdlib\.enhance\.nothing"),
    ):
        import_module("kdlib.inference.nothing")


@pytest.mark.slow
def test_every_form_of_import_works_and_new_names_are_silent():
    program = """
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("error")
    import kdlib
    import kdlib.enhance.enhancer

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from kdlib.inference import Enhancer
    from kdlib.data.images import read_photo
    from kdlib import viz_iat
    from kdlib.catalogue import catalogue
    import kdlib.inference.video
    import kdlib.scale.dataset
assert {warning.category for warning in caught} == {DeprecationWarning}
assert {warning.filename for warning in caught} == {"<string>"}
assert Enhancer is kdlib.Enhancer
assert "student-565" in catalogue()
assert kdlib.inference.video.enhance_video.__module__ == "kdlib.enhance.video.enhance"
assert kdlib.scale.dataset.enhance_dataset is kdlib.scale.enhance_dataset
"""
    done = in_new_process(program)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_an_experiment_runs_under_its_old_name():
    name = "kdlib.training.sharpening_options"
    done = in_new_process(f"import runpy; runpy.run_module({name!r}, run_name='__main__', alter_sys=True)", "--help")
    assert done.returncode == 0, done.stderr
    assert "--out" in done.stdout
