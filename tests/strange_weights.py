"""Weights files as a stranger with bad intentions would make them; each is refused."""

# ruff: noqa: E501 - a line for each

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch

from kdlib.models import create_model

HUGE = 10**9


def safetensors(header, data=b"", length=None):
    """A file with this header (a table, or text as it is) and these bytes behind it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def model_file(name="student-565", *, architecture=None, change=None, **arguments):
    """A sound model with another architecture in its metadata, or with tensors that ``change`` has changed."""
    model = create_model(name, **arguments)
    state = {key: value.numpy(force=True) for key, value in model.state_dict().items()}
    state = change(state) if change else state
    kinds = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64"}
    header, data = {}, b""
    for key, value in state.items():
        header[key] = tensor(list(value.shape), len(data), len(data) + value.nbytes, kinds[value.dtype.name])
        data += value.tobytes()
    architecture = model.config if architecture is None else architecture
    text = architecture if isinstance(architecture, str) else json.dumps(architecture)
    return safetensors({**header, "__metadata__": {"architecture": text}}, data)


def asking(name="student-565", **arguments):
    return model_file(name, architecture=create_model(name).config | arguments)


def with_value(value, dtype=np.float32):
    def change(state):
        key = "e_conv3.point_conv.weight"
        state = {**state, key: state[key].astype(dtype)}
        state[key].flat[2] = value
        return state

    return model_file(change=change)


SAFETENSORS = {
    "empty": b"",
    "seven bytes": b"1234567",
    "header of 2**63 bytes": safetensors(b"{}", length=2**63),
    "header of a gigabyte": safetensors(b"{}", length=HUGE),
    "header longer than the file": safetensors(b"{}", length=500),
    "not JSON": safetensors(b"{tensors}"),
    "not UTF-8": safetensors(b'{"\xff\xfe": 1}'),
    "a list": safetensors([]),
    "a number": safetensors(b"1" * 5000),
    "nested": safetensors(b"[" * 500_000),
    "nested tables": safetensors(b'{"a":' * 100_000),
    "a name twice": safetensors(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},' * 2 + b'"b": 1}', bytes(4)),
    "a name twice behind fifty thousand": safetensors(b"{" + b"".join(b'"%d":1,' % k for k in range(50_000)) + b'"49999":1}'),
    "a million million numbers": safetensors({"a": tensor([10**12], 0, 4 * 10**12)}),
    "shape beyond the place": safetensors({"a": tensor([10**6, 10**6], 0, 4)}, bytes(4)),
    "place beyond the file": safetensors({"a": tensor([HUGE], 0, 4 * HUGE)}, bytes(4)),
    "two in one place": safetensors({f"e_conv{n}.weight": tensor([1], 0, 4) for n in (1, 2)}, bytes(4)),
    "bytes of nobody": safetensors({"a": tensor([1], 0, 4)}, bytes(400)),
    "backwards": safetensors({"a": tensor([1], 4, 0)}, bytes(4)),
    "negative shape": safetensors({"a": tensor([-1, -1], 0, 4)}, bytes(4)),
    "shape of truth": safetensors({"a": tensor([True], 0, 4)}, bytes(4)),
    "shape of halves": safetensors({"a": tensor([0.5, 2], 0, 4)}, bytes(4)),
    "shape of 10**400": safetensors(b'{"a":{"dtype":"F32","shape":[1' + b"0" * 400 + b'],"data_offsets":[0,4]}}', bytes(4)),
    "ten thousand axes": safetensors({"a": tensor([1] * 10_000, 0, 4)}, bytes(4)),
    "nothing, a thousand million times": safetensors({"decide.weight": tensor([HUGE, 0], 0, 0)}),
    "unknown type": safetensors({"a": tensor([1], 0, 4, "F33")}, bytes(4)),
    "type of a list": safetensors({"a": tensor([1], 0, 4, ["F32"])}, bytes(4)),
    "a tensor that is a number": safetensors({"a": 3}),
    "metadata of numbers": safetensors({"__metadata__": {"architecture": 3}}),
    "metadata of a list": safetensors({"__metadata__": ["architecture"]}),
    "no tensors": safetensors({}),
    "another network": safetensors({"features.0.weight": tensor([1], 0, 4)}, bytes(4)),
    **{f"{name} of a thousand million": asking(**{name: HUGE}) for name in ("width", "depth", "iterations", "scale_factor")},
    "depth of 101": asking(depth=101),
    "glance, side of a thousand million": asking("glance-650", side=HUGE),
    "grid, side of a thousand million": asking("grid-960", side=HUGE),
    "student with blocks of a thousand million": asking("iat-student", blocks=HUGE),
    "steps of a thousand million": model_file("light-msafn", width=8, blocks=1, architecture={"family": "light-msafn", "steps": HUGE}),
    "upscale of a thousand million": model_file("light-msafn", width=8, blocks=1, architecture={"family": "light-msafn", "upscale": HUGE}),
    "width of 10**5000": model_file(architecture='{"width": 1' + "0" * 5000 + "}"),
    "width of 4.0": asking(width=4.0),
    "width of a text": asking(width="4"),
    "width of true": asking(width=True),
    "switch of a number": asking(skips=1),
    "gamma of NaN": model_file("iat-student", architecture='{"family": "iat-student", "most_gamma": NaN}'),
    "family of a list": asking(family=["zero-dce"]),
    "family unknown": asking(family="os.system"),
    "argument unknown": asking(__class__=1),
    "architecture of a list": model_file(architecture=[1]),
    "architecture nested": model_file(architecture="[" * 100_000),
    "architecture with a width twice": model_file(architecture='{"width": 4, "width": 4}'),
    "architecture of another width": asking(width=8),
    "NaN": with_value(np.nan),
    "infinite": with_value(-np.inf),
    "infinite as float32": with_value(1e300, np.float64),
    "infinite as float16": with_value(np.inf, np.float16),
}  # fmt: skip


# Pickles, instruction by instruction (their names are those of the module pickle).

_FLOATS = b"ctorch\nFloatStorage\n"
_REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
_NO_HOOKS = b"ccollections\nOrderedDict\n)R"


def whole(number):
    return b"\x8a" + bytes([len(raw := number.to_bytes(9, "little", signed=True))]) + raw  # LONG1


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def rebuilt(numbers, shape, stride, offset=0, legacy=False):
    """A call that rebuilds a tensor out of a storage of so many numbers."""
    storage = (
        b"(" + text("storage") + _FLOATS + text("0") + text("cpu") + whole(numbers) + (b"N" if legacy else b"") + b"tQ"
    )
    sizes = b"".join(b"(" + b"".join(map(whole, each)) + b"t" for each in (shape, stride))
    return _REBUILD + b"(" + storage + whole(offset) + sizes + b"\x89" + _NO_HOOKS + b"tR"


def state(value):
    return b"\x80\x02}" + text("e_conv1.weight") + value + b"s."


def zipped(content, data=bytes(4), *, compression=zipfile.ZIP_STORED, copies=0):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/data/0", data)
        for n in range(copies):
            archive.writestr(f"archive/{n}", b"")
    return buffer.getvalue()


def doubled(name):
    """A sound archive with a second pickle, of nothing, before its own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved())) as sound, zipfile.ZipFile(buffer, "w") as archive:
        folder = sound.namelist()[0].split("/")[0]
        with warnings.catch_warnings(action="ignore"):  # of the double name
            for member, content in [
                (f"{folder}/{name}", b"\x80\x02}."),
                *((n, sound.read(n)) for n in sound.namelist()),
            ]:
                archive.writestr(member, content)
    return buffer.getvalue()


def legacy(content, keys=(), data=b""):
    parts = [pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join([*parts, content, pickle.dumps(list(keys), protocol=2), data])


def tarred():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def saved(name="student-565", **values):
    """A model's weights as torch.save writes them, with other values."""
    buffer = io.BytesIO()
    torch.save({**create_model(name).state_dict(), **values}, buffer)
    return buffer.getvalue()


_BILLION = (
    b"N0" + b")q\0" + b"".join(b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) for n in range(60))
)
_SOUND = rebuilt(1, (1,), (1,))
PTH = {
    "empty": b"",
    "a ZIP archive of nothing": b"PK\x03\x04",
    "code, called": zipped(b"cbuiltins\nexec\n(" + text("import os; os.mkdir('ran')") + b"tR."),
    "code by INST": zipped(b"(" + text("ran") + b"ios\nmkdir\n."),
    "code by OBJ": zipped(b"(cos\nmkdir\n" + text("ran") + b"o."),
    "code by NEWOBJ": zipped(b"\x80\x02cos\nmkdir\n(" + text("ran") + b"t\x81."),
    "code by STACK_GLOBAL": zipped(b"\x80\x04" + text("os") + text("mkdir") + b"\x93(" + text("ran") + b"tR."),
    "code by BUILD": zipped(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}" + text("__code__") + b"Nsb."),
    "code, legacy": legacy(b"\x80\x02cos\nmkdir\n(" + text("ran") + b"tR."),
    "code where legacy files tell of the machine": pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + b"cos\nmkdir\n(" + text("ran") + b"tR.",
    "a tensor made by size": zipped(state(b"ctorch\nTensor\n(" + whole(10**10) + b"tR")),
    "more numbers than stored": zipped(state(rebuilt(10**10, (10**10,), (1,)))),
    "one number, for a million million": zipped(state(rebuilt(1, (10**12,), (0,)))),
    "behind what is stored": zipped(state(rebuilt(1, (1,), (1,), offset=10**6))),
    "negative offset": zipped(state(rebuilt(1, (1,), (1,), offset=-8))),
    "negative stride": zipped(state(rebuilt(1, (1,), (-8,)))),
    "no number stored": zipped(state(_SOUND), b""),
    "a compressed pickle": zipped(state(_SOUND) + bytes(10**7), compression=zipfile.ZIP_DEFLATED),
    "a bomb": zipped(state(rebuilt(10**7, (10**7,), (1,))), bytes(4 * 10**7), compression=zipfile.ZIP_DEFLATED),
    "a pickle of two megabytes": zipped(b"N0" * 2**20 + state(_SOUND)),
    "too many members": zipped(state(_SOUND), copies=10_001),
    "memory for two thousand million notes": zipped(b"\x80\x02}r\xff\xff\xff\x7f" + state(_SOUND)[2:]),
    "a name that takes for ever to hash": zipped(b"\x80\x02}" + _BILLION + b"Ns."),
    "a storage that takes for ever to compare": zipped(b"\x80\x02(" + text("storage") + _FLOATS + _BILLION + text("cpu") + whole(1) + b"tQ."),
    "bytes of 2**60": zipped(b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"."),
    "a tensor of a tensor": zipped(state(_REBUILD + b"(" + _SOUND + b"K\0))tR")),
    "two pickles": doubled("data.pkl"),
    "two pickles, one in capitals": doubled("DATA.PKL"),
    "one list for ten thousand mappings": zipped(b"\x80\x02ccollections\nOrderedDict\nq\0](" + b"X\1\0\0\0aN\x86" * 9000 + b"e\x85q\1" + b"h\0h\1R" * 10_000 + b"}."),
    "attributes for ten thousand times": zipped(b"\x80\x02}}(" + b"".join(b"M" + struct.pack("<H", k) + b"N" for k in range(9000)) + b"uq\1" + b"b" + b"h\1b" * 10_000 + b"."),
    "legacy, a thousand million numbers": legacy(state(rebuilt(HUGE, (HUGE,), (1,), legacy=True)), ["0"], struct.pack("<q", HUGE)),
    "legacy, other numbers than stored": legacy(state(rebuilt(1, (1,), (1,), legacy=True)), ["0"], struct.pack("<q", HUGE) + bytes(4)),
    "legacy, of the age of tar": tarred(),
    "another network": saved("student-565", surplus=torch.zeros(3)),
    "another shape": saved(**{"e_conv3.point_conv.weight": torch.zeros(4, 4, 1)}),
    "NaN": saved(**{"e_conv3.point_conv.weight": torch.full((4, 4, 1, 1), torch.nan)}),
    "infinite as float32": saved(**{"e_conv3.point_conv.weight": torch.full((4, 4, 1, 1), 1e300, dtype=torch.float64)}),
}  # fmt: skip


def write_all(folder: Path) -> dict[str, Path]:
    """Write every one into a folder, and tell where, by what is wrong with it."""
    files = {}
    for suffix, contents in ((".safetensors", SAFETENSORS), (".pth", PTH)):
        for n, (name, content) in enumerate(contents.items()):
            files[f"{suffix}: {name}"] = path = folder / f"{n}{suffix}"
            path.write_bytes(content)
    return files
