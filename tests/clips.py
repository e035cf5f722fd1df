"""Short videos of many kinds, written with PyAV, and what is in a video."""

import io
from fractions import Fraction

import av
import numpy as np
from PIL import Image

RATE, FRAMES, SIZE = 25, 24, (64, 48)


def picture(i, size=SIZE):
    """A dark picture with something in each corner; its brightness tells the frame's number."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x * 90 // width, y * 60 // height, (x + y) * 70 // (width + height)], -1) + 20 + 2 * i
    rgb[: height // 4, : width // 4] += 60
    return rgb.astype(np.uint8)


def write_clip(
    path, *, codec=None, audio="auto", pix_fmt="yuv420p", size=SIZE, frames=FRAMES, pts=None, time_base=None,
    rotation=None, colours=None, aspect=None, metadata=None, options=None, draw=picture, gop=8, file_format=None,
):  # fmt: skip
    webm = path.suffix == ".webm"
    codec = codec or ("libvpx-vp9" if webm else "libx264")
    time_base = time_base or Fraction(1, RATE)
    options = {"crf": "4", **({"x265-params": "log-level=error"} if codec == "libx265" else {}), **(options or {})}
    with av.open(str(path), "w", format=file_format) as out:
        out.metadata.update(metadata or {})
        stream = out.add_stream(codec, rate=RATE, options=options)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = *size, pix_fmt
        context.time_base = stream.time_base = time_base
        context.gop_size = gop
        if colours:
            context.color_range, context.colorspace, context.color_primaries, context.color_trc = colours
        if aspect:
            context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(*rotation)
        sound = None
        if audio is not None:
            sound = out.add_stream(("libopus" if webm else "aac") if audio == "auto" else audio, rate=48_000)
            sound.metadata["language"] = "fin"
        for i in range(frames):
            drawn = draw(i, size)
            frame = av.VideoFrame.from_ndarray(drawn, "rgb24" if drawn.dtype == np.uint8 else "rgb48le")
            frame = frame.reformat(format=pix_fmt, dst_color_range=colours[0] if colours else None)
            frame.pts, frame.time_base, frame.pict_type = pts[i] if pts else i, time_base, 0
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound is not None:
            out.mux(packet for k in range(frames * 48_000 // RATE // 1024) for packet in sound.encode(tone(k, sound)))
            out.mux(sound.encode(None))
    return path


def tone(k, stream):
    wave = np.sin(np.arange(1024 * k, 1024 * (k + 1)) * 0.05) / 3
    kind = stream.codec_context.format
    samples = (wave * 32767).astype(np.int16) if kind.name.startswith("s16") else wave.astype(np.float32)
    layout = np.stack([samples, samples]) if kind.is_planar else np.repeat(samples, 2)[None]
    frame = av.AudioFrame.from_ndarray(layout, kind.name, "stereo")
    frame.sample_rate, frame.pts = 48_000, 1024 * k
    return frame


def frames_of(path):
    """All decoded frames, and their times in seconds, exactly."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoded = []
        for packet in container.demux(stream):
            try:
                decoded += stream.decode(packet)
            except av.FFmpegError:
                continue
        return decoded, [frame.pts * stream.time_base for frame in decoded]


def packets_of(path, kind):
    """Times in seconds and content of the packets of all streams of a kind."""
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        return [
            (packet.stream_index, packet.pts * packet.time_base, bytes(packet))
            for packet in (container.demux(streams) if streams else [])
            if packet.size
        ]


def rgb_of(frame):
    return frame.to_ndarray(format="rgb24").astype(int)


MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(40000000,50)"


def write_hdr(path):
    metadata = f"log-level=error:master-display={MASTERING}:max-cll=1200,350"
    shape = {"pix_fmt": "yuv420p10le", "colours": (1, 9, 9, 16), "frames": 3}
    return write_clip(path, codec="libx265", options={"x265-params": metadata}, audio=None, **shape)


def write_tracks(path, sources, file_format=None):
    """Put the tracks of several files into one, in this order."""
    with av.open(str(path), "w", format=file_format) as out:
        containers = [av.open(str(source)) for source in sources]
        copies = [
            {s.index: out.add_stream_from_template(s, opaque=True) for s in container.streams}
            for container in containers
        ]
        for container, own in zip(containers, copies, strict=True):
            for packet in container.demux():
                if packet.size:
                    packet.stream = own[packet.stream_index]
                    out.mux(packet)
            container.close()
    return path


def write_sound(path, codec, rate=48_000, seconds=1, layout="stereo"):
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate)
        stream.codec_context.layout = layout
        for k in range(seconds * 48_000 // 1024):
            out.mux(stream.encode(tone(k, stream)))
        out.mux(stream.encode(None))
    return path


def with_unknown_sound(tmp_path):
    """A clip with two sound tracks, the second of a kind that FFmpeg does not know, as phones write spatial sound."""
    plain = write_clip(tmp_path / "plain.mov")
    source = write_tracks(tmp_path / "in.mp4", [plain, write_sound(tmp_path / "second.mp4", "aac")])
    return plain, make_unknown(source, 1)


def make_unknown(path, number):
    """Let a sound track of an MP4 file, of which all are AAC, be of a kind that FFmpeg does not know."""
    content = path.read_bytes()
    place = content.index(b"moov")
    for _ in range(number + 1):
        place = content.index(b"mp4a", place + 4)
    path.write_bytes(content[:place] + b"apac" + content[place + 4 :].replace(b"esds", b"dapa", 1))
    return path


def packet_of(content, stream, pts, duration, time_base=None):
    packet = av.Packet(content)
    packet.pts, packet.dts, packet.duration = pts, pts, duration
    packet.time_base, packet.stream, packet.is_keyframe = time_base or stream.time_base, stream, True
    return packet


def add_tracks(source, path, *, subtitles, cover=False):
    """Copy a clip and give it a second sound track, subtitles, chapters, an attachment or a cover."""
    with av.open(str(source)) as container, av.open(str(path), "w") as out:
        copies = {s.index: out.add_stream_from_template(s, opaque=True) for s in container.streams}
        second = out.add_stream_from_template(container.streams.audio[0], opaque=True)
        second.metadata["language"] = "swe"
        text = out.add_mux_stream(subtitles)
        text.time_base = Fraction(1, 1000)
        chapters = [(0, 400, "one"), (400, 960, "two")]
        out.set_chapters(
            [
                {"id": i, "start": a, "end": b, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
                for i, (a, b, title) in enumerate(chapters)
            ]
        )
        out.metadata.update({"title": "A night", "comment": "with lamps"})
        # All streams come before the first packet, with which the file's head is written.
        if cover:
            image = io.BytesIO()
            Image.new("RGB", (32, 32), (255, 0, 0)).save(image, "JPEG")
            art = out.add_mux_stream("mjpeg", width=32, height=32)
            art.disposition = av.stream.Disposition.attached_pic
            art.time_base = text.time_base
            out.mux(packet_of(image.getvalue(), art, 0, 0))
        elif path.suffix == ".mkv":
            out.add_attachment("font.ttf", "font/ttf", b"12345")
        out.mux(packet_of(b"hello" if subtitles == "subrip" else b"\x00\x05hello", text, 200, 300))
        for packet in container.demux():
            if packet.size:
                if packet.stream.type == "audio":
                    out.mux(packet_of(bytes(packet), second, packet.pts, packet.duration, packet.time_base))
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    return path
