"""Benchmark the speed of the Enhancer against other ways of enhancing the same photo, all in one process."""

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

from kdlib.checks import check_choice, check_number
from kdlib.enhance import Enhancer
from kdlib.evaluation.classical import clahe_in_lab, gamma_table
from kdlib.evaluation.timing import SIZES, Run, measure, use_threads
from kdlib.extras import with_extra
from kdlib.models import ZeroDCE
from kdlib.models.family import follow
from kdlib.models.registry import find_family
from kdlib.weights import load_model

OURS = "kdlib"
EAGER, ONNX, COMPILED = "PyTorch, eager", "ONNX Runtime", "torch.compile"
CLAHE, LUT, COPY = "OpenCV CLAHE", "cv2.LUT", "copy"
_RIVALS = (EAGER, ONNX, COMPILED, CLAHE, LUT, COPY)
# Except for the Enhancer, networks run on the whole photo: IAT then needs 1.6 GB at 1080p and 9 GB at 12 MP.
_WHOLE = 1920 * 1080  # pixels
_PACKAGES = ("kdlib", "torch", "numba", "numpy", "opencv-python", "onnxruntime")


class PublishedForm(nn.Module):
    """Enhancement as in the published code: full-size maps, and one pass over the photo per iteration."""

    def __init__(self, model: ZeroDCE) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Enhance photos, B×3×H×W in [0, 1]."""
        maps = self.model.curve_map(x).split(3, dim=1)  # one shared map, or one per iteration
        for iteration in range(self.model.iterations):
            x = x + maps[iteration % len(maps)] * (torch.pow(x, 2) - x)
        return x


class PlainForm(nn.Module):
    """A network of another family, reduced to the enhanced photo that its forward pass returns."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Enhance photos, B×3×H×W in [0, 1]."""
        enhanced: Tensor = self.model(x)[0]
        return enhanced


def rivals(
    photo: np.ndarray, model: Any, threads: int, without: Collection[str] = ()
) -> Iterator[tuple[str, Run | str]]:
    """Yield each method's name with a callable that runs it on the photo, or the reason why it cannot run here.

    Methods in ``without`` are left out.

    The networks read and write float32 tensors, whose conversion is not timed, while the Enhancer and OpenCV read and
    write 8-bit photos. This favours the networks.
    """
    out = np.empty_like(photo)
    enhance = Enhancer(model, device="cpu", threads=threads)
    tensor = torch.from_numpy(photo).permute(2, 0, 1)[None].float().div(255).contiguous()
    form = find_family(model.config).published_form
    published = (follow(form) if form else PlainForm)(model).eval()

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
        import onnxscript  # noqa: F401 - required by PyTorch's exporter; first, because its extra brings both

        import onnxruntime  # isort: skip
    except ImportError as missing:
        return str(with_extra(missing, "timing it"))
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(module, (tensor,), dynamo=True, verbose=False)
        except Exception as error:  # for example an operation that ONNX does not support
            return f"export failed: {str(error.__cause__ or error).strip().splitlines()[0]}"
    assert program is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Otherwise its threads would keep spinning while the next method is measured.
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
    except Exception as error:  # no compiler, or an unsupported one
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
        model: name or path of the network used in all rows except those of OpenCV and the copy.
        sizes: names from ``SIZES``, or ``WIDTHxHEIGHT``.
        repeats: timed runs of each method; the median is reported.
        threads: number of threads of every method.
        without: methods to skip, by their names in the table; kdlib itself cannot be skipped.
        progress: called with a description of the next measurement.

    Returns:
        The settings and versions; ``rows``, one for each size and method, with median and quartiles in ms; ``ratios``,
        for each size the time of each method divided by kdlib's; ``left_out``, the reasons for missing methods; and
        ``cuda``, the result of :func:`benchmark_cuda`, or None without a CUDA device.

    Raises:
        ValueError: a size or a method in ``without`` is unknown, ``repeats`` or ``threads`` is below 1, a size exceeds
            1080p for a network that works at full size, or the network enlarges photos.
        FileNotFoundError: the weights file does not exist.
    """
    check_number("repeats", repeats, 1)
    check_number("threads", threads, 1)
    for name in without:
        check_choice("method", name, _RIVALS)
    shapes = {size: parse_size(size) for size in sizes}
    loaded = load_model(model)
    family = find_family(loaded.config)
    if family.upscales:
        raise ValueError(
            f"{model} enlarges photos, which the other methods here do not; "
            "use kdlib evaluate --time, which compares it with bicubic in time per megapixel of output"
        )
    if family.full_size:
        for size, (width, height) in shapes.items():
            if width * height > _WHOLE:
                raise ValueError(
                    f"{model} works at full size, and PyTorch would run out of memory at {size}; "
                    "use sizes up to 1080p, such as --size 640×480"
                )
    rows: list[dict[str, Any]] = []
    ratios: dict[str, dict[str, float]] = {}
    left_out: dict[str, str] = dict.fromkeys(without, "not asked for")
    with use_threads(threads):
        for size, (width, height) in shapes.items():
            # Dark noise suffices, because no method's time depends on the content of the photo.
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
    """Time the Enhancer on a 4K frame in GPU memory, compared with copying the frame on the device.

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
    """Format the result of :func:`benchmark` as a Markdown table of milliseconds, with ratios to kdlib in brackets."""
    sizes = list(result["ratios"])
    methods = dict.fromkeys(row["method"] for row in result["rows"])
    ms = {(row["method"], row["size"]): row["ms"] for row in result["rows"]}
    lines = [f"| ms | {' | '.join(sizes)} |", "| --- |" + " --: |" * len(sizes)]
    for method in methods:
        cells = [f"{ms[method, size]:,.2f} (×{result['ratios'][size][method]:.2f})" for size in sizes]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def parse_size(size: str) -> tuple[int, int]:
    """Return the width and height of a name in ``SIZES`` or of ``WIDTHxHEIGHT``.

    Raises:
        ValueError: ``size`` has neither form.
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
