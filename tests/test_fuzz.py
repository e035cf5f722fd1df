"""The fuzzers for some seconds; `make fuzz` runs them for longer."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is for Linux on x86-64 only"
)


ROOT = Path(__file__).parents[1]


def run(*command):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    # By way of a shell: libFuzzer limits the peak of the process's memory, which a child inherits from a large parent.
    return subprocess.run(
        ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        cwd=ROOT,
        env=environment,
    )


@pytest.mark.slow
@needs_atheris
@pytest.mark.parametrize("name", ["photos", "weights", "exported"])
def test_nothing_is_found(name, tmp_path):
    done = run("-m", f"tests.fuzz.{name}", "--found", tmp_path, "--seconds", 60, "--runs", 500)
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(tmp_path.iterdir()) == []
    assert int(re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)[1]) >= 500


@pytest.mark.slow
@needs_atheris
def test_a_defect_would_be_found(tmp_path):
    # The same machinery, with a reader that fails at a length that the corpus does not have.
    (tmp_path / "faulty.py").write_text(
        "import tempfile\nfrom pathlib import Path\nimport atheris\nfrom tests.fuzz.run import run\n"
        "@atheris.instrument_func\n"
        "def faulty(data):\n"
        "    if data[:2] == b'BM' and data[10:14] != b'\\x36\\0\\0\\0':\n"
        "        raise KeyError('planted')\n"
        "run(faulty, Path(tempfile.mkdtemp()), {'.bmp'})\n"
    )
    done = run(tmp_path / "faulty.py", "--seconds", 20, "--found", tmp_path)
    assert done.returncode != 0
    assert "planted" in done.stderr + done.stdout
    assert [path for path in tmp_path.iterdir() if path.name.startswith("crash-")]
