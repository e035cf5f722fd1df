"""Write the corpus that fuzzing and mutating start from: a small file of every kind, from synthetic pictures.

``python -m tests.fuzz.make_corpus`` (in ``corpus/`` beside this file).
"""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import tifffile
import torch
from PIL import Image, ImageCms, features

from kdlib.export import export_onnx
from kdlib.models import create_model
from kdlib.weights import save_model

CORPUS = Path(__file__).parent / "corpus"
_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF/></x:xmpmeta>'


def picture(height: int = 16, width: int = 24, top: int = 255) -> np.ndarray:
    """A dark gradient with a bright square, H×W×4, the last channel for transparency."""
    y, x = np.mgrid[:height, :width]
    channels = [y / height / 4, x / width / 4, (x + y) / (width + height) / 3, (x + 1) / width]
    samples = np.stack(channels, axis=-1)
    samples[4:8, 4:8, :3] = 0.9
    return np.rint(samples * top).astype(np.uint8 if top == 255 else np.uint16)


def exif() -> bytes:
    """Orientation, size and a thumbnail's directory."""
    block = Image.Exif()
    block[0x0112], block[0x010F] = 6, "kdlib"
    block.get_ifd(0x8769).update({0xA002: 24, 0xA003: 16})
    return block.tobytes()


def photos() -> dict[str, bytes]:
    """Photos by file name."""
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(picture())
    deep = picture(top=65535)
    files: dict[str, bytes] = {}

    def save(name: str, kind: str, mode: str = "RGB", **options: object) -> None:
        buffer = io.BytesIO()
        image.convert(mode).save(buffer, kind, **options)
        files[name] = buffer.getvalue()

    def save_tiff(name: str, pixels: np.ndarray, **options: object) -> None:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels, metadata=None, **options)
        files[name] = buffer.getvalue()

    save("rgb.jpg", "JPEG", exif=exif(), icc_profile=icc, xmp=_XMP, comment=b"dark", subsampling=2)
    save("progressive.jpg", "JPEG", progressive=True, optimize=True, subsampling=0)
    save("grey.jpg", "JPEG", "L")
    save("ink.jpg", "JPEG", "CMYK")
    save("rgb.png", "PNG", exif=exif(), icc_profile=icc)
    save("rgba.png", "PNG", "RGBA")
    save("palette.png", "PNG", "P", transparency=3)
    save("bits.png", "PNG", "1")
    for name, pixels in (("deep.png", deep[..., :3]), ("deep_alpha.png", deep)):
        files[name] = cv2.imencode(".png", pixels)[1].tobytes()
    save("lossy.webp", "WEBP", quality=80, exif=exif(), icc_profile=icc, xmp=_XMP)
    save("plain.webp", "WEBP", quality=80)
    save("lossless.webp", "WEBP", "RGBA", lossless=True)
    save("rgb.bmp", "BMP")
    save("palette.bmp", "BMP", "P")
    save("rgb.tif", "TIFF", exif=exif(), icc_profile=icc)
    save("lzw.tif", "TIFF", compression="tiff_lzw")
    save("jpeg.tif", "TIFF", compression="jpeg")
    save("palette.tif", "TIFF", "P", compression="packbits")
    save("fax.tif", "TIFF", "1", compression="group4")
    save_tiff("deep.tif", deep[..., :3], photometric="rgb", compression="zlib", predictor=True, rowsperstrip=5)
    save_tiff("tiles.tif", picture()[..., 0], photometric="minisblack", tile=(16, 16))
    save_tiff("planes.tif", np.moveaxis(deep[..., :3], 2, 0), photometric="rgb", planarconfig="separate")
    save_tiff("big.tif", picture(), photometric="rgb", bigtiff=True, byteorder=">", extrasamples=["assocalpha"])
    if features.check("avif"):
        save("rgb.avif", "AVIF", exif=exif(), icc_profile=icc, quality=60)
        save("rgba.avif", "AVIF", "RGBA", quality=60)
    return files


def video(kind: str, sound: bool) -> bytes:
    """Five frames."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"x264-params": "log-level=error:info=0"})
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        voice = container.add_stream("aac", rate=8000) if sound else None
        for shift in range(5):
            frame = av.VideoFrame.from_ndarray(np.roll(picture(24, 32)[..., :3], shift, 1), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice is not None:
            tone = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.float32), "fltp", "mono")
            tone.sample_rate = 8000
            container.mux(voice.encode(tone))
            container.mux(voice.encode(None))
    return buffer.getvalue()


def write_exported() -> None:
    """Write a small network as exported files."""
    torch.manual_seed(0)
    model = create_model("nano-161")
    export_onnx(model, CORPUS / "photo.onnx")
    export_onnx(model, CORPUS / "network.onnx", flavour="network", precision="float16")


def write() -> None:
    """Write all of them, in place of those that are there."""
    CORPUS.mkdir(exist_ok=True)
    for old in CORPUS.iterdir():
        old.unlink()
    for name, content in photos().items():
        (CORPUS / name).write_bytes(content)
    (CORPUS / "silent.mp4").write_bytes(video("mp4", sound=False))
    (CORPUS / "sound.mkv").write_bytes(video("matroska", sound=True))
    torch.manual_seed(0)
    for name in ("nano-161", "glance-650"):
        save_model(create_model(name), CORPUS / f"{name}.safetensors")
    state = create_model("nano-161").state_dict()
    torch.save(state, CORPUS / "zip.pth")
    torch.save(state, CORPUS / "legacy.pth", _use_new_zipfile_serialization=False)
    write_exported()


if __name__ == "__main__":
    write()
    sizes = [path.stat().st_size for path in CORPUS.iterdir()]
    print(f"{len(sizes)} files, {sum(sizes):,} bytes")
