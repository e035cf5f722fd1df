import contextlib
import io
import itertools
import json
import os
import shutil
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from kdlib import Enhancer
from kdlib.cli.video import video as video_command
from kdlib.enhance.folders.videos import plan_videos
from kdlib.enhance.video.enhance import enhance_video
from kdlib.enhance.video.files import VideoError
from kdlib.enhance.video.pipeline import ahead
from kdlib.enhance.video.read import VideoSource
from kdlib.enhance.video.side_data import side_data
from kdlib.enhance.video.smoothing import MapSmoother, SceneCuts, brightness, coarse_copy, flicker
from tests.clips import (
    FRAMES,
    RATE,
    SIZE,
    add_tracks,
    frames_of,
    make_unknown,
    packet_of,
    packets_of,
    picture,
    rgb_of,
    tone,
    with_unknown_sound,
    write_clip,
    write_hdr,
    write_sound,
    write_tracks,
)
from tests.spatial_video import spatial
from tests.video_corpus import Unchanged

RNG = np.random.default_rng(0)


class Inverting(Unchanged):
    def apply(self, image, curve_map, out=None):
        out = np.empty_like(image) if out is None else out
        np.subtract(np.iinfo(image.dtype).max, image, out=out)
        return out


def shown(frame):
    """The picture as players turn it."""
    return np.rot90(rgb_of(frame), round(frame.rotation / 90))


def no_threads_left():
    return not [thread for thread in threading.enumerate() if thread.name.startswith("kdlib-")]


# --- what stays as it is ---


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv", ".webm"])
def test_pictures_change_and_sound_and_times_stay(suffix, tmp_path):
    source = write_clip(tmp_path / f"in{'.mp4' if suffix == '.m4v' else suffix}")
    report = enhance_video(source, tmp_path / "deep" / f"out{suffix}", Inverting(), crf=4)
    before, times = frames_of(source)
    after, new_times = frames_of(report.out)
    assert new_times == times
    assert report.frames == len(after) == FRAMES
    assert [frame.duration * after[0].time_base for frame in after] == [f.duration * f.time_base for f in before]
    for old, new in zip(before, after, strict=True):
        assert np.abs(255 - rgb_of(old) - rgb_of(new)).mean() < 3
    assert packets_of(report.out, "audio") == packets_of(source, "audio") != []
    assert not report.damages
    assert not report.notes
    assert [path.name for path in report.out.parent.iterdir()] == [report.out.name]


@pytest.mark.parametrize(
    ("name", "time_base", "pts"),
    [
        ("variable.mp4", Fraction(1, 90_000), np.cumsum(RNG.integers(1000, 9000, FRAMES)).tolist()),
        ("variable.mkv", Fraction(1, 1000), np.cumsum(RNG.integers(5, 400, FRAMES)).tolist()),
        ("variable.webm", Fraction(1, 1000), np.cumsum(RNG.integers(5, 400, FRAMES)).tolist()),
        ("late.mp4", Fraction(1, RATE), list(range(50, 50 + FRAMES))),
        ("film.mov", Fraction(1001, 24_000), list(range(FRAMES))),
    ],
)
def test_frame_times_are_kept_exactly(name, time_base, pts, tmp_path):
    source = write_clip(tmp_path / name, time_base=time_base, pts=pts)
    report = enhance_video(source, tmp_path / f"out{source.suffix}", Unchanged())
    (_, times), (_, new_times) = frames_of(source), frames_of(report.out)
    assert new_times == times
    with av.open(str(source)) as a, av.open(str(report.out)) as b:
        assert a.streams.video[0].time_base == b.streams.video[0].time_base
    assert packets_of(report.out, "audio") == packets_of(source, "audio")
    assert report.seconds == pytest.approx(float(times[-1] - times[0]))
    assert not report.damages


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_hidden_by_an_edit_list_stay_hidden(suffix, tmp_path):
    source = write_clip(tmp_path / "in.mp4", pts=list(range(-5, FRAMES - 5)))
    report = enhance_video(source, tmp_path / f"out{suffix}", Unchanged())
    (before, times), (after, new_times) = frames_of(source), frames_of(report.out)
    assert len(before) == FRAMES - 5
    assert new_times == times
    assert np.abs(rgb_of(before[0]) - rgb_of(after[0])).mean() < 2
    assert report.notes == ("5 frames that the file's edit list hides are left out",)


def test_transport_stream_begins_at_its_first_packet(tmp_path):
    source = write_clip(tmp_path / "in.ts", file_format="mpegts", pts=list(range(1000, 1000 + FRAMES)), audio=None)
    report = enhance_video(source, tmp_path / "out.mp4", Unchanged())
    _, times = frames_of(source)
    assert times[0] > 39
    assert frames_of(report.out)[1] == [time - times[0] for time in times]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("rotation", [(90,), (-90,), (180,), (0, True), (90, False, True)])
def test_rotation_is_kept(suffix, rotation, tmp_path):
    source = write_clip(tmp_path / "in.mp4", rotation=rotation, audio=None, frames=3)
    out = enhance_video(source, tmp_path / f"out{suffix}", Unchanged()).out
    assert VideoSource(out).display_matrix == VideoSource(source).display_matrix is not None


@pytest.mark.parametrize("rotation", [None, (90,), (-90,), (180,)])
def test_side_by_side_shows_the_original_on_the_left(rotation, tmp_path):
    source = write_clip(
        tmp_path / "in.mp4", rotation=rotation, frames=4, time_base=Fraction(1, 500), pts=[3, 7, 20, 21]
    )
    report = enhance_video(source, tmp_path / "out.mp4", Inverting(), side_by_side=True, crf=4)
    (before, times), (after, new_times) = frames_of(source), frames_of(report.out)
    assert new_times == times
    original, both = shown(before[2]), shown(after[2])
    height, width, _ = original.shape
    assert both.shape == (height, 2 * width, 3)
    assert np.abs(both[:, : width - 4] - original[:, :-4]).mean() < 3
    assert np.abs(255 - both[:, width + 4 :] - original[:, 4:]).mean() < 3
    assert report.width * report.height == 2 * width * height


@pytest.mark.parametrize(
    ("colours", "pix_fmt", "size"),
    [
        ((1, 1, 1, 1), "yuv420p", SIZE),
        ((1, 6, 6, 6), "yuv420p", SIZE),
        ((2, 5, 5, 6), "yuv420p", SIZE),
        ((2, 1, 1, 13), "yuv444p", SIZE),
        ((1, 9, 9, 14), "yuv420p10le", SIZE),
        ((0, 2, 2, 2), "yuv420p", SIZE),
        ((0, 2, 2, 2), "yuv420p", (1280, 720)),
        ((1, 1, 1, 1), "yuv422p", SIZE),
    ],
)
def test_colours_and_their_tags_come_through(colours, pix_fmt, size, tmp_path):
    source = write_clip(
        tmp_path / "in.mp4", colours=colours, pix_fmt=pix_fmt, size=size, frames=3, aspect=Fraction(4, 3)
    )
    report = enhance_video(source, tmp_path / "out.mp4", Enhancer(strength=0, denoise=0), crf=2)
    (before, _), (after, _) = frames_of(source), frames_of(report.out)
    tags = [(f.color_range, f.colorspace, f.color_primaries, f.color_trc) for f in (before[1], after[1])]
    assert tags[0] == tags[1] == colours
    assert after[1].format.name == before[1].format.name
    kind, level = (np.uint16, 4) if "10" in pix_fmt else (np.uint8, 1)
    for old, new in zip(before[1].planes, after[1].planes, strict=True):
        difference = np.abs(np.frombuffer(old, kind).astype(int) - np.frombuffer(new, kind))
        assert difference.mean() < 0.8 * level  # of 256; a wrong matrix or range is off by several
    with av.open(str(report.out)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
@pytest.mark.parametrize(
    ("colours", "size", "weights"),
    [
        ((1, 1, 1, 1), SIZE, (0.2126, 0.0722)),
        ((1, 6, 6, 6), SIZE, (0.299, 0.114)),
        ((1, 9, 9, 14), SIZE, (0.2627, 0.0593)),
        ((2, 1, 1, 1), SIZE, (0.2126, 0.0722)),
        ((0, 2, 2, 2), SIZE, (0.299, 0.114)),  # not tagged: by the height
        ((0, 2, 2, 2), (64, 720), (0.2126, 0.0722)),
    ],
)
def test_pictures_have_the_colours_that_the_tags_mean(codec, colours, size, weights, tmp_path):
    levels = (90, 60, 190)
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as out:
        exactly = {"qp": "0"} if codec == "libx264" else {"lossless": "1"}
        stream = out.add_stream(codec, rate=RATE, options=exactly)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = *size, "yuv444p"
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = colours
        frame = av.VideoFrame(*size, "yuv444p")
        for plane, level in zip(frame.planes, levels, strict=True):
            plane.update(bytes([level]) * plane.buffer_size)
        frame.pts, frame.time_base = 0, Fraction(1, RATE)
        out.mux([*stream.encode(frame), *stream.encode(None)])
    red_weight, blue_weight = weights
    full = colours[0] == 2
    y = levels[0] / 255 if full else (levels[0] - 16) / 219
    cb, cr = ((level - 128) / (255 if full else 224) for level in levels[1:])
    red, blue = y + 2 * (1 - red_weight) * cr, y + 2 * (1 - blue_weight) * cb
    green = (y - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
    expected = np.clip(np.array([red, green, blue]) * 255, 0, 255)
    (decoded,) = VideoSource(path).read([])
    assert np.abs(decoded.rgb[4:-4, 4:-4] - expected).max() <= 1


def test_ten_bits_stay_ten_bits(tmp_path):
    def ramp(i, size):
        level = np.linspace(3000, 9000, size[0]) + 64 * i
        return np.broadcast_to(level[None, :, None], (size[1], size[0], 3)).astype(np.uint16)

    source = write_clip(tmp_path / "in.mkv", pix_fmt="yuv420p10le", draw=ramp, size=(128, 48))
    report = enhance_video(source, tmp_path / "out.mp4", Inverting(), crf=2)
    (before, _), (after, _) = frames_of(source), frames_of(report.out)
    assert after[0].format.name == "yuv420p10le"
    old, new = (frame[9].to_ndarray(format="rgb48le").astype(float) for frame in (before, after))
    assert np.abs(65535 - old - new).mean() < 130  # two of 1024 levels: 8 bits would round by up to 128
    assert len(np.unique(new[20, :, 1])) > 60  # of 94 levels; 8 bits have 24


@pytest.mark.parametrize(
    ("name", "codec"),
    [("out.mp4", None), ("out.mov", None), ("out.mkv", None), ("out.webm", None), ("x.mp4", "libx264")],
)
def test_hdr_keeps_its_ten_bits_and_its_metadata(name, codec, tmp_path):
    source = write_hdr(tmp_path / "in.mp4")
    report = enhance_video(source, tmp_path / name, Unchanged(), codec=codec)
    frame = frames_of(report.out)[0][0]
    assert (frame.color_trc, frame.color_primaries, frame.format.name) == (16, 9, "yuv420p10le")
    light = VideoSource(report.out).light
    assert light == VideoSource(source).light
    assert [round(float(number), 4) for number in light.mastering] == [
        0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 0.005, 4000,
    ]  # fmt: skip
    assert light.levels == (1200, 350)
    with av.open(str(report.out)) as container:
        written = container.streams.video[0].codec_context
        wanted = {".webm": "av1"}.get(report.out.suffix, "h264" if codec else "hevc")
        assert written.codec.canonical_name == wanted
        if wanted == "hevc" and report.out.suffix != ".mkv":
            assert written.codec_tag == "hvc1"
    assert not report.notes


@pytest.mark.skipif(
    not hasattr(os, "sched_getscheduler") or os.geteuid() != 0, reason="only root's threads can be raised, on Linux"
)
def test_an_encoder_does_not_starve_the_machine(tmp_path):
    seen = set()

    class Watching(Unchanged):
        def apply(self, image, curve_map, out=None):
            with contextlib.suppress(OSError):  # a thread has just ended
                seen.update(os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task"))
            return super().apply(image, curve_map, out)

    source = write_clip(tmp_path / "in.mp4", frames=20)
    enhance_video(source, tmp_path / "out.mkv", Watching(), codec="libsvtav1")
    assert seen == {os.sched_getscheduler(0)} == {os.SCHED_OTHER}


def test_hdr_metadata_that_a_codec_cannot_carry_are_told(tmp_path):
    report = enhance_video(write_hdr(tmp_path / "in.mp4"), tmp_path / "out.mkv", Unchanged(), codec="ffv1")
    assert frames_of(report.out)[0][0].color_trc == 16
    assert report.notes == ("the HDR tags are kept, but not the metadata of the mastering display",)


def test_hdr_without_metadata_gets_none(tmp_path):
    source = write_clip(tmp_path / "in.mp4", pix_fmt="yuv420p10le", colours=(1, 9, 9, 18), frames=3)
    report = enhance_video(source, tmp_path / "out.mp4", Unchanged())
    assert frames_of(report.out)[0][0].color_trc == 18
    assert not VideoSource(report.out).light
    assert not report.notes


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_hevc_is_marked_as_players_take_it(suffix, tmp_path):
    source = write_clip(tmp_path / "in.mp4")
    out = enhance_video(source, tmp_path / f"out{suffix}", Unchanged(), codec="libx265").out
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"
    assert len(frames_of(out)[0]) == FRAMES


# --- sound and other tracks ---


def kinds_of(path):
    with av.open(str(path)) as container:
        return [(s.type, getattr(s, "name", None)) for s in container.streams]


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_sound_of_unknown_kind_is_left_out_and_the_rest_is_done(suffix, tmp_path):
    plain, source = with_unknown_sound(tmp_path)
    report = enhance_video(source, tmp_path / f"out{suffix}", Unchanged())
    assert report.notes == ("audio track 2 (of unknown kind) is left out, as FFmpeg does not know it",)
    before, after = ([content for *_, content in packets_of(path, "audio")] for path in (plain, report.out))
    assert after == before[suffix == ".mkv" :] != []  # Matroska cannot hide the encoder's first packet, so it goes
    assert len(frames_of(report.out)[0]) == FRAMES
    assert not report.damages


UNKNOWN = [(0,), (1,), (2,), (0, 2), (0, 1, 2)]
TREATED = list(itertools.product(["copy", "aac", "none"], [".mov", ".mp4", ".mkv", ".webm"]))


@pytest.mark.parametrize(
    ("audio", "suffix", "unknown"),
    [
        # Each treatment in each container, with other tracks unknown in the next.
        pytest.param(*treated, unknown, marks=[] if UNKNOWN[k % 5] == unknown else pytest.mark.exhaustive)
        for k, treated in enumerate(TREATED)
        for unknown in UNKNOWN
    ],
)
def test_any_of_several_sound_tracks_may_be_unknown(audio, suffix, unknown, tmp_path):
    parts = [write_clip(tmp_path / "plain.mp4", audio=None, frames=5)]
    parts += [write_sound(tmp_path / f"{rate}.mp4", "aac", rate=rate) for rate in (48_000, 44_100, 32_000)]
    source = write_tracks(tmp_path / "in.mp4", parts)
    for number in sorted(unknown, reverse=True):
        make_unknown(source, number)
    if (audio, suffix) == ("aac", ".webm"):
        with pytest.raises(VideoError, match="webm cannot hold AAC sound"):
            enhance_video(source, tmp_path / "out.webm", Unchanged(), audio=audio)
        return
    report = enhance_video(source, tmp_path / f"out{suffix}", Unchanged(), audio=audio)
    fitting = [k for k in range(3) if k not in unknown] if suffix != ".webm" and audio != "none" else []
    with av.open(str(report.out)) as container:
        rates = [stream.codec_context.sample_rate for stream in container.streams.audio]
    assert rates == [(48_000, 44_100, 32_000)[k] for k in fitting]
    told = [f"audio track {1 + k} (of unknown kind) is left out, as FFmpeg does not know it" for k in unknown]
    if suffix == ".webm":
        known = [k for k in range(3) if k not in unknown]
        why = "(aac) is left out because webm cannot hold it; .mkv can hold it"
        told = sorted([*told, *(f"audio track {1 + k} {why}" for k in known)])
    assert report.notes == (() if audio == "none" else tuple(told))
    assert len(frames_of(report.out)[0]) == 5


@pytest.mark.parametrize(("suffix", "kept"), [(".mkv", False), (".webm", False), (".mp4", True)])
def test_a_first_track_that_is_no_video(suffix, kept, tmp_path):
    texts = tmp_path / "texts.mp4"
    with av.open(str(texts), "w") as out:
        text = out.add_mux_stream("mov_text")
        text.time_base = Fraction(1, 1000)
        out.mux(packet_of(b"\x00\x05hello", text, 0, 500))
    source = write_tracks(tmp_path / "in.mp4", [texts, write_clip(tmp_path / "plain.mp4", audio=None)])
    report = enhance_video(source, tmp_path / f"out{suffix}", Unchanged())
    assert len(frames_of(report.out)[0]) == FRAMES
    assert kinds_of(source)[0] == ("subtitle", "mov_text")
    assert (("subtitle", "mov_text") in kinds_of(report.out)) == kept
    name = {".mkv": "matroska", ".webm": "webm"}.get(suffix)
    assert report.notes == (() if kept else (f"subtitle track 0 (mov_text) is left out because {name} cannot hold it",))


@pytest.mark.parametrize(("suffix", "holds"), [(".mkv", True), (".mov", True), (".mp4", False), (".webm", False)])
def test_amr_of_phones_goes_where_it_fits(suffix, holds, tmp_path):
    sound = write_sound(tmp_path / "sound.3gp", "libopencore_amrnb", rate=8000, layout="mono")
    source = write_tracks(tmp_path / "in.3gp", [write_clip(tmp_path / "plain.mp4", audio=None), sound])
    report = enhance_video(source, tmp_path / f"it's | out{suffix}", Unchanged())
    after = packets_of(report.out, "audio")
    if holds:
        assert [content for *_, content in after] == [content for *_, content in packets_of(source, "audio")] != []
        assert not report.notes
    else:
        assert not after
        (note,) = report.notes
        assert note.startswith("audio track 1 (amrnb) is left out because")
        assert ".mkv can hold it" in note
        assert ("--audio aac encodes it" in note) == (suffix == ".mp4")
    assert len(frames_of(report.out)[0]) == FRAMES


def test_sound_that_only_the_end_of_the_file_refuses_is_left_out(tmp_path):
    source = write_clip(tmp_path / "in.avi", codec="mpeg4", audio="pcm_s16le")
    report = enhance_video(source, tmp_path / "out.mp4", Unchanged())
    assert [kind for kind, _ in kinds_of(report.out)] == ["video"]
    assert report.notes[0].startswith("audio track 1 (pcm_s16le) is left out because mp4 cannot hold it")
    out = enhance_video(source, tmp_path / "out.mkv", Unchanged()).out
    assert [content for *_, content in packets_of(out, "audio")] == [c for *_, c in packets_of(source, "audio")]


def heard(path):
    """The samples of the first sound track, one channel, and the time of the first."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        resampler = av.AudioResampler("flt", "mono", 48_000)
        samples = [new.to_ndarray()[0] for frame in [*frames, None] for new in resampler.resample(frame)]
        return np.concatenate(samples), float(frames[0].pts * frames[0].time_base)


@pytest.mark.parametrize(("audio", "name"), [("pcm_s16le", "in.mov"), ("ac3", "in.mkv"), ("flac", "in.mkv")])
def test_sound_can_be_encoded_as_aac(audio, name, tmp_path):
    source = write_clip(tmp_path / name, audio=audio)
    report = enhance_video(source, tmp_path / "out.mp4", Unchanged(), audio="aac")
    assert kinds_of(report.out)[1] == ("audio", "aac")
    (before, start), (after, new_start) = heard(source), heard(report.out)
    assert new_start == pytest.approx(start, abs=0.03)
    assert len(after) / 48_000 == pytest.approx(len(before) / 48_000, abs=0.05)
    middle = slice(12_000, 24_000)
    near = max(np.corrcoef(np.roll(before, shift)[middle], after[middle])[0, 1] for shift in range(-63, 64))
    assert near > 0.99  # the tone has a period of 126 samples
    assert not report.notes


def test_aac_is_copied_where_aac_is_asked_for(tmp_path):
    source = write_clip(tmp_path / "in.mp4")
    out = enhance_video(source, tmp_path / "out.mov", Unchanged(), audio="aac").out
    assert [content for *_, content in packets_of(out, "audio")] == [c for *_, c in packets_of(source, "audio")]


def test_sound_can_be_left_out(tmp_path):
    report = enhance_video(write_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4", Unchanged(), audio="none")
    assert [kind for kind, _ in kinds_of(report.out)] == ["video"]
    assert not report.notes


def test_webm_takes_no_aac(tmp_path):
    with pytest.raises(VideoError, match=r"webm cannot hold AAC sound; write to \.mp4 or \.mkv"):
        enhance_video(write_clip(tmp_path / "in.mp4"), tmp_path / "out.webm", Unchanged(), audio="aac")
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_timecode_of_cameras_is_kept(tmp_path):
    source = tmp_path / "in.mov"
    with av.open(str(write_clip(tmp_path / "plain.mp4"))) as container, av.open(str(source), "w") as out:
        copies = {s.index: out.add_stream_from_template(s, opaque=True) for s in container.streams}
        copies[0].metadata["timecode"] = "01:02:03:04"
        for packet in container.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    report = enhance_video(source, tmp_path / "out.mov", Unchanged())
    assert kinds_of(report.out) == kinds_of(source)
    with av.open(str(report.out)) as container:
        assert container.streams.video[0].metadata["timecode"] == "01:02:03:04"
    assert not report.notes


# --- times ---


def test_a_first_frame_at_zero_is_no_frame_without_a_time(tmp_path):
    """Decoding times lie before display times though no frame is reordered, as with phones and action cameras."""
    plain = write_clip(tmp_path / "plain.mp4", options={"bf": "0"}, audio=None, time_base=Fraction(1, 90_000),
                       pts=[3600 * i for i in range(FRAMES)])  # fmt: skip
    source = tmp_path / "in.mp4"
    with av.open(str(plain)) as container, av.open(str(source), "w") as out:
        copy = out.add_stream_from_template(container.streams.video[0], opaque=True)
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream, packet.dts = copy, packet.dts - 100
                out.mux(packet)
    report = enhance_video(source, tmp_path / "out.mp4", Unchanged())
    assert frames_of(report.out)[1] == [Fraction(i, RATE) for i in range(FRAMES)]
    assert not report.damages


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_avi_with_reordered_frames_has_no_damage(codec, tmp_path):
    source = write_clip(tmp_path / "in.avi", codec=codec, options={"bf": "2", "b:v": "4M"}, audio=None)
    report = enhance_video(source, tmp_path / "out.mp4", Unchanged(), crf=4)
    (before, _), (after, times) = frames_of(source), frames_of(report.out)
    assert len(after) == len(before) == FRAMES
    assert np.diff(times).tolist() == [Fraction(1, RATE)] * (FRAMES - 1)
    assert max(np.abs(rgb_of(a) - rgb_of(b)).mean() for a, b in zip(before, after, strict=True)) < 3
    assert not report.damages


def test_side_data_that_pyav_has_no_name_for(tmp_path):
    """EXIF data in motion JPEG; the second view of spatial videos is another such kind."""
    source, exif = tmp_path / "in.avi", Image.Exif()
    exif[0x0112] = 6  # to be turned
    image = io.BytesIO()
    Image.fromarray(picture(0)).save(image, "JPEG", exif=exif)
    with av.open(str(source), "w") as out:
        stream = out.add_mux_stream("mjpeg", rate=RATE, width=SIZE[0], height=SIZE[1])
        stream.time_base = Fraction(1, RATE)
        for i in range(5):
            out.mux(packet_of(image.getvalue(), stream, i, 1))
    with pytest.raises(ValueError, match="is not a valid Type"):
        frames_of(source)[0][0].side_data  # noqa: B018
    report = enhance_video(source, tmp_path / "out.mp4", Unchanged())
    before, after = frames_of(source)[0], frames_of(report.out)[0]
    assert len(before) == len(after) == 5
    assert after[0].rotation == before[0].rotation != 0


@pytest.mark.parametrize(("name", "announced"), [("in.mov", True), ("in.mp4", True), ("in.mkv", False)])
@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
def test_the_first_view_of_a_spatial_video_is_a_plain_video(name, announced, suffix, tmp_path):
    options = {"x265-params": "log-level=error:bframes=2"}
    left = write_clip(tmp_path / "left.mp4", codec="libx265", options=options, audio=None)
    right = write_clip(tmp_path / "right.mp4", codec="libx265", options=options, audio=None)
    source = spatial(left, right, tmp_path / name)
    (before, times), held = frames_of(source), packets_of(source, "video")
    with pytest.raises(ValueError, match="29 is not a valid Type"):  # the number of a view
        before[0].side_data  # noqa: B018
    with av.open(str(source)) as container:
        multilayer = av.stream.Disposition.multilayer in container.streams.video[0].disposition
    assert multilayer == announced
    assert len(held[3][2]) > len(packets_of(left, "video")[3][2]) + 8  # the second view is there
    report = enhance_video(source, tmp_path / f"out{suffix}", Unchanged(), crf=4)
    after, new_times = frames_of(report.out)
    assert new_times == times == frames_of(left)[1]
    assert max(np.abs(rgb_of(a) - rgb_of(b)).mean() for a, b in zip(before, after, strict=True)) < 3
    stereo = ("what makes the video stereo (spatial) cannot be kept",) if announced else ()
    assert report.notes == (*stereo, "the second view of a spatial video (MV-HEVC) cannot be kept")
    assert not report.damages
    assert not {"STEREO3D", "VIEW_ID"} & set(side_data(after[0]))
    with av.open(str(report.out)) as container:
        assert av.stream.Disposition.multilayer not in container.streams.video[0].disposition


def test_what_else_frames_carry_is_told(tmp_path):
    source = write_clip(tmp_path / "in.mp4", options={"x264-params": "frame-packing=3"}, audio=None, frames=3)
    report = enhance_video(source, tmp_path / "out.mp4", Unchanged())
    assert report.notes == ("what makes the video stereo (spatial) cannot be kept",)


def test_a_recording_that_begins_amid_pictures_begins_with_the_first_whole_one(tmp_path):
    plain = write_clip(tmp_path / "plain.ts", file_format="mpegts", audio=None, options={"bf": "0"}, gop=8)
    source = tmp_path / "in.ts"
    with av.open(str(plain)) as container, av.open(str(source), "w", format="mpegts") as out:
        copy = out.add_stream_from_template(container.streams.video[0], opaque=True)
        for number, packet in enumerate(container.demux(video=0)):
            if packet.size and number >= 3:
                packet.stream = copy
                out.mux(packet)
    (_, times), report = frames_of(source), enhance_video(source, tmp_path / "out.mp4", Unchanged())
    new_times = frames_of(report.out)[1]
    assert [time - new_times[0] for time in new_times] == [time - times[0] for time in times]
    assert 0 < len(times) < FRAMES
    assert not report.damages


def test_output_with_more_bits_is_computed_with_more(tmp_path):
    seen = set()

    class Looking(Unchanged):
        def estimate(self, image):
            seen.add(image.dtype.name)
            return super().estimate(image)

    source = write_clip(tmp_path / "in.mp4")
    report = enhance_video(source, tmp_path / "out.mp4", Looking(), pixel_format="yuv420p10le")
    assert frames_of(report.out)[0][0].format.name == "yuv420p10le"
    assert seen == {"uint16"}


@pytest.mark.parametrize(("suffix", "pix_fmt"), [(".webm", "yuv420p"), (".mp4", "yuv444p")])
def test_odd_size_is_kept(suffix, pix_fmt, tmp_path):
    source = write_clip(tmp_path / "in.webm", size=(65, 49))
    out = tmp_path / f"out{suffix}"
    report = enhance_video(source, out, Unchanged(), crf=4)
    (before, _), (after, _) = frames_of(source), frames_of(out)
    assert (after[0].width, after[0].height, after[0].format.name) == (65, 49, pix_fmt)
    assert np.abs(rgb_of(before[3]) - rgb_of(after[3])).mean() < 3
    assert any("odd side" in note for note in report.notes) == (suffix == ".mp4")


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "name"),
    [
        ("ffv1", "bgr0", "in.mkv"),
        ("libx264rgb", "bgr24", "in.mkv"),
        ("mpeg4", "yuv420p", "in.avi"),
        ("mjpeg", "yuvj420p", "in.avi"),
        ("mpeg2video", "yuv420p", "in.ts"),
        ("libvpx", "yuv420p", "in.webm"),
        ("libx265", "yuv420p", "in.mp4"),
    ],
)
def test_other_codecs_are_read_without_false_alarm(codec, pix_fmt, name, tmp_path):
    options = {"auto-alt-ref": "1", "lag-in-frames": "12", "b:v": "200k"} if codec == "libvpx" else {"b:v": "4M"}
    source = write_clip(tmp_path / name, codec=codec, pix_fmt=pix_fmt, audio=None, options=options)
    report = enhance_video(source, tmp_path / "out.mkv", Unchanged(), crf=4)
    (before, times), (after, new_times) = frames_of(source), frames_of(report.out)
    assert len(after) == len(before) == FRAMES
    assert np.allclose(np.diff(np.array(new_times, float)), np.diff(np.array(times, float)), atol=0.0011)
    assert np.abs(rgb_of(before[5]) - rgb_of(after[5])).mean() < 3
    assert not report.damages


@pytest.mark.parametrize(("codec", "shown_bit"), [("libvpx", 0x10), ("libvpx-vp9", 0x02)])
def test_packets_that_hold_no_picture_are_not_missed(codec, shown_bit, tmp_path):
    plain = write_clip(tmp_path / "plain.webm", codec=codec, audio=None, options={"b:v": "1M"})
    source = tmp_path / "in.nut"  # the writers of other formats put such pictures into the packets that follow them
    with av.open(str(plain)) as container, av.open(str(source), "w") as out:
        copy = out.add_stream_from_template(container.streams.video[0], opaque=True)
        for number, packet in enumerate(container.demux(video=0)):
            if packet.size:
                if number == 5:  # pictures that are only referred to are marked by a bit of the first byte
                    content = bytearray(bytes(packet))
                    content[0] &= ~shown_bit
                    out.mux(packet_of(bytes(content), copy, packet.pts - 10, 0, packet.time_base))
                packet.stream = copy
                out.mux(packet)
    assert len(packets_of(source, "video")) == len(frames_of(source)[0]) + 1
    report = enhance_video(source, tmp_path / "out.webm", Unchanged())
    assert frames_of(report.out)[1] == frames_of(plain)[1]
    assert not report.damages


def test_last_frame_is_shown_as_long_as_it_was(tmp_path):
    source, in_order = tmp_path / "in.mp4", {"bf": "0"}
    with av.open(str(source), "w") as out:
        stream = out.add_stream("libx264", rate=RATE, options=in_order)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = *SIZE, "yuv420p"
        context.time_base = stream.time_base = Fraction(1, 1000)
        context.flags |= av.codec.context.Flags.frame_duration
        for i in range(6):
            frame = av.VideoFrame.from_ndarray(picture(i))
            frame.pts, frame.duration, frame.time_base = 40 * i, 40 if i < 5 else 700, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    lengths = []
    for path in (source, enhance_video(source, tmp_path / "out.mp4", Unchanged(), options=in_order).out):
        frame = frames_of(path)[0][-1]
        lengths.append(frame.duration * frame.time_base)
    assert lengths == [Fraction(7, 10)] * 2


def test_unit_of_time_is_kept_across_formats(tmp_path):
    source = write_clip(tmp_path / "in.mkv")
    with av.open(str(enhance_video(source, tmp_path / "out.mp4", Unchanged()).out)) as container:
        assert container.streams.video[0].time_base == Fraction(1, 1000)


def test_interlaced_video_stays_interlaced(tmp_path):
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
    source = write_clip(tmp_path / "in.mp4", size=(64, 64), options=options)
    report = enhance_video(source, tmp_path / "out.mp4", Unchanged())
    (before, times), (after, new_times) = frames_of(source), frames_of(report.out)
    assert before[0].interlaced_frame
    assert after[0].interlaced_frame
    assert new_times == times


def described(path):
    with av.open(str(path)) as container:
        kinds = [(s.type, s.metadata.get("language")) for s in container.streams if s.type != "data"]
        chapters = [
            (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]), c["metadata"]["title"])
            for c in container.chapters()
        ]
        tags = {key.lower(): value for key, value in container.metadata.items()}
        return kinds, chapters, {key: tags.get(key) for key in ("title", "comment", "creation_time")}


@pytest.mark.parametrize(("suffix", "subtitles", "cover"), [(".mkv", "subrip", False), (".mp4", "mov_text", True)])
def test_all_tracks_chapters_and_tags_are_kept(suffix, subtitles, cover, tmp_path):
    plain = write_clip(tmp_path / f"plain{suffix}")
    source = add_tracks(plain, tmp_path / f"in{suffix}", subtitles=subtitles, cover=cover)
    report = enhance_video(source, tmp_path / f"out{suffix}", Unchanged())
    assert described(report.out) == described(source)
    kinds, chapters, tags = described(source)
    assert [kind for kind, _ in kinds].count("audio") == 2
    assert len(chapters) == 2
    assert tags["title"] == "A night"
    assert packets_of(report.out, "audio") == packets_of(source, "audio")
    assert packets_of(source, "subtitle")[-1] == packets_of(report.out, "subtitle")[-1]
    assert not report.notes
    assert len(frames_of(report.out)[0]) == FRAMES


def test_tracks_that_do_not_fit_are_named(tmp_path):
    source = add_tracks(write_clip(tmp_path / "plain.mkv"), tmp_path / "in.mkv", subtitles="subrip")
    report = enhance_video(source, tmp_path / "out.mp4", Unchanged())
    assert report.notes == (
        "subtitle track 3 (srt) is left out because mp4 cannot hold it",
        "attachment track 4 (font.ttf) is left out because mp4 cannot hold it",
    )
    assert [kind for kind, _ in described(report.out)[0]] == ["video", "audio", "audio"]


def test_tags_of_phones_and_the_time_of_recording_are_kept(tmp_path):
    tags = {"creation_time": "2024-05-06T07:08:09.000000Z", "com.android.version": "14", "title": "A night"}
    plain = write_clip(tmp_path / "plain.mp4")
    source = tmp_path / "in.mp4"
    options = {"movflags": "use_metadata_tags"}
    with av.open(str(plain)) as container, av.open(str(source), "w", container_options=options) as out:
        out.metadata.update(tags)
        copies = {s.index: out.add_stream_from_template(s, opaque=True) for s in container.streams}
        for packet in container.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    out = enhance_video(source, tmp_path / "out.mp4", Unchanged()).out
    with av.open(str(out)) as container:
        assert {key: container.metadata.get(key) for key in tags} == tags


# --- damage ---


def damage(path, numbers, start=0.0):
    """Overwrite the bytes of some video packets, counted in the order they are stored, from a share of them on."""
    with av.open(str(path)) as container:
        places = [(p.pos, p.size, p.pts * p.time_base) for p in container.demux(video=0) if p.size]
    content = bytearray(path.read_bytes())
    for number in numbers:
        position, size, _ = places[number]
        first = position + int(size * start)
        content[first : position + size] = b"\x55" * (position + size - first)
    path.write_bytes(content)
    return sorted(float(places[number][2]) for number in numbers)


ONE_BY_ONE = {"libx264": {"bf": "0"}, "mpeg4": {"b:v": "4M"}, "libx265": {"x265-params": "bframes=0:log-level=error"}}


@pytest.mark.parametrize("codec", ONE_BY_ONE)
@pytest.mark.parametrize("numbers", [[5], [10, 11], [FRAMES - 1]])
def test_lost_frames_are_bridged_and_reported(codec, numbers, tmp_path):
    source = write_clip(tmp_path / "in.mp4", codec=codec, options=ONE_BY_ONE[codec])
    times = frames_of(source)[1]
    lost = damage(source, numbers)
    assert len(frames_of(source)[0]) < FRAMES
    report = enhance_video(source, tmp_path / "out.mp4", Unchanged(), crf=4)
    after, new_times = frames_of(report.out)
    assert new_times == times
    assert report.frames == FRAMES
    assert [damage.time for damage in report.damages if damage.repeated][: len(lost)] == pytest.approx(lost)
    assert np.abs(rgb_of(after[numbers[0]]) - rgb_of(after[numbers[0] - 1])).mean() < 1  # the picture before once more
    assert packets_of(report.out, "audio") == packets_of(source, "audio")


def test_frames_that_depend_on_a_lost_one_keep_their_places(tmp_path):
    source = write_clip(tmp_path / "in.mp4", codec="libx265")
    times = frames_of(source)[1]
    (lost,) = damage(source, [7])
    report = enhance_video(source, tmp_path / "out.mp4", Unchanged())
    assert frames_of(report.out)[1] == times
    assert lost in [pytest.approx(damage.time) for damage in report.damages]


def test_lost_first_frames_show_the_first_good_one(tmp_path):
    source = write_clip(tmp_path / "in.mp4", codec="mpeg4")
    times = frames_of(source)[1]
    damage(source, [0, 1])
    report = enhance_video(source, tmp_path / "out.mp4", Unchanged(), crf=4)
    after, new_times = frames_of(report.out)
    assert new_times == times
    assert report.damages[0].time == 0
    assert report.damages[0].repeated
    assert np.abs(rgb_of(after[0]) - rgb_of(after[1])).mean() < 1


def test_frames_that_the_decoder_patches_are_reported(tmp_path):
    source = write_clip(tmp_path / "in.mp4", codec="mpeg4", options={"b:v": "4M"})
    (patched,) = damage(source, [7], start=0.6)
    report = enhance_video(source, tmp_path / "out.mp4", Unchanged())
    assert [(damage.time, damage.repeated) for damage in report.damages] == [(pytest.approx(patched), False)]
    assert report.frames == FRAMES


def test_a_lost_stretch_of_packets_is_told_and_sound_stays_in_sync(tmp_path):
    source = write_clip(tmp_path / "in.mkv", audio=None, frames=60)
    with av.open(str(source)) as container:
        places = [p.pos for p in container.demux(video=0) if p.size]
    content = bytearray(source.read_bytes())
    content[places[20] - 8 : places[20]] = b"\xff" * 8  # the head of a block: what follows cannot be found
    source.write_bytes(content)
    there, times = frames_of(source)
    assert len(there) < 60
    report = enhance_video(source, tmp_path / "out.mkv", Unchanged())
    assert set(times) <= set(frames_of(report.out)[1])
    assert report.damages or report.notes


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_truncated_file_gives_what_is_there(suffix, tmp_path):
    source = write_clip(tmp_path / f"in{suffix}", frames=75)
    content = source.read_bytes()
    source.write_bytes(content[: len(content) // 2])
    there, times = frames_of(source)
    assert 5 < len(there) < 75
    report = enhance_video(source, tmp_path / f"out{suffix}", Unchanged())
    assert frames_of(report.out)[1][: len(times)] == times
    assert any("breaks off after" in note for note in report.notes)


def test_truncated_mp4_with_its_index_in_front(tmp_path):
    plain, source = write_clip(tmp_path / "plain.mp4", frames=75), tmp_path / "in.mp4"
    with (
        av.open(str(plain)) as container,
        av.open(str(source), "w", container_options={"movflags": "faststart"}) as out,
    ):
        copies = {s.index: out.add_stream_from_template(s, opaque=True) for s in container.streams}
        for packet in container.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    content = source.read_bytes()
    source.write_bytes(content[: len(content) // 2])
    report = enhance_video(source, tmp_path / "out.mp4", Unchanged())
    times = frames_of(plain)[1]
    new_times = frames_of(report.out)[1]
    assert 5 < len(new_times) < 75
    assert new_times == times[: len(new_times)]
    assert any("breaks off after" in note for note in report.notes)


def test_mp4_without_its_index_is_told_apart(tmp_path):
    source = write_clip(tmp_path / "in.mp4")
    content = source.read_bytes()
    source.write_bytes(content[: content.rindex(b"moov") - 4])
    with pytest.raises(VideoError, match=r"in\.mp4 is cut off: the index .* is missing"):
        enhance_video(source, tmp_path / "out.mp4", Unchanged())


# --- what goes wrong, and what is left behind ---


def test_files_that_are_no_videos(tmp_path):
    files = {name: tmp_path / name for name in ("empty.mp4", "text.txt", "noise.mp4", "photo.jpg", "sound.mp4")}
    files["empty.mp4"].touch()
    files["text.txt"].write_text("a word\n" * 50)
    files["noise.mp4"].write_bytes(RNG.bytes(5000))
    Image.new("RGB", (32, 32)).save(files["photo.jpg"])
    with av.open(str(files["sound.mp4"]), "w") as out:
        stream = out.add_stream("aac", rate=48_000)
        out.mux([*stream.encode(tone(0, stream)), *stream.encode(None)])
    reasons = {
        files["empty.mp4"]: "is empty",
        files["text.txt"]: "not a video",
        files["noise.mp4"]: "not a video in a known format",
        files["photo.jpg"]: "not a video but a photo",
        files["sound.mp4"]: r"contains no video \(only audio\)",
        tmp_path: "is a folder",
        tmp_path / "none.mp4": "no such file",
    }
    for path, reason in reasons.items():
        with pytest.raises(VideoError, match=reason) as caught:
            enhance_video(path, tmp_path / "new" / "out.mp4", Unchanged())
        assert str(path) in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_output_that_exists_or_is_the_source(tmp_path):
    source = write_clip(tmp_path / "in.mp4")
    content = source.read_bytes()
    link = tmp_path / "link.mp4"
    link.symlink_to(source)
    for same in (source, link):
        with pytest.raises(VideoError, match="is the source itself"):
            enhance_video(source, same, Unchanged(), overwrite=True)
    taken = tmp_path / "taken.mp4"
    taken.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"taken\.mp4 exists; .* --overwrite"):
        enhance_video(source, taken, Unchanged())
    assert taken.read_bytes() == b"mine"
    folder = tmp_path / "folder.mp4"
    folder.mkdir()
    with pytest.raises(VideoError, match="is a folder"):
        enhance_video(source, folder, Unchanged(), overwrite=True)
    enhance_video(source, taken, Unchanged(), overwrite=True)
    assert len(frames_of(taken)[0]) == FRAMES
    assert source.read_bytes() == content


@pytest.mark.parametrize(
    ("out", "settings", "reason"),
    [
        ("out.xyz", {}, r"out\.xyz: videos are written as \.mp4, \.m4v, \.mov, \.mkv, \.webm"),
        ("out", {}, "videos are written as"),
        ("out.mp4", {"codec": "nonsense"}, "no encoder is named 'nonsense'"),
        ("out.mp4", {"codec": "aac"}, "aac is not a video encoder"),
        ("out.mp4", {"options": {"wrong": "1"}}, "libx264 has no option wrong"),
        ("out.mp4", {"codec": "mpeg4", "crf": 20}, "mpeg4 has no option crf"),
        (
            "out.mp4",
            {"pixel_format": "rgb24"},
            "libx264 does not support the pixel format 'rgb24'; choose from yuv420p",
        ),
        ("out.mov", {"codec": "libvpx"}, "mov cannot hold libvpx video.*choose another --codec"),
        ("out.mp4", {"codec": "flv"}, "mp4 cannot hold flv video"),
        ("out.mp4", {"smoothing": -1}, r"smoothing \(in seconds\) must be a number of at least 0"),
        ("out.mp4", {"options": {"preset": "nonsense"}}, "libx264 does not support 64×48 yuv420p"),
    ],
)
def test_settings_that_do_not_work(out, settings, reason, tmp_path):
    source = write_clip(tmp_path / "in.mp4")
    with pytest.raises(ValueError, match=reason):
        enhance_video(source, tmp_path / out, Unchanged(), **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_odd_size_that_was_asked_for_as_420(tmp_path):
    source = write_clip(tmp_path / "in.webm", size=(65, 49))
    with pytest.raises(VideoError, match=r"65×49 as yuv420p.*--pixel-format yuv444p"):
        enhance_video(source, tmp_path / "out.mp4", Unchanged(), pixel_format="yuv420p")


@pytest.mark.parametrize("failure", [RuntimeError("broken"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["enhance", "progress"])
def test_failure_stops_everything_and_leaves_nothing(failure, where, tmp_path):
    source = write_clip(tmp_path / "in.mp4", frames=60)
    out = tmp_path / "out.mp4"
    out.write_bytes(b"earlier")

    class Failing(Unchanged):
        calls = 0

        def estimate(self, image):
            self.calls += 1
            if self.calls == 9 and where == "enhance":
                raise failure
            return super().estimate(image)

    def progress(frames, _):
        if frames == 9 and where == "progress":
            raise failure

    with pytest.raises(type(failure)):
        enhance_video(source, out, Failing(), overwrite=True, progress=progress)
    assert out.read_bytes() == b"earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]
    assert no_threads_left()


def test_progress_counts_the_frames(tmp_path):
    source = write_clip(tmp_path / "in.mp4")
    seen = []
    enhance_video(source, tmp_path / "out.mp4", Unchanged(), progress=lambda *numbers: seen.append(numbers))
    assert seen == [(i + 1, FRAMES) for i in range(FRAMES)]


# --- the pipeline ---


def test_ahead_keeps_order_and_hands_on_failures():
    assert list(ahead((i for i in range(100)), 3)) == list(range(100))

    def failing():
        yield 1
        raise RuntimeError("broken")

    stage = ahead((2 * i for i in ahead(failing(), 1)), 1)
    assert next(stage) == 2
    with pytest.raises(RuntimeError, match="broken"):
        next(stage)
    assert no_threads_left()


def test_ahead_stops_when_nobody_listens_any_more():
    closed = []

    def endless():
        try:
            yield from iter(int, 1)
        finally:
            closed.append(True)

    stage = ahead(ahead(endless(), 2), 2)
    assert next(stage) == 0
    stage.close()
    assert closed == [True]
    assert no_threads_left()


# --- smoothing ---


def scene(seed, width=160, height=90):
    """A textured dark picture, the same for a seed."""
    cells = np.random.default_rng(seed).integers(5, 90, (9, 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC))


def constant_map(level):
    return np.full((3, 4, 3), level, np.float32)


@pytest.mark.parametrize("rate", [10, 24, 60])
def test_smoothing_follows_in_seconds_whatever_the_frame_rate(rate):
    smoother = MapSmoother(0.5)
    smoother(constant_map(0.0), scene(1), 0.0)
    for i in range(1, rate // 2 + 1):
        current = smoother(constant_map(1.0), scene(1), i / rate)
    assert current == pytest.approx(1 - np.exp(-1), abs=1e-5)


def test_smoothing_with_variable_frame_times():
    smoother = MapSmoother(0.5)
    smoother(constant_map(0.0), scene(1), 2.0)
    for time in (2.01, 2.2, 2.21, 2.4, 2.5):
        current = smoother(constant_map(1.0), scene(1), time)
    assert current == pytest.approx(1 - np.exp(-1), abs=1e-5)


def test_without_smoothing_each_frame_has_its_own_map():
    smoother = MapSmoother(0)
    for i, level in enumerate((0.1, 0.9, 0.4)):
        assert smoother(constant_map(level), scene(1), i / 25) == pytest.approx(level)


def test_smoothing_begins_anew_with_a_scene_and_another_size():
    smoother = MapSmoother(10.0)
    smoother(constant_map(0.0), scene(1), 0.0)
    assert smoother(constant_map(0.5), 255 - scene(2), 0.04) == pytest.approx(0.5)
    assert smoother.cut
    assert smoother(np.full((2, 2, 3), 0.25, np.float32), 255 - scene(2), 0.08) == pytest.approx(0.25)
    assert not smoother.cut


@pytest.mark.parametrize("seed", range(8))
def test_cuts_between_scenes_are_found(seed):
    cuts = SceneCuts()
    brighter = (scene(seed + 100).astype(int) * 2 + 30).astype(np.uint8)
    assert [cuts(frame) for frame in (scene(seed), scene(seed), brighter, brighter, scene(seed))] == [
        True, False, True, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_motion_flashes_noise_and_fades_are_no_cuts(seed):
    wide = scene(seed, width=640)
    frames = [wide[:, 8 * i : 8 * i + 160] for i in range(20)]  # 5 % of the width a frame
    frames += [wide[:, 16 * i : 16 * i + 160] for i in range(10, 30)]  # 10 %
    still = frames[-1].astype(float)
    frames += [still * gain for gain in (1, 2.5, 1, 8, 1)]  # all lights
    lamp = np.zeros_like(still)
    lamp[20:50, 100:130] = 160
    frames += [still + lamp * on for on in (0, 1, 0, 1, 0)]  # one light
    noise = np.random.default_rng(seed)
    frames += [still + noise.normal(0, 6, still.shape) for _ in range(5)]
    frames += [still * (1 - i / 12) for i in range(11)]
    cuts = SceneCuts()
    found = [cuts(np.clip(frame, 0, 255).astype(np.uint8)) for frame in frames]
    assert found == [True] + [False] * (len(frames) - 1)


def test_view_that_is_lit_alike_is_averaged_on():
    cuts = SceneCuts()
    assert [cuts(frame) for frame in (scene(1), scene(1)[:, ::-1], scene(1)[::-1])] == [True, False, False]


def test_cuts_are_found_in_16_bits_alike():
    cuts = SceneCuts()
    frames = [scene(1), scene(1), (scene(2).astype(int) * 2 + 30).astype(np.uint8)]
    assert [cuts(frame.astype(np.uint16) * 257) for frame in frames] == [True, False, True]


def test_flicker_measures_steps_relative_to_the_brightness():
    assert flicker([0.2] * 9) == 0
    assert flicker([0.1 * 1.05**i for i in range(9)]) == pytest.approx(0)  # an even rise
    assert flicker([0.1, 0.11, 0.1, 0.11, 0.1]) == pytest.approx(flicker([0.3, 0.33, 0.3, 0.33, 0.3]))
    assert flicker([0.1, 0.11, 0.1, 0.11, 0.1]) == pytest.approx((1.1 - 1 / 1.1) / 2)
    assert flicker([0.1, 0.1, 0.4, 0.4], cuts=[0, 2]) == 0 < flicker([0.1, 0.1, 0.4, 0.4])
    assert flicker([0.0, 0.0, 0.0]) == flicker([0.3]) == flicker([]) == 0


def test_brightness_is_a_share_of_white():
    assert brightness(np.full((4, 4, 3), 51, np.uint8)) == pytest.approx(0.2)
    assert brightness(np.full((4, 4, 3), 13107, np.uint16)) == pytest.approx(0.2)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 700, 3), (720, 1280, 3), (2160, 3840, 3)])
def test_sample_is_small_and_of_the_frame(shape):
    frame = np.broadcast_to(np.arange(shape[1], dtype=np.uint16)[None, :, None], shape)
    small = coarse_copy(frame)
    assert max(small.shape[:2]) <= 320
    assert small.shape[2] == 3
    assert np.all(np.diff(small[0, :, 0].astype(int)) == max(1, max(shape) // 160))


def test_smoothing_takes_flicker_out_of_a_video(tmp_path):
    class Nervous(Enhancer):
        """Proposes more and less brightening by turns."""

        calls = 0

        def estimate(self, image):
            self.calls += 1
            return np.full((2, 2, 3), -0.3 - 0.02 * (self.calls % 2), np.float32)

    source = write_clip(tmp_path / "in.mp4", frames=40, draw=lambda _, size: picture(0, size))
    plain = enhance_video(source, tmp_path / "plain.mp4", Nervous("student-565"), smoothing=0).steadiness
    smooth = enhance_video(source, tmp_path / "smooth.mp4", Nervous("student-565")).steadiness
    measured = flicker([rgb_of(frame).mean() / 255 for frame in frames_of(tmp_path / "plain.mp4")[0]])
    assert plain.output == pytest.approx(measured, rel=0.15)
    assert plain.output == plain.unsmoothed == pytest.approx(smooth.unsmoothed, rel=1e-6)
    assert smooth.output < 0.4 * plain.output
    assert smooth.gain < 0.4 * smooth.gain_unsmoothed
    assert smooth.source < 0.1 * plain.output


def test_a_lamp_that_enters_a_dim_street_does_not_make_it_pump():
    noise = np.random.default_rng(0).random((12, 20)).astype(np.float32)
    street = cv2.resize(cv2.GaussianBlur(noise, (0, 0), 1), (320, 180), interpolation=cv2.INTER_CUBIC)
    street = 0.02 + 0.13 * (street - street.min()) / (street.max() - street.min())
    street = street[..., None] * np.array([1, 0.9, 0.8])
    down, across = np.mgrid[:180, :320]
    enhancer, smooth, gains = Enhancer(device="cpu"), MapSmoother(), []
    for i in range(60):
        lamp = np.hypot(down - 50, across - min(4 * i - 90, 120))
        light = 2 * np.exp(-((lamp / 6) ** 2)) + 0.25 * np.exp(-((lamp / 30) ** 2))
        lit = street + light[..., None] * np.array([1, 0.85, 0.6]) if i >= 15 else street
        frame = (lit.clip(0, 1) * 255).round().astype(np.uint8)
        enhanced = enhancer.apply(frame, smooth(enhancer.estimate(frame), frame, i / 25))
        gains.append(enhanced[:, 240:].mean() / frame[:, 240:].mean())  # where the lamp does not reach
    steps = np.abs(np.diff(np.log(gains)))
    assert gains[0] > 2
    assert steps.max() < 0.02, "no visible step"
    assert gains[-1] == pytest.approx(gains[0], rel=0.25)


def test_a_cut_begins_a_scene_in_the_report(tmp_path):
    def draw(i, size):
        return scene(1, *size) if i < 12 else (scene(2, *size).astype(int) * 2 + 30).astype(np.uint8)

    report = enhance_video(write_clip(tmp_path / "in.mp4", draw=draw), tmp_path / "out.mp4", Enhancer())
    assert report.scenes == 2
    assert report.steadiness.source < 0.01


# --- with the real network, and the command ---


@pytest.mark.slow
def test_a_night_drive_gets_brighter_and_no_more_restless(shared, tmp_path):
    clip = tmp_path / "in.mp4"
    with av.open(str(shared / "data/video/night_drive.mp4")) as container, av.open(str(clip), "w") as out:
        stream = container.streams.video[0]
        copy = out.add_stream_from_template(stream, opaque=True)
        for packet in container.demux(stream):
            if packet.size and packet.pts < 90_000:
                packet.stream = copy
                out.mux(packet)
    report = enhance_video(clip, tmp_path / "out.mp4", Enhancer())
    (before, times), (after, new_times) = frames_of(clip), frames_of(report.out)
    assert new_times == times
    assert report.frames == len(before) == 90
    assert report.notes == ("39 frames that the file's edit list hides are left out",)
    assert np.mean([rgb_of(f).mean() for f in after[::9]]) > 3 * np.mean([rgb_of(f).mean() for f in before[::9]])
    assert report.steadiness.output < report.steadiness.source
    assert report.steadiness.gain < report.steadiness.gain_unsmoothed
    assert report.scenes == 1


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(video_command)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_command_writes_the_video_and_says_what_it_did(run, tmp_path):
    source, out = write_clip(tmp_path / "in.mp4"), tmp_path / "out.mkv"
    result = run(source, out, "--side-by-side", "--crf", 20, "--encoder-option", "preset=ultrafast", "--strength", 0.5)
    assert result.exit_code == 0, result.output
    after = frames_of(out)[0]
    assert len(after) == FRAMES
    assert (after[0].width, after[0].height) == (2 * SIZE[0], SIZE[1])
    half = rgb_of(after[5])
    assert half[:, SIZE[0] :].mean() > 1.2 * half[:, : SIZE[0]].mean()
    assert f"{FRAMES} frames, {2 * SIZE[0]}×{SIZE[1]}" in result.output
    assert "enhancing" in result.output
    assert "without smoothing" in result.output


def test_command_warns_of_damage_but_the_video_is_complete(run, tmp_path):
    source, out = write_clip(tmp_path / "in.mp4", codec="mpeg4"), tmp_path / "out.mp4"
    damage(source, [7, 8])
    result = run(source, out)
    assert result.exit_code == 0
    assert "Warning: 2 damaged frames: 0 patched by the decoder, 2 replaced" in result.output
    assert "0.280 s" in result.output
    assert len(frames_of(out)[0]) == FRAMES


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["out.xyz"], "videos are written as"),
        (["in.mp4"], "is the source itself"),
        (["out.mp4", "--recursive"], "--recursive and --resume are for a folder of videos"),
        (["out.mp4", "--overwrite", "--resume"], "choose one"),
        (["out.webm", "--audio", "aac"], "webm cannot hold AAC sound"),
        (["out.mp4", "--strength", "3"], "strength must be a number from 0 to 2"),
        (["out.mp4", "--model", "nonsense"], "no shipped weights named 'nonsense'"),
        (["out.mp4", "--encoder-option", "preset"], "takes NAME=VALUE"),
        (["out.mp4", "--codec", "nonsense"], "no encoder is named"),
        (["out.mp4", "--crf", "1000"], "crf of libx264 must be a number from 0 to 51, not 1000"),
        (["out.webm", "--crf", "64"], "crf of libvpx-vp9 must be a number from 0 to 63, not 64"),
        (["out.mp4", "--device", "mps"], "PyTorch finds none here; use --device cpu"),
    ],
)
def test_command_fails_in_one_sentence(arguments, reason, run, tmp_path):
    source = write_clip(tmp_path / "in.mp4", frames=2)
    result = run(source, tmp_path / arguments[0], *arguments[1:])
    assert result.exit_code == 1
    assert reason in result.output
    assert "Traceback" not in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_without_an_output_the_result_lies_beside(run, tmp_path):
    write_clip(tmp_path / "in.avi", codec="mpeg4", audio=None, frames=2)
    assert run(tmp_path / "in.avi").exit_code == 0
    assert run(tmp_path / "in.avi", "--format", "mov", "--suffix", "_bright").exit_code == 0
    (tmp_path / "there").mkdir()
    assert run(tmp_path / "in.avi", tmp_path / "there").exit_code == 0
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.m*"))
    assert names == ["in_bright.mov", "in_enhanced.mkv", "there/in.mkv"]


# --- folders ---


@pytest.fixture
def clips(tmp_path):
    """A folder with two good videos, one of them in a format that is only read, a bad one, and other files."""
    folder = tmp_path / "clips"
    (folder / "deeper").mkdir(parents=True)
    write_clip(folder / "a.mp4", frames=3, audio=None)
    write_clip(folder / "b.avi", codec="mpeg4", frames=4, audio=None)
    (folder / "c.mov").write_bytes(b"no video" * 99)
    write_clip(folder / "deeper" / "d.mkv", frames=2, audio=None)
    for name in ("notes.txt", "photo.jpg", "other.JPG", ".hidden.mp4"):
        (folder / name).write_bytes(b"x")
    return folder


def written(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_gives_its_own_videos_and_names_the_rest(run, clips, tmp_path):
    before = {path: path.read_bytes() for path in clips.rglob("*") if path.is_file()}
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    result = run(clips, out, "--report", figures)
    assert result.exit_code == 1
    assert written(out) == [".kdlib-videos.json", "a.mp4", "b.mkv"]
    assert [len(frames_of(out / name)[0]) for name in ("a.mp4", "b.mkv")] == [3, 4]
    assert "2 enhanced" in result.output
    assert "3 files passed over (2 × photo: kdlib enhance enhances them; 1 × .txt)" in result.output
    assert f"{clips / 'c.mov'}: not a video in a known format" in result.output
    assert "1 of 3 could not be enhanced" in result.output
    assert {path: path.read_bytes() for path in before} == before
    told = json.loads(figures.read_text())
    assert [(video["source"], video["frames"]) for video in told["videos"]] == [("a.mp4", 3), ("b.avi", 4)]
    assert [name for name, _ in told["failed"]] == [str(clips / "c.mov")]
    assert told["passed_over"] == {"photo: kdlib enhance enhances them": 2, ".txt": 1}


def test_subfolders_are_mirrored_beside_the_folder_by_default(run, clips, tmp_path):
    (clips / "c.mov").unlink()
    result = run(clips, "--recursive", "--suffix", "_b", "--format", ".mov")
    assert result.exit_code == 0, result.output
    place = tmp_path / "clips_enhanced"
    assert written(place) == [".kdlib-videos.json", "a_b.mov", "b_b.mov", "deeper/d_b.mov"]


def test_resume_makes_what_is_missing_and_never_mixes_two_looks(run, clips, tmp_path):
    (clips / "c.mov").unlink()
    out = tmp_path / "out"
    assert run(clips, out).exit_code == 0
    first = (out / "a.mp4").stat().st_mtime_ns
    (out / "b.mkv").unlink()
    refused = run(clips, out)
    assert refused.exit_code == 1
    assert "1 of 2 results exist" in refused.output
    assert "--overwrite replaces them, --resume keeps them" in refused.output
    mixed = run(clips, out, "--resume", "--strength", "0.5")
    assert mixed.exit_code == 1
    assert "strength 1.0 → 0.5" in mixed.output
    sound = run(clips, out, "--resume", "--audio", "none")
    assert "audio 'copy' → 'none'" in sound.output
    assert not (out / "b.mkv").exists()
    resumed = run(clips, out, "--resume")
    assert resumed.exit_code == 0
    assert "1 enhanced, 1 kept" in resumed.output
    assert (out / "a.mp4").stat().st_mtime_ns == first
    replaced = run(clips, out, "--overwrite", "--strength", "0.5")
    assert replaced.exit_code == 0
    assert (out / "a.mp4").stat().st_mtime_ns > first
    assert run(clips, out, "--resume", "--strength", "0.5").exit_code == 0


def test_a_second_run_in_the_own_folder_leaves_results_alone(clips):
    (clips / "c.mov").unlink()
    names = [job.source.name for job in plan_videos(clips, clips, suffix="_b", container=".mp4").jobs]
    assert names == ["a.mp4", "b.avi"]
    shutil.copyfile(clips / "a.mp4", clips / "a_b.mp4")
    assert [job.source.name for job in plan_videos(clips, clips, suffix="_b", container=".mp4").jobs] == names
    with pytest.raises(ValueError, match=r"a\.mp4 would be overwritten by its result"):
        plan_videos(clips, clips)


def test_videos_of_one_name_have_two_results(clips, tmp_path):
    (clips / "c.mov").unlink()
    shutil.copyfile(clips / "a.mp4", clips / "b.mkv")

    def names(**options):
        return {job.source.name: job.target.name for job in plan_videos(clips, tmp_path / "out", **options).jobs}

    assert names() == {"a.mp4": "a.mp4", "b.avi": "b_avi.mkv", "b.mkv": "b.mkv"}
    assert names(container=".mp4", suffix="_x") == {
        "a.mp4": "a_x.mp4", "b.avi": "b_avi_x.mp4", "b.mkv": "b_mkv_x.mp4",
    }  # fmt: skip


def test_results_below_the_folder_are_no_videos_of_it(clips):
    (clips / "out").mkdir()
    shutil.copyfile(clips / "a.mp4", clips / "out" / "e.mp4")
    names = {job.source.name for job in plan_videos(clips, clips / "out", recursive=True).jobs}
    assert names == {"a.mp4", "b.avi", "c.mov", "d.mkv"}


def test_plans_that_cannot_be_meant(clips, tmp_path):
    shutil.copyfile(clips / "a.mp4", clips / "b.mkv")
    shutil.copyfile(clips / "a.mp4", clips / "b_avi.mkv")
    with pytest.raises(ValueError, match=r"b\.avi and .*b_avi\.mkv would both be written to"):
        plan_videos(clips, tmp_path / "out")
    with pytest.raises(ValueError, match=r"videos are written as \.mp4, .*, not as \.avi"):
        plan_videos(clips, tmp_path / "out", container=".avi")
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        plan_videos(clips, clips / "notes.txt")
    with pytest.raises(ValueError, match=r"out\.mp4 names one file, but .* is a folder of videos"):
        plan_videos(clips, tmp_path / "out.mp4")
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.txt").touch()
    with pytest.raises(ValueError, match=r"no videos found; 1 file passed over \(1 × \.txt\); --recursive"):
        plan_videos(tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_help_says_which_sound_webm_takes(run):
    assert ".webm if the sound is Opus or Vorbis" in " ".join(run("--help").output.replace("│", " ").split())


def test_command_that_is_interrupted(run, tmp_path, before_call):
    def interrupted(_path):
        raise KeyboardInterrupt

    before_call("os.rename", "out.mp4", interrupted)
    before_call("os.link", "out.mp4", interrupted)
    result = run(write_clip(tmp_path / "in.mp4", frames=2), tmp_path / "out.mp4")
    assert result.exit_code == 130
    assert "was not written" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    "content",
    [
        "ffconcat version 1.0\nfile other.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n",
    ],
)
def test_lists_of_other_files_are_refused(content, tmp_path):
    # Else a stranger's file would show what lies beside it.
    shutil.copyfile(Path(__file__).parent / "fuzz" / "corpus" / "silent.mp4", tmp_path / "other.mp4")
    source = tmp_path / ("list.mp4" if "concat" in content else "list.m3u8")
    source.write_text(content)
    with pytest.raises(VideoError, match="not a video but a list of other files"):
        enhance_video(source, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
