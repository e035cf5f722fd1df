"""Measure exported files: size, time, and what fewer bits lose.

Run as ``python -m kdlib.experiments.exported_files``; the result goes to ``results/export.json``. With ``--litert``,
where its converter is installed, LiteRT files are measured instead, and added to the result that is there.

The photos are those of the embedded ones on which int8 is not calibrated, each darkened by two, three and a half, and
five stops; for super-resolution they are downsampled instead. Time is the processor's, in one thread, so that other
programs on the machine hardly change it.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from kdlib.data.samples import HELD_OUT, sample_pairs, sample_photos
from kdlib.enhance.photos.rgb import to_tensor
from kdlib.evaluation.metrics import psnr
from kdlib.evaluation.tables import markdown_table
from kdlib.export import export_litert, export_onnx
from kdlib.files import write_json
from kdlib.models.family import follow
from kdlib.models.registry import find_family
from kdlib.resampling import crop_to_multiple, shrink
from kdlib.weights import load_model
from kdlib.weights.exported import PRECISIONS

MODELS = (
    *("grid-960", "grid-teacher", "glance-650", "student-565", "nano-161", "zero-dce++", "zero-dce"),
    *("iat-student", "light-msafn"),
)
LITERT_MODELS = ("grid-960", "student-565")
STOPS = (2.0, 3.5, 5.0)
_SIZE = (240, 320)  # height and width of the photo that is timed, or of the result of super-resolution
_FEWEST_RUNS, _LONGEST = 5, 4.0  # runs of each file, unless they take more seconds
_SIDE = 160  # of the centre of a photo that super-resolution restores

COLUMNS = {
    "model": ("model", "s"),
    "precision": ("precision", "s"),
    "bytes": ("bytes", ",d"),
    "network_bytes": ("network alone", ",d"),
    "ms": ("ms", ",.1f"),
    "network_ms": ("network alone, ms", ",.2f"),
    "psnr": ("PSNR, dB", ".2f"),
    "loss": ("loss, dB", "z.2f"),
    "fidelity": ("to float32, dB", ".1f"),
}


LITERT_COLUMNS = {
    "model": ("model", "s"),
    "bytes": ("bytes", ",d"),
    "ms": ("ms", ",.2f"),
    "difference": ("largest difference from PyTorch", ".0e"),
}


def litert_table(result: Mapping[str, Any]) -> str:
    """Return the result of :func:`measure_litert` as a Markdown table."""
    return markdown_table(result["litert"]["rows"], LITERT_COLUMNS)


def export_table(result: Mapping[str, Any]) -> str:
    """Return the result of :func:`measure_files` as a Markdown table."""
    return markdown_table(result["rows"], COLUMNS)


def measure_files(models: Sequence[str], progress: Callable[[str], object] = lambda _: None) -> list[dict[str, Any]]:
    """Export models in every precision, and measure the files.

    Args:
        models: names of shipped models.
        progress: called with a description of the next measurement.

    Returns:
        A row for each model and precision: sizes of both flavours in bytes; median milliseconds of the processor for a
        photo of 320×240 pixels (a result of that size for super-resolution), and for the thumbnail of that photo with
        the network alone, None if it works at full size; the mean PSNR against the truth, and how much lower it is than
        with float32; and the PSNR against the result with float32, None for float32 itself.
    """
    rows = []
    with TemporaryDirectory(prefix="kdlib-") as folder:
        for name in models:
            pairs, before, seen = list(_pairs(name)), None, _thumbnail_size(name)
            for precision in PRECISIONS:
                progress(f"{name}, {precision}")
                photo, network = (Path(folder) / f"{flavour}.onnx" for flavour in ("photo", "network"))
                export_onnx(name, photo, precision=precision)
                export_onnx(name, network, flavour="network", precision=precision)
                run = _session(photo)
                found = [torch.from_numpy(run(dark[None].numpy()))[0] for dark, _ in pairs]
                score = statistics.fmean(psnr(y, truth) for y, (_, truth) in zip(found, pairs, strict=True))
                first = before is None
                before = (score, found) if before is None else before
                likeness = [psnr(y, whole) for y, whole in zip(found, before[1], strict=True)]
                rows.append(
                    {
                        "model": name,
                        "precision": precision,
                        "bytes": photo.stat().st_size,
                        "network_bytes": network.stat().st_size,
                        "ms": _milliseconds(run, _dark(_timed_size(name))),
                        "network_ms": _milliseconds(_session(network), _dark(seen)) if seen else None,
                        "psnr": round(score, 3),
                        "loss": round(before[0] - score, 3),
                        "fidelity": None if first else round(statistics.fmean(likeness), 2),
                    }
                )
    return rows


def measure_litert(models: Sequence[str]) -> list[dict[str, Any]]:
    """Export the networks of models as LiteRT files, and compare what they compute with PyTorch.

    Returns:
        A row for each model: bytes, median milliseconds of the processor for a thumbnail, and the largest difference
        from PyTorch over the thumbnails of the photos of :func:`measure_files`.

    Raises:
        ModuleNotFoundError: the converter is not installed.
    """
    rows = []
    with TemporaryDirectory(prefix="kdlib-") as folder:
        for name in models:
            path = Path(folder) / "model.tflite"
            export_litert(name, path)
            model: Any = load_model(name)
            form = follow(find_family(model.config).exported)(model)
            run = _interpreter(path)
            seen = [F.adaptive_avg_pool2d(dark[None], form.side) for dark, _ in _pairs(name)]
            with torch.inference_mode():
                expected = [getattr(model, form.method)(small).numpy() for small in seen]
            apart = [abs(run(small.numpy()) - maps).max() for small, maps in zip(seen, expected, strict=True)]
            row = {"model": name, "bytes": path.stat().st_size, "ms": _milliseconds(run, seen[0].numpy())}
            rows.append({**row, "difference": float(max(apart))})
    return rows


def _interpreter(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    interpreter = import_module("ai_edge_litert.interpreter").Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    [source], [target] = interpreter.get_input_details(), interpreter.get_output_details()

    def run(seen: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(source["index"], seen)
        interpreter.invoke()
        found: np.ndarray = interpreter.get_tensor(target["index"])
        return found

    return run


def _pairs(name: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield photos with their ground truth, 3×H×W each."""
    model: Any = load_model(name)
    if find_family(model.config).upscales:
        for held in HELD_OUT:
            photo = to_tensor(sample_photos()[held])
            top, left = ((side - _SIDE) // 2 for side in photo.shape[1:])
            truth = crop_to_multiple(photo[None, :, top : top + _SIDE, left : left + _SIDE], model.upscale)
            yield shrink(truth, model.upscale).clamp(0, 1)[0], truth[0]
        return
    for stops in STOPS:
        pairs = sample_pairs(stops)
        yield from (pairs[held] for held in HELD_OUT)


def _timed_size(name: str) -> tuple[int, int]:
    upscale = getattr(load_model(name), "upscale", 1)
    return _SIZE[0] // upscale, _SIZE[1] // upscale


def _thumbnail_size(name: str) -> tuple[int, int] | None:
    """Return the size of what the network sees of the timed photo; None for the photo itself."""
    model: Any = load_model(name)
    if find_family(model.config).full_size:
        return None
    return model.thumbnail_size(*_SIZE) if hasattr(model, "thumbnail_size") else model.network_size(*_SIZE)


def _dark(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 0.25, (1, 3, *size)).astype(np.float32)


def _session(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0]


def _milliseconds(run: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> float:
    run(image)
    times: list[float] = []
    while len(times) < _FEWEST_RUNS or (sum(times) < 0.2 and len(times) < 200):
        start = time.process_time()
        run(image)
        times.append(time.process_time() - start)
        if sum(times) > _LONGEST:
            break
    return round(statistics.median(times) * 1e3, 4)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help="by default the shipped ones, with --litert two of them")
    parser.add_argument("--litert", action="store_true", help="measure LiteRT files")
    parser.add_argument("--out", type=Path, default=Path("results/export.json"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    command = "python -m kdlib.experiments.exported_files"
    if chosen.litert:
        result = json.loads(chosen.out.read_text(encoding="utf-8"))
        rows = measure_litert(chosen.models or LITERT_MODELS)
        result["litert"] = {"command": f"{command} --litert", "converter": version("litert-torch"), "rows": rows}
        table = litert_table(result)
    else:
        rows = measure_files(chosen.models or MODELS, lambda what: print(what, flush=True))
        result = {"command": command, "photo": "320×240", "threads": 1, "rows": rows}
        table = export_table(result)
    write_json(chosen.out, result)
    print(f"{table}\n\nwritten to {chosen.out}")


if __name__ == "__main__":
    main()
