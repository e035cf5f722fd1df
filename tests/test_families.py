"""What a family's record promises: found without PyTorch, complete, and enough for a family of one's own."""

import ast
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import kdlib
import kdlib.models.named
import kdlib.weights.named
from kdlib.cli import app
from kdlib.data import sample_crops, write_photo
from kdlib.models import (
    ARCHITECTURES,
    FAMILIES,
    Family,
    Network,
    count_parameters,
    create_model,
    family_of,
    infer_architecture,
    register,
)
from kdlib.models.families.zero_dce import DEFAULTS
from kdlib.models.family import Whole, follow
from kdlib.training import distill
from kdlib.weights import load_model, save_model
from kdlib.weights.catalogue import catalogue
from tests.helpers import in_new_process
from tests.stubs import stubs

ROOT = Path(__file__).resolve().parent.parent


class Toy(Network):
    """A gain for each channel: the smallest network that brightens."""

    family, arguments = "toy", ("count",)

    def __init__(self, count: int = 1):
        super().__init__()
        self.count = count
        self.gain = nn.Parameter(torch.full((count, 3, 1, 1), 1.5))

    def forward(self, image):
        return (image * self.gain.prod(0)).clamp(0, 1), self.gain


def recognise(shapes):
    return {"count": shapes["gain"][0]} if "gain" in shapes else None


TOY = Family("toy", f"{__name__}:Toy", {"toy-3": {}}, limits={"count": Whole(1, 4)}, recognise=recognise)


@pytest.fixture
def toy():
    """The toy family, registered for one test."""
    register(TOY)
    yield TOY
    del FAMILIES["toy"], ARCHITECTURES["toy-3"]


@pytest.mark.slow
def test_a_family_of_ones_own_trains_saves_loads_enhances_and_evaluates(toy, few_pairs, tmp_path):
    torch.manual_seed(0)
    model, teacher = create_model("toy-3"), Toy(2)
    photos = sample_crops(24, 32, 0)

    def compare(answer, told, batch):
        return (answer[0] - told[0]).square().mean()

    run = distill(
        model, teacher, photos=photos, losses={"photo": (1.0, compare)}, epochs=12, learning_rate=0.1, progress=False,
        batch_size=8,
    )  # fmt: skip
    assert run.history[-1]["photo"] < 0.2 * run.history[0]["photo"]
    path = save_model(run.model, tmp_path / "toy.safetensors")
    loaded = load_model(path)
    assert isinstance(loaded, Toy)
    torch.testing.assert_close(loaded.gain, run.model.gain)
    torch.save({"gain": loaded.gain.detach()}, tmp_path / "toy.pth")  # told from its tensors alone
    assert isinstance(load_model(tmp_path / "toy.pth"), Toy)

    photo = np.random.default_rng(0).integers(0, 100, (20, 30, 4), np.uint8)
    bright = kdlib.Enhancer(path)(photo)
    wanted = photo[..., :3] * loaded.gain.detach().numpy().reshape(3)
    np.testing.assert_allclose(bright[..., :3], wanted.clip(0, 255), atol=0.51)
    np.testing.assert_array_equal(bright[..., 3], photo[..., 3])
    np.testing.assert_array_equal(kdlib.Enhancer(path, strength=0)(photo), photo)

    write_photo(tmp_path / "dark.png", photo[..., :3])
    done = CliRunner().invoke(
        app, ["enhance", str(tmp_path / "dark.png"), "-o", str(tmp_path / "out"), "--model", str(path)]
    )
    assert done.exit_code == 0, done.output
    scores = tmp_path / "scores.json"
    done = CliRunner().invoke(app, ["evaluate", str(path), "--data", str(few_pairs), "--out", str(scores)])
    assert done.exit_code == 0, done.output
    rows = {row["method"]: row for row in json.loads(scores.read_text())["rows"]}
    assert rows["toy"]["parameters"] == 3
    assert rows["toy"]["psnr"] > rows["input"]["psnr"]


def test_a_taken_name_is_refused(toy):
    with pytest.raises(ValueError, match="'toy' is taken"):
        register(TOY)
    with pytest.raises(ValueError, match="'iat' is taken"):
        register(replace(TOY, name="another", models={"iat": {}}))
    assert "another" not in FAMILIES


def test_a_file_may_not_ask_for_more_than_the_limits(toy, tmp_path):
    with pytest.raises(ValueError, match="count must be a whole number from 1 to 4, not 5"):
        load_model(save_model(Toy(5), tmp_path / "large.safetensors"))


def test_every_family_is_asked_before_tensors_are_refused(toy):
    gain = torch.ones(2, 3, 1, 1)
    # The first tensor alone would be IAT with a tensor missing, or a curve network with a tensor of another rank.
    for other in ("local_net.conv1.weight", "e_conv1.weight"):
        with pytest.raises(ValueError, match="not the weights of a known architecture"):
            infer_architecture({other: torch.ones(())})
        assert infer_architecture({other: torch.ones(()), "gain": gain}) == {"family": "toy", "count": 2}


def test_every_family_is_looked_up_without_pytorch():
    """Names, limits, recognising and import paths need no PyTorch, nor does an unknown name's refusal."""
    program = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision"}:
            raise ImportError(f"{name} was imported")
sys.meta_path.insert(0, Blocked())
from kdlib.models import ARCHITECTURES, FAMILIES, infer_architecture
from kdlib.models.registry import check_config, find_family
for config in ARCHITECTURES.values():
    family = find_family(check_config(config))
    family.recognise({})
    assert family.limits and family.builder and family.backend and family.about and family.curve_map
print(*FAMILIES)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*FAMILIES]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_record_agrees_with_its_network(name):
    model = create_model(name)
    family = family_of(model)
    assert type(model) is follow(family.builder)
    assert model.family == family.name
    assert set(model.config) - {"family"} == family.limits.keys()
    family.check({key: value for key, value in model.config.items() if key != "family"})
    assert infer_architecture(model.state_dict()).get("family", "zero-dce") == family.name
    others = [other.name for other in FAMILIES.values() if other.recognise(shapes(model)) is not None]
    assert others == [family.name]
    assert count_parameters(model) == family.parameters[name]
    for path in filter(None, (family.backend, family.compiled, family.to_published, family.published_form)):
        assert callable(follow(path))
    if family.compiled:
        plain = follow(family.builder)()
        assert follow(family.compiled).defaults == {key: getattr(plain, key) for key in family.limits}
    assert family.about in " ".join((ROOT / "docs" / "models.md").read_text(encoding="utf-8").split())


def shapes(model):
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def test_the_defaults_of_the_curve_networks_are_stated_once_for_both():
    assert create_model("zero-dce++").config == DEFAULTS


@pytest.mark.parametrize(
    ("function", "names", "stub"),
    [
        (create_model, ARCHITECTURES, kdlib.models.named),
        (load_model, catalogue(), kdlib.weights.named),
    ],
)
def test_editors_know_the_class_behind_every_name(function, names, stub):
    path = Path(stub.__file__).with_suffix(".pyi")
    text = path.read_text(encoding="utf-8")
    assert text == stubs()[path], "write it again: python -m tests.stubs"
    literals = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and isinstance(node.args.args[0].annotation, ast.Subscript):
            assert node.name == function.__name__
            inside = ast.walk(node.args.args[0].annotation.slice)
            of_class = [part.value for part in inside if isinstance(part, ast.Constant)]
            literals |= dict.fromkeys(of_class, ast.unparse(node.returns))
    assert literals.keys() == names.keys()
    for name, returned in literals.items():
        assert type(function(name)).__name__ == returned


NETWORK = """
import torch
from torch import Tensor, nn

from kdlib.models.network import Network


class Gain(Network):
    family, arguments = "gain", ("count",)

    def __init__(self, count: int = 1) -> None:
        super().__init__()
        self.count = count
        self.gain = nn.Parameter(torch.full((count, 3, 1, 1), 1.5))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return (image * self.gain.prod(0)).clamp(0, 1), self.gain
"""
RECORD = """
from kdlib.models.family import Family, Whole

FAMILY = Family(
    name="gain",
    builder="kdlib.models.gain:Gain",
    models={"gain-3": {}},
    parameters={"gain-3": 3},
    about="Gain multiplies each channel by a number.",
    limits={"count": Whole(1, 4)},
    recognise=lambda shapes: {"count": shapes["gain"][0]} if "gain" in shapes else None,
)
"""
STUBS_AND_TESTS = """
import os, runpy, sys
import pytest

for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
    del sys.modules[name]
os.chdir(sys.argv[1])
os.environ["PYTHONPATH"] = sys.argv[1]
sys.path.insert(0, sys.argv[1])
runpy.run_module("tests.stubs", run_name="__main__")
chosen = ["tests/test_families.py", "-k", "editors or gain-3 or without_pytorch"]
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *chosen]))
"""
TESTS = ("conftest", "helpers", "stubs", "test_families")


@pytest.mark.slow
def test_a_family_of_the_package_is_its_own_files_and_nothing_else(tmp_path):
    for folder in ("kdlib", "weights", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "results/notebooks.json", *(f"tests/{name}.py" for name in TESTS)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "kdlib" / "models" / "gain.py").write_text(NETWORK)
    (tmp_path / "kdlib" / "models" / "families" / "gain.py").write_text(RECORD)
    done = in_new_process(STUBS_AND_TESTS, str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
