"""Videos of many kinds, made with ffmpeg, and whether enhancing keeps the frames and times that ffprobe sees.

``python -m tests.video_corpus --out results/video_corpus.json`` makes them all and counts.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdlib.enhance.folders.videos import result_of
from kdlib.enhance.video.enhance import enhance_video
from kdlib.enhance.video.files import VideoError
from kdlib.files import write_json

MADE_HERE = shutil.which("ffmpeg") is not None and shutil.which("ffprobe") is not None
_RATE = 25
_PICTURES = f"testsrc2=size=176x144:rate={_RATE}:duration=1.2"
_SOUND = "sine=sample_rate=48000:duration=1.2"
_VARIABLE = "select='lt(mod(n,7),3)+not(mod(n,4))'"
_QUICK = {
    "libx264": ["-preset", "ultrafast"],
    "libx265": ["-preset", "ultrafast", "-x265-params", "log-level=error"],
    "libvpx": ["-deadline", "realtime", "-b:v", "500k"],
    "libvpx-vp9": ["-deadline", "realtime", "-cpu-used", "8", "-b:v", "500k"],
    "libsvtav1": ["-preset", "12"],
}


@dataclass(frozen=True)
class Case:
    """A file of the corpus.

    Attributes:
        name: of the file, whose extension tells the container.
        arguments: of ffmpeg, between the inputs and the file.
        then: if given, arguments of a second ffmpeg that copies the first's file; IN stands for its name.
        sound: FFmpeg's name of an audio encoder, or an empty string.
    """

    name: str
    arguments: list[str]
    then: list[str] = field(default_factory=list)
    sound: str = "aac"

    def make(self, folder: Path) -> Path:
        """Make the file."""
        path = folder / self.name
        first = path.with_name(f"first-{self.name}") if self.then else path
        sound = ["-f", "lavfi", "-i", _SOUND] if self.sound else []
        encoder = ["-c:a", self.sound, "-strict", "-2", "-shortest"] if self.sound else []
        _ffmpeg("-f", "lavfi", "-i", _PICTURES, *sound, *self.arguments, *encoder, str(first))
        if self.then:
            _ffmpeg(*[str(first) if word == "IN" else word for word in self.then], str(path))
        return path


def _ffmpeg(*arguments: str) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *arguments], check=True, capture_output=True)


_KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    # extension → sound, video encoders
    "mp4": ("aac", ("libx264", "libx265", "mpeg4", "libvpx-vp9", "libsvtav1", "mjpeg")),
    "m4v": ("aac", ("libx264",)),
    "mov": ("pcm_s16le", ("libx264", "libx265", "mpeg4", "prores_ks", "mjpeg", "qtrle")),
    "mkv": (
        "flac",
        ("libx264", "libx265", "mpeg4", "mpeg2video", "libvpx", "libvpx-vp9", "libsvtav1", "ffv1", "mjpeg"),
    ),
    "webm": ("libopus", ("libvpx", "libvpx-vp9", "libsvtav1")),
    "avi": ("mp3", ("libx264", "mpeg4", "libxvid", "msmpeg4v2", "mjpeg", "huffyuv", "rawvideo")),
    "ts": ("ac3", ("libx264", "libx265", "mpeg2video", "mpeg4")),
    "mts": ("ac3", ("libx264",)),
    "mpg": ("mp2", ("mpeg1video", "mpeg2video")),
    "vob": ("ac3", ("mpeg2video",)),
    "3gp": ("aac", ("libx264", "h263", "mpeg4")),
    "flv": ("mp3", ("libx264", "flv")),
    "wmv": ("wmav2", ("wmv2", "msmpeg4v3")),
    "ogv": ("libvorbis", ("libtheora",)),
    "mxf": ("pcm_s16le", ("mpeg2video",)),
    "nut": ("aac", ("libx264", "mpeg4")),
    "h264": ("", ("libx264",)),
}
_REORDERED = {"libx264", "libx265", "mpeg4", "mpeg2video", "mpeg1video", "libxvid"}
_VARIABLE_IN = ("mp4", "mov", "mkv", "webm", "flv", "ts", "3gp", "wmv")
_MUXER = {"mts": ["-f", "mpegts", "-mpegts_m2ts_mode", "1"]}
_COLOURS = {"prores_ks": "yuv422p10le", "mjpeg": "yuvj420p", "qtrle": "rgb24", "huffyuv": "yuv422p"}


def _encoder(codec: str, b_frames: int) -> list[str]:
    given = ["-c:v", codec, "-pix_fmt", _COLOURS.get(codec, "yuv420p"), "-g", "12", *_QUICK.get(codec, ["-q:v", "3"])]
    if codec == "libx265":
        given[-1] += f":bframes={b_frames}"
    elif codec in _REORDERED:
        given += ["-bf", str(b_frames)]
    return given


def cases() -> list[Case]:
    """Return the whole corpus: containers × codecs × B-frames, and variable rates, edit lists, rotation and others."""
    found = []
    for extension, (sound, codecs) in _KINDS.items():
        muxer = _MUXER.get(extension, [])
        for codec in codecs:
            for b_frames in (0, 2) if codec in _REORDERED else (0,):
                kind = f"{codec}-{b_frames}b"
                found.append(Case(f"{kind}.{extension}", [*_encoder(codec, b_frames), *muxer], sound=sound))
        if extension in _VARIABLE_IN:
            variable = ["-vf", _VARIABLE, "-vsync", "vfr", *_encoder(codecs[0], 2), *muxer]
            found.append(Case(f"variable.{extension}", variable, sound=sound))
    for extension in ("mp4", "mov"):
        for codec in ("libx264", "libx265"):
            copied = _encoder(codec, 2)
            cut = ["-ss", "0.3", "-i", "IN", "-c", "copy"]
            late = ["-itsoffset", "0.4", "-i", "IN", "-i", "IN", "-map", "0:v", "-map", "1:a", "-c", "copy"]
            found.append(Case(f"cut-{codec}.{extension}", copied, cut))
            found.append(Case(f"late-{codec}.{extension}", copied, late))
            for angle in (90, 180, 270):
                turned = ["-i", "IN", "-c", "copy", "-metadata:s:v:0", f"rotate={angle}"]
                found.append(Case(f"turned-{angle}-{codec}.{extension}", copied, turned))
        fragments = ["-movflags", "frag_keyframe+empty_moov"]
        found.append(Case(f"fragments.{extension}", [*_encoder("libx264", 2), *fragments]))
        found.append(Case(f"index-first.{extension}", [*_encoder("libx264", 2), "-movflags", "faststart"]))
        found.append(Case(f"timecode.{extension}", [*_encoder("libx264", 2), "-timecode", "01:00:00:00"]))
    for rate in ("30000/1001", "24000/1001", "60", "120", "10"):
        for extension in ("mp4", "mov", "mkv", "avi", "ts"):
            named = f"rate-{rate.replace('/', '-')}.{extension}"
            found.append(Case(named, ["-r", rate, *_encoder("libx264", 2)], sound=_KINDS[extension][0]))
    for extension in ("mp4", "mkv", "ts", "mts"):
        fields = [*_encoder("libx264", 2), "-flags", "+ildct+ilme", "-x264-params", "tff=1", *_MUXER.get(extension, [])]
        found.append(Case(f"fields-libx264.{extension}", fields, sound="ac3"))
    for extension in ("mpg", "ts", "mxf"):
        fields = [*_encoder("mpeg2video", 2), "-flags", "+ildct+ilme", "-top", "1"]
        found.append(Case(f"fields-mpeg2video.{extension}", fields, sound=_KINDS[extension][0]))
    for extension in ("mkv", "mp4", "ts"):
        open_groups = [*_encoder("libx265", 3)[:-1], "log-level=error:open-gop=1:bframes=3"]
        found.append(Case(f"cut-open.{extension}", open_groups, ["-ss", "0.6", "-i", "IN", "-c", "copy"], sound="aac"))
    return found


def seen(path: Path) -> dict[str, Any]:
    """Return what ffprobe sees of the first video: times of the frames (NaN if unknown), size and rotation."""
    entries = "stream=width,height:stream_side_data=rotation:frame=best_effort_timestamp_time"
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", entries, "-of", "json", str(path)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    (stream,) = found["streams"]
    times = [float(frame.get("best_effort_timestamp_time", "nan")) for frame in found["frames"]]
    turned = [data["rotation"] for data in stream.get("side_data_list", []) if "rotation" in data]
    return {"times": np.array(times), "size": (stream["width"], stream["height"]), "rotation": turned}


def differences(source: Path, out: Path, *, relative: bool) -> list[str]:
    """Describe how the frames of two videos differ; ``relative`` compares times from the first frame on."""
    before, after = seen(source), seen(out)
    found = [f"{key} {before[key]} → {after[key]}" for key in ("size", "rotation") if before[key] != after[key]]
    old, new = before["times"], after["times"]
    if len(old) != len(new):
        return [*found, f"{len(old)} frames → {len(new)}"]
    if relative:
        old, new = old - old[0], new - new[0]
    apart = np.abs(old - new)
    if np.nanmax(apart, initial=0) > 0.0011:  # Matroska counts milliseconds
        worst = int(np.nanargmax(apart))
        found.append(f"frame {worst} at {old[worst]:.4f} s → {new[worst]:.4f} s")
    return found


class Unchanged:
    """An enhancer that leaves pictures as they are."""

    def estimate(self, image: np.ndarray) -> np.ndarray:
        return np.zeros((2, 2, 3), np.float32)

    def apply(self, image: np.ndarray, curve_map: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        out = np.empty_like(image) if out is None else out
        out[...] = image
        return out


def quick_options(out: Path) -> dict[str, str]:
    """Return options with which the encoder for a result is quick, and still reorders frames."""
    return {"deadline": "realtime", "cpu-used": "8"} if out.suffix == ".webm" else {"preset": "ultrafast", "bf": "2"}


def counts_from_anywhere(source: Path) -> bool:
    """Whether the times of a source begin anywhere: those of transport and program streams do, raw ones have none."""
    return source.suffix in {".ts", ".mts", ".mpg", ".vob", ".h264"}


def enhanced(case: Case, folder: Path) -> list[str]:
    """Make a file, enhance it, and return what is wrong with the result.

    Raises:
        VideoError: the file is refused.
    """
    source = case.make(folder)
    out = result_of(source, "_enhanced", None)
    report = enhance_video(source, out, Unchanged(), options=quick_options(out))
    wrong = differences(source, out, relative=counts_from_anywhere(source))
    if report.damages:
        wrong.append(f"{len(report.damages)} frames called damaged, the first at {report.damages[0].time:.3f} s")
    return wrong


def bad_files(folder: Path) -> list[Path]:
    """Make files that are no healthy videos and hold nothing that could be enhanced."""
    files = {"empty.mp4": b"", "text.mkv": b"a word\n" * 50, "zeros.mov": bytes(5000)}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    whole = Case("whole.mp4", _encoder("libx264", 0)).make(folder)
    content = whole.read_bytes()
    (folder / "no-index.mp4").write_bytes(content[: content.rindex(b"moov") - 4])
    _ffmpeg("-f", "lavfi", "-i", _SOUND, str(folder / "sound.m4a"))
    _ffmpeg("-f", "lavfi", "-i", _PICTURES, "-frames:v", "1", str(folder / "photo.png"))
    return [folder / name for name in (*files, "no-index.mp4", "sound.m4a", "photo.png")]


def main() -> None:
    """Go through the corpus, print what is wrong, and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file for the counts")
    parser.add_argument("--only", default="", help="go through files whose names contain this")
    given = parser.parse_args()
    counts, containers = Counter[str](), Counter[str]()
    faults: dict[str, str] = {}
    for case in cases():
        if given.only in case.name:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    wrong = enhanced(case, Path(folder))
                except VideoError as error:
                    counts["refused_wrongly"] += 1
                    faults[case.name] = str(error)
                    continue
            counts["differing" if wrong else "enhanced"] += 1
            containers[Path(case.name).suffix] += not wrong
            print(case.name, "differs" if wrong else "as the source", flush=True)
            if wrong:
                faults[case.name] = "; ".join(wrong)
    with tempfile.TemporaryDirectory() as folder:
        for path in bad_files(Path(folder)):
            try:
                enhance_video(path, Path(folder, "out.mkv"), Unchanged())
            except VideoError:
                counts["refused_truly"] += 1
            else:
                counts["accepted_wrongly"] += 1
                faults[path.name] = "was accepted"
    names = ("enhanced", "differing", "refused_truly", "refused_wrongly", "accepted_wrongly")
    found: dict[str, Any] = {name: counts[name] for name in names}
    print(found)
    for name, what in faults.items():
        print(f"{name}: {what}")
    if given.out is not None:
        told = {"command": "python -m tests.video_corpus --out results/video_corpus.json", **found}
        write_json(given.out, {**told, "containers": containers, "faults": faults})


if __name__ == "__main__":
    main()
