"""Exported files compute what PyTorch computes, say what they are, and run in an Enhancer; damaged ones are refused."""

import json
import pickle
import re
import sys
from collections import Counter
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import kdlib
from kdlib.export import export_litert, export_onnx
from kdlib.export.graph import Graph
from kdlib.export.operations import enlarged, measured_noise
from kdlib.models import FAMILIES, create_model
from kdlib.noise import measure_noise
from kdlib.resampling import enlarge
from kdlib.weights import exported, load_model
from kdlib.weights.catalogue import catalogue, sha256_of
from kdlib.weights.exported import read_exported, signed
from tests.helpers import kdlib as command
from tests.helpers import said

SHAPES = [(1, 3, 1, 1), (2, 3, 37, 41), (1, 3, 13, 130), (3, 3, 8, 5)]
SHIPPED = ["student-565", "nano-161", "zero-dce", "glance-650", "grid-960", "grid-teacher", "iat-student"]
# Networks with random weights: what no shipped file has.
OTHERS = {
    "bilinear, even factor": ("student-565", {"network_side": 0}),
    "bilinear, odd factor": ("student-565", {"network_side": 0, "scale_factor": 5}),
    "full-size network, sigmoid": ("zero-dce", {"network_side": 0, "width": 4, "curve_activation": "sigmoid"}),
    "iat": ("iat", {"global_width": 16}),
    "iat, centred and guarded": ("iat", {"global_width": 16, "centred": True, "guarded": True}),
    "iat-student, as published": ("iat-student", {"centred": True, "guarded": False, "most_gamma": 1.0}),
    "light-msafn": ("light-msafn", {"width": 8, "blocks": 2}),
    "light-msafn, factor 3": ("light-msafn", {"width": 8, "blocks": 1, "upscale": 3, "residual": True}),
    "msafn": ("msafn", {"width": 8, "blocks": 1}),
    "msafn, not recurrent": ("msafn", {"width": 4, "blocks": 1, "recurrent": False, "upscale": 2}),
}


@cache
def network(name):
    """A shipped network, or one of OTHERS whose tensors are all random."""
    if name not in OTHERS:
        return load_model(name)
    torch.manual_seed(0)
    model = create_model(OTHERS[name][0], **OTHERS[name][1]).eval()
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point() and tensor.shape != (3, 3):
                tensor += 0.05 * torch.randn_like(tensor).abs()
    return model


def photos(shape):
    """Dark, smooth photos with noise and a bright side."""
    generator = torch.Generator().manual_seed(sum(shape))
    smooth = F.avg_pool2d(torch.rand(shape, generator=generator), 3, 1, 1) * torch.linspace(0.05, 1, shape[-1])
    return (smooth + 0.004 * torch.randn(shape, generator=generator)).clamp(0, 1)


def session(content):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run(path, **inputs):
    return session(path.read_bytes()).run(None, {name: value.numpy() for name, value in inputs.items()})


def of_operators(write, image):
    """What a graph of a few operators returns for an image."""
    graph = Graph({})
    value = write(graph.input("image"))
    model = graph.model({"image": ["b", 3, "h", "w"]}, {"found": (value, ["b", "c", "y", "x"])})
    return session(model.SerializeToString()).run(None, {"image": image.numpy()})[0]


# What PyTorch computes


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "msafn" else name for name in [*SHIPPED, *OTHERS]]
)
def test_a_file_computes_what_pytorch_computes_at_any_size(name, tmp_path):
    model, path = network(name), tmp_path / "model.onnx"
    export_onnx(model, path)
    runtime = session(path.read_bytes())
    for shape in SHAPES:
        image = photos(shape)
        with torch.inference_mode():
            if hasattr(model, "upscale"):
                expected = model(enlarge(image, model.upscale).clamp(0, 1))[0].clamp(0, 1)
            else:
                expected = model(image)[0]
        [found] = runtime.run(None, {"photo": image.numpy()})
        assert found.shape == tuple(expected.shape)
        np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-4, err_msg=str(shape))


@pytest.mark.parametrize(
    ("name", "method"),
    [("nano-161", "estimate_curve"), ("zero-dce", "estimate_curve"), ("glance-650", "estimate_curve"),
     ("grid-960", "estimate_grid"), ("grid-teacher", "estimate_grid")],
)  # fmt: skip
def test_the_network_alone_takes_a_thumbnail_and_returns_a_map(name, method, tmp_path):
    path = tmp_path / "network.onnx"
    export_onnx(name, path, flavour="network")
    for shape in [(1, 3, 32, 32), (2, 3, 7, 19), (1, 3, 1, 1)]:
        image = photos(shape)
        with torch.inference_mode():
            expected = getattr(network(name), method)(image)
        [found] = run(path, thumbnail=image)
        np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-4)


def test_the_networks_at_full_size_return_all_that_they_compute(tmp_path):
    image, path = photos((2, 3, 21, 30)), tmp_path / "network.onnx"
    for name in ("iat", "iat-student"):
        export_onnx(network(name), path, flavour="network")
        with torch.inference_mode():
            stages = network(name)(image)[1]
        for found, key in zip(run(path, image=image), ("multiply", "add", "colour", "gamma"), strict=True):
            np.testing.assert_allclose(found, getattr(stages, key).numpy(), rtol=0, atol=1e-4)
    export_onnx(network("light-msafn"), path, flavour="network")
    with torch.inference_mode():
        np.testing.assert_allclose(run(path, enlarged=image)[0], network("light-msafn")(image)[0].numpy(), atol=1e-4)


def test_every_family_of_the_package_can_be_exported():
    assert all(family.exported for name, family in FAMILIES.items() if family.builder.startswith("kdlib."))


@pytest.mark.parametrize(
    "shape", [(1, 1), (11, 40), (12, 12), (13, 20), (17, 300), (96, 97), (382, 382), (385, 120), (391, 999)]
)
def test_the_noise_in_operators_is_the_measured_one(shape):
    generator = np.random.default_rng(sum(shape))
    level = np.linspace(0, 1, shape[1], dtype=np.float32)[None, :, None]
    each = [level + generator.normal(0, sigma, (*shape, 3)) / 255 for sigma in (0, 0.7, 1, 40)]
    each += [np.zeros((*shape, 3)), np.ones((*shape, 3)), np.full((*shape, 3), 0.3)]
    batch = np.stack(each).clip(0, 1).astype(np.float32)
    found = of_operators(measured_noise, torch.from_numpy(batch).permute(0, 3, 1, 2))
    expected = [measure_noise(photo) for photo in batch]
    np.testing.assert_allclose(found.reshape(-1), expected, rtol=0, atol=1e-4)
    if min(shape) > 90:
        assert len({round(noise, 2) for noise in expected}) >= 3  # the photos are not all alike


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_enlarging_in_operators_is_bicubic(factor):
    image = photos((2, 3, 6, 9))
    found = of_operators(lambda value: enlarged(value, factor), image)
    np.testing.assert_allclose(found, enlarge(image, factor).numpy(), rtol=0, atol=1e-5)


# What is in a file


@pytest.mark.parametrize("name", ["student-565", "zero-dce"])
def test_the_light_enhancement_curve_has_no_powers(name, tmp_path):
    export_onnx(name, tmp_path / "model.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert not {"Pow", "Exp", "Log"} & set(kinds)
    assert kinds.count("Mul") >= 2 * network(name).iterations


@pytest.mark.parametrize("precision", ["float32", "float16", pytest.param("int8", marks=pytest.mark.slow)])
def test_files_are_sound_onnx_of_the_standard_operators(precision, tmp_path):
    for name in ("nano-161", "grid-960"):
        export_onnx(name, tmp_path / "model.onnx", precision=precision)
        model = onnx.load(tmp_path / "model.onnx")
        onnx.checker.check_model(model, full_check=True)
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
        assert {node.op_type for node in model.graph.node} <= exported.OPERATORS
        assert [axis.dim_param for axis in model.graph.input[0].type.tensor_type.shape.dim] == [
            "batch", "", "height", "width",
        ]  # fmt: skip


def test_the_metadata_say_what_a_file_is(tmp_path):
    path = tmp_path / "grid.onnx"
    about = export_onnx("grid-960", path)
    found = session(path.read_bytes()).get_modelmeta().custom_metadata_map
    entry = catalogue()["grid-960"]
    assert found["name"] == "grid-960"
    assert found["version"] == kdlib.__version__
    assert (found["licence"], found["training_data"]) == (entry.licence, entry.made)
    assert found["thumbnail_size"] == "32"
    assert "before the gains" in found["smoothing"]
    assert json.loads(found["architecture"]) == network("grid-960").config
    state = network("grid-960").state_dict()
    for name, values in json.loads(found["parameters"]).items():
        np.testing.assert_allclose(values, state[name].numpy(), rtol=1e-6)
    assert read_exported(path)[0] == about
    for name, size in (("student-565", "32"), ("iat-student", "full size")):
        assert export_onnx(name, path).thumbnail_size == size
        assert read_exported(path)[0].smoothing == "nothing"


def test_weights_of_ones_own_get_the_licence_that_is_given(tmp_path):
    model = create_model("nano-161")
    about = export_onnx(model, tmp_path / "own.onnx", licence="CC0", training_data="my photos")
    assert (about.licence, about.training_data) == ("CC0", "my photos")
    assert export_onnx(model, tmp_path / "own.onnx").licence.startswith("not stated")


@pytest.mark.slow  # quantising runs the graph on many photos
@pytest.mark.parametrize(("precision", "least"), [("float16", 50), ("int8", 35)])
@pytest.mark.parametrize("name", ["student-565", "glance-650", "grid-960", "iat-student"])
def test_fewer_bits_change_little_and_only_the_layers_of_the_network(name, precision, least, tmp_path):
    image, full, less = photos((1, 3, 60, 90)), tmp_path / "full.onnx", tmp_path / "less.onnx"
    export_onnx(name, full)
    export_onnx(name, less, precision=precision)
    error = np.square(run(full, photo=image)[0] - run(less, photo=image)[0]).mean()
    assert least < -10 * np.log10(error) < 110  # something has changed
    graphs = [onnx.load(path).graph for path in (full, less)]
    added = {"Cast", "QuantizeLinear", "DequantizeLinear"}
    kinds = [Counter(node.op_type for node in graph.node if node.op_type not in added) for graph in graphs]
    assert kinds[0] == kinds[1]
    small = {"float16": TensorProto.FLOAT16, "int8": TensorProto.INT8}[precision]
    stored = sum(np.prod(tensor.dims) for tensor in graphs[1].initializer if tensor.data_type == small)
    convolutions = sum(t.numel() for key, t in network(name).state_dict().items() if key.endswith("weight"))
    assert stored >= 0.8 * convolutions


# In an Enhancer


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Exported files by model and flavour."""
    folder, made = tmp_path_factory.mktemp("exported"), {}
    for name in ("grid-960", "glance-650", "student-565", "iat-student"):
        for flavour in ("photo", "network"):
            made[name, flavour] = folder / f"{name}-{flavour}.onnx"
            export_onnx(name, made[name, flavour], flavour=flavour)
    return made


def as_photo(dtype="uint8", channels=3, shape=(57, 83)):
    planes = photos((1, 4, *shape))[0].permute(1, 2, 0).numpy()[..., [0, 1, 2, 3][:channels]]
    top = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    return np.ascontiguousarray((planes * top).astype(dtype))


@pytest.mark.parametrize("name", ["grid-960", pytest.param("glance-650", marks=pytest.mark.slow)])
@pytest.mark.parametrize("flavour", ["photo", "network"])
def test_an_enhancer_gives_what_it_gives_with_the_weights(files, name, flavour):
    photo = as_photo()
    enhance, own = kdlib.Enhancer(files[name, flavour], threads=1), kdlib.Enhancer(name, device="cpu", threads=1)
    assert enhance.backend == ("onnxruntime" if flavour == "photo" else "numba")
    for image in (photo, as_photo("uint16"), as_photo("float32"), as_photo(channels=1), as_photo(channels=4)):
        most = {"uint8": 1, "uint16": 40, "float32": 5e-4}[image.dtype.name]
        found, expected = enhance(image), own(image)
        assert found.dtype == image.dtype
        assert np.abs(found.astype(float) - expected).max() <= most
        assert (found[..., 3:] == image[..., 3:]).all()
    assert np.array_equal(np.asarray(enhance(Image.fromarray(photo))), enhance(photo))
    assert np.array_equal(enhance(torch.from_numpy(photo)).numpy(), enhance(photo))
    both = enhance(np.stack([photo, photo[::-1]]))
    assert np.array_equal(both[0], enhance(photo))
    assert np.array_equal(pickle.loads(pickle.dumps(enhance))(photo), enhance(photo))
    assert not np.array_equal(enhance(photo), photo)


def test_the_network_alone_leaves_strength_and_denoising_open(files):
    photo = as_photo()
    for options in ({"strength": 0.5}, {"denoise": 0}, {"strength": 1.7, "denoise": 2}):
        found = kdlib.Enhancer(files["grid-960", "network"], **options)(photo)
        expected = kdlib.Enhancer("grid-960", device="cpu", **options)(photo)
        assert np.abs(found.astype(int) - expected).max() <= 1
    found = kdlib.Enhancer(files["student-565", "network"], denoise=1)(photo)
    assert np.abs(found.astype(int) - kdlib.Enhancer("student-565", device="cpu", denoise=1)(photo)).max() <= 1


def test_a_file_for_photos_has_a_strength_and_a_fixed_smoothing(files):
    photo, path = as_photo(), files["grid-960", "photo"]
    half, whole = (kdlib.Enhancer(path, strength=strength)(photo).astype(int) for strength in (0.5, 1))
    assert np.abs(half - (photo.astype(int) + whole) / 2).max() <= 1
    assert np.array_equal(kdlib.Enhancer(path, strength=0)(photo), photo)
    assert np.array_equal(kdlib.Enhancer(path, denoise=1)(photo), whole)
    for name, denoise, fixed in (("grid-960", 0, 1), ("grid-960", 0.5, 1), ("student-565", 1, 0)):
        with pytest.raises(ValueError, match=f"denoising of an exported file is fixed, here at {fixed}"):
            kdlib.Enhancer(files[name, "photo"], denoise=denoise)


def test_an_enhancer_enlarges_with_a_file(tmp_path):
    path, photo = tmp_path / "large.onnx", as_photo(channels=4, shape=(9, 14))
    model = load_model("light-msafn")
    export_onnx(model, path)
    for options in ({}, {"strength": 0}, {"strength": 0.4, "upscale": 4}):
        enhance, own = kdlib.Enhancer(path, **options), kdlib.Enhancer(model, device="cpu", **options)
        assert enhance.upscale == 4
        for image in (photo, photo[..., :3], photo[..., 0]):
            found, expected = enhance(np.ascontiguousarray(image)), own(np.ascontiguousarray(image))
            assert found.shape == expected.shape
            assert np.abs(found.astype(int) - expected).max() <= 1


def test_its_settings_tell_files_apart(files):
    settings = [kdlib.Enhancer(files["grid-960", flavour]).settings for flavour in ("photo", "network")]
    assert settings[0]["weights"] == sha256_of(files["grid-960", "photo"]) != settings[1]["weights"]


def test_what_cannot_be_run_is_said(files, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"works at full size, .+ export it again with the flavour photo"):
        kdlib.Enhancer(files["iat-student", "network"])
    with pytest.raises(ValueError, match=r"exported files run on the CPU|finds none here"):
        kdlib.Enhancer(files["grid-960", "photo"], device="cuda")
    with pytest.raises(FileNotFoundError, match=r"missing\.onnx"):
        kdlib.Enhancer(tmp_path / "missing.onnx")
    with pytest.raises(ValueError, match="too much memory for a photo of 2000×1500 pixels"):
        kdlib.Enhancer(files["iat-student", "photo"])(np.zeros((1500, 2000, 3), np.uint8))
    with pytest.raises(ValueError, match=r"weights are read from \.safetensors"):
        load_model(files["grid-960", "photo"])


# Damaged and foreign files


def changed(path, change):
    """The content of a file after a change to its model, with a digest that is right."""
    model = onnx.load(path)
    del model.metadata_props[-1]
    change(model)
    return signed(model.SerializeToString())


def _custom(model):
    model.graph.node[5].domain = "com.example"


def _loop(model):
    model.graph.node[5].op_type = "Loop"


def _body(model):
    branch = helper.make_graph([], "branch", [], [])
    model.graph.node[5].attribute.append(helper.make_attribute("then_branch", branch))


def _outside(model):
    tensor = model.graph.initializer[0]
    tensor.external_data.add(key="location", value="/etc/passwd")
    tensor.data_location = TensorProto.EXTERNAL


def _opset(model):
    model.opset_import.add(domain="com.microsoft", version=1)


def _function(model):
    model.functions.add(name="Add", domain="com.example")


def _short(model):
    next(tensor for tensor in model.graph.initializer if tensor.dims).dims[0] *= 2


def _huge(model):
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**40]), "huge"))


def _nan(model):
    model.graph.initializer.append(numpy_helper.from_array(np.array([np.nan], np.float32), "nan"))


def _without(model):
    del model.metadata_props[0]


def _family(model):
    next(entry for entry in model.metadata_props if entry.key == "family").value = "other"


def _input(model):
    model.graph.input[0].name = "other"


CHANGES = {
    _custom: "operator that kdlib does not export, 'com.example",
    _loop: "operator that kdlib does not export, '.Loop'",
    _body: "has a part of its own",
    _outside: "data outside the file, which is never read",
    _opset: "operators that are not of the ONNX standard",
    _function: "operators that are not of the ONNX standard",
    _short: "stores more or less than its shape says",
    _huge: "values that no photo needs",
    _nan: "NaN or infinite",
    _without: "only files that kdlib has exported can be run",
    _family: "unknown family, 'other'",
    _input: "does not take a photo",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_foreign_file_is_refused_before_a_runtime_sees_it(change, files, tmp_path, monkeypatch):
    path = tmp_path / "foreign.onnx"
    path.write_bytes(changed(files["grid-960", "photo"], change))
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    with pytest.raises(ValueError, match=rf"foreign\.onnx is refused: .*{re.escape(CHANGES[change])}"):
        kdlib.Enhancer(path)


def test_what_the_check_of_foreign_files_starts_from_is_accepted(files, tmp_path):
    path = tmp_path / "same.onnx"
    path.write_bytes(changed(files["grid-960", "photo"], lambda model: None))
    assert kdlib.Enhancer(path)(as_photo()).any()


def test_damage_anywhere_is_found_before_a_runtime_sees_it(files, tmp_path, monkeypatch):
    content, path = files["student-565", "photo"].read_bytes(), tmp_path / "damaged.onnx"
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    places = np.linspace(0, len(content) - 1, 60).astype(int)
    damaged = [content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :] for place in places]
    damaged += [b"", content[:100], content[:-1], content + b"\0", content + content, b"\x89PNG" + bytes(80)]
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"damaged\.onnx is (refused: |not a readable ONNX file)"):
            kdlib.Enhancer(path)


def test_a_file_that_is_too_large_is_not_read(files, tmp_path, monkeypatch):
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(2**28 + 1)
    with pytest.raises(ValueError, match=r"large\.onnx has 268,435,457 bytes, more than the 268,435,456"):
        kdlib.Enhancer(path)
    monkeypatch.setattr(exported, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="more than the 1,000 allowed"):
        export_onnx("nano-161", tmp_path / "new.onnx")
    assert not (tmp_path / "new.onnx").exists()


def test_a_graph_that_the_runtime_refuses_or_that_gives_nan_is_said(files, tmp_path):
    def cut(model):
        del model.graph.node[3]

    def overflow(model):
        output = model.graph.output[0].name
        [last] = [node for node in model.graph.node if output in node.output]
        last.output[list(last.output).index(output)] = "finite"
        model.graph.initializer.append(numpy_helper.from_array(np.float32(0), "nothing"))
        model.graph.node.append(helper.make_node("Div", ["finite", "nothing"], [output]))

    path = tmp_path / "foreign.onnx"
    path.write_bytes(changed(files["grid-960", "photo"], cut))
    with pytest.raises(ValueError, match=r"foreign\.onnx cannot be run: "):
        kdlib.Enhancer(path)
    path.write_bytes(changed(files["student-565", "photo"], overflow))
    with pytest.raises(ValueError, match="NaN or infinite; its weights are damaged"):
        kdlib.Enhancer(path)(as_photo())


def _returns(write, *constants):
    """A change after which the graph returns what ``write`` makes of its output, with these constants."""

    def change(model):
        output = model.graph.output[0]
        [last] = [node for node in model.graph.node if output.name in node.output]
        last.output[list(last.output).index(output.name)] = "before"
        names = [f"constant.{number}" for number in range(len(constants))]
        for name, value in zip(names, constants, strict=True):
            model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
        model.graph.node.append(helper.make_node(write, ["before", *names], [output.name]))
        output.type.tensor_type.ClearField("shape")

    return change


def _part(axis, start, stop):
    return _returns("Slice", [start], [stop], [axis])


def _number(name, value):
    def change(model):
        entry = next(entry for entry in model.metadata_props if entry.key == "parameters")
        entry.value = json.dumps({**json.loads(entry.value), name: value})

    return change


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("grid-960", _part(2, 0, 0), "h×w×9, not 0×8×9"),
        ("grid-960", _part(3, 0, 0), "h×w×9, not 8×0×9"),
        ("grid-960", _part(1, 0, 2), "h×w×9, not"),
        ("grid-960", _part(0, 0, 0), "shape 1×K×h×w, not 0×9"),
        ("grid-960", _returns("Mul", np.float32(1e30)), "logarithms of gains from"),
        ("student-565", _part(3, 0, 0), "h×w×3, not"),
        ("student-565", _part(1, 0, 1), "h×w×3, not"),
        ("student-565", _returns("Add", np.float32(2)), "outside [-1, 1]"),
        ("glance-650", _part(2, 0, 0), "h×w×7, not"),
        ("glance-650", _returns("Mul", np.float32(-1e6)), "gamma − 1"),
        ("grid-960", _number("smoothing.log_tolerance", [[0.0, 0.0]]), "has shape 1×2 instead of 4×2"),
        ("grid-960", _number("smoothing.log_tolerance", []), "has shape 0 instead of 4×2"),
        ("grid-960", _number("floor", []), "has shape 0 instead of ()"),
        ("grid-960", _number("chroma", [1.0]), "has shape 1 instead of 2"),
        ("grid-960", _number("chroma", [float("nan"), 1.0]), "chroma is NaN or infinite"),
        ("glance-650", _number("smoothing.log_tolerance", [[0.0]]), "has shape 1×1 instead of 3×3"),
    ],
)
def test_what_a_graph_returns_and_its_numbers_are_checked_before_the_kernels_see_them(
    name, change, reason, files, tmp_path
):
    path = tmp_path / "foreign.onnx"
    path.write_bytes(changed(files[name, "network"], change))
    with pytest.raises(ValueError, match=re.escape(reason)) as refused:
        kdlib.Enhancer(path)(as_photo())
    assert str(path) in str(refused.value)


def test_weights_that_half_precision_cannot_hold_are_refused(tmp_path):
    model = create_model("nano-161")
    with torch.no_grad():
        model.e_conv1.point_conv.weight[0] = 1e5
    with pytest.raises(ValueError, match=r"a weight of 1e\+05 does not fit into half precision"):
        export_onnx(model, tmp_path / "half.onnx", precision="float16")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "model.tflow"}, r"model\.tflow: an exported file ends in \.onnx"),
        ({"flavour": "map"}, "unknown flavour 'map'; choose from photo, network"),
        ({"precision": "int4"}, "unknown precision 'int4'; choose from float32, float16, int8"),
        ({"model": "grid-96"}, "did you mean 'grid-960'"),
    ],
)
def test_arguments_are_checked_before_anything_is_written(arguments, message, tmp_path):
    given = {"model": "nano-161", "path": "model.onnx", **arguments}
    with pytest.raises(ValueError, match=message):
        export_onnx(given.pop("model"), tmp_path / given.pop("path"), **given)
    assert not list(tmp_path.iterdir())


# The command


def test_the_command_writes_a_file_that_the_others_run(tmp_path):
    done = command("export", "grid-960", "-o", tmp_path / "grid.onnx")
    assert done.exit_code == 0, done.output
    assert "grid-960, photo, float32" in done.output
    assert "smoothed inside: luminance and colour" in done.output
    assert "MIT" in done.output
    Image.fromarray(as_photo()).save(tmp_path / "photo.png")
    done = command("enhance", tmp_path / "photo.png", "-o", tmp_path / "out.png", "--model", tmp_path / "grid.onnx")
    assert done.exit_code == 0, done.output
    expected = kdlib.Enhancer(tmp_path / "grid.onnx")(as_photo())
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), expected)


def test_the_command_replaces_nothing_without_being_told(tmp_path):
    (path := tmp_path / "nano.onnx").write_bytes(b"another model")
    done = command("export", "nano-161", "-o", path)
    assert done.exit_code == 1
    assert "exists; --overwrite replaces it" in said(done)
    assert path.read_bytes() == b"another model"
    assert command("export", "nano-161", "-o", path, "--overwrite").exit_code == 0
    assert read_exported(path)[0].name == "nano-161"


def test_the_command_takes_flavour_and_precision(tmp_path):
    path = tmp_path / "nano.onnx"
    done = command("export", "nano-161", "-o", path, "--network", "--precision", "float16")
    assert done.exit_code == 0, done.output
    about = read_exported(path)[0]
    assert (about.flavour, about.precision) == ("network", "float16")
    done = command("export", "nano-161", "-o", tmp_path / "nano.pb")
    assert done.exit_code == 1
    assert "ends in .onnx" in done.output


# LiteRT, whose converter is not among the packages of the extras


def test_a_lite_file_needs_its_converter_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(ModuleNotFoundError, match="writing LiteRT files needs litert-torch"):
        export_litert("nano-161", tmp_path / "nano.tflite")
    assert not list(tmp_path.iterdir())


def test_a_lite_file_holds_the_network_alone(tmp_path):
    with pytest.raises(ValueError, match="the family iat-student sees no thumbnail"):
        export_litert("iat-student", tmp_path / "iat.tflite")
    with pytest.raises(ValueError, match=r"nano\.lite: a LiteRT file ends in \.tflite"):
        export_litert("nano-161", tmp_path / "nano.lite")
    done = command("export", "nano-161", "-o", tmp_path / "nano.tflite")
    assert done.exit_code == 1
    assert "holds the network alone in float32; give --network" in said(done)


@pytest.mark.slow
def test_a_lite_file_computes_what_pytorch_computes(tmp_path):
    pytest.importorskip("litert_torch")
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    about = export_litert("grid-960", tmp_path / "grid.tflite")
    assert f'"licence": "{about.licence}"'.encode() in (tmp_path / "grid.tflite").read_bytes()
    runtime = interpreter.Interpreter(str(tmp_path / "grid.tflite"))
    runtime.allocate_tensors()
    image = photos((1, 3, 32, 32))
    runtime.set_tensor(runtime.get_input_details()[0]["index"], image.numpy())
    runtime.invoke()
    with torch.inference_mode():
        expected = network("grid-960").estimate_grid(image).numpy()
    found = runtime.get_tensor(runtime.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
