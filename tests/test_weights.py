import json
import os
import pickle
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import DataParallel

import kdlib.weights.catalogue as catalogue_module
from kdlib.data import sample_photos, to_tensor
from kdlib.evaluation.report import as_method
from kdlib.evaluation.super_resolution import psnr_y
from kdlib.models import MSAFN, create_model
from kdlib.resampling import blur, crop_to_multiple
from kdlib.weights import WeightsFile, load_model, resolve_model, save_model
from kdlib.weights.catalogue import catalogue, sha256_of, verify

CONFIGS = {
    "zero-dce": {},
    "zero-dce++": {"scale_factor": 4},
    "student-565": {"scale_factor": 3, "iterations": 5},
    "nano-161": {"curve_activation": "sigmoid", "iterations": 2},
}


def assert_same_model(model, original):
    assert model.config == original.config
    assert model.state_dict().keys() == original.state_dict().keys()
    for key, tensor in original.state_dict().items():
        assert torch.equal(model.state_dict()[key], tensor), key


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    # A catalogue of one model, as the project's own is laid out.
    folder = tmp_path / "weights"
    file = save_model(create_model("student-565", scale_factor=4), folder / "tiny.safetensors")
    entry = {"file": file.name, "sha256": sha256_of(file), "licence": "MIT", "made": "by a test"}
    (folder / "catalogue.json").write_text(json.dumps({"tiny": entry}))
    monkeypatch.setattr(catalogue_module, "_FOLDERS", (tmp_path / "nowhere", folder))
    return file


class Bomb:
    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("name", CONFIGS)
def test_saved_model_loads_with_its_architecture(name, tmp_path):
    model = create_model(name, **CONFIGS[name])
    path = save_model(model, tmp_path / "new folder" / "model.safetensors")
    loaded = load_model(path)
    assert_same_model(loaded, model)
    assert not loaded.training


def test_saved_file_carries_the_architecture_in_its_metadata(tmp_path):
    model = create_model("student-565", scale_factor=3, iterations=5)
    file = WeightsFile(save_model(model, tmp_path / "model.safetensors"))
    config = file.architecture
    assert config == model.config
    assert config["scale_factor"] == 3
    assert config["iterations"] == 5
    assert sum(tensor.numel() for tensor in file.tensors().values()) == 565


@pytest.mark.skipif(os.name != "posix", reason="other rights")
def test_a_saved_file_may_be_read_by_whom_other_files_may(tmp_path):
    (tmp_path / "other").touch()
    path = save_model(create_model("nano-161"), tmp_path / "model.safetensors")
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_overrides_win_over_the_saved_architecture(tmp_path):
    path = save_model(create_model("student-565", scale_factor=3), tmp_path / "model.safetensors")
    assert load_model(str(path), scale_factor=6).scale_factor == 6


def test_saving_replaces_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(create_model("student-565"), path)
    model = create_model("nano-161")
    save_model(model, path)
    assert_same_model(load_model(path), model)
    assert list(tmp_path.iterdir()) == [path]


def test_failed_save_leaves_the_old_file_whole(tmp_path, little_room):
    path = tmp_path / "model.safetensors"
    model = create_model("student-565")
    save_model(model, path)

    little_room(7)
    with pytest.raises(OSError, match="File too large"):
        save_model(create_model("nano-161"), path)
    assert_same_model(load_model(path), model)


@pytest.mark.parametrize("name", ["model.pth", "model", "model.safetensors.bak"])
def test_weights_are_written_as_safetensors_only(name, tmp_path):
    with pytest.raises(ValueError, match=r"written as \.safetensors"):
        save_model(create_model("nano-161"), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("name", CONFIGS)
def test_state_dict_of_a_parallel_model_loads(name, suffix, tmp_path):
    model = create_model(name)
    path = tmp_path / f"model{suffix}"
    state = DataParallel(model).state_dict()
    assert all(key.startswith("module.") for key in state)
    torch.save(state, path)
    assert_same_model(load_model(path), model)


def test_overrides_complete_what_a_state_dict_cannot_tell(tmp_path):
    path = tmp_path / "model.pth"
    torch.save(create_model("student-565").state_dict(), path)
    loaded = load_model(path, iterations=5, scale_factor=1)
    assert (loaded.iterations, loaded.scale_factor) == (5, 1)


@pytest.mark.parametrize("layout", ["zip", "legacy", "plain pickle"])
def test_code_in_a_file_is_refused_and_never_run(layout, tmp_path):
    path, proof = tmp_path / "model.pth", tmp_path / "it ran"
    content = {"e_conv1.weight": Bomb(proof)}
    if layout == "plain pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=layout == "zip")
    with pytest.raises(ValueError, match="holds more than tensors, and is not loaded") as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert not proof.exists()


def test_such_code_would_run_in_an_unguarded_load(tmp_path):
    # Otherwise the test above would show nothing.
    path, proof = tmp_path / "model.pth", tmp_path / "it ran"
    torch.save({"e_conv1.weight": Bomb(proof)}, path)
    torch.load(path, weights_only=False)
    assert proof.exists()


@pytest.mark.parametrize(
    ("suffix", "kept"), [(".safetensors", kept) for kept in (0.0, 0.001, 0.2, 0.5, 0.9, 0.999)] + [(".pth", 0.2)]
)
def test_truncated_file_is_refused_by_name(suffix, kept, tmp_path):
    path = tmp_path / f"model{suffix}"
    model = create_model("student-565")
    if suffix == ".pth":
        torch.save(model.state_dict(), path)
    else:
        save_model(model, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match=r"damaged|not a readable") as caught:
        load_model(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [[torch.zeros(3)], {"epoch": 3}, {"model": {"e_conv1.weight": torch.zeros(1)}}])
def test_file_without_a_state_dict_is_refused(content, tmp_path):
    path = tmp_path / "model.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match="holds no state dict") as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_tensors_of_another_network_are_refused_by_name(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(ValueError, match=r"not the weights of a known architecture.*features\.0\.weight") as caught:
        load_model(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("change", ["missing", "misshapen", "surplus"])
def test_tensors_that_do_not_fit_are_refused(change, tmp_path):
    path = tmp_path / "model.pth"
    state = create_model("student-565").state_dict()
    if change == "missing":
        del state["e_conv4.depth_conv.bias"]
    else:
        state["e_conv4.depth_conv." + ("bias" if change == "misshapen" else "gain")] = torch.zeros(7)
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"e_conv4\.depth_conv\.(bias|gain)"):
        load_model(path)


def test_other_extensions_are_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"something")
    with pytest.raises(ValueError, match=r"model\.onnx: weights are read from \.safetensors, \.pth and \.pt files"):
        load_model(path)


@pytest.mark.parametrize("name", ["absent.safetensors", "absent.pth"])
def test_missing_file_is_named(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=name):
        load_model(tmp_path / name)


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("student-566", "no shipped weights named 'student-566'; choose from"),
        ("tinny", "no shipped weights named 'tinny'; did you mean 'tiny'[?] choose from"),
        ("zero-dce", "'zero-dce' is an architecture without shipped weights; choose from"),
    ],
)
def test_name_without_shipped_weights_lists_those_that_are(name, said):
    with pytest.raises(ValueError, match=f"{said} tiny, or give the path"):
        load_model(name)


def test_shipped_model_loads_by_name(shipped):
    assert_same_model(load_model("tiny"), load_model(shipped))
    assert load_model("tiny", scale_factor=2).scale_factor == 2


def test_changed_byte_of_a_shipped_file_is_noticed(shipped):
    content = bytearray(shipped.read_bytes())
    content[-1] ^= 1
    shipped.write_bytes(content)
    with pytest.raises(ValueError, match="has changed: sha256") as caught:
        load_model("tiny")
    assert str(shipped) in str(caught.value)
    load_model(shipped)  # by its path it is anyone's file


def test_missing_shipped_file_is_noticed(shipped):
    shipped.unlink()
    with pytest.raises(FileNotFoundError, match=r"tiny\.safetensors is missing"):
        load_model("tiny")


def test_no_catalogue_means_no_shipped_models(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue_module, "_FOLDERS", (tmp_path,))
    assert catalogue() == {}


def test_digest_is_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_teacher_may_be_a_model_or_its_name(shipped):
    model = create_model("nano-161")
    assert resolve_model(model) is model
    assert_same_model(resolve_model("tiny"), load_model(shipped))


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue())
def test_model_of_the_catalogue_loads_and_does_its_task(name):
    entry = catalogue()[name]
    verify(entry)
    assert entry.licence
    assert entry.made
    model = load_model(name)
    if isinstance(model, MSAFN):
        sharp = crop_to_multiple(to_tensor(sample_photos()["coffee"])[:, 100:228, 200:392], model.upscale)
        soft = blur(sharp[None], model.upscale)[0]
        assert psnr_y(as_method(model)(soft), sharp) > psnr_y(soft, sharp) + 1.8
        return
    photo = torch.rand(1, 3, 37, 50, generator=torch.Generator().manual_seed(0)) * 0.2
    with torch.no_grad():
        enhanced, _ = model(photo)
    assert enhanced.shape == photo.shape
    assert enhanced.isfinite().all()
    assert enhanced.mean() > photo.mean()


@pytest.mark.parametrize("name", catalogue())
def test_changed_byte_of_a_file_of_the_catalogue_is_noticed(name, tmp_path):
    entry = catalogue()[name]
    copy = replace(entry, path=tmp_path / entry.path.name)
    shutil.copyfile(entry.path, copy.path)
    verify(copy)
    content = bytearray(copy.path.read_bytes())
    content[len(content) // 2] ^= 1
    copy.path.write_bytes(content)
    with pytest.raises(ValueError, match="has changed"):
        verify(copy)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_pth_is_refused_by_name(kept, legacy, tmp_path):
    path = tmp_path / "model.pth"
    torch.save(create_model("student-565").state_dict(), path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match="damaged") as caught:
        load_model(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02", "ééé".encode()])
def test_text_called_pth_is_refused_by_name(content, tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged") as caught:
        load_model(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("tensor", [torch.tensor(1.0), torch.zeros(3)])
def test_tensor_of_another_rank_is_refused_by_name(tensor, tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"e_conv1.weight": tensor}, path)
    with pytest.raises(ValueError, match=r"model\.pth"):
        load_model(path)


def test_damaged_architecture_is_refused_by_name(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(create_model("student-565").state_dict(), path, metadata={"architecture": "{"})
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load_model(path)


def test_failed_save_leaves_no_part(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(OSError, match="directory"):
        save_model(create_model("student-565"), tmp_path / "model.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
