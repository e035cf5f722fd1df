"""Machine code that is kept for later processes: the same bits as numba's, and never used where it does not fit."""

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, product
from pathlib import Path

import numba
import numpy as np
import pytest

from kdlib import Enhancer
from kdlib.enhance.kernels import machine_code
from kdlib.enhance.kernels.compiled import Compiled
from tests.helpers import NOTEBOOKS, in_new_process

pytestmark = pytest.mark.skipif(not machine_code.usable(), reason="machine code is kept on Linux with x86-64 only")

SOURCE = """
import numpy as np

def ramp(out, first, factor, scratch):
    line = np.zeros(scratch, out.dtype)
    for y in range(first, out.shape[0]):
        for x in range(out.shape[1]):
            line[x] = factor * np.float32(x + y)
        for x in range(out.shape[1]):
            out[y, x] = line[x]

def total(values):
    return values.sum()

def assign(out, values):
    out[:] = values
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A module with kernels, compiled by nobody yet; code that it loads has a place of its own in memory."""
    path = tmp_path / "package" / "kernels.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    forget(monkeypatch)
    return path


def forget(monkeypatch):
    """Let nothing be loaded, as in a new process; code that other kernels of this process have loaded stays."""
    monkeypatch.setattr(machine_code, "_loaded", {})


def kernel(source, name="ramp"):
    """A kernel of the module, not yet called."""
    spec = importlib.util.spec_from_file_location("kernels", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Compiled(getattr(module, name))


def run(function, scratch=5):
    """What a kernel writes."""
    out = np.zeros((3, 5), np.float32)
    function(out, 1, 0.5, scratch)
    return out


def expected():
    x, y = np.arange(5, dtype=np.float32), np.arange(3, dtype=np.float32)[:, None]
    return np.where(y < 1, 0, 0.5 * (x + y)).astype(np.float32)


def kept(folder):
    return sorted(folder.rglob("*.kdlib"))


def loaded(function):
    """Whether a kernel ran without numba."""
    return function._dispatcher is None


def assert_numba_runs(source):
    """The function has the right result, and not from kept code."""
    again = kernel(source)
    assert np.array_equal(run(again), expected())
    assert not loaded(again)


def test_kept_code_runs_without_numba(source, monkeypatch):
    first = kernel(source)
    assert np.array_equal(run(first), expected())
    assert not loaded(first)
    [file] = kept(source.parent)
    assert file.parent == source.parent / "__pycache__"
    forget(monkeypatch)
    later = kernel(source)
    assert run(later).tobytes() == run(first).tobytes()
    assert loaded(later)


@pytest.mark.parametrize("damage", ["byte", "digest", "half", "short", "empty", "folder"])
def test_damaged_code_is_not_used(damage, source, monkeypatch):
    run(kernel(source))
    [file] = kept(source.parent)
    content = bytearray(file.read_bytes())
    if damage == "byte":
        content[len(content) // 2] ^= 1
    elif damage == "digest":
        content[3] ^= 1
    if damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(content[: {"half": len(content) // 2, "short": 20, "empty": 0}.get(damage)])
    forget(monkeypatch)
    assert_numba_runs(source)
    forget(monkeypatch)
    assert np.array_equal(run(third := kernel(source)), expected())
    assert loaded(third)  # it was replaced, or is kept in the user's folder


def test_code_of_another_signature_is_not_used(source, monkeypatch):
    run(kernel(source))
    [other] = kept(source.parent)
    out = np.zeros((3, 5), np.float64)
    function = kernel(source)
    function(out, 1, 0.5, 5)
    [mine] = set(kept(source.parent)) - {other}
    mine.write_bytes(other.read_bytes())
    forget(monkeypatch)
    again = kernel(source)
    found = np.zeros((3, 5), np.float64)
    again(found, 1, 0.5, 5)
    assert found.tobytes() == out.tobytes()
    assert not loaded(again)


@pytest.mark.parametrize("part", ["CPU", "version"])
def test_code_of_another_machine_is_not_used(part, source, monkeypatch):
    run(kernel(source))
    target, versions = machine_code._machine()
    changed = {"CPU": ((*target[:-1], "other"), versions), "version": (target, (*versions[:-1], "other"))}[part]
    monkeypatch.setattr(machine_code, "_machine", lambda: changed)
    forget(monkeypatch)
    assert_numba_runs(source)
    # Two CPUs may share a folder; a new version has no use for the code of the old one.
    assert len(kept(source.parent)) == {"CPU": 2, "version": 1}[part]
    forget(monkeypatch)
    run(third := kernel(source))
    assert loaded(third)


@pytest.mark.parametrize("change", ["file", "others"])
def test_code_of_other_sources_is_not_used(change, source, monkeypatch):
    run(kernel(source))
    factor = 1
    if change == "file":
        source.write_text(SOURCE.replace("factor * np", "2 * factor * np"))
        factor = 2
    else:
        monkeypatch.setattr("kdlib.enhance.kernels.compiled._sources", lambda: "other")
    forget(monkeypatch)
    again = kernel(source)
    assert run(again) == pytest.approx(factor * expected())
    assert not loaded(again)


def test_name_that_nothing_defines_is_no_end_of_the_process(source, monkeypatch):
    run(kernel(source))
    forget(monkeypatch)
    names = machine_code.undefined
    monkeypatch.setattr(machine_code, "undefined", lambda code: [*names(code), "kdlib_nobody_defines_this"])
    assert_numba_runs(source)


def test_without_llvmlite_s_binding_numba_runs_alone(source, monkeypatch):
    run(kernel(source))
    forget(monkeypatch)
    monkeypatch.setattr(machine_code, "_machine", machine_code._machine.__wrapped__)
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    assert_numba_runs(source)


def test_no_memory_is_an_error_of_python(source, monkeypatch):
    run(kernel(source))
    forget(monkeypatch)
    later = kernel(source)
    run(later)
    assert loaded(later)
    with pytest.raises(MemoryError):
        run(later, scratch=2**60)
    assert np.array_equal(run(later), expected())


def test_function_with_a_result_is_not_kept(source):
    assert kernel(source, "total")(np.arange(4.0)) == 6
    assert kept(source.parents[1]) == []


@pytest.mark.slow
def test_what_needs_numba_is_not_kept(source):
    values, out = np.arange(4.0), np.zeros(4)
    function = kernel(source, "assign")
    function(out, values)
    assert np.array_equal(out, values)
    with pytest.raises(ValueError, match="cannot assign slice"):  # a message that numba makes of the shapes
        function(out, np.arange(3.0))
    assert kept(source.parents[1]) == []


def test_kernel_may_call_another(source, tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))  # numba cannot load what calls a module made here
    ramp = kernel(source)

    def twice(out, first, scratch):
        ramp(out, first, 0.5, scratch)
        for y in range(out.shape[0]):
            for x in range(out.shape[1]):
                out[y, x] *= 2

    out = np.zeros((3, 5), np.float32)
    Compiled(twice)(out, 1, 5)
    assert np.array_equal(out, 2 * expected())


def test_read_only_installation_keeps_code_in_the_user_s_folder(source, tmp_path, monkeypatch):
    (source.parent / "__pycache__").touch()  # a folder that cannot be made, also by root
    run(kernel(source))
    [file] = kept(tmp_path)
    assert file.parent == tmp_path / "cache" / "kdlib"
    forget(monkeypatch)
    later = kernel(source)
    assert np.array_equal(run(later), expected())
    assert loaded(later)


def test_without_a_folder_to_write_to_it_runs(source, tmp_path, monkeypatch):
    (source.parent / "__pycache__").touch()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    assert np.array_equal(run(kernel(source)), expected())
    assert kept(tmp_path) == []


def test_folder_of_numba_s_cache_may_be_chosen(source, tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "chosen"))
    run(kernel(source))
    assert [file.parent for file in kept(tmp_path)] == [tmp_path / "chosen"]


def test_settings_of_numba_that_may_change_the_code_turn_it_off(tmp_path, monkeypatch):
    usable = machine_code.usable.__wrapped__
    monkeypatch.chdir(tmp_path)
    assert usable()
    monkeypatch.setenv("NUMBA_CACHE_DIR", "x")
    assert usable()
    with monkeypatch.context() as changed:
        changed.setenv("NUMBA_DISABLE_JIT", "1")
        assert not usable()
    Path(".numba_config.yaml").touch()
    assert not usable()


def test_threads_that_come_first_together_load_once(source, monkeypatch):
    run(kernel(source))
    forget(monkeypatch)
    later = kernel(source)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: run(later).tobytes(), range(32)))
    assert set(results) == {expected().tobytes()}
    assert loaded(later)
    assert len(machine_code._loaded) == 1


# Imports what a kernel needs, and not this file, which imports PyTorch.
PROGRAM = """
import sys
import numpy as np
from kdlib.enhance.kernels.compiled import Compiled
import kernels

ramp, out = Compiled(kernels.ramp), np.zeros((3, 5), np.float32)
ramp(out, 1, 0.5, 5)
print(out.tobytes().hex(), ramp._dispatcher is None)
"""


@pytest.mark.slow
def test_two_processes_at_once_leave_code_for_a_third(source):
    path = os.pathsep.join([str(source.parent), str(NOTEBOOKS.parent)])
    command, env = [sys.executable, "-c", PROGRAM], {**os.environ, "PYTHONPATH": path}

    def processes(number):
        started = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(number)]
        said = [process.communicate(timeout=300)[0].split() for process in started]
        assert [process.returncode for process in started] == [0] * number
        assert {result for result, _ in said} == {expected().tobytes().hex()}
        return [without_numba for _, without_numba in said]

    processes(2)
    assert processes(1) == ["True"]
    assert not list(source.parent.rglob("*.part"))


def arguments():
    """Values that differ in what numba distinguishes, and some that it takes for the same."""
    base = np.zeros((4, 6), np.float32)
    fixed = base.copy()
    fixed.flags.writeable = False
    yield from (base, base.copy(), fixed, base.T, base[:, ::2], base[::2], base[:1], base[:, :1], base[0], base[:, 0])
    yield from (np.zeros((4, 6), dtype) for dtype in ("u1", "i1", "u2", ">u2", "i4", "i8", "f8", ">f4", "c8", "?"))
    yield np.frombuffer(bytearray(97), np.uint8)[1:].view(np.float32).reshape(4, 6)  # not aligned
    yield np.zeros((4, 6), np.float32).view(np.matrix)
    yield from (np.zeros(()), np.zeros((0, 3)), np.asfortranarray(np.zeros((4, 6))))
    yield from (True, False, 1, -5, 2**62, 2**63, 0.5, -0.0, 1j, "text", b"text", None, (1, 2), (1, 0.5))
    yield from (np.float32(1), np.float64(1), np.int64(1), np.int32(1), np.uint8(1), np.bool_(True))


def test_values_of_one_signature_are_of_one_type_for_numba():
    known = [value for value in arguments() if machine_code.signature_of((value,)) is not None]
    assert len(known) > 20
    same = 0
    for one, other in combinations(known, 2):
        if machine_code.signature_of((one,)) == machine_code.signature_of((other,)):
            assert numba.typeof(one) == numba.typeof(other)
            same += 1
    assert same > 5


@pytest.mark.parametrize("wrong", range(6))
def test_arguments_of_other_types_never_reach_the_code_for_these(wrong, source, monkeypatch):
    run(kernel(source))
    forget(monkeypatch)
    later = kernel(source)
    run(later)
    assert loaded(later)
    out = np.zeros((3, 5), np.float32)
    other = [out.astype(">f4"), out.astype(np.float16), np.zeros(15, np.float32), [1.0], "text", None][wrong]
    with pytest.raises((TypeError, numba.TypingError, NotImplementedError)):
        later(other, 1, 0.5, 5)
    with pytest.raises(TypeError):
        later(out, 1, 0.5)


def calls_of(model, dtype):
    """Arguments, as they were before the call, by kernel and signature, when photos of this type are enhanced."""
    calls = {}
    usual = Compiled.__call__

    def recorded(self, *arguments):
        before = [value.copy() if isinstance(value, np.ndarray) else value for value in arguments]
        # A copy has another layout if the array is a view.
        if machine_code.signature_of(tuple(before)) == machine_code.signature_of(arguments):
            calls[self, machine_code.signature_of(arguments)] = before
        return usual(self, *arguments)

    draws = np.random.default_rng(0)
    top = 1 if dtype == "float32" else np.iinfo(dtype).max
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Compiled, "__call__", recorded)
        for channels in (1, 2, 3, 4):
            photo = (draws.random((45, 70, channels)) * top / 4).astype(dtype)
            for denoise in (0, 1):
                Enhancer(model, device="cpu", denoise=denoise, threads=1)(photo)
    assert len(calls) >= 2
    return calls


def compare_with_numba(*pairs):
    calls = {}
    for pair in pairs:
        calls |= calls_of(*pair)
    assert all(loaded(function) for function, _ in calls)
    for (function, _), before in calls.items():
        mine, numba_s = ([value.copy() if isinstance(value, np.ndarray) else value for value in before] for _ in "ab")
        function(*mine)
        function.dispatcher(*numba_s)
        for one, other in zip(mine, numba_s, strict=True):
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


MODELS, DTYPES = ["student-565", "glance-650", "grid-960"], ["uint8", "uint16", "float32"]


def gives_the_bits_of_numba(*pairs):
    """Each from its cache, in a new process: in the one that compiles, numba runs code that may round otherwise."""
    for pair in pairs:
        calls_of(*pair)  # compiles
    code = f"from tests.test_machine_code import compare_with_numba; compare_with_numba(*{pairs})"
    done = in_new_process(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_every_kernel_gives_the_bits_of_numba():
    gives_the_bits_of_numba(*zip(MODELS, DTYPES, strict=True))


@pytest.mark.slow
@pytest.mark.exhaustive
def test_every_kernel_gives_the_bits_of_numba_for_every_type():
    gives_the_bits_of_numba(*product(MODELS, DTYPES))
