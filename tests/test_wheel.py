"""The wheel as a user gets it: alone in an empty environment, without PyTorch and without a network."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from packaging.licenses import canonicalize_license_expression
from packaging.requirements import Requirement
from PIL import Image

from tests.helpers import in_new_process, kdlib

ROOT = Path(__file__).resolve().parent.parent
MB = 10**6
LISTED = json.loads((ROOT / "weights" / "catalogue.json").read_text(encoding="utf-8"))
IN_REPOSITORY = [name for name, entry in LISTED.items() if entry.get("in_repository")]
IN_TORCH = {"iat-student", "light-msafn"}
NEEDS_PYTORCH = r".+ needs PyTorch, which is not installed: pip install 'kdlib\[course]'"

pytestmark = pytest.mark.slow


def pip(*arguments):
    """Run pip with the versions of constraints.txt, or skip where it cannot reach its package index."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries", "1", *map(str, arguments)]
    env = {**os.environ, "PIP_CONSTRAINT": str(ROOT / "constraints.txt")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode and "Retrying" in done.stderr:
        pytest.skip("pip cannot reach its package index")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def content(wheel):
    """Each file of the wheel by its name."""
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.fixture(scope="session")
def metadata(content):
    [name] = [name for name in content if name.endswith(".dist-info/METADATA")]
    return message_from_bytes(content[name])


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """An environment with nothing but the wheel and its dependencies; ``run`` runs a program of it offline."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "env")
    scripts = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
    pip("--python", folder / "env", "install", "--quiet", wheel)
    (folder / "offline").mkdir()
    (folder / "offline" / "sitecustomize.py").write_text(OFFLINE)
    # Where it is permitted, in a namespace without a network as well.
    apart = ["unshare", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        apart = []
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "KDLIB_", "NUMBA_"))}
    env = {**clean, "PYTHONPATH": str(folder / "offline")}

    def run(program, *arguments):
        command = [*apart, scripts / program, *map(str, arguments)]
        return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)

    return SimpleNamespace(folder=folder / "env", run=run)


OFFLINE = """
import sys


def stay_offline(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise PermissionError(f"there is no network: {event} {arguments}")


sys.addaudithook(stay_offline)
"""


# What is in it


def test_the_wheel_is_small(wheel):
    assert wheel.stat().st_size < 3 * MB


def test_it_carries_types_and_every_catalogued_weights_file_with_its_card(content):
    assert {"kdlib/py.typed", "kdlib/__init__.pyi"} <= content.keys()
    listed = json.loads(content["kdlib/_weights/catalogue.json"])
    for name in IN_REPOSITORY:
        del listed[name]
    weights = {name for name in content if name.endswith(".safetensors")}
    assert weights == {f"kdlib/_weights/{entry['file']}" for entry in listed.values()}
    for entry in listed.values():
        assert hashlib.sha256(content[f"kdlib/_weights/{entry['file']}"]).hexdigest() == entry["sha256"]
        assert f"kdlib/_weights/{Path(entry['file']).stem}.md" in content


def test_the_licence_expression_covers_the_code_and_all_weights(content, metadata):
    expression = metadata["License-Expression"]
    assert canonicalize_license_expression(expression) == expression
    licences = set(expression.split(" AND "))
    files = metadata.get_all("License-File")
    texts = {path: content[name].decode() for path in files for name in content if name.endswith(f"/licenses/{path}")}
    assert texts.keys() == {"LICENSE", "LICENSES/weights.txt"}
    explained = texts["LICENSES/weights.txt"]
    sections = dict(re.findall(r"^(\S+)\n-+\n(.*?)(?=^\S+\n-+\n|\Z)", explained, re.MULTILINE | re.DOTALL))
    assert licences == {"MIT", *sections}
    listed = json.loads((ROOT / "weights" / "catalogue.json").read_text(encoding="utf-8"))
    for entry in listed.values():
        [section] = [name for name, text in sections.items() if re.search(rf"^ +{entry['file']}\b", text, re.MULTILINE)]
        stated = {"states no licence": "LicenseRef-Unstated-Licence", "CC BY-NC 4.0": "CC-BY-NC-4.0", "MIT": "MIT"}
        assert section == next(name for words, name in stated.items() if words in entry["licence"]), entry["file"]


def test_it_requires_nothing_of_the_course_and_offers_the_extras(metadata):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    assert {str(line) for line in required if line.marker is None} == set(project["dependencies"])
    assert set(metadata.get_all("Provides-Extra")) == set(project["optional-dependencies"])
    assert metadata["Version"] == project["version"]


def test_changelog_and_citation_know_the_version(metadata):
    version = re.escape(metadata["Version"])
    titles = rf"^## \[Unreleased\]\n\nBecomes {version}\.$|^## \[{version}\] - \d{{4}}-\d\d-\d\d$"
    assert re.search(titles, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert f"\nversion: {metadata['Version']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


LOAD = f"import kdlib; print(kdlib.__file__, flush=True); kdlib.load_model({IN_REPOSITORY[0]!r})"


def test_a_teacher_that_stays_in_the_repository_is_said_to(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path)
    done = in_new_process(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{LOAD}")
    assert done.stdout.startswith(str(tmp_path))
    assert "its weights file lies in the project's repository, in the folder weights" in done.stderr.splitlines()[-1]


# Installed alone


def test_the_installation_is_small_and_has_no_pytorch(installed):
    files = [path for path in installed.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size for path in files) < 650 * MB
    assert not {"torch", "torchvision", "matplotlib"} & {path.parent.name for path in files}
    done = installed.run("python", "-c", "import kdlib; print(kdlib.__file__, kdlib.__version__)")
    assert done.stdout.startswith(str(installed.folder)), done.stderr


def test_a_photo_comes_out_with_the_same_bytes(installed, tmp_path):
    photo = np.random.default_rng(0).integers(0, 70, (120, 160, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.jpg", quality=90)
    done = installed.run("kdlib", "enhance", tmp_path / "photo.jpg", "-o", tmp_path / "installed.jpg")
    assert done.returncode == 0, done.stdout + done.stderr
    assert kdlib("enhance", tmp_path / "photo.jpg", "-o", tmp_path / "here.jpg").exit_code == 0
    assert (tmp_path / "installed.jpg").read_bytes() == (tmp_path / "here.jpg").read_bytes()


def test_a_video_comes_out_with_the_same_bytes(installed, tmp_path):
    with av.open(str(tmp_path / "video.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for frame in np.random.default_rng(0).integers(0, 70, (8, 120, 160, 3), dtype=np.uint8):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())
    done = installed.run("kdlib", "video", tmp_path / "video.mp4", tmp_path / "installed.mp4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert kdlib("video", tmp_path / "video.mp4", tmp_path / "here.mp4").exit_code == 0
    assert (tmp_path / "installed.mp4").read_bytes() == (tmp_path / "here.mp4").read_bytes()


IN_PYTHON = """
import hashlib
import kdlib
import numpy as np
from PIL import Image

photo = np.random.default_rng(0).integers(0, 70, (60, 80, 3), dtype=np.uint8)
for name in sorted(names):
    enhance = kdlib.Enhancer(name, device="cpu")
    enhanced = enhance(photo)
    assert np.array_equal(np.asarray(enhance(Image.fromarray(photo))), enhanced)
    print(name, hashlib.sha256(enhanced.tobytes()).hexdigest())
"""


def of_the_same_bytes(installed, capsys, names):
    program = f"names = {sorted(names)}\n{IN_PYTHON}"
    done = installed.run("python", "-c", program)
    assert done.stdout.count("\n") == len(names), done.stderr
    exec(program, {})
    assert done.stdout == capsys.readouterr().out


def test_from_python_a_model_of_each_kind_without_pytorch_gives_the_same_bytes(installed, capsys):
    of_the_same_bytes(installed, capsys, ["student-565", "glance-650", "grid-960"])


@pytest.mark.exhaustive
def test_from_python_every_model_but_those_in_pytorch_gives_the_same_bytes(installed, capsys):
    of_the_same_bytes(installed, capsys, LISTED.keys() - IN_TORCH - {*IN_REPOSITORY})


def test_weights_that_ship_are_listed_whole_and_need_no_download(installed):
    files = f"{len(LISTED) - len(IN_REPOSITORY)} of {len(LISTED) - len(IN_REPOSITORY)}"
    for command, said in (("list", "light-msafn"), ("verify", f"{files} files"), ("fetch", f"0 downloaded, {files}")):
        done = installed.run("kdlib", "weights", command)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
        assert not {word for line in done.stdout.splitlines() for word in line.split()[:1]} & {*IN_REPOSITORY}


SENTENCES = {
    **{f"enhance photo.png -o out.png --model {name}": NEEDS_PYTORCH for name in sorted(IN_TORCH)},
    f"enhance photo.png -o out.png --model {IN_REPOSITORY[0]}": ".+ lies in the project's repository, .+",
    "enhance photo.png -o out --engine ray": r".+ needs ray, .+: pip install 'kdlib\[ray]'",
    "video video.mp4 out.mp4 --model light-msafn": NEEDS_PYTORCH,
    "camera --model iat-student": NEEDS_PYTORCH,
    "evaluate student-565": NEEDS_PYTORCH,
    "export student-565 -o out.onnx": r"exporting needs onnx, which is not installed: pip install 'kdlib\[onnx]'",
    "sweep sweep.yaml": r"kdlib sweep needs optuna, .+: pip install 'kdlib\[sweep]'",
}


@pytest.mark.parametrize("command", SENTENCES)
def test_what_is_not_installed_is_said_in_one_sentence(installed, tmp_path, command):
    Image.new("RGB", (20, 20)).save(tmp_path / "photo.png")
    words = [str(tmp_path / word) if word.endswith(".png") else word for word in command.split()]
    done = installed.run("kdlib", *words)
    assert done.returncode == 1
    assert not done.stdout.strip()
    assert re.fullmatch(rf"Error: {SENTENCES[command]}\n", done.stderr), done.stderr


@pytest.mark.parametrize(
    "call", ["load_model('student-565')", "create_model('student-565')", "Enhancer('light-msafn')"]
)
def test_python_names_the_extra_too(installed, call):
    done = installed.run("python", "-c", f"import kdlib; kdlib.{call}")
    assert done.returncode == 1
    assert re.search(NEEDS_PYTORCH, done.stderr.splitlines()[-1]), done.stderr
