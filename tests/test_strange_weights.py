"""Weights that a stranger made: refused with one clear error, before anything in them is run or allocated."""

import io
import subprocess
import sys
import zipfile
from pickle import UnpicklingError

import numpy as np
import pytest
import torch

from kdlib.enhance import Enhancer
from kdlib.models import create_model
from kdlib.weights import WeightsFile, load_model
from kdlib.weights import file as weights_file
from kdlib.weights import header as weights_header
from kdlib.weights.catalogue import catalogue
from tests import strange_weights
from tests.strange_weights import (
    asking,
    legacy,
    model_file,
    rebuilt,
    safetensors,
    state,
    tensor,
    write_all,
    zipped,
)


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("strange"))


ALL = [f".safetensors: {name}" for name in strange_weights.SAFETENSORS] + [
    f".pth: {name}" for name in strange_weights.PTH
]


@pytest.mark.parametrize("load", [load_model, Enhancer])
@pytest.mark.parametrize("name", ALL)
def test_refused_with_one_line_that_names_the_file(name, load, strange, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"\S") as caught:
        load(strange[name])
    message = str(caught.value)
    assert str(strange[name]) in message
    assert "\n" not in message
    assert len(message) < len(str(strange[name])) + 400
    assert list(tmp_path.iterdir()) == []  # the code in some of them would have made a folder here


def test_without_pytorch_a_damaged_file_is_refused_for_what_is_wrong_with_it(strange, tmp_path):
    strangers = {
        "a tensor left out": model_file(change=lambda state: dict(list(state.items())[:-1])),
        "without an architecture, and one left out": safetensors(
            {"decide.bias": tensor([10], 0, 40), "e_conv1.weight": tensor([1], 40, 44)}, bytes(44)
        ),
        "another curve": asking(curve_activation="none"),
    }
    for name, content in strangers.items():
        (tmp_path / f"{name}.safetensors").write_bytes(content)
    paths = {name: str(path) for name, path in strange.items() if path.suffix == ".safetensors"}
    paths |= {name: str(tmp_path / f"{name}.safetensors") for name in strangers}
    code = f"""
import sys
sys.modules["torch"] = None
from kdlib import Enhancer

for path in [*{list(paths.values())!r}, {str(tmp_path / "missing.safetensors")!r}]:
    try:
        Enhancer(path)
    except (FileNotFoundError, ValueError) as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *messages, missing = done.stdout.splitlines()
    for (name, path), message in zip(paths.items(), messages, strict=True):
        assert path in message, name
    assert any("e_conv3.point_conv.weight has weights that are NaN" in message for message in messages)
    assert "e_conv7.point_conv.bias is missing" in messages[-3]
    assert "not the weights of a known architecture" in messages[-2]
    assert "curve_activation" in messages[-1]
    assert "no weights file at" in missing


@pytest.mark.parametrize("name", ["student-565", "iat-student"])
def test_an_enhancer_opens_its_file_once_for_each_thing_that_it_reads(name, monkeypatch):
    path = catalogue()[name].path
    opened, real = [], weights_file.safe_open
    monkeypatch.setattr(
        weights_file, "safe_open", lambda *given, **how: opened.append("tensors") or real(*given, **how)
    )

    def watch(event, arguments):
        if event == "open" and watching and str(arguments[0]) == str(path):
            opened.append("bytes")

    watching = True
    sys.addaudithook(watch)  # which stays for as long as the process lives
    Enhancer(name, device="cpu")
    watching = False
    assert sorted(opened) == ["bytes", "bytes", "tensors"]  # the digest, the header, the tensors


def test_the_files_are_what_they_pretend_to_be(tmp_path):
    # Made in the same way, sound ones are read. Otherwise the test above might refuse them all for one trivial reason.
    (tmp_path / "sound.safetensors").write_bytes(model_file())
    assert isinstance(load_model(tmp_path / "sound.safetensors"), type(create_model("student-565")))
    one = np.float32(0.25).tobytes()
    (tmp_path / "zip.pth").write_bytes(zipped(state(rebuilt(1, (1,), (1,))), one))
    (tmp_path / "old.pth").write_bytes(
        legacy(state(rebuilt(1, (1,), (1,), legacy=True)), ["0"], (1).to_bytes(8, "little") + one)
    )
    for name in ("zip.pth", "old.pth"):
        assert WeightsFile(tmp_path / name).tensors() == {"e_conv1.weight": torch.tensor([0.25])}


def test_their_code_would_run_in_an_unguarded_load(strange, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.load(strange[".pth: code, called"], weights_only=False)
    assert (tmp_path / "ran").is_dir()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_tensors_are_compared_before_one_is_read(suffix, strange, monkeypatch):
    def read(*_):
        raise AssertionError("read")

    monkeypatch.setattr(WeightsFile, "tensors", read)
    other = ".safetensors: architecture of another width" if suffix == ".safetensors" else ".pth: another shape"
    with pytest.raises(ValueError, match="not those of the architecture"):
        load_model(strange[other])
    with pytest.raises(AssertionError, match="read"):
        load_model(strange[f"{suffix}: NaN"])


@pytest.mark.parametrize("name", [".safetensors: NaN", ".safetensors: infinite as float32", ".pth: NaN"])
def test_tensor_that_is_not_finite_is_named(name, strange):
    for load in (load_model, Enhancer):
        with pytest.raises(ValueError, match=r"e_conv3\.point_conv\.weight has weights that are NaN or infinite"):
            load(strange[name])


def test_file_beyond_the_limit_is_not_read(tmp_path, monkeypatch):
    for name in ("large.safetensors", "large.pth"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(weights_header.MAX_BYTES + 1)  # a hole, which takes no room on the disk
        with pytest.raises(ValueError, match="more than the 268,435,456 that a weights file may have"):
            load_model(tmp_path / name)


def test_weights_that_overflow_are_noticed_when_they_are_used(tmp_path):
    def large(tensors):
        sign = (-1) ** np.arange(1000)
        return {name: (3e38 * sign[: t.size].reshape(t.shape)).astype(t.dtype) for name, t in tensors.items()}

    photo = np.full((20, 30, 3), 90, np.uint8)
    for name in ("student-565", "glance-650"):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(model_file(name, change=large))
        with np.errstate(all="ignore"), pytest.raises(ValueError, match="values that are NaN or infinite"):
            Enhancer(path)(photo)


def test_tied_weights_are_read_and_tensors_that_share_too_much_are_not(tmp_path, monkeypatch):
    one = torch.ones(4)
    torch.save({"a": one, "b": one}, tmp_path / "tied.pth")
    tied = WeightsFile(tmp_path / "tied.pth").tensors()
    tied["a"].zero_()
    assert torch.equal(tied["b"], one)  # memory of their own: nothing stays bound to the file
    monkeypatch.setattr(weights_file, "MAX_BYTES", 7)
    with pytest.raises(ValueError, match="8 numbers altogether"):
        load_model(tmp_path / "tied.pth")


def test_archives_whose_list_lies_about_a_size_are_refused(tmp_path):
    content = bytearray(strange_weights.saved())
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
        name = next(info.filename for info in archive.infolist() if "/data/" in info.filename)
    at = content.rfind(b"PK\x01\x02", 0, content.rfind(name.encode()))
    content[at + 24 : at + 28] = (10**9).to_bytes(4, "little")
    (tmp_path / "lies.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"lies\.pth is damaged"):
        load_model(tmp_path / "lies.pth")


@pytest.mark.parametrize(
    "name",
    ["one list for ten thousand mappings", "attributes for ten thousand times"],
)
def test_a_list_is_gone_over_once(name, strange):
    # Or a file of a megabyte takes half an hour.
    with pytest.raises(ValueError, match="it goes over one list again and again"):
        load_model(strange[f".pth: {name}"])


@pytest.mark.parametrize("name", ["two pickles", "two pickles, one in capitals"])
def test_no_other_pickle_is_checked_than_the_one_that_is_read(name, strange):
    path = strange[f".pth: {name}"]
    assert torch.load(path, weights_only=True) == {}  # and not the sound one, which an archive's last entry names
    with pytest.raises(ValueError, match=r"it has [\w./]+ twice"):
        load_model(path)


def test_no_error_advises_to_let_a_file_run_code(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise UnpicklingError("Weights only load failed. Re-running with `weights_only` set to `False` will succeed")

    monkeypatch.setattr(torch, "load", refused)
    (tmp_path / "a.pth").write_bytes(strange_weights.saved())
    with pytest.raises(ValueError, match=r"a\.pth is damaged.*more than tensors in it$"):
        load_model(tmp_path / "a.pth")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited and measured in Linux's way")
def test_none_takes_memory_that_the_file_does_not_have(strange):
    folder = next(iter(strange.values())).parent
    code = f"""
import resource
from pathlib import Path
import torch
from kdlib.enhance import Enhancer
from kdlib.weights import load_model

Enhancer("student-565")
load_model("student-565")
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))  # 256 MiB more than before
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path({str(folder)!r}).iterdir()):
    for load in (load_model, Enhancer):
        try:
            load(path)
        except ValueError as error:
            assert "llocate" not in str(error), error
        else:
            raise SystemExit(f"{{path}} was read")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100_000  # kilobytes; the largest of the files has two megabytes


@pytest.mark.parametrize("name", catalogue())
def test_shipped_networks_are_within_the_limits(name):
    assert weights_header.read_header(catalogue()[name].path).architecture is not None


@pytest.mark.parametrize(
    "name", ["one number, for a million million", "behind what is stored", "more numbers than stored"]
)
def test_tensor_is_not_larger_than_what_is_stored(name, strange):
    with pytest.raises(ValueError, match=r"larger than data/0, where it is stored|does not hold the"):
        load_model(strange[f".pth: {name}"])
