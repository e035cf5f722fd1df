"""Modules that moved can be imported under their old names for one more release."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

from kdlib._moved import MOVED, NAMES
from tests.helpers import in_new_process

ROOT = Path(__file__).resolve().parent.parent
# What modules of 0.1 defined and their present namesakes do not, by the old module's name.
PUBLIC_IN_0_1 = [
    f"{module}.{name}"
    for module, names in {
        "kdlib.data.datasets": "is_pair_folder",
        "kdlib.evaluation.leaderboard": "check_category",
        "kdlib.evaluation.super_resolution": "score_sharpening",
        "kdlib.inference.cpu_engine": "cpu_engine CpuCurves CpuGlance smooth_lifted",
        "kdlib.inference.families": (
            "Engine CurveFamily GlanceFamily StagesFamily UpscaleFamily GAMMA_LIMITS BLACK DAMAGED"
        ),
        "kdlib.inference.smoothing": "sample",
        "kdlib.inference.stages": "Decision TorchStages",
        "kdlib.inference.torch_engine": "torch_engine InTorch TorchCurves TorchGlance TOP apply_curve_map small_copy",
        "kdlib.inference.upscale": "TorchUpscale Decision sample",
        "kdlib.models": "Model",
        "kdlib.models.registry": "Model",
        "kdlib.notebook": "nearest",
        "kdlib.training.distill": "DistillationObjective cache_teacher matching_layers CACHE_LIMIT FEATURE_SIZE",
        "kdlib.training.pairs": "check_source",
        "kdlib.training.pretrain": "AUGMENTATIONS GAMMA_RANGE TRAINING_DARKENING",
        "kdlib.training.super_resolve": "SharpeningObjective distill_sharpening",
        "kdlib.weights": "AnyModel read_weights",
        "kdlib.weights_header": "check_architecture",
    }.items()
    for name in names.split()
]

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


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in NAMES for name in NAMES[module]])
def test_a_name_that_moved_to_another_module_warns(module, name):
    old, new = import_module(module), NAMES[module][name]
    home, _, new_name = new.rpartition(".")
    with pytest.warns(DeprecationWarning, match=rf"^{module}\.{name} is now {new};") as caught:
        assert getattr(old, name) is getattr(import_module(home), new_name)
    assert caught[-1].filename == __file__
    with pytest.raises(AttributeError, match="nothing"):
        old.nothing  # noqa: B018


@pytest.mark.parametrize("imported", PUBLIC_IN_0_1)
def test_what_version_0_1_offered_can_be_imported_or_is_listed_as_removed(imported):
    module, _, name = imported.rpartition(".")
    try:
        found = hasattr(import_module(module), name)
    except ModuleNotFoundError:
        found = False
    removed = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("### Removed")[2].partition("\n## ")[0]
    assert found != (f"`{name}`" in removed and f"`{module}`" in removed), imported


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
