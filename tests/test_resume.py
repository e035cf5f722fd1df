"""`kdlib enhance --resume`: a folder remembers what made its results, and is never continued with another look."""

import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

import kdlib as package
from kdlib.enhance import Enhancer
from kdlib.enhance.folders.local import enhance_files, plan
from kdlib.enhance.folders.memory import MEMORY, LocalMemory
from kdlib.weights.catalogue import DEFAULT_MODEL, catalogue, sha256_of
from tests.helpers import kdlib, said

OTHER = "nano-161"


def photo(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 60, (12, 16, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def album(tmp_path):
    for k, name in enumerate(("a.png", "b.png", "deep/c.png")):
        photo(tmp_path / "album" / name, seed=k)
    return tmp_path / "album"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def enhance(album, out, *options):
    result = kdlib("enhance", album, "-r", "-o", out, *options)
    assert result.exit_code == 0, result.output
    return result


def everything_in(folder):
    """All files with content and time, so that even a file written again with the same content is found."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def remembered(folder):
    return json.loads((folder / MEMORY).read_text(encoding="utf-8"))["results"]


def refused(*arguments, within):
    """What a command says that fails and writes nothing."""
    before = everything_in(within)
    result = kdlib("enhance", *arguments)
    assert result.exit_code == 1
    assert everything_in(within) == before
    return said(result)


# The same options


@pytest.mark.parametrize("options", [(), ("--model", OTHER, "--strength", "0.7", "--denoise", "0.5")])
def test_the_same_options_go_on(options, album, out):
    enhance(album, out, *options)
    (out / "b.png").unlink()
    before = everything_in(out)
    assert "1 enhanced, 2 kept" in said(enhance(album, out, "--resume", *options))
    after = everything_in(out)
    after.pop("b.png")
    assert after == before
    assert len(remembered(out)) == 1


def test_the_default_model_may_be_named(album, out):
    enhance(album, out)
    enhance(album, out, "--resume", "--model", DEFAULT_MODEL, "--strength", "1")


def test_one_weights_file_may_have_two_names(album, out, tmp_path):
    mine = shutil.copy(catalogue()[OTHER].path, tmp_path / "mine.safetensors")
    enhance(album, out, "--model", OTHER)
    assert "3 kept" in said(enhance(album, out, "--resume", "--model", mine))
    assert [made["model"] for made in remembered(out)] == [OTHER]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_a_weights_file_may_have_a_name_that_is_no_text(album, out, tmp_path):
    mine = shutil.copy(catalogue()[OTHER].path, tmp_path / os.fsdecode(b"mine\xff.safetensors"))
    for options in ((), ("--resume",)):
        enhance(album, out, "--model", mine, *options)
    assert "mine\\udcff.safetensors' → " in refused(album, "-r", "-o", out, "--resume", within=tmp_path)


def test_options_that_leave_the_look_alone_may_differ(album, out):
    enhance(album, out)
    (out / "a.png").unlink()
    enhance(album, out, "--resume", "--workers", "1", "--max-pixels", "1000000", "--device", "cpu")


# Other options


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (("--model", OTHER, "--denoise", "1"), f"model '{DEFAULT_MODEL}' → '{OTHER}'"),
        (("--strength", "1.5"), "strength 1.0 → 1.5"),
        (("--denoise", "0.5"), "denoise 1.0 → 0.5"),
        (("--strength", "0.5", "--denoise", "2"), "strength 1.0 → 0.5, denoise 1.0 → 2.0"),
    ],
)
def test_other_options_are_refused_before_anything_is_written(options, difference, album, out, tmp_path):
    enhance(album, out, "--model", DEFAULT_MODEL, "--denoise", "1")
    (out / "b.png").unlink()
    options = ("--denoise", "1", *options)
    message = refused(album, "-r", "-o", out, "--resume", *options, within=tmp_path)
    assert message == (
        f"Error: {out} is the output of a run with other options ({difference}): --resume would mix two looks; give "
        "the options of that run, choose another output folder, or replace what is there with --overwrite instead"
    )


def test_other_weights_of_the_same_name_are_refused(album, out, tmp_path):
    for name in ("first", "second"):
        torch.manual_seed(len(name))
        package.save_model(package.create_model(OTHER), tmp_path / name / "mine.safetensors")
    first, second = (tmp_path / name / "mine.safetensors" for name in ("first", "second"))
    enhance(album, out, "--model", first)
    message = refused(album, "-r", "-o", out, "--resume", "--model", second, within=tmp_path)
    assert f"(weights '{sha256_of(first)[:12]}…' → '{sha256_of(second)[:12]}…')" in message


def test_a_run_stopped_before_its_first_result_is_remembered(album, out, tmp_path, before_call):
    def stop(_path):
        raise KeyboardInterrupt

    before_call("open", ".?.png.part", stop)
    kdlib("enhance", album, "-o", out)
    assert set(everything_in(out)) == {MEMORY}
    assert "strength 1.0 → 2.0" in refused(album, "-o", out, "--resume", "--strength", "2", within=tmp_path)


def test_a_folder_that_was_emptied_may_get_another_look(album, out):
    enhance(album, out)
    for path in out.rglob("*.png"):
        path.unlink()
    enhance(album, out, "--strength", "2")
    assert [made["strength"] for made in remembered(out)] == [2]


def test_results_of_a_second_run_are_remembered_beside_the_first(album, out, tmp_path):
    kdlib("enhance", album / "a.png", "-o", out)
    kdlib("enhance", album / "b.png", "-o", out, "--strength", "2")
    assert [made["strength"] for made in remembered(out)] == [1, 2]
    assert "strength 2.0 → 1.0" in refused(album, "-o", out, "--resume", within=tmp_path)
    assert "strength 1.0 → 2.0" in refused(album, "-o", out, "--resume", "--strength", "2", within=tmp_path)


def test_other_suffixes_are_other_results(album, out, tmp_path):
    enhance(album, out, "--suffix", "_s", "--strength", "2")
    enhance(album, out)
    before = everything_in(out)
    enhance(album, out, "--suffix", "_s", "--strength", "2", "--resume")
    assert "3 kept" in said(enhance(album, out, "--resume"))
    assert everything_in(out) == before
    message = refused(album, "-r", "-o", out, "--resume", "--suffix", "_s", within=tmp_path)
    assert "strength 2.0 → 1.0" in message


# Overwriting


def test_overwriting_everything_starts_over(album, out):
    enhance(album, out)
    enhance(album, out, "--overwrite", "--strength", "2")
    assert [made["strength"] for made in remembered(out)] == [2]
    assert "3 kept" in said(enhance(album, out, "--resume", "--strength", "2"))


@pytest.mark.parametrize("why", ["subfolders are left out", "a photo fails", "the run is stopped"])
def test_overwriting_a_part_remembers_both(why, album, out, tmp_path, before_call):
    enhance(album, out)
    if why == "a photo fails":
        (album / "b.png").write_text("no photo")
    if why == "the run is stopped":

        def stop(_path):
            raise KeyboardInterrupt

        before_call("open", ".c.png.part", stop)
    recursive = () if why == "subfolders are left out" else ("-r",)
    kdlib("enhance", album, "-o", out, "--overwrite", "--strength", "2", *recursive)
    assert [made["strength"] for made in remembered(out)] == [1, 2]
    assert "strength 1.0 → 2.0" in refused(album, "-r", "-o", out, "--resume", "--strength", "2", within=tmp_path)


# Nothing or nonsense remembered


def test_results_of_which_nothing_is_known_are_refused_until_the_user_tells(album, out, tmp_path):
    enhance(album, out)
    (out / MEMORY).unlink()  # as earlier versions left them
    (out / "b.png").unlink()
    message = refused(album, "-r", "-o", out, "--resume", within=tmp_path)
    assert f"{out} holds photos of which {MEMORY} does not say what made them" in message
    assert "choose another output folder, or replace what is there with --overwrite" in message
    kdlib("enhance", album / "a.png", "-o", tmp_path / "one")
    shutil.copy(tmp_path / "one" / MEMORY, out)  # as the page on photos says
    assert "1 enhanced, 2 kept" in said(enhance(album, out, "--resume"))


def test_what_is_unknown_stays_unknown_beside_new_results(album, out, tmp_path):
    photo(out / "old.png")
    enhance(album, out)
    assert [made.get("strength") for made in remembered(out)] == [None, 1]
    assert "does not say what made them" in refused(album, "-r", "-o", out, "--resume", within=tmp_path)


def test_other_files_in_the_folder_are_no_results(album, out):
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    photo(out / ".thumbnails" / "a.png")
    enhance(album, out, "--resume")
    assert "3 kept" in said(enhance(album, out, "--resume"))


@pytest.mark.parametrize("option", [(), ("--resume",), ("--overwrite",)])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "Expecting value"),
        (b"\xff", "utf-8"),
        (b"[]", "it has no list of results"),
        (b'{"results": {}}', "it has no list of results"),
        (b'{"results": [{"strength": 1}]}', "an entry without suffix"),
        (b'{"results": [{"suffix": "", "strength": 1}]}', "an entry without model and weights"),
        (b'{"results": [], "results": []}', "occurs twice"),
        (b"[" * 100_000, ""),
        (b" " * 2**20 + b"[]", "it is too large"),
        (None, "it is not a file"),
    ],
    ids=lambda value: None if isinstance(value, str) else f"{value[:8] if value else value}",
)
def test_a_damaged_memory_is_named(content, why, option, album, out, tmp_path):
    out.mkdir()
    if content is None:
        (out / MEMORY).mkdir()
    else:
        (out / MEMORY).write_bytes(content)
    message = refused(album, "-o", out, *option, within=tmp_path)
    assert f"{out / MEMORY} is damaged (" in message
    assert why in message
    assert "delete it and replace the results with --overwrite, or choose another output folder" in message


def test_a_memory_that_cannot_be_written_fails_each_photo(album, out, before_call):
    def full(_path):
        raise OSError(28, "No space left on device")

    before_call("open", f".{MEMORY}.part", full)
    result = kdlib("enhance", album, "-o", out)
    assert result.exit_code == 1
    assert said(result).count("No space left on device") == 2
    assert everything_in(out) == {}


# Where it lies


def test_a_single_photo_leaves_nothing_beside_itself(album):
    assert kdlib("enhance", album / "a.png").exit_code == 0
    assert kdlib("enhance", album / "b.png", "-o", album / "bright.png").exit_code == 0
    assert kdlib("enhance", album / "a.png", "--resume").exit_code == 0
    assert not (album / MEMORY).exists()


def test_results_beside_their_photos_are_remembered_there(album, tmp_path):
    photos = (album / "a.png", album / "b.png")
    assert kdlib("enhance", *photos).exit_code == 0
    assert "strength 1.0 → 2.0" in refused(*photos, "--resume", "--strength", "2", within=tmp_path)
    assert kdlib("enhance", album / "a.png", "--overwrite", "--strength", "2").exit_code == 0
    assert "strength 2.0 → 1.0" in refused(*photos, "--resume", within=tmp_path)
    assert kdlib("enhance", *photos, "--overwrite").exit_code == 0  # the photos themselves do not count
    assert "2 kept" in said(kdlib("enhance", *photos, "--resume"))


def test_if_one_of_two_folders_is_refused_none_is_written(album, tmp_path):
    second = photo(tmp_path / "second" / "x.png").parent
    both = [album / "a.png", second / "x.png"]
    assert kdlib("enhance", *both).exit_code == 0
    (second / MEMORY).unlink()
    (album / "a_enhanced.png").unlink()
    message = refused(*both, "--resume", within=tmp_path)
    assert f"{second} holds photos of which" in message


# Several runs at once


@pytest.mark.parametrize("same", [True, False])
def test_of_runs_that_begin_at_once_with_other_options_one_goes_on(same, out):
    settings = Enhancer().settings
    several = [{**settings, "strength": 1.0 if same else k / 8} for k in range(8)]

    def begin(chosen):
        try:
            LocalMemory(out, "", chosen, keeps=True).begin()
        except ValueError as error:
            return str(error)
        return chosen

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(begin, several))
    begun = [chosen for chosen in found if isinstance(chosen, dict)]
    assert len(begun) == (8 if same else 1)
    assert remembered(out) == [{"suffix": "", **begun[0]}]
    assert all("other options (strength" in error for error in found if isinstance(error, str))


def test_a_run_that_another_took_for_outdated_is_remembered_at_its_end(out):
    settings = Enhancer().settings
    first, second = (LocalMemory(out, "", {**settings, "strength": k}, keeps=False) for k in (1.0, 2.0))
    first.begin()
    second.begin()  # there is no result as yet
    first.end()
    second.end()
    assert [made["strength"] for made in remembered(out)] == [2, 1]


# From Python


def test_a_network_is_told_by_its_weights(album, out, tmp_path):
    torch.manual_seed(0)
    network = package.create_model(OTHER)

    def run():
        jobs = plan([album], out)
        return enhance_files(jobs, lambda threads: Enhancer(network, threads=threads), workers=2, resume=True)

    assert run().done == 2
    assert run().kept == 2
    with torch.no_grad():
        next(network.parameters()).add_(0.5)
    before = everything_in(tmp_path)
    with pytest.raises(ValueError, match=r"weights '[0-9a-f]{12}…' → '[0-9a-f]{12}…'"):
        run()
    assert everything_in(tmp_path) == before


def test_settings_say_what_decides_the_look():
    assert Enhancer(OTHER, strength=0.5, max_network_side=512).settings == {
        "model": OTHER,
        "weights": catalogue()[OTHER].sha256,
        "strength": 0.5,
        "denoise": 0.0,
        "max_network_side": 512,
    }


# On a cluster


@pytest.mark.slow
def test_a_cluster_refuses_before_it_starts(album, out, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # nobody answers there
    enhance(album, out)
    ray = ("-r", "-o", out, "--engine", "ray", "--resume")
    assert "strength 1.0 → 2.0" in refused(album, *ray, "--strength", "2", within=tmp_path)
    (out / MEMORY).write_text("{")
    assert f"{out / MEMORY} is damaged" in refused(album, *ray, within=tmp_path)


@pytest.mark.parametrize("store", ["local", "memory"])
def test_any_store_remembers(store, tmp_path):
    stores = pytest.importorskip("kdlib.enhance.folders.stores")
    root = stores.place(tmp_path / "out" if store == "local" else f"memory://{tmp_path.name}")
    settings = Enhancer().settings

    def memory(strength, *, keeps=True, suffix=""):
        return stores.memory_of(root, suffix, {**settings, "strength": strength}, keeps=keeps)

    memory(1.0).check()
    assert not root.store.exists((root / MEMORY).path)
    memory(1.0).begin()
    assert stores.is_empty(root)  # what a run without results has left does not make the next one ask
    for name in ("a.png", "deep/b.png"):
        root.store.makedirs((root / name).path.rpartition("/")[0], exist_ok=True)
        root.store.pipe_file((root / name).path, b"a result")
    memory(1.0).check()
    with pytest.raises(ValueError, match=r"strength 1\.0 → 2\.0"):
        memory(2.0).check()
    memory(2.0, suffix="_x").check()
    over = memory(2.0, keeps=False)
    over.begin()
    with pytest.raises(ValueError, match=r"strength 1\.0 → 2\.0"):
        memory(2.0).check()
    over.end(1)  # one of two
    with pytest.raises(ValueError, match=r"strength 1\.0 → 2\.0"):
        memory(2.0).check()
    over.end(2)
    memory(2.0).check()
    root.store.rm_file((root / MEMORY).path)
    with pytest.raises(ValueError, match="does not say what made them"):
        memory(2.0).check()
    root.store.pipe_file((root / MEMORY).path, b"{")
    with pytest.raises(ValueError, match=f"{MEMORY} is damaged"):
        memory(2.0).check()
