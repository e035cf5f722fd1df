"""Numbers and comparisons that lesson 02 quotes, held against what its own cells compute."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import get_model_weights

from kdlib.evaluation.metrics import psnr
from kdlib.losses import ColourConstancyLoss, ExposureControlLoss, MultiRegionExposureLoss, zero_reference
from kdlib.training.recipes import RECIPES
from tests.helpers import prose
from tests.lessons.cells import run_cells

PROSE = prose("02_losses")


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    without = ("for weight in (0, 7, 200, 1600):", 'for objective in ("zero-dce++", "zero-dce", "multi-region"):')
    return run_cells("02_losses", tmp_path_factory.mktemp("runs"), without=without)


def says(*sentences):
    for sentence in sentences:
        assert sentence in PROSE, sentence


def test_weights_and_formulas_are_those_of_the_package():
    says("| Zero-DCE++ | 1 | 10 | 5 | 1600 |", "| 8 | 1.75 | 1 | 7 | absolute values in exposure and smoothness")
    assert list(zero_reference.ZERO_DCE_PP_WEIGHTS.values()) == [1, 10, 5, 1600]
    assert list(zero_reference.ZERO_DCE_WEIGHTS.values()) == [8, 1.75, 1, 7]
    assert list(zero_reference.ZERO_DCE_ABSOLUTE_WEIGHTS) == [
        "spatial", "absolute exposure", "squared colour", "absolute smoothness",
    ]  # fmt: skip
    says("makes it 229 times smaller than 1600 does", "a step of 0.004 between neighbouring pixels counts as 0.004")
    assert round(1600 / 7) == 229
    assert pytest.approx(0.004**2) == 0.000016
    recipe = RECIPES["one-stage"]
    says(
        "The published recipe has α = 0.7 and β = 0.2, which leaves a tenth",
        r"\alpha \cdot 100\,L_{out}",
        "+ 0.1 \\cdot",
    )
    assert (recipe.alpha, recipe.beta, recipe.alignment, recipe.map_weight) == (0.7, 0.2, 100, 0.1)
    assert recipe.task == zero_reference.ZERO_DCE_PP_WEIGHTS
    says("with its small weight of 0.3")
    assert RECIPES["two-stage"].task["saturation"] == 0.3
    says("the term is off in the published one-stage recipe")
    assert recipe.ssim == 0


def test_the_target_of_multi_region_exposure():
    target = MultiRegionExposureLoss().target(torch.tensor([0.0, 0.35, 0.5, 0.8]))
    says("falls from 0.9 at m = 0 to 0.4 at m = 0.35")
    assert target.round(decimals=1).tolist()[:2] == pytest.approx([0.9, 0.4])
    says("above 0.8, in practice from 0.5 on")
    _, middle, bright = MultiRegionExposureLoss().masks(torch.tensor([0.48, 0.55])).T[1]
    assert bright > middle


def test_sizes_of_the_downloads():
    says("(5 MB for SqueezeNet, 548 MB for VGG19)")
    size = {name: get_model_weights(name).DEFAULT.meta["_file_size"] for name in ("squeezenet1_1", "vgg19")}
    assert {name: round(mb) for name, mb in size.items()} == {"squeezenet1_1": 5, "vgg19": 548}


@pytest.mark.slow
class TestOnThePhoto:
    def test_spatial_consistency_returns_to_the_dark_photo(self, lesson):
        says("From r = −0.25 the curve therefore returns to r ≈ 0")
        _, r = lesson["pull"](lesson["alone"]["spatial consistency"], lesson["dark"], lesson["one"])
        assert abs(float(r.mean())) < 0.02

    def test_freedom_lowers_the_exposure_loss_and_ruins_the_photo(self, lesson):
        one, three, free = lesson["by_freedom"].values()
        loss = ExposureControlLoss()
        says("The loss is ten times lower than with one curve", "two channels near 1 with one at 0")
        assert 9 < float(loss(one) / loss(three)) < 12
        red, green, blue = three.mean(dim=(0, 2, 3)).tolist()
        assert min(red, green) > 0.9
        assert blue < 0.02
        says("The loss is almost zero.")
        assert loss(free) < 1e-4

    def test_colour_constancy(self, lesson):
        says("In the picture of the overview the three means have met")
        assert lesson["balanced"].mean(dim=(0, 2, 3)).std() < 0.01
        says("the optimiser writes NaN into its weights")
        assert lesson["gradient"](lesson["naive_colour"], lesson["lens_cap"]).isnan().all()
        assert lesson["gradient"](ColourConstancyLoss(), lesson["lens_cap"]).eq(0).all()

    def test_multi_region_exposure(self, lesson):
        one, three, free = lesson["pulled"].values()
        says("the photo is washed out, brighter than exposure control makes it")
        assert one.mean() > lesson["by_freedom"]["one curve"].mean() + 0.05
        says("the loophole of section 2 is open again")
        assert three.mean(dim=(0, 2, 3))[2] < 0.02
        says("the inside of the cup, brightest in reality, becomes darker than the wood around it")
        cup, wood = (slice(20, 45), slice(75, 100)), (slice(60, 100), slice(150, 190))
        darker = [
            photo.mean(dim=1)[0][cup].mean() < photo.mean(dim=1)[0][wood].mean() for photo in (free, lesson["dark"])
        ]
        assert darker == [True, False]

    def test_saturation_ends_in_black(self, lesson):
        says("with one curve for each channel this colour is black")
        black, _ = lesson["pull"](lesson["alone"]["saturation"], lesson["dark"], lesson["three"])
        assert black.max() < 0.02

    def test_a_curve_that_can_only_brighten(self, lesson):
        says("Without positive values the right side stays over-exposed.")
        right = lesson["side"] > 0.99
        backlit, either, negative = (photo[..., right].mean() for photo in lesson["shown_backlit"].values())
        assert either < backlit - 0.1
        assert negative == pytest.approx(float(backlit), abs=0.01)
        says("The teacher brightens every pixel of this photo, and the same holds for the backlit photo of section 7.")
        for photo in (lesson["dark"], lesson["backlit"]):
            assert (lesson["teacher_net"](photo)[1] < 0).all()

    def test_smoothness_under_two_definitions(self, lesson):
        says("a small value, 0.003 and 0.013, a factor of four apart")
        squared, absolute = 1600 * float(lesson["smoothness"](lesson["taught_map"])), 7 * float(lesson["absolute"])
        assert round(squared, 3) == 0.003
        assert round(absolute, 3) == 0.013
        assert round(absolute / squared) == 4

    def test_gradients_of_the_weighted_terms(self, lesson):
        norms = lesson["norms"]
        own = {term: norm for (objective, term), norm in norms.items() if objective == "zero-dce++"}
        says("colour constancy has the largest gradient, exposure control a third of it")
        says("and smoothness a little less than half of that of exposure")
        assert max(own, key=own.get) == "colour"
        assert 0.28 < own["exposure"] / own["colour"] < 0.38
        assert 0.4 < own["smoothness"] / own["exposure"] < 0.5
        says("is about a hundredth of that of exposure")
        assert 0.007 < norms["zero-dce", "smoothness"] / norms["zero-dce", "exposure"] < 0.014

    def test_gradients_of_the_photos_and_the_maps_error(self, lesson):
        photo, r = lesson["gradients"].values()
        dark = lesson["darkest"]
        says("Only about a quarter of the gradient of the photo's error comes from the darker half", "a third of what")
        share = float(photo[dark].sum() / photo.sum())
        assert 0.22 < share < 0.28
        assert 0.28 < share / (1 - share) < 0.38
        says(
            "The map's error gives all pixels comparable gradients.",
            "its gradient is more than ten times smaller in all",
        )
        assert r.max() < 1.5 * r.min()
        assert photo.sum() > 10 * r.sum()

    def test_the_shipped_student_agrees_outside_and_not_inside(self, lesson):
        says("to about 40 dB", "the correlations −0.57, +0.34 and −0.69")
        enhanced = lesson["shipped"](lesson["dark"])[0][0]
        assert psnr(enhanced, lesson["taught"][0]) == pytest.approx(40, abs=0.5)
        found = []
        for s, t in lesson["pairs"]:
            maps = torch.stack([lesson["rows"]["shipped student"][s].flatten(), lesson["rows"]["teacher"][t].flatten()])
            found.append(float(torch.corrcoef(maps)[0, 1]))
        assert found == pytest.approx([-0.57, 0.34, -0.69], abs=0.01)
        says("spans a range eleven times that of its first")
        first, _, third = lesson["rows"]["teacher"].values()
        assert float((third.max() - third.min()) / (first.max() - first.min())) == pytest.approx(11, abs=0.5)
        says("the last pair makes up 99.9% of the fresh student's loss")
        assert float(lesson["share"]) == pytest.approx(0.999, abs=0.0005)

    def test_which_layers_the_losses_reach(self, lesson):
        says("why is the last bar of feature matching exactly zero?")
        assert lesson["reach"]["feature matching"]["e_conv7"] == 0
        assert all(lesson["reach"]["output alignment"].values())

    def test_sizes_of_the_terms(self, lesson):
        says("Output alignment is 0.16 for the fresh student and 0.0001 for the shipped one")
        align, targets, dark = lesson["align_outputs"], lesson["targets"], lesson["dark"]
        fresh, shipped = (float(align(lesson[name](dark), targets)) for name in ("fresh", "shipped"))
        assert round(fresh, 2) == 0.16
        assert round(shipped, 4) == 0.0001
        says("the task loss stays above 1 for any student: it does not reach zero even for the teacher")
        networks = [
            *lesson["networks"].values(),
            lesson["learners"]["outputs alone"],
            lesson["learners"]["the mixture"],
        ]
        assert all(sum(lesson["task_loss"](*network(dark), dark).values()) > 1 for network in networks)
        says("pulled by the task more than a thousand times as much as by the teacher")
        task = float(sum(lesson["task_loss"](*lesson["shipped"](dark), dark).values()))
        assert 0.1 * task / (0.7 * shipped) > 1000

    def test_three_mixtures(self, lesson):
        outputs, mixture, features = (values[-1] for values in lesson["fidelity"].values())
        says("With outputs alone and with the mixture the student comes to about 35 dB.", "less than one decibel")
        assert 34 < outputs < 37
        assert 0 < mixture - outputs < 1
        says("its PSNR to the teacher's photo is about 7 dB, no higher than the fresh student's")
        fresh = psnr(lesson["fresh"](lesson["dark"])[0][0].detach(), lesson["taught"][0])
        assert 6 < features < min(9, fresh + 0.5)
        says("In the mixture its features agree as well", "With features alone they agree best of all")
        matched = {}
        for name, learner in lesson["learners"].items():
            _, found = lesson["look"](learner, lesson["dark"], lesson["student_layers"])
            matched[name] = float(lesson["match_features"](found, lesson["of_teacher"], lesson["pairs"]).detach())
        assert matched["features alone"] < matched["the mixture"] < 0.1 * matched["outputs alone"]

    def test_terms_that_do_something(self, lesson):
        says("No name is in common", "with d⁺ = 0.1 the published quotient would be a million")
        assert not lesson["student_names"] & lesson["teacher_names"]
        assert pytest.approx(0.1 / 1e-7) == 1e6
        learner = list(lesson["learner"].parameters())
        assert [lesson["has_effect"](term, learner) for term in lesson["terms"].values()] == [True, True, False, True]

    def test_a_score_that_rewards_doing_nothing(self, lesson):
        to_input, to_teacher = lesson["scores"].values()
        says("By its distance to the input, an unchanged photo is perfect.")
        assert min(to_input) == to_input[0] == 0
        assert min(to_teacher) == to_teacher[10]

    def test_ssim_sees_noise(self, lesson):
        says("the SSIM loss is more than ten times larger for the noise")
        loss, taught = lesson["ssim_loss"], lesson["taught"]
        assert loss(lesson["noisy"], taught) > 10 * loss(lesson["darker"], taught)
        assert F.mse_loss(lesson["noisy"], taught).item() == pytest.approx(F.mse_loss(lesson["darker"], taught).item())
