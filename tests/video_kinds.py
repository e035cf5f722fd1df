"""Every kind of video through `kdlib video`: what is read, written, kept and noted, as a table and with counts.

``python -m tests.video_kinds --out results/video_kinds.json --page docs/kinds.md``
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from av.video.format import VideoFormat

from kdlib.enhance.folders.videos import result_of
from kdlib.enhance.video.enhance import enhance_video
from kdlib.enhance.video.files import VideoError, is_cover
from kdlib.enhance.video.read import VideoSource, bits_of
from tests import clips
from tests.photo_kinds import counts, store
from tests.spatial_video import spatial
from tests.video_corpus import Unchanged, bad_files, cases, counts_from_anywhere, differences, quick_options

_HDR = {16: "HDR (PQ)", 18: "HDR (HLG)"}  # AVColorTransferCharacteristic
_CODECS = {
    "h264": "H.264", "hevc": "HEVC", "mpeg4": "MPEG-4", "mpeg2video": "MPEG-2", "mpeg1video": "MPEG-1", "vp8": "VP8",
    "vp9": "VP9", "av1": "AV1", "prores": "ProRes", "mjpeg": "Motion JPEG", "qtrle": "QuickTime RLE", "ffv1": "FFV1",
    "msmpeg4v2": "MS MPEG-4 v2", "msmpeg4v3": "MS MPEG-4 v3", "huffyuv": "HuffYUV", "rawvideo": "uncompressed",
    "h263": "H.263", "flv1": "Sorenson H.263", "wmv2": "WMV 8", "theora": "Theora",
}  # fmt: skip
_SOUNDS = {
    "aac": "AAC", "ac3": "AC-3", "amr_nb": "AMR", "flac": "FLAC", "mp2": "MP2", "mp3": "MP3", "opus": "Opus",
    "pcm_s16le": "PCM", "vorbis": "Vorbis", "wmav2": "WMA",
}  # fmt: skip
_SAMPLINGS = {(16, 16): "4:4:4", (8, 16): "4:2:2", (8, 8): "4:2:0"}  # sides of the colour planes for 16 pixels
_CONTAINERS = {".mkv": "Matroska", ".webm": "WebM", ".h264": "no container", ".ts": "MPEG-TS", ".mts": "AVCHD (.mts)",
               ".mpg": "MPEG-PS", ".vob": "DVD (.vob)", ".ogv": "Ogg"}  # fmt: skip
# Cases of the corpus beyond one for each container and codec.
_MORE = {
    "variable.mp4": "variable frame rate",
    "rate-30000-1001.mov": "30000/1001 frames/s",
    "cut-libx264.mp4": "an edit list hides the beginning",
    "late-libx264.mov": "pictures begin after the sound",
    "turned-90-libx264.mp4": "turned by 90°",
    "fragments.mp4": "fragmented",
    "timecode.mov": "timecode",
    "fields-libx264.mts": "interlaced",
    "cut-open.ts": "cut in an open group of pictures",
}


class Kind(NamedTuple):
    """A file of one kind.

    Attributes:
        kind: in words; what was read is put before it.
        make: writes the file into a folder.
        becomes: extension of the result; None for what ``kdlib video`` chooses.
    """

    kind: str
    make: Callable[[Path], Path]
    becomes: str | None = None


def kinds() -> list[Kind]:
    """Return one kind for each container and codec, and others."""
    of_name = {case.name: case for case in cases()}
    plain: dict[str, Kind] = {}
    for name, case in of_name.items():
        if (found := re.fullmatch(r"(.*)-\db(\..*)", name)) and "libxvid" not in name:  # another encoder of MPEG-4
            plain["".join(found.groups())] = Kind("", case.make)  # the last one has B-frames, where the codec has
    return [
        *plain.values(),
        *(Kind(words, of_name[name].make) for name, words in _MORE.items()),
        Kind("HDR10", lambda folder: clips.write_hdr(folder / "hdr.mp4")),
        Kind("HDR10, to WebM", lambda folder: clips.write_hdr(folder / "hdr.mp4"), ".webm"),
        Kind("HLG", _hlg),
        Kind("two views (MV-HEVC)", _two_views),
        Kind("frames packed for 3D", _packed),
        Kind("spatial sound beside ordinary", lambda folder: clips.with_unknown_sound(folder)[1]),
        Kind("AMR sound", _amr),
        Kind("AMR sound, to MP4", _amr, ".mp4"),
        Kind("chapters, subtitles, cover", partial(_tracks, suffix=".mp4", subtitles="mov_text", cover=True)),
        Kind("chapters, subtitles, attachment", partial(_tracks, suffix=".mkv", subtitles="subrip")),
        Kind("chapters, subtitles, attachment, to MP4", partial(_tracks, suffix=".mkv", subtitles="subrip"), ".mp4"),
        Kind("pixels that are not square", _wide_pixels),
        Kind("odd size", lambda folder: clips.write_clip(folder / "odd.webm", size=(65, 49)), ".mp4"),
        *(Kind("", partial(_bad, number)) for number in range(6)),
    ]


def _hlg(folder: Path) -> Path:
    shape = {"pix_fmt": "yuv420p10le", "colours": (1, 9, 9, 18), "codec": "libx265"}
    return clips.write_clip(folder / "hlg.mov", **shape)


def _two_views(folder: Path) -> Path:
    views = [clips.write_clip(folder / f"{side}.mp4", codec="libx265", audio=None) for side in ("left", "right")]
    return spatial(*views, folder / "spatial.mov")


def _packed(folder: Path) -> Path:
    return clips.write_clip(folder / "packed.mp4", options={"x264-params": "frame-packing=3"})


def _amr(folder: Path) -> Path:
    sound = clips.write_sound(folder / "sound.3gp", "libopencore_amrnb", rate=8000, layout="mono")
    return clips.write_tracks(folder / "phone.3gp", [clips.write_clip(folder / "plain.mp4", audio=None), sound])


def _tracks(folder: Path, *, suffix: str, **tracks: Any) -> Path:
    return clips.add_tracks(clips.write_clip(folder / f"plain{suffix}"), folder / f"tracks{suffix}", **tracks)


def _wide_pixels(folder: Path) -> Path:
    return clips.write_clip(folder / "wide.mp4", aspect=clips.Fraction(4, 3))


def _bad(number: int, folder: Path) -> Path:
    return bad_files(folder)[number]


def run(chosen: Iterable[Kind]) -> list[dict[str, Any]]:
    """Enhance every kind, and return what was seen of each."""
    rows = []
    for kind in chosen:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(_seen(kind, Path(folder)))
    return rows


def _seen(kind: Kind, folder: Path) -> dict[str, Any]:
    source = kind.make(folder)
    out = result_of(source, "_enhanced", kind.becomes)
    try:
        # HDR in WebM is AV1, of which another encoder has other options.
        report = enhance_video(source, out, Unchanged(), options={} if kind.becomes == ".webm" else quick_options(out))
    except VideoError as error:
        said = str(error).removeprefix(f"{source}: ").replace(str(source), "the file")
        truly = not kind.kind and source.name in {path.name for path in bad_files(folder)}
        return {"kind": source.name, "outcome": "refused truly" if truly else "refused wrongly", "said": said}
    wrong = differences(source, out, relative=counts_from_anywhere(source))
    before, after = _features(source), _features(out)
    return {
        "kind": ", ".join(filter(None, [_named(source), before["form"], kind.kind])),
        "outcome": "wrong result" if wrong or report.damages else "enhanced",
        "read": _shape(before),
        "written": f"{_named(out)}, {after['form']}, {_shape(after)}",
        "kept": [name for name, value in before["kept"].items() if value and after["kept"][name] == value],
        "noted": list(report.notes),
    }


def _named(path: Path) -> str:
    return _CONTAINERS.get(path.suffix, path.suffix.removeprefix(".").upper())


def _shape(features: Mapping[str, Any]) -> str:
    sound = ", ".join(features["sound"])
    return f"{features['bits']} bits, {features['colours']}; {sound or 'no sound'}"


def _features(path: Path) -> dict[str, Any]:
    """Return the codec, bits and sound of a video, and what else it has by name; nothing, if it has none."""
    with closing(VideoSource(path)) as video:
        codec, streams = video.stream.codec_context.codec.canonical_name, video.container.streams
        sound = [stream.codec_context and stream.codec_context.codec.canonical_name for stream in streams.audio]
        kept = {
            "sound": sound[:1],
            "turn": video.display_matrix,
            "fields": video.interlaced,
            "pixel shape": video.sample_aspect_ratio not in (None, 1) and video.sample_aspect_ratio,
            **{name: video.colours.transfer == number and video.colours for number, name in _HDR.items()},
            "mastering display": video.light or None,
            "timecode": video.stream.metadata.get("timecode"),
            "chapters": [chapter["metadata"] for chapter in video.container.chapters()],
            "subtitles": [stream.name for stream in streams.subtitles],
            "attachments": len(streams.attachments),
            "cover": sum(map(is_cover, streams.video)),
        }
        form = VideoFormat(video.pixel_format, 16, 16)
        return {
            "form": _CODECS.get(codec, codec),
            "bits": bits_of(video.pixel_format),
            "colours": "RGB" if form.is_rgb else _SAMPLINGS[form.chroma_width(), form.chroma_height()],
            "sound": [_SOUNDS[name] if name else "unknown" for name in sound],
            "kept": kept,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the rows and counts")
    parser.add_argument("--page", type=Path, required=True, help="page that holds the table")
    arguments = parser.parse_args()
    rows = run(kinds())
    store({"counts": counts(rows), "rows": rows}, arguments.out, arguments.page, "videos")
    for row in rows:
        if row["outcome"] not in ("enhanced", "refused truly"):
            print(row)


if __name__ == "__main__":
    main()
