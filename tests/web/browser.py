"""Starting Chromium, serving the page, and photos for it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "web"
# Without a graphics processor, WebGL2 is computed by SwiftShader. The camera is a test pattern.
ARGUMENTS = [
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
]  # fmt: skip

# A script that takes WebGL away, before the page begins.
WITHOUT_WEBGL = """
    const original = HTMLCanvasElement.prototype.getContext;
    HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
        return kind.startsWith("webgl") ? null : original.call(this, kind, ...more);
    };
"""


class _Handler(SimpleHTTPRequestHandler):
    extensions_map: ClassVar = {**SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path = WEB) -> Iterator[str]:
    """Serve a folder as a static host would; yield its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def chromium_path() -> str | None:
    """Chromium as the system has it; None for the one that Playwright has installed."""
    return os.environ.get("KDLIB_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def browser() -> Iterator[Any]:
    """Start Chromium without a window.

    Raises:
        ImportError: Playwright is missing.
        playwright.sync_api.Error: there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        yield chromium
        chromium.close()


def scene(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A dark photo, uint8: gradients, edges, bright lamps, colour and noise."""
    draws = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    light = 0.05 + 0.25 * x + 0.1 * np.sin(9 * y) ** 2 + 0.8 * ((x - 0.7) ** 2 + (y - 0.2) ** 2 < 0.004)
    colour = np.stack([light * (1 + 0.3 * np.sin(7 * x + k)) for k in range(3)], axis=2)
    colour[(x + y) % 0.25 < 0.02] *= 2.5
    photo = np.clip(255 * colour + draws.normal(0, 0.8, colour.shape), 0, 255).round().astype(np.uint8)
    if channels in (1, 2):
        photo = photo[..., :1]
    if channels in (2, 4):
        alpha = np.clip(300 * x / max(x.max(), 1e-9), 0, 255).astype(np.uint8)[..., None]
        photo = np.concatenate([photo, alpha], axis=2)
    return photo
