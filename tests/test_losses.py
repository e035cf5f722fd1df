from math import exp, log, sqrt

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import squeezenet1_1

from kdlib.losses import (
    BackboneUnavailableError,
    ColourConstancyLoss,
    ContrastiveLoss,
    ExposureControlLoss,
    FeatureMatchingLoss,
    GlobalExposureLoss,
    IlluminationSmoothnessLoss,
    LayerFeatures,
    MultiRegionExposureLoss,
    OutputAlignmentLoss,
    PerceptualLoss,
    SaturationLoss,
    SpatialConsistencyLoss,
    SSIMLoss,
    ZeroReferenceLoss,
    mean_activation_map,
    mean_activation_maps,
)
from kdlib.losses.distillation import SAME_DEPTH_LAYERS, SHALLOW_STUDENT_LAYERS, total_curve
from kdlib.losses.perceptual import IMAGENET_MEAN, IMAGENET_STD
from kdlib.losses.zero_reference import TERMS
from kdlib.models import create_model
from tests.helpers import random_photo

SQUEEZENET = "squeezenet1_1-b8a52dc0.pth"


def grey(*rows):
    # A 1×3×H×W photo with the given brightness values.
    return torch.tensor(rows).expand(1, 3, -1, -1).clone()


def blocks(*rows, side):
    # The same, with each value enlarged to a block of side × side pixels.
    return grey(*rows).repeat_interleave(side, dim=-1).repeat_interleave(side, dim=-2)


def plain_photo(shade, size, batch=1):
    return torch.full((batch, 3, *size), {"black": 0.0, "grey": 0.3, "white": 1.0}[shade])


def sigmoid(z):
    return 1 / (1 + exp(-z))


def test_spatial_consistency_by_hand():
    # The changes are 0 and 0.3, and each of the 2 regions has one neighbour: (0.3² + 0.3²) / 2
    loss = SpatialConsistencyLoss()
    assert loss(blocks([0.2, 0.5], side=4), blocks([0.2, 0.2], side=4)).item() == pytest.approx(0.09)
    # The changes are 0, 0.1 / 0.3, 0: pairs 0.1² + 0.3² across and 0.3² + 0.1² down, each counted twice, over 4 regions
    enhanced = blocks([0.2, 0.3], [0.5, 0.2], side=4)
    assert loss(enhanced, torch.full_like(enhanced, 0.2)).item() == pytest.approx(2 * (0.10 + 0.10) / 4)


def test_spatial_consistency_allows_a_uniform_change_but_not_a_swap():
    loss = SpatialConsistencyLoss()
    original = blocks([0.2, 0.5], side=4)
    assert loss(original + 0.3, original).item() == pytest.approx(0, abs=1e-12)
    # The changes are 0.3 and −0.3: 0.6²
    assert loss(original.flip(-1), original).item() == pytest.approx(0.36)


def test_spatial_consistency_averages_over_the_batch():
    original = blocks([0.2, 0.2], side=4)
    enhanced = torch.cat([original, blocks([0.2, 0.5], side=4)])
    loss = SpatialConsistencyLoss()(enhanced, original.expand(2, -1, -1, -1))
    assert loss.item() == pytest.approx(0.09 / 2)


def test_exposure_control_by_hand():
    # ((0.5 − 0.6)² + (0.8 − 0.6)²) / 2
    assert ExposureControlLoss()(blocks([0.5, 0.8], side=16)).item() == pytest.approx(0.025, rel=1e-4)
    # ((0.5 − 0.4)² + (0.8 − 0.4)²) / 2
    assert ExposureControlLoss(target=0.4)(blocks([0.5, 0.8], side=16)).item() == pytest.approx(0.085, rel=1e-4)


def test_exposure_control_averages_channels_and_the_inside_of_border_patches():
    # Channels of 0.3, 0.6 and 0.9 have a brightness of 0.6.
    image = torch.tensor([0.3, 0.6, 0.9]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    assert ExposureControlLoss()(image).item() == pytest.approx(0, abs=1e-6)
    # The second patch is only 4 pixels wide but has the same weight as the first.
    assert ExposureControlLoss()(blocks([0.5, 0.8], side=16)[..., :20]).item() == pytest.approx(0.025, rel=1e-4)


def test_colour_constancy_by_hand():
    # Channel means of 0.5, 0.3 and 0.1: √(0.2⁴ + 0.4⁴ + 0.2⁴)
    image = torch.tensor([0.5, 0.3, 0.1]).view(1, 3, 1, 1) + torch.tensor([[-0.1, 0.1]])
    expected = sqrt(0.2**4 + 0.4**4 + 0.2**4)
    assert ColourConstancyLoss()(image).item() == pytest.approx(expected, rel=1e-5)
    assert ColourConstancyLoss()(torch.cat([image, grey([0.3, 0.4])])).item() == pytest.approx(expected / 2, rel=1e-5)


def test_illumination_smoothness_by_hand():
    # First channel: across 0.1² and 0.1², mean 0.01; down 0.2² and 0.2², mean 0.04. Second: across 0; down 0.4².
    curve_map = torch.tensor([[[0.0, 0.1], [0.2, 0.3]], [[-0.2, -0.2], [0.2, 0.2]]])[None]
    assert IlluminationSmoothnessLoss()(curve_map).item() == pytest.approx(2 * (0.01 + 0.04 + 0.16))
    flat_too = torch.cat([curve_map, torch.full_like(curve_map, 0.5)])
    assert IlluminationSmoothnessLoss()(flat_too).item() == pytest.approx(0.01 + 0.04 + 0.16)


def test_saturation_by_hand():
    # Pixels (0.7, 0.9, 0.5) and (0.1, 0.1, 0.5) are both (±0.3, ±0.4, 0) from their mean: 0.5
    image = torch.tensor([[0.7, 0.1], [0.9, 0.1], [0.5, 0.5]]).view(1, 3, 1, 2)
    assert SaturationLoss()(image).item() == pytest.approx(0.5)
    assert SaturationLoss()(torch.cat([image, grey([0.3, 0.3])])).item() == pytest.approx(0.25)


def test_multi_region_masks_sum_to_one():
    masks = MultiRegionExposureLoss().masks(torch.linspace(0, 1, 101))
    assert masks.shape == (3, 101)
    assert masks.min() >= 0
    torch.testing.assert_close(masks.sum(dim=0), torch.ones(101))


def test_multi_region_targets_approach_the_target_of_their_region():
    loss = MultiRegionExposureLoss(widths=(0.005, 0.005, 0.005))
    targets = loss.target(torch.tensor([0.0, 0.05, 0.25, 0.9, 1.0]))
    assert targets.tolist() == pytest.approx([0.95, 0.95, 0.4, 0.6 * 0.9, 0.6], abs=1e-3)


def test_multi_region_target_by_hand():
    # m = 0.25, with the widths and thresholds of the published code
    dark = sigmoid((0.12 - 0.25) / 0.05)
    middle = sigmoid((0.25 - 0.12) / 0.05) * sigmoid((0.4 - 0.25) / 0.05)
    bright = sigmoid((0.25 - 0.8) / 0.12)
    target = (dark * 0.95 + middle * 0.4 + bright * 0.6 * 0.25) / (dark + middle + bright)
    loss = MultiRegionExposureLoss()
    assert loss.target(torch.tensor(0.25)).item() == pytest.approx(target, rel=1e-5)
    # Uniform photos have no contrast, so only the distance of the enhanced brightness from the target remains.
    result = loss(blocks([0.7], side=8), blocks([0.25], side=8))
    assert result.item() == pytest.approx((0.7 - target) ** 2, rel=1e-5)


def test_multi_region_contrast_by_hand():
    # Pixels of 0.4 and 0.6 differ from their patch's mean by 0.1, pixels of 0.5 by 0: 0.2 · 0.1
    loss = MultiRegionExposureLoss()
    original, flat, rough = grey([0.5, 0.5]), grey([0.5, 0.5]), grey([0.4, 0.6])
    assert (loss(rough, original) - loss(flat, original)).item() == pytest.approx(0.02, rel=1e-4)
    without = MultiRegionExposureLoss(contrast_weight=0.0)
    assert without(rough, original).item() == pytest.approx(without(flat, original).item())


@pytest.mark.parametrize("arguments", [{"widths": (0.05, 0.0, 0.1)}, {"thresholds": (0.4, 0.12, 0.8)}])
def test_multi_region_refuses_descending_thresholds_and_zero_widths(arguments):
    with pytest.raises(ValueError, match="widths must be positive and thresholds ascending"):
        MultiRegionExposureLoss(**arguments)


@pytest.mark.parametrize(
    ("objective", "weights"),
    [
        ("zero-dce++", {"spatial": 1, "exposure": 10, "colour": 5, "smoothness": 1600}),
        ("zero-dce", {"spatial": 8, "exposure": 1.75, "colour": 1, "smoothness": 7}),
        ("multi-region", {"multi-region exposure": 7, "smoothness": 200}),
        ("global", {"spatial": 1, "global exposure": 10, "colour": 5, "smoothness": 1600}),
        ("zero-dce-official", {"spatial": 1, "exposure": 10, "colour": 5, "smoothness": 200}),
        (
            "zero-dce-absolute",
            {"spatial": 8, "absolute exposure": 1.75, "squared colour": 1, "absolute smoothness": 7},
        ),
        ({"saturation": 0.5, "colour": 2.0}, {"saturation": 0.5, "colour": 2.0}),
    ],
)
def test_objective_has_the_published_weights(objective, weights):
    original = random_photo(20, 24, batch=2)
    enhanced, curve_map = original**0.5, random_photo(20, 24, batch=2, seed=1) - 0.5
    unweighted = {
        "spatial": SpatialConsistencyLoss()(enhanced, original),
        "exposure": ExposureControlLoss()(enhanced),
        "global exposure": GlobalExposureLoss()(enhanced, original),
        "colour": ColourConstancyLoss()(enhanced),
        "smoothness": IlluminationSmoothnessLoss()(curve_map),
        "saturation": SaturationLoss()(enhanced),
        "multi-region exposure": MultiRegionExposureLoss()(enhanced, original),
        "absolute exposure": ExposureControlLoss(absolute=True)(enhanced),
        "squared colour": ColourConstancyLoss(squared=True)(enhanced),
        "absolute smoothness": IlluminationSmoothnessLoss(absolute=True)(curve_map),
    }
    terms = ZeroReferenceLoss(objective)(enhanced, curve_map, original)
    assert list(terms) == list(weights)
    for term, value in terms.items():
        assert unweighted[term] > 0
        assert value.item() == pytest.approx(weights[term] * unweighted[term].item(), rel=1e-5), term


@pytest.mark.parametrize(("brightness", "enhanced", "expected"), [(0.1, 0.5, 0.01), (0.1, 0.6, 0.0), (0.8, 0.8, 0.0)])
def test_global_exposure_brightens_dark_photos_and_keeps_bright_ones(brightness, enhanced, expected):
    original, result = torch.full((2, 3, 8, 8), brightness), torch.full((2, 3, 8, 8), enhanced)
    assert GlobalExposureLoss(0.6)(result, original).item() == pytest.approx(expected, abs=1e-6)


def test_global_exposure_ignores_highlights_and_shadows():
    flat, uneven = torch.full((1, 3, 8, 8), 0.6), torch.full((1, 3, 8, 8), 0.3)
    uneven[..., 4:] = 0.9
    loss = GlobalExposureLoss(0.6)
    assert loss(uneven, flat).item() == pytest.approx(0, abs=1e-9)
    assert ExposureControlLoss(0.6, patch=4)(uneven) > 0.05


def test_a_re_implementations_terms_are_absolute_or_squared_differences():
    photo = torch.full((1, 3, 16, 16), 0.5)
    photo[:, 0], photo[:, 1] = 0.3, 0.4
    assert ExposureControlLoss(0.6, absolute=True)(photo).item() == pytest.approx(0.2, abs=1e-6)
    assert ColourConstancyLoss(squared=True)(photo).item() == pytest.approx(0.1**2 + 0.2**2 + 0.1**2, abs=1e-6)
    ramp = torch.linspace(0, 1.5, 16).expand(2, 24, 16, 16)  # steps of 0.1 along each of 24 channels
    assert IlluminationSmoothnessLoss(absolute=True)(ramp).item() == pytest.approx(3 * 0.1, rel=1e-4)
    assert IlluminationSmoothnessLoss()(ramp).item() == pytest.approx(2 * 24 * 0.1**2, rel=1e-4)


def test_objective_accepts_an_exposure_target():
    photo = random_photo(16, 16)
    terms = ZeroReferenceLoss({"exposure": 1.0}, exposure_target=0.4)(photo, photo, photo)
    assert terms["exposure"] == ExposureControlLoss(target=0.4)(photo)


def test_term_with_weight_zero_is_skipped():
    photo = random_photo(16, 16)
    assert list(ZeroReferenceLoss({"spatial": 0.0, "exposure": 1.0})(photo, photo, photo)) == ["exposure"]


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("zero-dce+", r"unknown objective 'zero-dce\+'; choose from zero-dce\+\+, zero-dce, multi-region"),
        ({"color": 1.0}, "unknown loss term 'color'; choose from .*colour"),
        ({"colour": -1.0}, r"the weight of 'colour' must be a number of at least 0, not -1\.0"),
        ({"colour": float("nan")}, "not nan"),
        ({"colour": float("inf")}, "not inf"),
    ],
)
def test_invalid_objective_is_refused(objective, message):
    with pytest.raises(ValueError, match=message):
        ZeroReferenceLoss(objective)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (16, 16)])
@pytest.mark.parametrize("shade", ["black", "grey", "white"])
@pytest.mark.parametrize("term", TERMS)
def test_zero_reference_gradients_are_finite_on_plain_photos(term, shade, size):
    enhanced = plain_photo(shade, size, batch=2).requires_grad_()
    curve_map = torch.full((2, 3, *size), -0.2, requires_grad=True)
    loss = ZeroReferenceLoss({term: 1.0})(enhanced, curve_map, enhanced.detach())[term]
    assert loss.ndim == 0
    assert loss.isfinite()
    for gradient in torch.autograd.grad(loss, [enhanced, curve_map], allow_unused=True):
        assert gradient is None or gradient.isfinite().all()


@pytest.mark.parametrize("term", TERMS)
def test_zero_reference_gradient_is_the_slope(term):
    torch.manual_seed(0)
    original = torch.rand(2, 3, 5, 6, dtype=torch.float64)
    enhanced = torch.rand(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    curve_map = torch.rand(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    loss = ZeroReferenceLoss({term: 1.0})
    assert torch.autograd.gradcheck(
        lambda e, m: loss(e, m, original)[term] + 0 * (e.sum() + m.sum()), (enhanced, curve_map)
    )


def test_total_curve_sums_the_maps():
    # One map for each of 2 iterations, or one map shared by 5
    assert total_curve(torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]).view(1, 6, 1, 1), 2).flatten().tolist() == (
        pytest.approx([0.5, 0.7, 0.9])
    )
    assert total_curve(torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1), 5).flatten().tolist() == (
        pytest.approx([0.5, 1.0, 1.5])
    )


def test_output_alignment_by_hand():
    # (0.5 − 0.8)² + 0.1 · (−0.2 + 0.6)² = 0.09 + 0.016
    student, teacher = (grey([0.5]), grey([-0.2])), (grey([0.8]), grey([-0.6]))
    assert OutputAlignmentLoss()(student, teacher).item() == pytest.approx(0.106)
    assert OutputAlignmentLoss(map_weight=1.0)(student, teacher).item() == pytest.approx(0.25)


def test_output_alignment_equals_the_published_loss_for_equal_iterations():
    student = (random_photo(6, 5, batch=2), random_photo(6, 5, batch=2, seed=1) - 0.5)
    teacher = (random_photo(6, 5, batch=2, seed=2), random_photo(6, 5, batch=2, seed=3) - 0.5)
    expected = F.mse_loss(student[0], teacher[0]) + 0.1 * F.mse_loss(student[1], teacher[1])
    torch.testing.assert_close(OutputAlignmentLoss()(student, teacher), expected)


def test_output_alignment_compares_whole_curves():
    image = grey([0.5])
    # 4 · −0.6 = 8 · −0.3: the same total curve, whatever the number of iterations
    loss = OutputAlignmentLoss(student_iterations=4)
    assert loss((image, grey([-0.6])), (image, grey([-0.3]))).item() == pytest.approx(0, abs=1e-12)
    # 4 · −0.2 / 8 = −0.1 against −0.3: 0.1 · 0.2²
    assert loss((image, grey([-0.2])), (image, grey([-0.3]))).item() == pytest.approx(0.004)


def test_output_alignment_with_a_teacher_with_one_map_per_iteration():
    image = grey([0.5])
    # −0.1, −0.2, … −0.8 sum to −3.6, as 8 · −0.45 does; 8 · −0.65 is 1.6 away: 0.1 · (1.6 / 8)²
    teacher_map = torch.cat([grey([-0.1 * i]) for i in range(1, 9)], dim=1)
    assert teacher_map.shape[1] == 24
    loss = OutputAlignmentLoss()
    assert loss((image, grey([-0.45])), (image, teacher_map)).item() == pytest.approx(0, abs=1e-12)
    assert loss((image, grey([-0.65])), (image, teacher_map)).item() == pytest.approx(0.004)


def test_layer_features_are_collected_in_every_pass_inside_the_context():
    model = create_model("student-565", scale_factor=1)
    photo = random_photo(6, 5)
    with LayerFeatures(model, ["e_conv1", "e_conv3.depth_conv"]) as collected:
        model(photo)
        first = dict(collected.features)
        model(1 - photo)
        second = dict(collected.features)
    model(photo**2)
    assert set(first) == {"e_conv1", "e_conv3.depth_conv"}
    assert first["e_conv1"].shape == (1, 4, 6, 5)
    assert torch.equal(first["e_conv1"], model.e_conv1(photo))
    assert torch.equal(second["e_conv1"], model.e_conv1(1 - photo))
    assert collected.features["e_conv1"] is second["e_conv1"]
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_are_removed_when_the_context_fails():
    model = create_model("student-565")
    with pytest.raises(RuntimeError, match="on purpose"), LayerFeatures(model, ["e_conv1"]):
        raise RuntimeError("on purpose")
    assert not model.e_conv1._forward_hooks


def test_error_on_an_unknown_layer_lists_the_known_ones_and_leaves_no_hook():
    model = create_model("student-565")
    with pytest.raises(ValueError, match=r"no layer 'e_conv8'; it has e_conv1, .*e_conv7"):
        LayerFeatures(model, ["e_conv1", "e_conv8"])
    assert not model.e_conv1._forward_hooks


def test_attention_map_by_hand():
    # Channel means 2, 3 / 4, 5, and their averages over columns
    features = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[3.0, 4.0], [5.0, 6.0]]])[None]
    assert mean_activation_map(features, size=2).tolist() == [[[2.0, 3.0], [4.0, 5.0]]]
    assert mean_activation_map(features, size=1).tolist() == [[[3.5]]]
    assert mean_activation_map(torch.rand(2, 32, 37, 50)).shape == (2, 8, 8)
    assert mean_activation_maps({"a": features}, size=1)["a"].tolist() == [[[3.5]]]


def level_maps(*levels):
    return {f"e_conv{2 * i}": torch.full((2, 8, 8), level) for i, level in enumerate(levels, start=1)}


def test_feature_matching_by_hand():
    # 0.2 · 0.1² + 0.3 · 0.2² + 0.5 · 0.4² = 0.002 + 0.012 + 0.08
    loss = FeatureMatchingLoss()(level_maps(0.1, 0.2, 0.4), level_maps(0.0, 0.0, 0.0))
    assert loss.item() == pytest.approx(0.094)


def test_feature_matching_pairs_layers_with_different_names():
    # 0.2 · (1 − 2)² + 0.3 · (2 − 4)² + 0.5 · (3 − 7)²
    student = {f"e_conv{i}": torch.full((1, 8, 8), float(i)) for i in range(1, 4)}
    teacher = {f"e_conv{i}": torch.full((1, 8, 8), float(i)) for i in (2, 4, 7)}
    assert FeatureMatchingLoss(SHALLOW_STUDENT_LAYERS)(student, teacher).item() == pytest.approx(0.2 + 1.2 + 8.0)


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_feature_matching_refuses_a_missing_layer(side):
    maps = {"student": level_maps(0.1, 0.2, 0.4), "teacher": level_maps(0.0, 0.0, 0.0)}
    del maps[side]["e_conv4"]
    with pytest.raises(KeyError, match="e_conv4"):
        FeatureMatchingLoss()(**maps)


def test_feature_matching_needs_a_weight_for_each_pair():
    with pytest.raises(ValueError, match="3 layer pairs need as many weights, got 2"):
        FeatureMatchingLoss(weights=(0.5, 0.5))


@pytest.mark.parametrize(
    ("student_name", "pairs"), [("student-565", SAME_DEPTH_LAYERS), ("nano-161", SHALLOW_STUDENT_LAYERS)]
)
@pytest.mark.parametrize("teacher_name", ["zero-dce", "zero-dce++"])
def test_published_layer_pairs_exist_in_the_models(student_name, teacher_name, pairs):
    torch.manual_seed(0)
    student, teacher = create_model(student_name, scale_factor=4), create_model(teacher_name)
    photo = random_photo(24, 36)
    with (
        LayerFeatures(student, [s for s, _ in pairs]) as ours,
        LayerFeatures(teacher, [t for _, t in pairs]) as theirs,
    ):
        student(photo)
        with torch.no_grad():
            teacher(photo)
    loss = FeatureMatchingLoss(pairs)(mean_activation_maps(ours.features), mean_activation_maps(theirs.features))
    loss.backward()
    assert loss > 0
    assert all(student.get_submodule(s).point_conv.weight.grad.any() for s, _ in pairs)


def test_contrastive_loss_by_hand():
    # d⁺ = 0.3² and d⁻ = 0.1² in every layer: softplus(0.08 / 0.1); with τ = 0.4: softplus(0.2)
    student, positive, negative = level_maps(0.5, 0.5, 0.5), level_maps(0.8, 0.2, 0.8), level_maps(0.4, 0.6, 0.4)
    assert ContrastiveLoss()(student, positive, negative).item() == pytest.approx(log(1 + exp(0.8)))
    assert ContrastiveLoss(temperature=0.4)(student, positive, negative).item() == pytest.approx(log(1 + exp(0.2)))
    # Layers are averaged after the softplus: (softplus(0.9) + softplus(0) + softplus(0)) / 3.
    positive = level_maps(0.8, 0.5, 0.5)
    expected = (log(1 + exp(0.9)) + 2 * log(2)) / 3
    assert ContrastiveLoss()(student, positive, level_maps(0.5, 0.5, 0.5)).item() == pytest.approx(expected)


def test_contrastive_loss_is_log_two_at_equality():
    maps = level_maps(0.1, 0.2, 0.4)
    assert ContrastiveLoss()(maps, maps, maps).item() == pytest.approx(log(2))


def test_contrastive_loss_passes_no_gradient_to_the_teacher_or_the_average():
    student, positive, negative = (
        {name: value.requires_grad_() for name, value in level_maps(*levels).items()}
        for levels in ((0.5, 0.5, 0.5), (0.8, 0.8, 0.8), (0.4, 0.4, 0.4))
    )
    ContrastiveLoss()(student, positive, negative).backward()
    assert all(value.grad.any() for value in student.values())
    assert all(value.grad is None for maps in (positive, negative) for value in maps.values())


@pytest.mark.parametrize("steps", [0, 1])
def test_contrastive_loss_changes_the_students_gradient(steps):
    torch.manual_seed(0)
    student, past, teacher = (create_model(name, scale_factor=1) for name in ("student-565",) * 2 + ("zero-dce",))
    layers = [name for name, _ in SAME_DEPTH_LAYERS]
    seen = [student.get_submodule(layer).point_conv.weight for layer in layers]

    def maps(model):
        with LayerFeatures(model, layers) as collected:
            model(random_photo(24, 36))
        return mean_activation_maps(collected.features)

    # The average equals the student at first and later lags behind it on the way to the teacher.
    past.load_state_dict(student.state_dict())
    optimiser = torch.optim.SGD(student.parameters(), lr=0.05)
    for _ in range(steps):
        FeatureMatchingLoss()(maps(student), maps(teacher)).backward()
        optimiser.step()
    ours, theirs, ours_before = maps(student), maps(teacher), maps(past)
    matching = FeatureMatchingLoss()(ours, theirs)
    contrast = 0.05 * ContrastiveLoss()(ours, theirs, ours_before)
    without = torch.autograd.grad(matching, seen, retain_graph=True)
    with_contrast = torch.autograd.grad(matching + contrast, seen)
    for before, after in zip(without, with_contrast, strict=True):
        assert after.isfinite().all()
        assert (after - before).abs().max() > 1e-4


def test_contrastive_loss_pulls_to_the_teacher_from_the_far_side_of_the_average():
    # With the teacher at 0.8, the average at 0.6 and the student at 0.3, absolute distances would cancel.
    student = {name: value.requires_grad_() for name, value in level_maps(0.3, 0.3, 0.3).items()}
    ContrastiveLoss()(student, level_maps(0.8, 0.8, 0.8), level_maps(0.6, 0.6, 0.6)).backward()
    assert all((value.grad < 0).all() for value in student.values())


def test_contrastive_loss_refuses_a_temperature_of_zero():
    with pytest.raises(ValueError, match="temperature must be a number above 0, not 0"):
        ContrastiveLoss(temperature=0)


@pytest.mark.parametrize("shade", ["black", "grey", "white"])
def test_distillation_gradients_are_finite_on_plain_photos(shade):
    torch.manual_seed(0)
    student, teacher = create_model("student-565", scale_factor=1), create_model("zero-dce")
    layers = [name for name, _ in SAME_DEPTH_LAYERS]
    for size in [(1, 1), (5, 7), (16, 16)]:
        photo = plain_photo(shade, size, batch=2)
        with LayerFeatures(student, layers) as ours, LayerFeatures(teacher, layers) as theirs:
            output, wanted = student(photo), teacher(photo)
        have, want = mean_activation_maps(ours.features), mean_activation_maps(theirs.features)
        losses = {
            "output": OutputAlignmentLoss()(output, wanted),
            "features": FeatureMatchingLoss()(have, want),
            "contrastive at equality": ContrastiveLoss()(have, want, have),
            "contrastive": ContrastiveLoss()(have, want, {name: value + 0.1 for name, value in have.items()}),
        }
        for name, loss in losses.items():
            gradients = torch.autograd.grad(loss, list(student.parameters()), retain_graph=True, allow_unused=True)
            assert loss.isfinite(), name
            assert all(gradient is None or gradient.isfinite().all() for gradient in gradients), name


def test_ssim_loss_is_zero_for_equal_photos_and_grows_with_the_difference():
    photo = random_photo(16, 20)
    loss = SSIMLoss()
    assert loss(photo, photo).item() == pytest.approx(0, abs=1e-6)
    assert 0.01 < loss(0.8 * photo, photo) < loss(0.2 * photo, photo) < 1
    assert 1 < loss(1 - photo, photo) < 2


def test_ssim_loss_by_hand():
    # Flat photos have no variance: 1 − (2xy + C₁) / (x² + y² + C₁), with C₁ = 0.01²
    photo, target = (torch.full((1, 3, 16, 16), level, dtype=torch.float64) for level in (0.2, 0.6))
    assert SSIMLoss()(photo, target).item() == pytest.approx(1 - (2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4))


def test_ssim_loss_error_gives_the_minimum_size():
    assert SSIMLoss()(random_photo(11, 11), random_photo(11, 11, seed=1)) > 0
    with pytest.raises(ValueError, match="at least 11×11 pixels, got 30×10"):
        SSIMLoss()(random_photo(30, 10), random_photo(30, 10))


@pytest.mark.parametrize("shade", ["black", "grey", "white"])
@pytest.mark.parametrize("target_shade", ["black", "grey", "white"])
def test_ssim_gradients_are_finite_on_plain_photos(shade, target_shade):
    photo = plain_photo(shade, (13, 11)).requires_grad_()
    SSIMLoss()(photo, plain_photo(target_shade, (13, 11))).backward()
    assert photo.grad.isfinite().all()


@pytest.fixture
def squeezenet(checkpoints):
    torch.manual_seed(0)
    network = squeezenet1_1(weights=None)
    torch.save(network.state_dict(), checkpoints / SQUEEZENET)
    return network.eval()


def test_perceptual_loss_by_hand(squeezenet):
    photo, target = random_photo(32, 40, batch=2), random_photo(32, 40, batch=2, seed=1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    expected = 0
    with torch.no_grad():
        for depth in (2, 5, 8):  # after the second, fifth and eighth of the layers
            have, want = (squeezenet.features[:depth]((image - mean) / std) for image in (photo, target))
            expected += F.mse_loss(have, want) / 3
    torch.testing.assert_close(PerceptualLoss()(photo, target), expected)


@pytest.mark.usefixtures("squeezenet")
def test_perceptual_loss_passes_gradients_only_to_the_image():
    loss = PerceptualLoss()
    photo, target = random_photo(32, 32).requires_grad_(), random_photo(32, 32, seed=1).requires_grad_()
    loss.train()
    loss(photo, target).backward()
    assert photo.grad.any()
    assert target.grad is None
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    assert loss(photo, photo) == 0


@pytest.mark.usefixtures("squeezenet")
@pytest.mark.parametrize("shade", ["black", "grey", "white"])
def test_perceptual_gradients_are_finite_on_plain_photos(shade):
    photo = plain_photo(shade, (32, 32)).requires_grad_()
    PerceptualLoss()(photo, random_photo(32, 32)).backward()
    assert photo.grad.isfinite().all()


def test_perceptual_loss_error_gives_instructions_for_offline_use(checkpoints):
    with pytest.raises(BackboneUnavailableError) as caught:
        PerceptualLoss()
    for part in ("squeezenet1_1", "tests have no network", SQUEEZENET, str(checkpoints), "perceptual=0"):
        assert part in str(caught.value)


def test_error_on_an_unknown_backbone_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown backbone 'resnet18'; choose from squeezenet1_1, vgg16, vgg19"):
        PerceptualLoss("resnet18")


def test_multi_region_targets_are_finite_between_narrow_regions():
    target = MultiRegionExposureLoss(widths=(0.001, 0.001, 0.001)).target(torch.linspace(0, 1, 101))
    assert target.isfinite().all()
