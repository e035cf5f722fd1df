import json
import re
from pathlib import Path

import pytest

from kdlib.enhance.video.enhance import enhance_video
from kdlib.enhance.video.files import VideoError
from tests.photo_kinds import ROOT, counts, with_table
from tests.video_corpus import MADE_HERE, Unchanged, bad_files, cases, differences, enhanced
from tests.video_kinds import kinds, run

pytestmark = pytest.mark.skipif(not MADE_HERE, reason="the corpus needs ffmpeg and ffprobe")
CORPUS = {case.name: case for case in cases()}
# Each container, encoder and speciality at least once; all of their combinations are the whole corpus.
FEW = (
    "cut-libx264.mp4", "cut-libx265.mov", "cut-open.ts", "ffv1-0b.mkv", "fields-libx264.mts", "fields-mpeg2video.mxf",
    "flv-0b.flv", "fragments.mp4", "h263-0b.3gp", "huffyuv-0b.avi", "index-first.mov", "late-libx264.mov",
    "libsvtav1-0b.webm",
    "libtheora-0b.ogv",  # its sound begins before 0
    "libvpx-0b.mkv", "libvpx-vp9-0b.mp4", "libx264-0b.h264", "libx264-2b.avi", "libx264-2b.m4v", "libx265-2b.mkv",
    "libxvid-2b.avi", "mjpeg-0b.mkv", "mpeg1video-2b.mpg", "mpeg2video-2b.vob", "mpeg4-2b.nut", "msmpeg4v2-0b.avi",
    "msmpeg4v3-0b.wmv", "prores_ks-0b.mov", "qtrle-0b.mov", "rate-10.ts", "rate-120.mkv", "rate-24000-1001.avi",
    "rate-30000-1001.mp4", "rate-60.mov", "rawvideo-0b.avi", "timecode.mov", "turned-180-libx265.mov",
    "turned-270-libx264.mov", "turned-90-libx264.mp4", "variable.webm", "wmv2-0b.wmv",
)  # fmt: skip


@pytest.mark.parametrize("name", FEW)
def test_frames_times_size_and_rotation_are_the_sources(name, tmp_path):
    assert enhanced(CORPUS[name], tmp_path) == []


def test_every_container_encoder_and_speciality_is_among_the_few():
    def values(names):
        words = [CORPUS[name].arguments for name in names]
        encoders = {given[given.index("-c:v") + 1] for given in words}
        plain = re.compile(r"-\db$|-lib\w+$|-mpeg2video$")
        return {Path(name).suffix for name in names}, encoders, {plain.sub("", Path(name).stem) for name in names}

    assert values(FEW) == values(CORPUS)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", sorted(CORPUS.keys() - set(FEW)))
def test_the_whole_corpus(name, tmp_path):
    assert enhanced(CORPUS[name], tmp_path) == []


# Of the table of kinds; the others take longer, or depend on the version of ffmpeg.
QUICK = {
    "MP4, H.264", "WebM, VP8", "AVI, MPEG-4", "MP4, H.264, turned by 90°", "MOV, H.264, timecode", "MP4, HEVC, HDR10",
    "MOV, HEVC, two views (MV-HEVC)", "MP4, H.264, spatial sound beside ordinary", "3GP, H.264, AMR sound, to MP4",
    "MP4, H.264, chapters, subtitles, cover", "Matroska, H.264, chapters, subtitles, attachment, to MP4",
    "WebM, VP9, odd size", "no-index.mp4", "sound.m4a",
}  # fmt: skip


def test_kinds_of_videos_are_as_the_page_says():
    stored = json.loads((ROOT / "results" / "video_kinds.json").read_text(encoding="utf-8"))
    of_kind = {row["kind"]: row for row in stored["rows"]}
    assert len(of_kind) == len(stored["rows"]) == len(kinds())
    assert of_kind.keys() >= QUICK
    rows = run(kind for kind, row in zip(kinds(), stored["rows"], strict=True) if row["kind"] in QUICK)
    assert {row["kind"]: row for row in rows} == {kind: of_kind[kind] for kind in QUICK}
    assert stored["counts"] == counts(stored["rows"])
    assert stored["counts"]["enhanced"] + stored["counts"]["refused truly"] == len(of_kind)
    page = (ROOT / "docs" / "kinds.md").read_text(encoding="utf-8")
    assert with_table(page, "videos", stored) == page


def test_what_is_no_healthy_video_is_refused(tmp_path):
    for path in bad_files(tmp_path):
        with pytest.raises(VideoError):
            enhance_video(path, tmp_path / "out.mkv", Unchanged())
    assert not (tmp_path / "out.mkv").exists()


def test_the_comparison_sees_what_differs(tmp_path):
    whole, cut = (CORPUS[name].make(tmp_path) for name in ("libx264-0b.mp4", "rate-10.mp4"))
    turned = CORPUS["turned-90-libx264.mp4"].make(tmp_path)
    assert differences(whole, whole, relative=False) == []
    assert "frames" in differences(whole, cut, relative=False)[-1]
    assert "rotation" in differences(whole, turned, relative=False)[0]
    late = CORPUS["late-libx264.mp4"].make(tmp_path)
    assert differences(whole, late, relative=False)[-1].startswith("frame ")
    assert differences(whole, late, relative=True) == []
