"""How fast: the Enhancer beside other ways to enhance the same photo, measured in one process."""

from __future__ import annotations

import contextlib
import io
import platform
import statistics
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from kdlib.enhance import Enhancer
from kdlib.evaluation.classical import clahe_in_lab, gamma_table
from kdlib.evaluation.timing import SIZES, Run, measure, use_threads
from kdlib.extras import with_extra
from kdlib.models import ZeroDCE
from kdlib.models.registry import find_family
from kdlib.weights import load_model

OURS = "kdlib"
EAGER, ONNX, COMPILED = "PyTorch, eager", "ONNX Runtime", "torch.compile"
CLAHE, LUT, COPY = "OpenCV CLAHE", "cv2.LUT", "copy"
# Run on the whole photo, as all rows of networks but the Enhancer's do, IAT takes 1.6 GB at 1080p, and 9 at 12 MP.
_WHOLE = 1920 * 1080  # pixels
_PACKAGES = ("kdlib", "torch", "numba", "numpy", "opencv-python", "onnxruntime")


class PublishedForm(nn.Module):
    """Enhancing as published code writes it: full-size maps, then pass after pass over the photo."""

    def __init__(self, model: ZeroDCE) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """B×3×H×W in [0, 1] → the same."""
        maps = self.model.curve_map(x).split(3, dim=1)  # one for all iterations, or one for each
        for iteration in range(self.model.iterations):
            x = x + maps[iteration % len(maps)] * (torch.pow(x, 2) - x)
        return x


class PlainForm(nn.Module):
    """A network of another family as its own forward writes it, without the maps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """B×3×H×W in [0, 1] → the same."""
        enhanced: Tensor = self.model(x)[0]
        return enhanced


def rivals(
    photo: np.ndarray, model: Any, threads: int, without: Collection[str] = ()
) -> Iterator[tuple[str, Run | str]]:
    """Every method but those in ``without`` by name, each ready to run on the same photo, or the reason why it cannot
    be run here.

    The networks get and give float32 tensors, which are made outside the measurement; the Enhancer and OpenCV get and
    give 8 bits, whole way. That favours the networks.
    """
    out = np.empty_like(photo)
    enhance = Enhancer(model, device="cpu", threads=threads)
    tensor = torch.from_numpy(photo).permute(2, 0, 1)[None].float().div(255).contiguous()
    curves = find_family(model.config).output == "curve map"
    published = (PublishedForm if curves else PlainForm)(model).eval()

    def eager() -> Tensor:
        with torch.inference_mode():
            return published(tensor)

    table = gamma_table(0.4)
    # Exporting and compiling take many seconds: each method is prepared only when it is wanted.
    prepared: dict[str, Callable[[], Run | str]] = {
        OURS: lambda: lambda: enhance(photo, out=out),
        EAGER: lambda: eager,
        ONNX: lambda: _onnx_runtime(published, tensor, threads),
        COMPILED: lambda: _torch_compile(published, tensor),
        CLAHE: lambda: lambda: clahe_in_lab(photo),
        LUT: lambda: lambda: cv2.LUT(photo, table, out),
        COPY: lambda: lambda: np.copyto(out, photo),
    }
    for name, prepare in prepared.items():
        if name not in without:
            yield name, prepare()


def _onnx_runtime(module: nn.Module, tensor: Tensor, threads: int) -> Run | str:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - what PyTorch exports with
    except ImportError as missing:
        return str(with_extra(missing, "timing it"))
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(module, (tensor,), dynamo=True, verbose=False)
        except Exception as error:  # a step of the network that ONNX has no operator for
            return f"export failed: {str(error.__cause__ or error).strip().splitlines()[0]}"
    assert program is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Its threads would go on spinning into the next method's measurement.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {session.get_inputs()[0].name: tensor.numpy()}
    return lambda: session.run(None, feed)


def _torch_compile(module: nn.Module, tensor: Tensor) -> Run | str:
    torch._dynamo.reset()
    compiled = torch.compile(module, dynamic=False)

    def run() -> Tensor:
        with torch.inference_mode():
            return compiled(tensor)

    try:
        run()
    except Exception as error:  # no compiler, or one that PyTorch does not get on with
        return f"torch.compile failed: {str(error).strip().splitlines()[0]}"
    return run


def benchmark(
    model: str = "student-565",
    sizes: Sequence[str] = tuple(SIZES),
    *,
    repeats: int = 15,
    threads: int = 2,
    without: Sequence[str] = (),
    progress: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Time every method on photos of several sizes.

    Args:
        model: name or path of the network that all networks' rows share.
        sizes: names from ``SIZES``, or ``WIDTHxHEIGHT``.
        repeats: measured runs of each method; the median counts.
        threads: for every method.
        without: methods to leave out.
        progress: called with what is measured next.

    Returns:
        Settings and versions, ``rows`` (one for each size and method, with median and quartiles in ms) and for
        each size ``ratios``: how many times longer than kdlib each method takes. ``left_out`` gives reasons. With a
        CUDA device, ``cuda`` holds what :func:`benchmark_cuda` measured.

    Raises:
        ValueError: an unknown size, fewer than one repetition, a size above 1080p for IAT or its student, or a network
            that enlarges photos.
        FileNotFoundError: no such weights file.
    """
    if repeats < 1 or threads < 1:
        raise ValueError(f"repeats and threads are at least 1, not {repeats} and {threads}")
    shapes = {size: parse_size(size) for size in sizes}
    loaded = load_model(model)
    family = find_family(loaded.config)
    if family.upscales:
        raise ValueError(
            f"{model} enlarges photos, and the other methods here do not; "
            "kdlib evaluate --time measures it beside bicubic, for a megapixel of the result"
        )
    if family.output in {"stages", "image"}:  # convolutions at full size
        for size, (width, height) in shapes.items():
            if width * height > _WHOLE:
                raise ValueError(
                    f"{model} works at full size, and PyTorch would run short of memory at {size}; "
                    "give sizes up to 1080p, such as --size 640×480"
                )
    rows: list[dict[str, Any]] = []
    ratios: dict[str, dict[str, float]] = {}
    left_out: dict[str, str] = dict.fromkeys(without, "not asked for")
    with use_threads(threads):
        for size, (width, height) in shapes.items():
            # Dark noise: no method's time depends on what the photo shows.
            photo = np.random.default_rng(0).integers(0, 64, (height, width, 3), dtype=np.uint8)
            runs: dict[str, Run] = {}
            progress(f"{size}: preparing")
            for name, run in rivals(photo, loaded, threads, without):
                if isinstance(run, str):
                    left_out.setdefault(name, run)
                else:
                    runs[name] = run
            progress(f"{size}: measuring")
            medians = {}
            for name, seconds in measure(runs, repeats).items():
                quarter, middle, three_quarters = _quartiles(seconds)
                medians[name] = middle
                rows.append(
                    {
                        "size": size,
                        "width": width,
                        "height": height,
                        "method": name,
                        "ms": round(middle, 4),
                        "ms_quartiles": [round(quarter, 4), round(three_quarters, 4)],
                        "ns_per_pixel": round(middle * 1e6 / (width * height), 3),
                    }
                )
            ratios[size] = {name: round(ms / medians[OURS], 2) for name, ms in medians.items()}
    return {
        "model": model,
        "repeats": repeats,
        "threads": threads,
        "versions": _versions(),
        "rows": rows,
        "ratios": ratios,
        "left_out": left_out,
        "cuda": benchmark_cuda(model) if torch.cuda.is_available() else None,
    }


def benchmark_cuda(model: str = "student-565", *, repeats: int = 200) -> dict[str, Any]:
    """A 4K frame that lies on the CUDA device already: whole path, beside the device's own copy of the frame.

    Returns:
        Medians in microseconds, and the copy's time as a fraction of the Enhancer's.
    """
    width, height = SIZES["4K"]
    frame = torch.randint(0, 64, (height, width, 3), dtype=torch.uint8, device="cuda")
    out = torch.empty_like(frame)
    enhance = Enhancer(model, device="cuda")

    def microseconds(run: Run) -> float:
        times = []
        for k in range(repeats + 20):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            run()
            end.record()
            end.synchronize()
            if k >= 20:
                times.append(start.elapsed_time(end) * 1000)
        return statistics.median(times)

    ours, copy = microseconds(lambda: enhance(frame, out=out)), microseconds(lambda: out.copy_(frame))
    return {
        "device": torch.cuda.get_device_name(),
        "backend": enhance.backend,
        "us": round(ours, 1),
        "copy_us": round(copy, 1),
        "fraction_of_copy_bandwidth": round(copy / ours, 4),
    }


def speed_table(result: Mapping[str, Any]) -> str:
    """Milliseconds as a Markdown table, and in brackets how many times longer than kdlib; ``result`` is of
    :func:`benchmark`."""
    sizes = list(result["ratios"])
    methods = dict.fromkeys(row["method"] for row in result["rows"])
    ms = {(row["method"], row["size"]): row["ms"] for row in result["rows"]}
    lines = [f"| ms | {' | '.join(sizes)} |", "| --- |" + " --: |" * len(sizes)]
    for method in methods:
        cells = [f"{ms[method, size]:,.2f} (×{result['ratios'][size][method]:.2f})" for size in sizes]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def parse_size(size: str) -> tuple[int, int]:
    """Width and height of a size in ``SIZES`` or of ``WIDTHxHEIGHT``.

    Raises:
        ValueError: neither of them.
    """
    if size in SIZES:
        return SIZES[size]
    width, _, height = size.replace("×", "x").partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise ValueError(f"size {size!r} is unknown; choose from {', '.join(SIZES)}, or give WIDTHxHEIGHT")
    return int(width), int(height)


def _quartiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = np.quantile(seconds, [0.25, 0.5, 0.75]) * 1e3
    return float(low), float(middle), float(high)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
