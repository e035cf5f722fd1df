"""Param_check states what the networks need."""

import re

import pytest

import kdlib
from kdlib.exercises.lesson_param import FULL_SIZE, parameters_of_width
from kdlib.models import count_parameters
from tests.helpers import prose

PAGE = prose("Param_check")
NAMES = ("zero-dce", "zero-dce++", "student-565", "nano-161")


@pytest.fixture(scope="module")
def models():
    return {name: kdlib.create_model(name) for name in NAMES}


def of_the_rest(model, scale):
    """Multiply-adds for each pixel outside the network."""
    resampling = 12 / scale**2 + 4 * (3 if model.shared_map else 3 * model.iterations) if scale > 1 else 0
    return 6 * model.iterations + resampling


def of_all(model, scale):
    return count_parameters(model) / scale**2 + of_the_rest(model, scale)


def test_the_sizes(models):
    counts = [count_parameters(models[name]) for name in NAMES]
    found = re.search(r"([\d,]+) parameters for Zero-DCE, ([\d,]+) for Zero-DCE\+\+, (\d+) and (\d+) for", PAGE)
    assert [int(number.replace(",", "")) for number in found.groups()] == counts
    assert [parameters_of_width(width) for width in (32, 4)] == counts[1:3]
    assert of_the_rest(models["student-565"], 12) == pytest.approx(FULL_SIZE, abs=0.1)


def test_layers_of_zero_dce_would_return_gigabytes(models):
    channels = 6 * models["zero-dce"].e_conv1.out_channels + models["zero-dce"].e_conv7.out_channels
    assert "would return 1.8 GB" in PAGE
    assert f"{4 * channels * 1080 * 1920 / 1e9:.1f}" == "1.8"


def test_the_parameters_of_the_second_layer(models):
    layer = models["zero-dce++"].e_conv2
    assert "3×3 kernels have 320 parameters; the 1×1 convolution that mixes the channels has 1,056" in PAGE
    assert [count_parameters(layer.depth_conv), count_parameters(layer.point_conv)] == [320, 1_056]


def test_the_shares_and_ratios(models):
    share = {
        (name, scale): 1 - of_the_rest(model, scale) / of_all(model, scale)
        for name, model in models.items()
        for scale in (1, 12)
    }
    at_full_size = [share[name, 1] for name in NAMES]
    assert "the network is 87 to 100% of the work" in PAGE
    assert (round(100 * min(at_full_size)), round(100 * max(at_full_size))) == (87, 100)
    assert "the student's network is 6% of its work" in PAGE
    assert round(100 * share["student-565", 12]) == 6
    teacher, student, nano = (models[name] for name in NAMES[1:])
    assert "by 18.7 and 17.3 times for the student" in PAGE
    assert f"{count_parameters(teacher) / count_parameters(student):.1f}" == "18.7"
    assert f"{of_all(teacher, 1) / of_all(student, 1):.1f}" == "17.3"
    assert of_all(teacher, 12) / of_all(student, 12) == pytest.approx(2, abs=0.1)
    assert 0.25 < of_all(nano, 12) / of_all(teacher, 12) < 0.3
    assert share["student-565", 12] / 2 == pytest.approx(0.03, abs=0.005)
    assert round(of_all(student, 12)) == 64


def test_activations_are_a_small_part(models):
    assert "at most 7 operations for each hundred of its multiply-adds" in PAGE
    for model in models.values():
        outputs = [layer.get_submodule("point_conv") if hasattr(layer, "point_conv") else layer for layer in (
            model.get_submodule(f"e_conv{i}") for i in range(1, model.depth + 1))]  # fmt: skip
        assert sum(layer.out_channels for layer in outputs) / count_parameters(model) < 0.07


@pytest.mark.parametrize(("name", "larger"), [("student-565", True), ("nano-161", True), ("zero-dce++", False)])
def test_the_header_of_a_file(models, name, larger, tmp_path):
    file = kdlib.save_model(models[name], tmp_path / "model.safetensors")
    assert "For the students the header is larger than the numbers" in PAGE
    assert (file.stat().st_size > 2 * 4 * count_parameters(models[name])) == larger
