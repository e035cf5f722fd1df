"""`kdlib enhance`: which files, where to, and that nothing is lost on the way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.progress import Progress
from typer.testing import CliRunner

from kdlib.cli import app
from kdlib.enhance import Enhancer
from kdlib.enhance.folders.local import enhance_files, is_dark, plan
from kdlib.enhance.folders.memory import MEMORY
from kdlib.weights.catalogue import DEFAULT_MODEL


def photo(path, seed=0, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(samples).save(path)
    return path


def kdlib(*arguments):
    return CliRunner().invoke(app, ["enhance", *map(str, arguments)])


def files_in(folder):
    """All files below a folder but the memory of what made the results, of which test_resume knows."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MEMORY)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def single_threaded(_threads):
    return Enhancer(threads=1)


@pytest.fixture
def album(tmp_path):
    """Photos in a folder and in two below it, and things that are no photos."""
    folder = tmp_path / "album"
    for k, name in enumerate(("a.png", "b.jpg", "deep/c.webp", "deep/er/d.bmp")):
        photo(folder / name, seed=k)
    (folder / "notes.txt").write_text("no photo")
    photo(folder / ".hidden.png")
    return folder


# Where to


def pairs(jobs, root):
    return [(str(job.source.relative_to(root)), str(job.target.relative_to(root))) for job in jobs]


def test_a_folder_gives_its_own_photos(album, tmp_path):
    jobs = plan([album], tmp_path / "out")
    assert pairs(jobs, tmp_path) == [("album/a.png", "out/a.png"), ("album/b.jpg", "out/b.jpg")]


def test_recursive_mirrors_subfolders(album, tmp_path):
    jobs = plan([album], tmp_path / "out", recursive=True, suffix="-x")
    assert [target for _, target in pairs(jobs, tmp_path)] == [
        "out/a-x.png",
        "out/b-x.jpg",
        "out/deep/c-x.webp",
        "out/deep/er/d-x.bmp",
    ]


def test_two_folders_are_kept_apart(album, tmp_path):
    photo(tmp_path / "other" / "a.png")
    targets = [target for _, target in pairs(plan([album, tmp_path / "other"], tmp_path / "out"), tmp_path)]
    assert targets == ["out/album/a.png", "out/album/b.jpg", "out/other/a.png"]


def test_without_output_results_lie_beside(album, tmp_path):
    assert pairs(plan([album / "a.png"], None), tmp_path) == [("album/a.png", "album/a_enhanced.png")]
    assert pairs(plan([album], None), tmp_path)[0] == ("album/a.png", "album_enhanced/a.png")


def test_one_file_may_name_its_result(album, tmp_path):
    assert pairs(plan([album / "b.jpg"], tmp_path / "x.JPEG"), tmp_path) == [("album/b.jpg", "x.JPEG")]


def test_a_pattern_is_expanded(album, tmp_path):
    jobs = plan([str(album / "**" / "*.*p")], tmp_path / "out")
    assert [job.source.name for job in jobs] == ["c.webp", "d.bmp"]


def test_output_below_the_input_is_no_input(album):
    photo(album / "out" / "a.png")
    assert [job.source.name for job in plan([album], album / "out", recursive=True)] == [
        "a.png",
        "b.jpg",
        "c.webp",
        "d.bmp",
    ]


@pytest.mark.slow
def test_results_of_a_run_with_suffix_are_no_input_of_the_next(album):
    first = plan([album], album, suffix="_x")
    enhance_files(first, single_threaded, workers=1)
    assert plan([album], album, suffix="_x") == first


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        (["album/none.png"], "out", "album/none.png: no such file or folder"),
        (["album/*.gif"], "out", "no such file"),
        (["album"], "x.png", "x.png names one file"),
        (["album/a.png", "album/b.jpg"], "x.png", "x.png names one file"),
        (["album/a.png"], "x.jpg", "a.png stays a png file; name the result x.png"),
        (["album"], "album", "would be overwritten by its result"),
        (["album/a.png"], "album/a.png", "would be overwritten by its result"),
        (["album/a.png", "twin/a.png"], "out", "would both be written to out/a.png"),
        (["empty"], "out", "no photos found; --recursive also searches subfolders"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_done(inputs, output, message, album, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "twin" / "a.png")
    (tmp_path / "empty").mkdir()
    before = files_in(tmp_path)
    result = kdlib(*inputs, "-o", output)
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())
    assert files_in(tmp_path) == before


# Doing it


@pytest.mark.slow
def test_results_are_the_enhancers(album, tmp_path):
    result = kdlib(album, "-o", tmp_path / "out", "--recursive", "--strength", "0.7", "--workers", 2)
    assert result.exit_code == 0, result.output
    assert "4 enhanced" in result.output
    expected = Enhancer(strength=0.7)(np.asarray(Image.open(album / "deep/er/d.bmp")))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/deep/er/d.bmp")), expected)


def test_inputs_are_never_touched(album, tmp_path):
    before = files_in(album)
    kdlib(album, "-o", tmp_path / "out", "--recursive")
    assert files_in(album) == before


def test_existing_results_are_safe_unless_overwritten(album, tmp_path):
    out = tmp_path / "out"
    old = photo(out / "a.png", seed=99).read_bytes()
    result = kdlib(album, "-o", out)
    assert result.exit_code == 1
    assert "1 of 2 results exist" in result.output
    assert files_in(out) == {"a.png": old}
    assert kdlib(album, "-o", out, "--overwrite").exit_code == 0
    assert (out / "a.png").read_bytes() != old
    (out / "a.png").write_bytes(old)
    (out / "b.jpg").unlink()
    assert kdlib(album, "-o", out, "--resume").exit_code == 0
    assert (out / "a.png").read_bytes() == old
    assert (out / "b.jpg").exists()


def test_the_summary_says_where_the_results_are(album, tmp_path):
    def summary(*arguments):
        [line] = [line for line in kdlib(*arguments).output.splitlines() if " enhanced" in line]
        return line

    assert summary(album, "-o", tmp_path / "out").endswith(f"→ {tmp_path / 'out'}")
    assert summary(album, "-o", tmp_path / "out", "--resume").endswith(f"2 kept, 0.0 s → {tmp_path / 'out'}")
    assert summary(album / "a.png").endswith(f"→ {album / 'a_enhanced.png'}")
    everything = summary(album, "--recursive")
    assert everything.startswith("5 enhanced")
    assert everything.endswith(f"→ {tmp_path / 'album_enhanced'}")


def test_the_bar_says_at_the_start_that_the_first_run_compiles(album, tmp_path, monkeypatch):
    shown = []

    class Bar(Progress):
        def add_task(self, *arguments, **fields):
            shown.append((fields["total"], fields["speed"]))
            return super().add_task(*arguments, **fields)

        def update(self, task, *, completed, total, speed):
            shown.append((total, speed))
            super().update(task, completed=completed, total=total, speed=speed)

    monkeypatch.setattr("kdlib.cli.enhance.progress_bar", Bar)
    assert kdlib(album, "-o", tmp_path / "out").exit_code == 0
    assert [total for total, _ in shown] == [None, 2, 2, 2]
    assert shown[0][1] == shown[1][1] == "starting; the first run compiles once, for some seconds"
    assert all(speed.endswith(" photos/s") for _, speed in shown[2:])


def test_results_inside_the_searched_folder_are_warned_of(album, tmp_path):
    warning = "a later run with another --output would enhance these results again"
    result = kdlib(album, "-r", "-o", album / "out")
    assert result.exit_code == 0
    assert f"{album / 'out'} lies inside {album}: {warning}" in result.output
    assert warning not in kdlib(album, "-o", album / "out2").output  # subfolders are not searched
    assert warning not in kdlib(album, "-r", "-o", tmp_path / "out").output


# Too dark

OTHER_MODEL = "another --model, of which `kdlib enhance --help` says what each is for"


@pytest.mark.parametrize(
    ("model", "strength", "advice"),
    [
        (DEFAULT_MODEL, "1", "--strength 1.5"),
        (DEFAULT_MODEL, "1.5", "--strength 2"),
        (DEFAULT_MODEL, "2", OTHER_MODEL),
        ("student-565", "1", "--strength 1.5"),
        ("student-565", "2", OTHER_MODEL),
        (DEFAULT_MODEL, "0", None),  # not to be brightened
    ],
)
def test_a_run_whose_photos_stay_dark_ends_with_one_hint(model, strength, advice, tmp_path):
    for k in range(3):
        Image.new("RGB", (40, 30), (0, 0, 0)).save(photo(tmp_path / "night" / f"{k}.png"))
    Image.new("RGB", (40, 30), (200, 200, 200)).save(tmp_path / "night" / "day.png")
    result = kdlib(tmp_path / "night", "-o", tmp_path / "out", "--model", model, "--strength", strength)
    assert result.exit_code == 0, result.output
    hints = [line for line in result.output.splitlines() if "still dark" in line]
    said = f"3 of 4 results are still dark (mean brightness below 30%): try {advice}"
    assert hints == ([said] if advice else [])


def test_a_run_with_few_dark_results_ends_without_a_hint(tmp_path):
    for k in range(5):
        Image.new("RGB", (40, 30), (200, 200, 200) if k else (0, 0, 0)).save(photo(tmp_path / "in" / f"{k}.png"))
    assert "still dark" not in kdlib(tmp_path / "in", "-o", tmp_path / "out").output


def test_darkness_is_the_mean_of_the_colours_without_alpha():
    for dtype, top in ((np.uint8, 255), (np.uint16, 65535)):
        for mean, dark in ((0.29, True), (0.31, False)):
            for shape in ((9, 17), (9, 17, 3)):
                assert is_dark(np.full(shape, mean * top, dtype)) is dark
            for colours in (1, 3):
                with_alpha = np.full((9, 17, colours + 1), top, dtype)
                with_alpha[..., :colours] = mean * top
                assert is_dark(with_alpha) is dark


@pytest.mark.parametrize("place", ["input", "output"])
def test_a_store_without_ray_is_refused_instead_of_a_folder_of_its_name(place, album, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = kdlib(*(["s3://bucket/a", "-o", "out"] if place == "input" else [album, "-o", "s3://bucket/out"]))
    assert result.exit_code == 1
    assert "is in a remote store; add --engine ray" in " ".join(result.output.split())
    assert os.listdir(tmp_path) == ["album"]


def test_overwrite_and_resume_contradict(album, tmp_path):
    result = kdlib(album, "-o", tmp_path / "out", "--overwrite", "--resume")
    assert result.exit_code == 1
    assert "choose one" in result.output


@pytest.mark.parametrize(("option", "value"), [("--strength", "3"), ("--model", "student-5"), ("--device", "tpu")])
def test_wrong_options_name_their_value(option, value, album, tmp_path):
    result = kdlib(album, "-o", tmp_path / "out", option, value)
    assert result.exit_code == 1
    assert value in result.output
    assert not (tmp_path / "out").exists()


def test_too_large_a_photo_is_refused_and_the_limit_can_be_raised(tmp_path):
    source = photo(tmp_path / "in" / "a.png", size=(50, 40))
    refused = kdlib(source, "-o", tmp_path / "out", "--max-pixels", 1999)
    assert refused.exit_code == 1
    assert "--max-pixels 2000" in " ".join(refused.output.split())
    assert kdlib(source, "-o", tmp_path / "out", "--max-pixels", 2000).exit_code == 0


def test_a_full_disk_is_reported_and_leaves_no_part(album, tmp_path, little_room):
    single_threaded(1)(np.zeros((2, 2, 3), np.uint8))  # so that its kernels need not be written
    little_room(99)
    summary = enhance_files(plan([album], tmp_path / "out"), single_threaded, workers=2)
    assert summary.done == 0
    assert all("File too large" in reason or "only 99 bytes" in reason for _, reason in summary.failed)
    assert len(summary.failed) == 2


def test_a_mistake_in_the_program_is_not_mistaken_for_a_bad_photo(album, tmp_path):
    class Mistaken(Enhancer):
        def __call__(self, *_arguments, **_options):
            return 1 / 0

    with pytest.raises(ZeroDivisionError):
        enhance_files(plan([album], tmp_path / "out"), lambda _: Mistaken(threads=1), workers=2)


# Three hundred photos, five of them bad

BAD = {
    "bad_empty.jpg": (b"", "empty"),
    "bad_text.png": (b"these are words", "not a photo"),
    "bad_header.jpg": (b"\xff\xd8\xff\xe0" + b"\0" * 40, "ends within its header"),
}


@pytest.fixture(scope="module")
def three_hundred(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    kinds = ("jpg", "png", "webp", "bmp", "tif")
    for k in range(295):
        photo(folder / f"{k:03}.{kinds[k % 5]}", seed=k, size=(160 + k % 7, 120 + k % 5))
    for name, (content, _) in BAD.items():
        (folder / name).write_bytes(content)
    whole = photo(folder / "bad_cut.png", size=(200, 200)).read_bytes()
    (folder / "bad_cut.png").write_bytes(whole[: len(whole) // 2])
    coded = photo(folder / "bad_kind.jpg", size=(60, 60)).read_bytes()
    (folder / "bad_kind.jpg").write_bytes(coded.replace(b"\xff\xc0", b"\xff\xc3"))  # which stands for lossless JPEG
    return folder


@pytest.fixture(scope="module")
def clean_run(three_hundred, tmp_path_factory):
    out = tmp_path_factory.mktemp("clean") / "out"
    return kdlib(three_hundred, "-o", out), files_in(out)


@pytest.mark.slow
def test_all_but_the_bad_ones_are_done(clean_run, three_hundred):
    result, files = clean_run
    assert result.exit_code == 1
    assert set(files) == {path.name for path in three_hundred.iterdir() if not path.name.startswith("bad_")}
    assert "295 enhanced" in result.output
    assert "5 of 300 could not be enhanced" in result.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((name, reason) for name, (_, reason) in BAD.items()),
        ("bad_cut.png", "truncated"),
        ("bad_kind.jpg", "lossless"),
    ],
)
def test_each_bad_one_is_listed_with_its_reason(name, reason, clean_run):
    [line] = [line for line in clean_run[0].output.splitlines() if name in line]
    assert reason in line


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_files(clean_run, three_hundred, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "kdlib", "enhance", str(three_hundred), "-o", str(out), "--resume"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(out.glob("[0-9]*"))) < 40:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run did not begin"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("[0-9]*")}
    assert 40 <= len(done) < 295
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert f"{295 - len(done)} enhanced, {len(done)} kept" in again.stdout
    assert files_in(out) == clean_run[1]
    assert {name: (out / name).stat().st_mtime_ns for name in done} == done, "finished photos were made again"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel tells a process's peak on Linux only")
def test_a_12_megapixel_photo_peaks_below_700_mib(tmp_path):
    source = photo(tmp_path / "big.jpg", size=(4000, 3000))
    # VmHWM and not getrusage, whose peak a process inherits from the one that started it.
    program = (
        "import sys; from kdlib.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "[line] = [line for line in open('/proc/self/status') if line.startswith('VmHWM')]\n"
        "print('KiB at most:', line.split()[1])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "enhance", str(source), "-o", str(tmp_path / "out")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (tmp_path / "out" / "big.jpg").stat().st_size > 0
    assert int(result.stdout.split("KiB at most:")[1]) / 1024 < 700


@pytest.mark.slow
def test_torch_is_not_imported(tmp_path):
    source = photo(tmp_path / "a.png")
    program = (
        "import sys; from kdlib.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, "enhance", str(source), "-o", str(tmp_path / "out")], check=True)
    assert Path(tmp_path / "out" / "a.png").exists()
