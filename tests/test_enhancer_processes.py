"""An Enhancer among threads and processes: same bytes, no waiting for ever, no PyTorch, a cache, little memory."""

import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import kdlib
from kdlib import Enhancer
from kdlib.enhance.kernels import machine_code
from kdlib.models import create_model
from kdlib.threads import available_threads, over_rows
from kdlib.weights.catalogue import catalogue

MIB = 2**20


def dark(*shape, dtype=np.uint8):
    return np.random.default_rng(sum(shape)).integers(0, 70, shape).astype(dtype)


def python(code, *, env=None, cwd=None, timeout=120):
    """Run Python in a process of its own; its output, or the test fails."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Threads


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("student-565", np.uint8), ("zero-dce", np.uint16), ("student-565", np.float32)],
)
@pytest.mark.usefixtures("backend")
def test_number_of_threads_changes_no_byte(dtype, name):
    torch.manual_seed(0)
    model = create_model(name, scale_factor=4)
    image = dark(243, 322, 3, dtype=dtype) / (255 if dtype is np.float32 else 1)
    image = image.astype(dtype)
    results = {
        threads: (Enhancer(model, threads=threads, device="cpu")(image).tobytes())
        for threads in (1, 2, 3, 7, 1000, None)
    }
    assert set(results.values()) == {results[1]}
    maps = {
        threads: Enhancer(model, threads=threads, device="cpu").estimate(image).tobytes() for threads in (1, 2, 3, None)
    }
    assert set(maps.values()) == {maps[1]}


def test_large_layers_are_shared_among_threads_and_change_no_byte():
    # Above the size from which a layer's rows go to several threads.
    torch.manual_seed(0)
    model = create_model("zero-dce++", scale_factor=1)
    image = dark(130, 170, 3)
    maps = [Enhancer(model, threads=threads, device="cpu").estimate(image).tobytes() for threads in (1, 2, 3)]
    assert len(set(maps)) == 1


@pytest.mark.parametrize("size", [(1, 50), (2, 50), (3, 1), (1, 1)])
def test_more_threads_than_rows(size):
    image = dark(*size, 3)
    assert (
        Enhancer("student-565", threads=5, device="cpu")(image).tobytes()
        == Enhancer("student-565", threads=1, device="cpu")(image).tobytes()
    )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.usefixtures("backend")
def test_one_enhancer_serves_eight_threads(threads):
    enhancer = Enhancer("student-565", threads=threads, device="cpu")
    photos = [dark(60 + 7 * k, 90 - 5 * k, 1 + k % 4) for k in range(12)] * 4
    expected = [enhancer(photo).tobytes() for photo in photos]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda photo: enhancer(photo).tobytes(), photos))
    assert results == expected


@pytest.mark.slow
def test_kernel_is_first_compiled_by_several_threads_at_once():
    # 11 iterations: compiled by no other test.
    model = create_model("nano-161", iterations=11)
    image = dark(30, 40, 3)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: Enhancer(model, threads=2, device="cpu")(image).tobytes(), range(4)))
    assert len(set(results)) == 1


@pytest.mark.parametrize("threads", [1, 2, 3, 20])
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 20])
def test_rows_are_each_worked_on_once(rows, threads):
    seen = np.zeros(rows, int)

    def work(first, last):
        seen[first:last] += 1

    over_rows(work, rows, threads)
    assert (seen == 1).all()


@pytest.mark.parametrize("guilty", [0, 1, 2])
def test_failure_in_a_part_is_raised_when_all_parts_are_done(guilty):
    done = []

    def work(first, last):
        if first == guilty:
            raise RuntimeError(f"row {first}")
        done.append(first)

    with pytest.raises(RuntimeError, match=f"row {guilty}"):
        over_rows(work, 3, 3)
    assert sorted(done) == sorted({0, 1, 2} - {guilty})
    over_rows(lambda first, last: done.append(first), 3, 3)  # the threads are still there
    assert len(done) == 5


@pytest.mark.parametrize(("wanted", "at_most"), [("1", 1), ("100000", os.cpu_count()), ("", os.cpu_count())])
def test_environment_lowers_the_number_of_threads(wanted, at_most, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert 1 <= available_threads() <= at_most
    assert Enhancer("student-565", device="cpu").threads == available_threads()
    assert Enhancer("student-565", device="cpu", threads=3).threads == 3


def in_child(enhancer, image, expected):
    sys.exit(0 if enhancer(image).tobytes() == expected else 3)


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_enhances_after_its_parent_has():
    # The child inherits the pool, not its threads.
    enhancer = Enhancer("student-565", threads=2, device="cpu")
    image = dark(120, 160, 3)
    expected = enhancer(image).tobytes()
    context = multiprocessing.get_context("fork")
    for _ in range(2):
        child = context.Process(target=in_child, args=(enhancer, image, expected))
        child.start()
        child.join(60)
        hangs = child.is_alive()
        if hangs:
            child.kill()
            child.join()
        assert not hangs
        assert child.exitcode == 0
    assert enhancer(image).tobytes() == expected


def test_enhancer_can_be_pickled():
    enhancer = Enhancer("student-565", strength=0.7, threads=1, device="cpu")
    image = dark(30, 40, 3)
    assert pickle.loads(pickle.dumps(enhancer))(image).tobytes() == enhancer(image).tobytes()


# Imports


@pytest.mark.slow
def test_enhancing_on_the_cpu_never_imports_torch():
    code = """
import sys
import numpy as np
import kdlib
from PIL import Image

enhancer = kdlib.Enhancer("student-565", device="cpu")
photo = np.full((30, 40, 3), 20, np.uint8)
assert enhancer(photo).mean() > 30
assert np.asarray(enhancer(Image.fromarray(photo))).mean() > 30
enhancer.apply(photo, enhancer.estimate(photo))
in_torch = {"zero-dce", "iat-student", "light-msafn", "msafn-32", "grid-teacher", "grid-teacher-research"}
for name in kdlib.weights.catalogue.catalogue().keys() - in_torch:
    kdlib.Enhancer(name, device="cpu")
try:
    enhancer([1])
except TypeError:
    pass
heavy = {"torch", "torchvision", "matplotlib", "pandas", "skimage", "IPython"} & set(sys.modules)
assert not heavy, heavy
"""
    python("import kdlib.weights.catalogue\n" + code)


# Compiled code


@pytest.fixture
def install(tmp_path):
    """A copy of the package as a wheel installs it, without compiled code, and an environment to run it in."""
    package = tmp_path / "site" / "kdlib"
    shutil.copytree(Path(kdlib.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "_weights"))
    weights = package / "_weights"
    weights.mkdir()
    folder = catalogue()["nano-161"].path.parent
    for name in ("catalogue.json", catalogue()["nano-161"].path.name):
        shutil.copy(folder / name, weights)
    known = {key: value for key, value in os.environ.items() if key not in {"NUMBA_CACHE_DIR", "XDG_CACHE_HOME"}}
    return package, {**known, "PYTHONPATH": str(package.parent), "HOME": str(tmp_path / "home")}


ENHANCE = """
import numpy as np
import kdlib

photo = np.full((30, 40, 3), 20, np.uint8)
assert kdlib.Enhancer("nano-161", device="cpu", threads=1)(photo).mean() > 30
print(kdlib.__file__)
"""
# One kernel alone, which takes a second to compile: where code is kept does not depend on which it is.
SHRINK = """
import numpy as np
import kdlib
from kdlib.enhance.kernels.separable import small_copy

assert abs(small_copy(np.full((30, 40, 3), 51, np.uint8), (3, 4)) - 0.2).max() < 1e-6
print(kdlib.__file__)
"""


def run_with(install, program=ENHANCE):
    """Enhance in a new process; how many functions numba compiled and stored, and how many it found compiled."""
    package, env = install
    said = python(program, env={**env, "NUMBA_DEBUG_CACHE": "1"}, cwd=package.parent.parent).splitlines()
    assert Path(said[-1]) == package / "__init__.py"
    return tuple(sum("[cache] " + what in line for line in said) for what in ("data saved", "data loaded"))


def write_protect(package):
    """Bytecode folders that cannot be made, also by root, whom permissions do not stop."""
    for folder in {file.parent for file in package.rglob("*.py")}:
        (folder / "__pycache__").touch()


@pytest.mark.slow
def test_second_process_compiles_nothing(install):
    stored, found = run_with(install)
    assert stored >= 3
    assert found == 0
    stored, found = run_with(install)
    assert stored == 0
    assert found >= 3


@pytest.mark.slow
@pytest.mark.skipif(not machine_code.usable(), reason="machine code is kept on Linux with x86-64 only")
@pytest.mark.parametrize("writable", [True, False])
def test_second_process_does_without_numba(writable, install):
    package, env = install
    if not writable:
        write_protect(package)
    program = (ENHANCE if writable else SHRINK) + "import sys\nprint('numba' in sys.modules)\n"
    said = [python(program, env=env, cwd=package.parent.parent).splitlines()[-1] for _ in range(2)]
    assert said == ["True", "False"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the user's cache folder has another name elsewhere")
def test_read_only_install_keeps_compiled_code_in_the_user_s_folder(install):
    package, env = install
    write_protect(package)
    stored, _ = run_with(install, SHRINK)
    assert stored >= 1
    assert len(list(Path(env["HOME"]).rglob("*.nbc"))) == stored
    assert run_with(install, SHRINK) == (0, stored)


@pytest.mark.slow
def test_without_any_folder_to_write_to_it_compiles_each_time(install, tmp_path):
    package, env = install
    write_protect(package)
    (tmp_path / "file").touch()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert run_with((package, {**env, "HOME": str(tmp_path / "file" / "home")}), SHRINK) == (0, 0)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# Memory


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["contiguous", "mirrored"])
def test_arrays_for_a_4k_frame_stay_small(layout):
    frame = dark(2160, 3840, 3)
    if layout == "mirrored":
        frame = frame[:, ::-1]
    out = np.empty(frame.shape, frame.dtype)
    enhancer = Enhancer("student-565", threads=1, device="cpu")
    enhancer(frame[:64, :64].copy())
    tracemalloc.start()
    try:
        enhancer(frame, out=out)
        _, peak = tracemalloc.get_traced_memory()
        np.empty(20 * MIB, np.uint8)
        assert tracemalloc.get_traced_memory()[1] > peak + 10 * MIB  # it does see NumPy's memory
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB


# All memory, that of compiled code and of PyTorch included: by how much the process's peak (VmHWM) grows. (ru_maxrss
# will not do: a process inherits it from the one that started it.) Memory that is filled beforehand closes the gap
# between what is in use and an earlier peak; blocks from 64 KiB up come from the system, not from what was given back.
PEAK = """
import sys

if {without_numba}:
    sys.modules["numba"] = None
import numpy as np
import kdlib


def in_use(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))


def growth(work):
    gap = in_use("VmHWM:") - in_use("VmRSS:")
    ballast = np.ones(max(gap, 0), np.uint8)
    before = in_use("VmHWM:")
    work()
    return in_use("VmHWM:") - before


enhancer = kdlib.Enhancer("student-565", device="cpu", threads=1)
frame = np.random.default_rng(0).integers(0, 70, (2160, 3840, 3), dtype=np.uint8)
out = np.ones_like(frame)
enhancer(frame[:600, :800].copy())
print(enhancer.backend, growth(lambda: enhancer(frame, out=out)), growth(lambda: np.ones(24 << 20, np.uint8)))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("backend", "limit"),
    # PyTorch's convolutions alone take 14 MiB for the small copy; less than a second frame will do there.
    [("numba", 16 * MIB), ("torch", 2160 * 3840 * 3)],
)
def test_process_hardly_grows_with_a_4k_frame(backend, limit):
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    used, grown, control = python(PEAK.format(without_numba=backend == "torch"), env=env).split()
    assert used == backend
    assert 22 * MIB < int(control) < 26 * MIB  # it does see memory
    assert int(grown) < limit
