"""MSAFN and LightMSAFN.

Published weights are tested if the reference data is present; their scores are tested in test_super_resolution.py.
"""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F

from kdlib.evaluation import multiply_adds
from kdlib.models import MSAFN, LightMSAFN, count_parameters, create_model, infer_architecture
from kdlib.models.msafn_blocks import DenseBlock, Gate, GatePass, LightBlock, Refinement
from kdlib.weights import load_model, save_model
from tests.helpers import random_photo

NAMES = ["msafn", "light-msafn"]
COUNTS = {"msafn": 8_753_179, "light-msafn": 456_115}
SIZES = [(1, 1), (1, 6), (3, 2), (4, 8), (13, 30), (17, 16)]


def vivid(name, seed=0, width=8, blocks=2, **overrides):
    """A small network whose gates differ between photos, so that a wrong gate changes the result."""
    torch.manual_seed(seed)
    model = create_model(name, width=width, blocks=blocks, **overrides)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Gate):
                module.fc[0].weight.normal_(std=0.3)
                module.fc[0].bias.fill_(2)  # so few hidden units would often all be cut off
                module.fc[2].weight.normal_(std=2)
                module.fc[2].bias.zero_()
            elif isinstance(module, DenseBlock | LightBlock):
                module.last.weight.mul_(10)  # as strong as what it is added to
        model.recon[2].weight.normal_(std=0.2)
    return model.eval()


def published(model, x):
    """An independent implementation of the published network, for sides that are multiples of 4."""

    def conv(name, x):
        layer = model.get_submodule(name)
        return F.conv2d(x, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2)

    def gate(name, x):
        layers = model.get_submodule(name).fc
        hidden = F.linear(x.mean(dim=(2, 3)), layers[0].weight, layers[0].bias).relu()
        return x * F.linear(hidden, layers[2].weight, layers[2].bias).sigmoid()[:, :, None, None]

    def block(name, x):
        if not isinstance(model, LightMSAFN):
            seen = [x]
            for n in (1, 2, 3):
                seen.append(F.leaky_relu(conv(f"{name}.conv{n}", torch.cat(seen, dim=1)), 0.2))
            return x + gate(f"{name}.gate", seen[-1])
        return x + gate(f"{name}.gate", conv(f"{name}.conv2", F.leaky_relu(conv(f"{name}.conv1", x), 0.2)))

    first, paths = conv("conv_init", 2 * x - 1 if model.residual else x), []
    for n, size in ((1, 1), (2, 2), (3, 4)):
        start = int(n > 1)
        path = gate(f"scale{n}.{start + 1}", block(f"scale{n}.{start}", F.avg_pool2d(first, size)))
        paths.append(F.interpolate(path, scale_factor=size, mode="bilinear") if n > 1 else path)
    features = F.leaky_relu(conv("fusion.0", torch.cat(paths, dim=1)), 0.2)
    for n in range(model.blocks):
        features = block(f"res_blocks.{n}", features)
    if model.recurrent:
        state = torch.zeros_like(features)
        for _ in range(model.steps):
            both = torch.cat([features, state], dim=1)
            share = conv("refinement.conv_z", both).sigmoid()
            kept = state if isinstance(model, LightMSAFN) else conv("refinement.conv_r", both).sigmoid() * state
            candidate = conv("refinement.conv_h", torch.cat([features, kept], dim=1)).tanh()
            state = (1 - share) * state + share * candidate
        features = state
    answer = conv("recon.2", F.leaky_relu(conv("recon.0", features), 0.2))
    return answer + x if model.residual else answer, features


# The architectures


@pytest.mark.parametrize("name", NAMES)
def test_parameter_counts(name):
    assert count_parameters(create_model(name)) == COUNTS[name]


@pytest.mark.parametrize("overrides", [{}, {"recurrent": False}, {"residual": True}, {"steps": 1}, {"steps": 4}])
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_the_network_is_the_published_one(name, overrides):
    model, photo = vivid(name, **overrides).double(), random_photo(16, 24, batch=2).double()
    for ours, wanted in zip(model(photo), published(model, photo), strict=True):
        torch.testing.assert_close(ours, wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_at_the_start_of_training_features_differ_from_pixel_to_pixel(name):
    torch.manual_seed(0)
    model = create_model(name, width=8, residual=True)
    photo = random_photo(32, 32, batch=2)
    answer, features = model(photo)
    assert torch.equal(answer, photo)
    assert features.std(dim=(2, 3)).mean() > 0.1


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_at_the_start_of_training_many_blocks_do_not_saturate_the_refinement(name):
    torch.manual_seed(0)
    features = create_model(name, width=8, blocks=12, residual=True)(random_photo(32, 32, batch=2))[1]
    assert (features.abs() > 0.95).float().mean() < 0.02


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_any_size_is_padded_by_repeating_the_last_pixel(name, size):
    model, photo = vivid(name), random_photo(*size, batch=2)
    sharpened, features = model(photo)
    height, width = size
    assert sharpened.shape == photo.shape
    assert features.shape == (2, 16, height, width)
    rows, columns = (torch.arange(-(-side // 4) * 4).clamp(max=side - 1) for side in size)
    wanted, _ = published(model, photo[:, :, rows][..., columns])
    torch.testing.assert_close(sharpened, wanted[..., :height, :width], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_photos_of_a_batch_are_independent(name):
    model, photos = vivid(name), random_photo(12, 9, batch=3)
    together = model(photos)[0]
    for k in range(3):
        torch.testing.assert_close(together[k : k + 1], model(photos[k : k + 1])[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_residual_training_starts_from_the_unchanged_photo(name):
    photo = random_photo(9, 14)
    model = create_model(name, width=8, blocks=1, residual=True)
    assert torch.equal(model(photo)[0], photo)
    assert not torch.equal(create_model(name, width=8, blocks=1)(photo)[0], photo)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name, residual):
    model = vivid(name, residual=residual, drop=0.0).train()
    model(random_photo(12, 12, batch=2))[0].square().mean().backward()
    unmoved = {key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert unmoved == set()


def test_without_the_refinement_it_has_no_tensors():
    whole, plain = vivid("msafn"), vivid("msafn", recurrent=False)
    gone = whole.state_dict().keys() - plain.state_dict().keys()
    parts = {f"refinement.conv_{part}.{kind}" for part in "zrh" for kind in ("weight", "bias")}
    assert gone == parts
    assert plain.reach < whole.reach


def test_features_are_convolved_once():
    # This is half of the published code's work: features are convolved in one step only, and the first state never.
    width, steps, side = 4, 3, 5
    for resets, layers in ((False, 2), (True, 3)):
        refinement = Refinement(width, steps, resets=resets)
        plain = torch.nn.Sequential(torch.nn.Conv2d(3, width, 1), refinement)
        counted = multiply_adds(plain, side, side) - 3 * width * side**2
        assert counted == layers * (1 + steps - 1) * 9 * width**2 * side**2


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MSAFN(width=0), "at least 1"),
        (lambda: LightMSAFN(blocks=0), "at least 1"),
        (lambda: MSAFN(steps=0), "at least 1"),
        (lambda: MSAFN(upscale=1), "upscale must be a number of at least 2, not 1"),
        (lambda: MSAFN(drop=1.0), "drop must be a number of at least 0 and below 1, not 1.0"),
        (lambda: create_model("msafn", depth=3), "depth"),
    ],
)
def test_invalid_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("name", NAMES)
def test_input_that_is_not_a_batch_of_photos_is_refused(name):
    model = vivid(name)
    for refused in (torch.rand(1, 4, 8, 8), torch.rand(3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)):
        for call in (model, model.gates):
            with pytest.raises(ValueError, match="expected a B×3×H×W"):
                call(refused)


# Stochastic depth


def test_blocks_are_skipped_only_in_training():
    model, photo = vivid("msafn", drop=0.5), random_photo(8, 8)
    with torch.no_grad():
        assert torch.equal(model(photo)[0], model(photo)[0])
        model.train()
        answers = {model(photo)[0].sum().item() for _ in range(12)}
    assert len(answers) > 6
    # By default the light network skips no block.
    light = vivid("light-msafn").train()
    with torch.no_grad():
        assert torch.equal(light(photo)[0], light(photo)[0])


def test_a_block_is_skipped_entirely_and_with_the_given_probability():
    block, x = DenseBlock(2, drop=0.2).train(), torch.rand(3, 2, 4, 4)
    model = vivid("msafn")
    model.res_blocks[0] = block
    torch.manual_seed(0)
    with torch.no_grad():
        unchanged = [torch.equal(block(x, GatePass()), x) for _ in range(1500)]
    assert sum(unchanged) / 1500 == pytest.approx(0.2, abs=0.03)


def test_skipped_blocks_depend_on_pytorchs_seed():
    model, photo = vivid("msafn", drop=0.5).train(), random_photo(8, 8)

    def answers(seed):
        torch.manual_seed(seed)
        with torch.no_grad():
            return torch.stack([model(photo)[0] for _ in range(5)])

    assert torch.equal(answers(1), answers(1))
    assert not torch.equal(answers(1), answers(2))


# Gates


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_passing_a_photos_own_gates_changes_nothing(name):
    model, photos = vivid(name), random_photo(13, 10, batch=2)
    gates = model.gates(photos)
    modules = [module for module in model.modules() if isinstance(module, Gate)]
    assert [values.shape for values in gates] == [(2, module.fc[2].out_features, 1, 1) for module in modules]
    assert all(((values > 0) & (values < 1)).all() for values in gates)
    assert torch.equal(model(photos, gates)[0], model(photos)[0])
    # Changing any single gate changes the result.
    for n in range(len(gates)):
        other = [values if k != n else 1 - values for k, values in enumerate(gates)]
        assert (model(photos, other)[0] - model(photos)[0]).abs().max() > 1e-5


def tile_by_tile(model, photo, gates, side, border):
    height, width = photo.shape[-2:]
    whole = torch.zeros_like(photo)
    for top in range(0, height, side):
        for left in range(0, width, side):
            above, before = max(0, top - border), max(0, left - border)
            part = photo[..., above : top + side + border, before : left + side + border]
            answer = model(part, gates)[0][..., top - above :, left - before :]
            target = whole[..., top : top + side, left : left + side]
            target.copy_(answer[..., : target.shape[-2], : target.shape[-1]])
    return whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("msafn", {}),
        ("light-msafn", {"recurrent": False}),
        ("msafn", {"blocks": 1, "steps": 5}),
        ("light-msafn", {"residual": True}),
    ],
)
@torch.no_grad()
def test_tiles_with_the_gates_of_the_whole_photo_give_the_same_result(name, overrides):
    # The photo darkens to the right, so that the means of the tiles differ clearly.
    model, photo = vivid(name, **overrides), random_photo(70, 107) * torch.linspace(1, 0, 107)
    assert model.reach % 4 == 0
    whole, gates = model(photo)[0], model.gates(photo)
    assert (tile_by_tile(model, photo, gates, 32, model.reach) - whole).abs().max() < 1e-5
    # Without the gates or without the border, the tiles differ from the whole photo.
    assert (tile_by_tile(model, photo, None, 32, model.reach) - whole).abs().max() > 1e-4
    assert (tile_by_tile(model, photo, gates, 32, 4) - whole).abs().max() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_pixels_beyond_the_reach_have_no_influence(name):
    model, photo = vivid(name).double(), random_photo(168, 8).double().requires_grad_()
    with torch.no_grad():
        gates = model.gates(photo)
    for row in range(80, 84):  # covers every position of a pixel within a pooled block
        (slope,) = torch.autograd.grad(model(photo, gates)[0][..., row, :].square().sum(), photo)
        rows = slope.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
        assert max(row - int(rows.min()), int(rows.max()) - row) <= model.reach
    assert len(rows) > model.reach  # the reach is not much too large


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_tiles_together_are_pooled_as_one_photo(name):
    model, photo = vivid(name), random_photo(8, 16)
    tiles = torch.cat(photo.split(8, dim=3))
    together, apart = model.gates(tiles, together=True), model.gates(tiles)
    assert all(values.shape[0] == 1 for values in together)
    # The input of the first gate does not depend on any other gate.
    means = []
    model.scale1[0].gate.register_forward_hook(lambda _gate, args, _out: means.append(args[0].mean(dim=(0, 2, 3))))
    model.gates(tiles, together=True)
    torch.testing.assert_close(together[0], model.scale1[0].gate.decide(means[0][None]))
    assert (together[0] - apart[0]).abs().max() > 1e-4
    # Equal tiles give the same gates as one of them.
    twice = model.gates(tiles[:1].expand(2, -1, -1, -1), together=True)
    for ours, wanted in zip(twice, model.gates(tiles[:1]), strict=True):
        torch.testing.assert_close(ours, wanted)


@torch.no_grad()
def test_computing_gates_skips_no_blocks_in_training():
    model, photo = vivid("msafn", drop=0.9), random_photo(8, 8)
    wanted = model.gates(photo)
    for ours, theirs in zip(model.train().gates(photo), wanted, strict=True):
        assert torch.equal(ours, theirs)


def test_gates_for_another_network_or_batch_are_refused():
    model, photos = vivid("light-msafn"), random_photo(8, 8, batch=2)
    gates = model.gates(photos)
    with pytest.raises(ValueError, match=f"has {len(gates)} gates, not {len(gates) - 1}"):
        model(photos, gates[:-1])
    with pytest.raises(ValueError, match="expected gates of shape 3×8×1×1"):
        model(random_photo(8, 8, batch=3), gates)
    with pytest.raises(ValueError, match="expected gates of shape 2×8×1×1"):
        model(photos, [values.flatten(1) for values in gates])


# Files


@pytest.mark.parametrize(
    "overrides", [{}, {"recurrent": False}, {"residual": True, "steps": 5, "drop": 0.1, "upscale": 2}]
)
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_saved_models_are_restored(name, overrides, tmp_path):
    model = vivid(name, **overrides)
    again = load_model(save_model(model, tmp_path / "model.safetensors"))
    assert type(again) is type(model)
    assert again.config == model.config
    assert not again.training
    photo = random_photo(9, 14)
    assert torch.equal(again(photo)[0], model(photo)[0])


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_architecture_is_inferred_from_the_tensors(name, recurrent):
    model = create_model(name, width=12, blocks=3, recurrent=recurrent)
    config = infer_architecture(model.state_dict())
    assert config == {"family": name, "width": 12, "blocks": 3, "recurrent": recurrent}


@pytest.mark.parametrize("gone", ["res_blocks.0", "scale2.1.conv2.weight", "refinement.conv_z.bias"])
@pytest.mark.parametrize("name", NAMES)
def test_incomplete_tensors_are_refused(name, gone, tmp_path):
    state = vivid(name, blocks=1).state_dict()
    torch.save({key: tensor for key, tensor in state.items() if not key.startswith(gone)}, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match=re.escape(gone)):
        load_model(tmp_path / "cut.pth")


def test_published_weights_load_strictly(shared):
    path = shared / "weights" / "light_msafn_peer.pth"
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    model = load_model(path)
    state = model.state_dict()
    assert type(model) is LightMSAFN
    assert count_parameters(model) == sum(tensor.numel() for tensor in tensors.values()) == COUNTS["light-msafn"]
    assert {f"module.{key}" for key in state} == tensors.keys()
    assert all(torch.equal(state[key.removeprefix("module.")], tensor) for key, tensor in tensors.items())
    assert model.config == create_model("light-msafn").config


@torch.no_grad()
def test_the_published_network_gives_the_same_result_in_tiles(shared):
    model, photo = load_model(shared / "weights" / "light_msafn_peer.pth"), random_photo(75, 90)
    whole, gates = model(photo)[0], model.gates(photo)
    assert (tile_by_tile(model, photo, gates, 32, model.reach) - whole).abs().max() < 1e-5
