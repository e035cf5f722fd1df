import ipaddress
import json
import os
import signal
import socket
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from statistics import fmean

import pytest
import torch

from kdlib.data import evaluation_pairs, write_photo
from kdlib.evaluation.metrics import _lpips_network, quantise
from tests.helpers import keep_memory

# One thread: on tensors this small, threads only wait for each other.
torch.set_num_threads(1)
keep_memory()  # processes that tests start have the allocator that users have


def _is_near(host):
    """Whether a host is this machine, or beside it: parts of a test may talk to each other."""
    if host in (None, "", b"", "localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_private
    except ValueError:
        return False


def _stay_offline(event, arguments):
    if event == "socket.connect":
        _, address = arguments
        host = address[0] if isinstance(address, tuple) else None
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if not _is_near(host):
        raise PermissionError(f"a test wants to reach {host}; tests have no network")


sys.addaudithook(_stay_offline)

_TARGETS = {"open": 0, "os.mkdir": 0, "os.rename": 1, "os.link": 1}  # which argument names the file that is written
_acts = []
_acting = threading.local()


def _act(event, arguments):
    if not _acts or event not in _TARGETS or getattr(_acting, "now", False):  # an act may use files itself
        return
    target = arguments[_TARGETS[event]]
    path = Path("" if isinstance(target, int) else os.fsdecode(target))
    _acting.now = True
    try:
        for wanted, name, act in list(_acts):
            if wanted == event and fnmatch(path.name, name):
                act(path)
    finally:
        _acting.now = False


sys.addaudithook(_act)


def pytest_collection_modifyitems(items):
    """Longest files first, by a rough estimate, so that at the end no worker is busy alone."""
    root = Path(__file__).resolve().parents[1]
    measured = json.loads((root / "results" / "notebooks.json").read_text(encoding="utf-8"))["notebooks"]
    seconds = Counter({root / "notebooks" / f"{name}.ipynb": found["seconds"] for name, found in measured.items()})
    for item in items:
        seconds[item.path] += 5 if item.get_closest_marker("slow") else 0.05
    items.sort(key=lambda item: -seconds[item.path])


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference data and published weights, which lies beside the project, not in it."""
    folder = Path(os.environ.get("KDLIB_REFERENCE_DATA") or Path(__file__).resolve().parents[2] / "shared")
    if not (folder / "weights").is_dir():
        pytest.skip("reference data not present: set KDLIB_REFERENCE_DATA to the folder that holds data/ and weights/")
    return folder


@pytest.fixture(scope="session")
def eval15(shared):
    """The 15 pairs on which published scores are given: name, dark photo and truth."""
    pairs = list(evaluation_pairs(shared / "data" / "lol_v1" / "eval15"))
    assert len(pairs) == 15
    return pairs


@pytest.fixture(scope="session")
def scored(eval15):
    """Mean scores of the 8-bit output of a method on eval15, one for each metric; a report would measure many more."""

    def score(method, *metrics):
        answers = [(quantise(method(dark)), truth.double()) for _, dark, truth in eval15]
        return [fmean(metric(*answer) for answer in answers) for metric in metrics]

    return score


@pytest.fixture(params=["numba", "torch"])
def backend(request, monkeypatch):
    """The CPU's backend of both kinds."""
    if request.param == "torch":
        monkeypatch.setitem(sys.modules, "numba", None)  # as where it is not installed
    return request.param


@pytest.fixture
def before_call():
    """Call a function with the path just before this process opens, makes, renames or links files of a name.

    ``before_call(event, name, act)``: the event is that of Python's audit hooks, the name may be a pattern. What the
    function raises, the system call raises, as it would on a full disk, without permission or at Ctrl-C.
    """
    yield lambda event, name, act: _acts.append((event, name, act))
    _acts.clear()


@pytest.fixture
def interrupted_in(before_call):
    """Stop the training that is started within, as Ctrl-C would: in this epoch, its history written and its checkpoint
    not."""

    @contextmanager
    def interrupted(epoch):
        written = []

        def stop(_path):
            if len(written) == epoch:
                written.append("the checkpoint, when the training goes on")
                raise KeyboardInterrupt

        before_call("os.rename", "history.csv", written.append)
        before_call("open", ".last.ckpt.part", stop)
        with pytest.raises(KeyboardInterrupt):
            yield

    return interrupted


@pytest.fixture
def little_room():
    """Files of this process may grow to so many bytes and no further, as on a disk that is full."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture(scope="session")
def few_pairs(tmp_path_factory):
    """A folder of small pairs, to report on instead of the embedded photos at full size."""
    folder = tmp_path_factory.mktemp("pairs")
    draws = torch.Generator().manual_seed(0)
    for name in "ab":
        for part, gain in (("low", 0.2), ("high", 1.0)):
            write_photo(folder / "eval" / part / f"{name}.png", gain * torch.rand(3, 20, 24, generator=draws))
    return folder / "eval"


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """Torch's folder of downloaded weights: empty, on a machine without internet."""

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "*")  # a proxy may be near enough to be reached
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    _lpips_network.cache_clear()
    yield folder
    _lpips_network.cache_clear()
