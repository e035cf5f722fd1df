"""The page in ``web/``: its files, and what it does in Chromium."""

from __future__ import annotations

import base64
import gzip
import io
import re
import struct
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps, JpegImagePlugin, PngImagePlugin, features

import kdlib
from kdlib.app.page_models import MODELS, TARGET, exported
from kdlib.enhance.photos.photo_file import decode_photo
from kdlib.weights.catalogue import DEFAULT_MODEL
from tests import photo_corpus
from tests.test_photo_formats import cmyk_profile
from tests.web.browser import WEB, WITHOUT_WEBGL, browser, scene, served

MOST_BYTES = 300_000
FILES = sorted(path for path in WEB.iterdir() if path.is_file())
# Sizes and channels of 20 photos, all lossless: tiny, odd, portrait, wider than any texture, grey and translucent.
PHOTOS = [
    (1, 1, 3), (1, 7, 3), (9, 1, 3), (2, 2, 4), (11, 13, 3), (12, 12, 3), (31, 33, 3), (32, 32, 4), (64, 48, 1),
    (47, 63, 2), (90, 120, 3), (160, 90, 3), (100, 101, 4), (200, 133, 3), (250, 180, 4), (300, 200, 3), (1, 500, 3),
    (400, 2, 3), (150, 150, 1), (12, 9000, 4),
]  # fmt: skip
PATIENCE = 100_000  # milliseconds until a test gives up; a page on a busy machine may be slow
_numbers = count()


def png(photo, **options):
    """The bytes of a PNG."""
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[photo.shape[2]]
    file = io.BytesIO()
    Image.fromarray(photo[..., 0] if photo.shape[2] == 1 else photo, mode).save(file, "PNG", **options)
    return file.getvalue()


def four_channels(photo):
    colours = photo[..., :3] if photo.shape[2] >= 3 else photo[..., :1].repeat(3, axis=2)
    alpha = photo[..., -1:] if photo.shape[2] in {2, 4} else np.full_like(photo[..., :1], 255)
    return np.concatenate([colours, alpha], axis=2)


# The files


def test_models_are_those_of_the_weights():
    assert MODELS[0] == DEFAULT_MODEL
    assert TARGET.read_text(encoding="utf-8") == exported(), "run python -m kdlib.app.page_models"


def test_everything_together_is_small():
    assert sum(len(gzip.compress(path.read_bytes())) for path in FILES) < MOST_BYTES


def test_policy_forbids_every_connection_and_nothing_comes_from_elsewhere():
    html = (WEB / "index.html").read_text(encoding="utf-8")
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["connect-src"] == rules["form-action"] == "'none'"
    assert {source for rule in rules.values() for source in rule.split()} <= {"'none'", "'self'", "blob:", "data:"}
    for path in FILES:
        # Names of vocabularies, which nothing requests.
        text = re.sub(r"http://(www\.w3\.org/2000/svg|ns\.\w+\.com/)", "", path.read_text(encoding="utf-8"))
        assert not re.search(r"https?://|\beval\(|new Function|\son\w+=\"", text), path.name


def test_every_module_is_imported_before_the_page_is_ready():
    """What is loaded at a later time would be missing offline."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in FILES if path.suffix == ".js"}
    wanted, seen = ["app.js"], set()
    while wanted:
        seen.add(name := wanted.pop())
        wanted += [found for found in re.findall(r'from "\./(\w+\.js)"', texts[name]) if found not in seen]
    assert seen == texts.keys()
    assert not any(re.search(r"\bimport\(", text) for text in texts.values())


# In Chromium


@pytest.fixture(scope="module")
def chromium():
    """One browser for all tests."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: pip install playwright")
    try:
        with browser() as running:
            yield running
    except api.Error as error:
        pytest.skip(f"there is no Chromium that Playwright can start: {str(error).splitlines()[0]}")


@pytest.fixture(scope="module")
def address():
    with served() as where:
        yield where


class Page:
    """The page, as a user meets it."""

    def __init__(self, chromium, address, script="", **options):
        self.context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.errors, self.requests = [], []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: line.type == "error" and self.errors.append(line.text))
        if script:
            self.page.add_init_script(script)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.load(address)

    def load(self, address):
        """Load the page, perhaps again; what is requested afterwards is in ``requests``."""
        self.page.goto(address)
        self.page.wait_for_selector("html[data-ready]")
        self.requests.clear()

    def choose(self, content, name=None, kind="image/png"):
        """Choose a file; return its name when it is shown."""
        name = name or f"{next(_numbers)}.png"
        self.page.set_input_files("#files", {"name": name, "mimeType": kind, "buffer": content})
        self.page.evaluate("async () => { window.page = await import('./app.js'); }")
        self.until(
            """(() => {
                const { photos, view, engine } = window.page;
                const entry = photos.find(({ file }) => file.name === given);
                return entry && (view.current !== entry || engine.shown.photo === entry.photo)
                    || document.getElementById("alerts").textContent.includes(given);
            })()""",
            name,
        )
        return name

    def enhanced(self, name, model=DEFAULT_MODEL, strength=1.0, denoise=0.0):
        """The pixels of the result at full size, H×W×4."""
        width, height, data = self.page.evaluate(
            """async ([name, settings]) => {
                const { photos, engine } = await import("./app.js");
                const entry = photos.find(({ file }) => file.name === name);
                entry.photo ??= await engine.open(entry.file);
                const { width, height, data } = await engine.enhanced(entry.photo, settings);
                let text = "";
                for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
                return [width, height, btoa(text)];
            }""",
            [name, {"model": model, "strength": strength, "denoise": denoise}],
        )
        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)

    def canvas(self, which="after"):
        """What a canvas shows, H×W×4."""
        return np.array(
            Image.open(
                io.BytesIO(
                    base64.b64decode(
                        self.page.evaluate(
                            "(id) => document.getElementById(id).toDataURL('image/png').split(',')[1]", which
                        )
                    )
                )
            ).convert("RGBA")
        )

    def until(self, condition, argument=None):
        """Wait until a condition in JavaScript holds; Playwright's way evaluates text, which the policy forbids."""
        self.wait(lambda: self.page.evaluate(f"(given) => Boolean({condition})", argument), condition)

    def wait(self, done, what):
        """Wait until a function returns what is true."""
        end = time.monotonic() + PATIENCE / 1000
        while not done():
            assert time.monotonic() < end, f"waited in vain: {what}"
            self.page.wait_for_timeout(20)

    def settle(self):
        """Wait until the current photo is shown with the current settings."""
        self.page.evaluate("async () => { const { render } = await import('./app.js'); await render(); }")

    def set(self, **values):
        """Move sliders."""
        for name, value in values.items():
            self.page.locator(f"#{name}").evaluate(
                "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }", str(value)
            )
        self.settle()

    def save(self, folder):
        """Save the current photo; return where the download lies."""
        self.until("!document.getElementById('save').ariaDisabled")
        with self.page.expect_download() as waiting:
            self.page.click("#save")
        waiting.value.save_as(path := Path(folder) / waiting.value.suggested_filename)
        return path


@pytest.fixture(scope="module")
def shared_page(chromium, address):
    """One page for the tests that only compare pixels."""
    page = Page(chromium, address)
    yield page
    page.context.close()
    assert not page.errors


@pytest.fixture
def opened(chromium, address, shared_page):
    """Open the page with a script and options of a browser context.

    Without them the shared page is loaded again, which takes half as long as another one and leaves nothing either.
    """
    pages = []

    def start(script="", **options):
        if script or options:
            pages.append(Page(chromium, address, script, **options))
            return pages[-1]
        shared_page.load(address)
        return shared_page

    yield start
    for page in pages:
        page.context.close()
        assert not page.errors
    shared_page.context.set_offline(False)
    assert not shared_page.errors


@pytest.fixture(scope="module")
def plain_page(chromium, address):
    """The same in a browser without WebGL2."""
    page = Page(chromium, address, WITHOUT_WEBGL)
    assert page.page.locator("#how").text_content() == "Computed by JavaScript."
    yield page
    page.context.close()
    assert not page.errors


@pytest.mark.parametrize(("number", "size"), list(enumerate(PHOTOS)), ids=["×".join(map(str, size)) for size in PHOTOS])
def test_canvas_is_the_enhancer_s_result(shared_page, number, size):
    photo = scene(*size, seed=number)
    name = shared_page.choose(png(photo))
    for model, strength, denoise in (("grid-960", 1, 0), ("grid-960", 1.3, 1), ("student-565", 1, 0.7)):
        wanted = kdlib.Enhancer(model, strength=strength, denoise=denoise)(photo)
        found = shared_page.enhanced(name, model, strength, denoise)
        apart = np.abs(found.astype(int) - four_channels(wanted))
        assert apart.max() <= 2, (model, strength, denoise)
        assert not apart[..., 3].any()
    assert (shared_page.enhanced(name, strength=0) == four_channels(photo)).all()


@pytest.mark.parametrize("size", [(1, 1, 3), (60, 45, 4), (33, 50, 1)])
def test_without_webgl_javascript_gives_the_enhancer_s_result(plain_page, size):
    photo = scene(*size, seed=3)
    name = plain_page.choose(png(photo))
    for model, strength, denoise in (("grid-960", 1, 1), ("student-565-free", 1.5, 0), ("student-565", 1, 1)):
        wanted = kdlib.Enhancer(model, strength=strength, denoise=denoise)(photo)
        found = plain_page.enhanced(name, model, strength, denoise)
        assert np.abs(found.astype(int) - four_channels(wanted)).max() <= 1, (model, strength, denoise)
    assert (plain_page.enhanced(name, strength=0) == four_channels(photo)).all()
    plain_page.page.evaluate("async () => { const { photos } = await import('./app.js'); photos.length = 0; }")


def test_the_screen_shows_what_is_saved(opened, tmp_path):
    page, photo = opened(), scene(90, 130, 4)
    page.choose(png(photo), "night.png")
    page.set(strength=1.5, denoise=0)
    shown = page.canvas()
    saved = page.save(tmp_path)
    assert saved.name == "night_enhanced.png"
    result = np.array(Image.open(saved))
    opaque = photo[..., 3] == 255
    assert opaque.any()
    assert (shown[opaque] == result[opaque]).all()
    assert (page.canvas("before")[opaque] == photo[opaque]).all()
    page.set(strength=0)
    assert (np.array(Image.open(page.save(tmp_path))) == photo).all()


def test_photos_are_dropped_and_pasted_and_several_at_once(opened):
    page = opened()
    for kind, name in (("drop", "dropped.png"), ("paste", "pasted.png")):
        page.page.evaluate(
            """([kind, files]) => {
                const data = new DataTransfer();
                for (const [name, content] of files) {
                    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
                    data.items.add(new File([bytes], name, { type: "image/png" }));
                }
                const event = kind === "drop"
                    ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
                    : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
                document.body.dispatchEvent(event);
            }""",
            [kind, [[f"{n}-{name}", base64.b64encode(png(scene(20, 30, seed=n))).decode()] for n in (1, 2)]],
        )
        page.page.wait_for_selector(f"#strip [aria-label='2-{name}']")
    assert page.page.locator("#strip .thumb").count() == 4
    assert page.page.locator("#name").text_content() == "1-pasted.png"
    page.page.click("[aria-label='2-dropped.png']")
    page.until("document.getElementById('name').textContent === '2-dropped.png'")
    page.page.click("[aria-label='Close 2-dropped.png']")
    page.until("document.querySelectorAll('#strip .thumb').length === 3")
    downloads = []
    page.page.on("download", lambda download: downloads.append(download.suggested_filename))
    page.page.click("#save-all")
    page.until("document.getElementById('said').textContent === '3 photos saved.'")
    page.wait(lambda: len(downloads) == 3, "three downloads")
    assert sorted(downloads) == ["1-dropped_enhanced.png", "1-pasted_enhanced.png", "2-pasted_enhanced.png"]


def test_the_strip_keeps_the_focus_of_the_keyboard(opened):
    page = opened()
    for number in range(3):
        page.choose(png(scene(20, 30, seed=number)), f"{number}.png")

    def focused():
        return page.page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.id")

    page.page.focus("[aria-label='2.png']")
    page.page.keyboard.press("Enter")
    page.until("document.getElementById('name').textContent === '2.png'")
    assert focused() == "2.png"
    assert page.page.locator("[aria-label='2.png']").get_attribute("aria-current") == "true"
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Enter")  # closes the last photo
    page.until("document.getElementById('name').textContent === '1.png'")
    assert focused() == "1.png"
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Enter")
    page.until("document.getElementById('name').textContent === '0.png'")
    assert page.page.locator("#strip").is_hidden()
    assert page.page.evaluate("document.activeElement.id") == "split"
    for words in ("a.txt", "b.txt"):
        page.choose(b"words", words)
    page.page.focus("#alerts button")
    page.page.keyboard.press("Enter")
    assert page.page.evaluate("document.activeElement.closest('#alerts') !== null")
    page.page.keyboard.press("Escape")
    assert page.page.locator("#alerts div").count() == 0
    assert page.page.evaluate("document.activeElement.id") == "split"


def test_of_several_clicks_while_photos_are_decoded_the_last_one_counts(opened):
    """Photos whose pixels were forgotten are decoded again, slowly here."""
    page = opened()
    sizes = {"a.png": (40, 60), "b.png": (90, 20), "c.png": (30, 30)}
    for number, (name, size) in enumerate(sizes.items()):
        page.choose(png(scene(*size, seed=number)), name)
    page.page.evaluate(
        """async () => {
            const { engine, photos } = await import("./app.js");
            window.times = 0;
            const open = engine.open.bind(engine);
            engine.open = async (file) => {
                window.times += 1;
                await new Promise((resolve) => setTimeout(resolve, { "a.png": 900, "b.png": 500 }[file.name]));
                return open(file);
            };
            for (const entry of photos.slice(0, 2)) entry.photo = null;
            for (const name of ["a.png", "b.png", "a.png", "b.png"]) {
                document.querySelector(`[aria-label="${name}"]`).click();
            }
        }"""
    )
    page.until("document.getElementById('busy').textContent === 'Opening …'")
    page.until("window.page.photos.every(({ photo }) => photo) && document.getElementById('busy').hidden")
    page.settle()
    assert page.page.locator("#name").text_content() == "b.png"
    assert page.canvas("before").shape[:2] == (90, 20)
    assert page.page.evaluate("window.times") == 2
    assert page.page.locator("#alerts").text_content() == ""


def test_slider_moves_by_keyboard_and_says_where_it_is(opened):
    page = opened()
    page.choose(png(scene(40, 60)))
    split = page.page.get_by_role("slider", name="Boundary between original and brightened photo")
    assert page.page.evaluate("document.activeElement.id") == "split"
    for key, wanted in (("ArrowLeft", 49), ("PageUp", 59), ("Home", 0), ("End", 100), ("PageDown", 90)):
        split.press(key)
        assert split.input_value() == str(wanted)
        assert split.get_attribute("aria-valuetext") == f"{wanted}% original, {100 - wanted}% brightened"
    box = page.page.locator("#frame").bounding_box()
    page.page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 5)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 9)
    page.page.mouse.up()
    assert abs(int(split.input_value()) - 25) <= 1


def test_a_photo_from_choosing_to_saving_by_keyboard_alone(opened, tmp_path):
    page, choosers = opened(), []
    # Before any key, because Chromium is told in the background that the test chooses the file.
    page.page.on("filechooser", lambda chooser: choosers.append(chooser))
    keys = page.page.keyboard

    def tab_to(name):
        for _ in range(20):
            keys.press("Tab")
            if page.page.evaluate("document.activeElement.id") == name:
                return
        raise AssertionError(f"{name} is not reached by Tab")

    tab_to("choose")
    keys.press("Enter")
    page.wait(lambda: choosers, "a file chooser")
    choosers[0].set_files({"name": "dark.png", "mimeType": "image/png", "buffer": png(scene(30, 40))})
    page.until("document.activeElement.id === 'split'")
    tab_to("strength")
    keys.press("End")
    tab_to("save")
    with page.page.expect_download() as waiting:
        keys.press("Enter")
    waiting.value.save_as(saved := tmp_path / "saved.png")
    wanted = kdlib.Enhancer(strength=2)(scene(30, 40))
    assert np.abs(np.array(Image.open(saved)).astype(int) - wanted).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_shown_upright_and_kept(shared_page, orientation, tmp_path):
    corners = np.zeros((40, 64, 3), np.uint8)
    corners[:20, :32], corners[:20, 32:], corners[20:, :32], corners[20:, 32:] = (
        (90, 10, 10), (10, 90, 10), (10, 10, 90), (80, 80, 80),
    )  # fmt: skip
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, "a night"
    file = io.BytesIO()
    Image.fromarray(corners).save(file, "JPEG", exif=exif, quality=98, subsampling=0)
    name = shared_page.choose(file.getvalue(), f"turned-{orientation}.jpg", "image/jpeg")
    page = shared_page.page
    if page.locator("#strip").is_visible():
        page.click(f"[aria-label='{name}']")
    shared_page.until("document.getElementById('name').textContent === given", name)
    shared_page.settle()
    upright = np.array(ImageOps.exif_transpose(Image.open(file)).convert("RGB")).astype(int)
    shown = shared_page.canvas("before")[..., :3]
    assert shown.shape == upright.shape
    assert np.abs(shown - upright).mean() < 2
    after = shared_page.canvas()[..., :3].astype(int)
    for y, x in ((10, 10), (10, -10), (-10, 10), (-10, -10)):  # the same corner has the same colour, only brighter
        assert after[y, x].argmax() == upright[y, x].argmax() or np.ptp(upright[y, x]) < 10
        assert after[y, x].sum() > upright[y, x].sum()
    with Image.open(shared_page.save(tmp_path)) as saved:
        assert saved.format == "JPEG"
        assert saved.size == (64, 40)
        assert saved.getexif()[0x0112] == orientation
        assert saved.getexif()[0x010E] == "a night"


def test_metadata_and_format_are_kept(opened, tmp_path):
    page, photo = opened(), scene(30, 44)
    icc = b"\0" * 36 + b"acsp" + b"\0" * 100
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "maker", 1
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "night")
    page.choose(png(photo, pnginfo=info, icc_profile=icc, exif=exif, dpi=(300, 300)), "all.png")
    with Image.open(page.save(tmp_path)) as saved:
        assert saved.info["Title"] == "night"
        assert saved.info["icc_profile"] == icc
        assert saved.getexif()[0x010F] == "maker"
        assert saved.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    page.choose(png(scene(30, 44, 2)), "grey.png")
    page.page.click("[aria-label='grey.png']")
    page.until("document.getElementById('name').textContent === 'grey.png'")
    with Image.open(page.save(tmp_path)) as saved:
        assert saved.mode == "LA"
    for kind, options in (("JPEG", {"quality": 71}), ("WEBP", {"lossless": True}), ("BMP", {})):
        file, name = io.BytesIO(), f"photo.{kind.lower()}"
        more = {} if kind == "BMP" else {"exif": exif, "icc_profile": icc}
        Image.fromarray(photo).save(file, kind, **options, **more)
        page.choose(file.getvalue(), name, f"image/{kind.lower()}")
        page.page.click(f"[aria-label='{name}']")
        page.until("document.getElementById('name').textContent === given", name)
        path = page.save(tmp_path)
        with Image.open(path) as saved:
            assert saved.format == kind
            assert saved.size == (44, 30)
            if kind != "BMP":
                assert saved.info["icc_profile"] == icc
                assert saved.getexif()[0x010F] == "maker"
            if kind == "JPEG":
                file.seek(0)
                ours, theirs = (np.array(image.quantization[0]) for image in (saved, Image.open(file)))
                assert np.abs(ours - theirs).max() <= 1
        if kind != "JPEG":
            result = decode_photo(path).pixels.astype(int)
            assert np.abs(result - kdlib.Enhancer()(photo)).max() <= 2


def test_notices(opened, tmp_path):
    page = opened()
    deep = (scene(20, 30)[..., 0].astype(np.uint16) * 257 + 3).clip(0, 65535).astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(deep).save(file, "PNG")
    page.choose(file.getvalue(), "deep.png")
    assert page.page.locator("#notices li").all_text_contents() == [
        "The photo has 16 bits a sample. Browsers decode 8, and 8 are saved."
    ]
    with Image.open(page.save(tmp_path)) as saved:
        assert saved.mode == "L"
    frames = [Image.fromarray(scene(20, 30, seed=seed)) for seed in range(2)]
    for kind in ("GIF", "PNG", "WEBP"):
        frames[0].save(file := io.BytesIO(), kind, save_all=True, append_images=frames[1:], loop=0, lossless=True)
        page.choose(file.getvalue(), f"moves.{kind.lower()}", f"image/{kind.lower()}")
        page.page.click(f"[aria-label='moves.{kind.lower()}']")
        page.until("document.getElementById('name').textContent === given", f"moves.{kind.lower()}")
        assert "Only its first picture is opened" in page.page.locator("#notices").text_content()


def test_a_translucent_lossless_webp_keeps_what_can_be_seen(opened, tmp_path):
    page, photo = opened(), scene(60, 80, 4)
    Image.fromarray(photo).save(file := io.BytesIO(), "WEBP", lossless=True, exact=True)
    page.choose(file.getvalue(), "night.webp", "image/webp")
    page.set(strength=0, denoise=0)
    for strength, wanted in ((0, photo), (1, kdlib.Enhancer(denoise=0)(photo))):
        page.set(strength=strength)
        saved = np.array(Image.open(page.save(tmp_path)).convert("RGBA")).astype(int)
        assert (saved[..., 3] == photo[..., 3]).all()
        seen = photo[..., 3] > 0  # encoders drop the colours of other pixels
        assert np.abs(saved - wanted)[seen].max() <= 2 * strength


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("words.jpg", b"These are words.", "is not a photo in a known format"),
        ("cut.png", png(scene(64, 64))[:2000], "the file ends before the photo does"),
        ("empty.png", b"", "is not a photo in a known format"),
        ("flipped.png", None, "The PNG file is damaged, or of a kind that this browser cannot read."),
        ("page.tif", b"II*\0" + bytes(60), "This browser cannot read TIFF photos."),
    ],
)
def test_a_broken_file_is_named_with_the_reason(shared_page, name, content, words):
    if content is None:
        content = bytearray(png(scene(64, 64)))
        content[120:160] = bytes(40)
    shared_page.choose(bytes(content), name, "image/png")
    text = shared_page.page.locator("#alerts").text_content()
    assert name in text
    assert words in text
    shared_page.page.evaluate("document.getElementById('alerts').replaceChildren()")
    shared_page.errors.clear()  # Chromium's own words on an image that it cannot decode


def test_nothing_is_requested_after_loading_and_all_works_offline(opened, tmp_path):
    page = opened()
    page.context.set_offline(True)
    page.choose(png(scene(50, 70)), "offline.png")
    page.set(strength=1.4, denoise=0.5)
    page.page.select_option("#model", "student-565")
    page.page.click("#zoom", force=True)
    assert page.save(tmp_path).stat().st_size
    page.page.click("summary")
    assert page.page.locator("#requests").text_content() == "0"
    assert [url for url in page.requests if not url.startswith(("blob:", "data:"))] == []
    refused = page.page.evaluate(
        "fetch('/index.html').then(() => 'sent', (error) => error.name)"  # the policy, and not only the lost network
    )
    assert refused == "TypeError"
    assert any("Content Security Policy" in line for line in page.errors)
    page.errors.clear()


def test_zooming_shows_the_pixels_of_the_photo(opened):
    page, photo = opened(), scene(800, 1800, seed=4)
    page.choose(png(photo, compress_level=1), "large.png")
    page.set(denoise=0)
    assert max(page.canvas("before").shape) < 1800
    page.page.click("#zoom")
    page.page.wait_for_selector("#frame.zoomed")
    page.settle()
    before, after = page.canvas("before"), page.canvas()
    top, left = page.page.evaluate(
        "async () => { const { view } = await import('./app.js');"
        " const canvas = document.getElementById('before');"
        " return [Math.round(view.y - canvas.height / 2), Math.round(view.x - canvas.width / 2)]; }"
    )
    height, width = before.shape[:2]
    place = np.s_[top : top + height, left : left + width]
    assert (before[..., :3] == photo[place]).all()
    wanted = kdlib.Enhancer(denoise=0)(photo)[place]
    assert np.abs(after[..., :3].astype(int) - wanted).max() <= 2


# The pattern is 1280×720 as the page asks for it, on which software rendering takes most of a second.
SMALL_CAMERA = """
    const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = () => ask({ video: { width: 320, height: 240 } });
"""


def test_camera_is_enhanced_and_a_frame_becomes_a_photo(opened):
    page = opened(SMALL_CAMERA, permissions=["camera"])
    page.page.click("#start-camera")
    page.page.wait_for_selector("#snap:visible")
    page.until("document.getElementById('after').width > 300")
    assert page.page.locator("#name").text_content() == "Camera"
    before = page.canvas()
    assert np.ptp(before[..., :3]) > 100  # the test pattern, not an empty canvas
    was = page.page.evaluate("document.getElementById('after').toDataURL()")
    page.until("document.getElementById('after').toDataURL() !== given", was)
    page.page.click("#snap")
    page.until("document.getElementById('name').textContent.startsWith('camera-')")
    assert page.page.locator("#video").is_hidden()
    assert page.page.locator("#save").is_visible()


def test_a_camera_that_is_not_allowed_is_explained(opened):
    page = opened(
        "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError'));"
    )
    page.page.click("#start-camera")
    page.page.wait_for_selector("#alerts div")
    assert "The camera was not allowed." in page.page.locator("#alerts").text_content()


def test_a_camera_that_is_taken_away_is_said_and_one_is_started_once(opened):
    page = opened(
        SMALL_CAMERA
        + """
        const get = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        window.streams = [];
        navigator.mediaDevices.getUserMedia = async (wanted) => {
            window.streams.push(await get(wanted));
            return window.streams.at(-1);
        };
        """,
        permissions=["camera"],
    )
    page.page.evaluate("for (let n = 0; n < 3; n++) document.getElementById('start-camera').click()")
    page.page.wait_for_selector("#snap:visible")
    assert page.page.evaluate("streams.length") == 1
    page.page.evaluate("streams[0].getVideoTracks()[0].dispatchEvent(new Event('ended'))")
    page.page.wait_for_selector("#alerts div")
    assert "The camera was disconnected." in page.page.locator("#alerts").text_content()
    assert page.page.locator("#start").is_visible()
    assert page.page.evaluate("streams[0].getVideoTracks()[0].readyState") == "ended"


LOSE = """(which) => {
    const gl = window.page.engine.gl.gl;
    window.extension ??= gl.getExtension("WEBGL_lose_context");
    window.extension[which]();
}"""


def test_a_graphics_processor_that_is_reset_costs_no_photo(opened, tmp_path):
    page, photos = opened(), {f"{seed}.png": scene(50, 70, seed=seed) for seed in range(2)}
    page.choose(png(photos["0.png"]), "0.png")
    before = page.canvas()
    page.page.evaluate(LOSE, "loseContext")
    page.page.wait_for_selector("#alerts div")
    assert "The graphics processor was reset." in page.page.locator("#alerts").text_content()
    page.page.evaluate(
        """async (content) => {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "1.png", { type: "image/png" }));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
        }""",
        base64.b64encode(png(photos["1.png"])).decode(),
    )
    page.until("document.getElementById('name').textContent === '1.png'")
    # Decoded and enhanced without it.
    result = np.array(Image.open(page.save(tmp_path))).astype(int)
    assert np.abs(result - kdlib.Enhancer()(photos["1.png"])).max() <= 2
    page.page.evaluate(LOSE, "restoreContext")
    page.until("!window.page.engine.gl.lost && window.page.engine.shown.photo")
    page.page.click("[aria-label='0.png']")
    page.until("document.getElementById('name').textContent === '0.png'")
    page.settle()
    assert (page.canvas() == before).all()


def test_a_graphics_processor_that_cannot_compute_is_not_used(opened):
    page = opened(
        "const get = WebGL2RenderingContext.prototype.getExtension;"
        "WebGL2RenderingContext.prototype.getExtension = function (name) {"
        "  return name.startsWith('EXT_color_buffer') ? null : get.call(this, name); };"
    )
    assert page.page.locator("#how").text_content() == "Computed by JavaScript."
    photo = scene(30, 40)
    page.choose(png(photo), "night.png")
    page.settle()
    assert np.abs(page.canvas()[..., :3].astype(int) - kdlib.Enhancer()(photo)).max() <= 1


def test_what_is_shown_while_a_photo_is_saved_stays_right(opened):
    """Saving computes tiles on the graphics processor between which the slider draws."""
    page, photo = opened(), scene(2200, 300, seed=5)
    page.choose(png(photo, compress_level=1), "tall.png")
    page.set(denoise=0)
    wanted = page.canvas()
    page.page.evaluate(
        """async () => {
            const { engine, photos, render, settings } = window.page;
            let tiles = 0;
            const draw = async () => { tiles += 1; await render(); };
            const enhance = engine.gl.enhance.bind(engine.gl);
            engine.gl.enhance = (photo, plan, each) =>
                enhance(photo, plan, async (...tile) => {
                    await each(...tile);
                    await draw();
                });
            await engine.enhanced(photos[0].photo, { ...settings });
            if (tiles < 2) throw new Error("there was one tile only");
            await render();
        }"""
    )
    assert (page.canvas() == wanted).all()


def test_a_folder_that_is_dropped_is_explained(opened, tmp_path):
    page = opened()
    (tmp_path / "holiday").mkdir()
    session = page.context.new_cdp_session(page.page)
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(tmp_path / "holiday")], "dragOperationsMask": 1}
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})
    page.page.wait_for_selector("#alerts div")
    assert "holiday could not be read. If it is a folder" in page.page.locator("#alerts").text_content()


def test_a_page_that_is_opened_from_disk_says_why_it_does_nothing(chromium):
    context = chromium.new_context()
    page = context.new_page()
    page.goto(WEB.joinpath("index.html").as_uri())
    assert page.locator("#unready").is_hidden()
    page.wait_for_selector("#unready", state="visible")
    assert "kdlib app" in page.locator("#unready").text_content()
    context.close()


def test_where_the_system_chooses_the_colours_sliders_can_be_seen(opened):
    page = opened(forced_colors="active")
    page.choose(png(scene(30, 40)))
    picture = np.array(Image.open(io.BytesIO(page.page.locator("#strength").screenshot())).convert("L")).astype(int)
    assert np.ptp(picture[:, 5]) > 100  # the track, left of the thumb


@pytest.mark.parametrize(
    ("colours", "size"), [("light", (1280, 800)), ("dark", (390, 844))], ids=["light, wide", "dark, phone"]
)
def test_light_dark_and_phone_are_accessible(opened, colours, size):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is missing: pip install axe-playwright-python"
    )
    page = opened(color_scheme=colours)
    page.page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))

    def check():
        found = axe.Axe().run(page.page, options={"resultTypes": ["violations"]})
        assert found.violations_count == 0, found.generate_report()
        assert page.page.evaluate("document.documentElement.scrollWidth") <= size[0]

    # The policy keeps the tester from adding its script as an element; Playwright evaluates it.
    check()
    deep = (scene(40, 30)[..., 0].astype(np.uint16) * 257).astype(np.uint16)
    Image.fromarray(deep).save(file := io.BytesIO(), "PNG")
    page.choose(file.getvalue(), "deep.png")
    assert page.page.locator("#notices li").count() == 1
    check()
    page.choose(png(scene(60, 80)), "one.png")
    page.choose(b"words", "words.png")
    page.choose(png(scene(60, 80, 4)), "two.png")
    page.page.click("summary")
    check()
    background = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
    level = np.mean([int(part) for part in re.findall(r"\d+", background)[:3]])
    assert (level > 200) == (colours == "light")
    for name in ("strength", "save", "split"):
        box = page.page.locator(f"#{name}").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size[0] + 1


# What is saved


def shown(page, content, name, kind="image/png"):
    """Choose a file, and wait until it is shown; return the notices."""
    page.choose(content, name, kind)
    page.until("document.getElementById('name').textContent === given", name)
    page.settle()
    return page.page.locator("#notices").text_content()


def in_format(photo, kind, **options):
    Image.fromarray(photo).save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def profile(space, tags):
    """An ICC profile of a display with these tags."""
    tags = {b"wtpt": xyz(0.9642, 1, 0.8249), **tags}
    table, content = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(content), len(data))
        content += data
    size = 128 + len(table) + len(content)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"mntr", space, b"XYZ ") + bytes(12) + b"acsp"
    return header.ljust(68, b"\0") + xyz(0.9642, 1, 0.8249)[8:] + bytes(48) + table + content


def xyz(*values):
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * value) for value in values))


def gamma(value):
    return struct.pack(">4s4xIHxx", b"curv", 1, round(256 * value))


DISPLAY_P3 = profile(
    b"RGB ",
    {
        b"rXYZ": xyz(0.51512, 0.24120, -0.00105), b"gXYZ": xyz(0.29198, 0.69225, 0.04189),
        b"bXYZ": xyz(0.15710, 0.06657, 0.78407), b"rTRC": gamma(2.2), b"gTRC": gamma(2.2), b"bTRC": gamma(2.2),
    },
)  # fmt: skip
LINEAR_GREY = profile(b"GRAY", {b"kTRC": gamma(1)})
# A browser that writes PNG where it is asked for WebP, as Safari does.
WITHOUT_WEBP = """
    const toBlob = HTMLCanvasElement.prototype.toBlob;
    HTMLCanvasElement.prototype.toBlob = function (give, type, quality) {
        toBlob.call(this, give, type === "image/webp" ? "image/png" : type, quality);
    };
"""


def test_a_format_that_is_not_written_is_converted_to_srgb(opened, tmp_path):
    if not features.check("avif"):
        pytest.skip("Pillow writes no AVIF")
    page = opened()
    photo = np.full((40, 60, 3), (150, 60, 60), np.uint8)
    p3, srgb = ImageCms.ImageCmsProfile(io.BytesIO(DISPLAY_P3)), ImageCms.createProfile("sRGB")
    wanted = np.array(ImageCms.profileToProfile(Image.fromarray(photo), p3, srgb))
    assert wanted[0, 0, 1] <= 52
    shown(page, in_format(photo, "AVIF", quality=100, icc_profile=DISPLAY_P3), "p3.avif", "image/avif")
    page.set(strength=0, denoise=0)
    with Image.open(page.save(tmp_path)) as saved:
        assert saved.format == "PNG"
        assert "icc_profile" not in saved.info
        assert np.abs(np.array(saved).astype(int) - wanted).max() <= 2
    assert "The page cannot write AVIF, so the photo is saved as PNG in sRGB" in page.page.inner_text("#notices")


def test_a_webp_that_the_browser_cannot_write_keeps_colours_and_metadata_as_png(opened, tmp_path):
    page, photo = opened(WITHOUT_WEBP), scene(40, 60)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    options = {"lossless": True, "icc_profile": DISPLAY_P3, "exif": exif, "xmp": b"<x:xmpmeta>a night</x:xmpmeta>"}
    shown(page, in_format(photo, "WEBP", **options), "p3.webp", "image/webp")
    page.set(strength=0, denoise=0)
    with Image.open(page.save(tmp_path)) as saved:
        assert saved.format == "PNG"
        assert (np.array(saved) == photo).all()
        assert saved.info["icc_profile"] == DISPLAY_P3
        assert (saved.getexif()[0x0112], saved.getexif()[0x010F]) == (6, "maker")
        assert saved.info["xmp"] == options["xmp"]
    assert page.page.inner_text("#notices") == "This browser cannot write WebP, so the photo is saved as PNG."


def test_profiles_of_grey_and_of_inks_are_applied_and_not_kept(opened, tmp_path):
    """The browser writes three colours, for which they would be wrong."""
    page = opened()
    grey = np.full((40, 60), 55, np.uint8)
    shown(page, in_format(grey, "JPEG", icc_profile=LINEAR_GREY, quality=95), "grey.jpg", "image/jpeg")
    page.set(strength=0, denoise=0)
    with Image.open(page.save(tmp_path)) as saved:
        assert "icc_profile" not in saved.info
        assert abs(saved.convert("L").getpixel((9, 9)) - 128) <= 2
    Image.new("CMYK", (60, 40), (0, 200, 200, 40)).save(file := io.BytesIO(), "JPEG", icc_profile=cmyk_profile())
    shown(page, file.getvalue(), "inks.jpg", "image/jpeg")
    with Image.open(page.save(tmp_path)) as saved:
        assert saved.mode == "RGB"
        assert "icc_profile" not in saved.info
    assert "CMYK" in page.page.inner_text("#notices")


def test_the_profile_of_a_bmp_is_kept_or_its_loss_said(opened, tmp_path):
    page, data = opened(), photo_corpus.bmp_version_5()
    shown(page, data, "deep.bmp", "image/bmp")
    page.set(strength=0, denoise=0)
    found = decode_photo(page.save(tmp_path))
    assert found.container.icc == photo_corpus.ICC
    assert (found.pixels == photo_corpus.scene()).all()
    linked = data[:70] + b"KNIL" + data[74:]
    assert "is in another file" in shown(page, linked, "linked.bmp", "image/bmp")
    assert not decode_photo(page.save(tmp_path)).container.icc


def test_a_translucent_bmp_becomes_png_for_the_reason_that_is_given(opened, tmp_path):
    page = opened()
    shown(page, in_format(scene(20, 30, 4), "BMP"), "clear.bmp", "image/bmp")
    page.page.evaluate("page.photos[0].photo.pixels.data[3] = 9")  # Chromium reads no transparency from a BMP of Pillow
    with Image.open(page.save(tmp_path)) as saved:
        assert (saved.format, saved.mode) == ("PNG", "RGBA")
    notices = page.page.inner_text("#notices")
    assert notices == "The page writes BMP without transparency, so the photo is saved as PNG."


@pytest.mark.parametrize(
    ("make", "words"), [(photo_corpus.motion_photo, "a short video"), (photo_corpus.ultra_hdr, "a gain map")]
)
def test_what_is_attached_to_a_photo_is_neither_kept_nor_announced(opened, tmp_path, make, words):
    page = opened()
    assert f"The file also holds {words}" in shown(page, make(), "more.jpg", "image/jpeg")
    data = page.save(tmp_path).read_bytes()
    assert b"http://ns.adobe.com/xap/1.0/\0" in data
    for announced in (b"MotionPhoto", b"Container:Directory", b"hdrgm:Version", b"GainMap", b"MPF\0"):
        assert announced not in data


@pytest.mark.parametrize(
    ("word", "holds"), [(b"MotionPhoto_Data", True), (b"MMotionPhoto_Data", True), (b"MotionPhoto_Dat", False)]
)
def test_a_video_that_is_attached_behind_the_photo_is_announced(opened, tmp_path, word, holds):
    page, data = opened(), in_format(scene(20, 30), "JPEG")
    notices = shown(page, data + bytes(4) + word + b"\0\0\0\x18ftypmp42" + bytes(60), "phone.jpg", "image/jpeg")
    assert ("The file also holds a short video" in notices) == holds
    assert b"ftypmp42" not in page.save(tmp_path).read_bytes()


def test_the_index_of_further_pictures_is_not_kept(opened, tmp_path):
    page, data = opened(), in_format(scene(20, 30), "JPEG")
    index = b"MPF\0II*\0" + bytes(40)
    data = data[:20] + b"\xff\xe2" + struct.pack(">H", len(index) + 2) + index + data[20:]
    assert "further pictures" in shown(page, data, "several.jpg", "image/jpeg")
    assert b"MPF\0" not in page.save(tmp_path).read_bytes()


def test_thumbnails_of_the_dark_photo_are_removed(opened, tmp_path):
    small = in_format(scene(60, 80), "JPEG", quality=60)
    link = struct.pack("<HHHII", 2, 0x0201, 4, 1, 60) + struct.pack("<HHIII", 0x0202, 4, 1, len(small), 0)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHI4sI", 1, 0x010F, 2, 4, b"abc\0", 26) + link + bytes(4) + small
    resource = b"8BIM" + struct.pack(">HHI", 1036, 0, len(small)) + small + bytes(len(small) % 2)
    other = b"8BIM" + struct.pack(">HHI", 1028, 0, 4) + b"IPTC"
    parts = [b"\xff\xed" + struct.pack(">H", len(body) + 2) + body for body in [b"Photoshop 3.0\0" + resource + other]]
    data = in_format(scene(60, 80), "JPEG", exif=exif)
    page = opened()
    shown(page, data[:2] + parts[0] + data[2:], "small.jpg", "image/jpeg")
    saved = page.save(tmp_path).read_bytes()
    assert small in exif
    assert small not in saved
    assert other in saved
    with Image.open(io.BytesIO(saved)) as image:
        assert image.getexif()[0x010F] == "abc"
        assert not image.getexif().get_ifd(ExifTags.IFD.IFD1)


@pytest.mark.parametrize(("subsampling", "wanted"), [(0, 0), (2, 2)], ids=["4:4:4", "4:2:0"])
def test_the_colour_resolution_of_a_jpeg_is_kept(opened, tmp_path, subsampling, wanted):
    page = opened()
    shown(page, in_format(scene(40, 60), "JPEG", quality=90, subsampling=subsampling), "full.jpg", "image/jpeg")
    with Image.open(page.save(tmp_path)) as saved:
        assert JpegImagePlugin.get_sampling(saved) == wanted
    assert page.page.inner_text("#notices") == ""


def test_a_browser_that_cannot_keep_the_colour_resolution_says_so(opened, tmp_path):
    least = "const to = HTMLCanvasElement.prototype.toBlob; HTMLCanvasElement.prototype.toBlob = function (give, type)"
    page = opened(f"{least} {{ to.call(this, give, type, 0.8); }};")
    shown(page, in_format(scene(40, 60), "JPEG", quality=90, subsampling=0), "full.jpg", "image/jpeg")
    page.save(tmp_path)
    page.until("document.getElementById('notices').textContent.includes('a quarter of')")


def test_stray_bytes_between_the_segments_of_a_jpeg_are_passed_over(opened, tmp_path):
    page, data = opened(), in_format(scene(40, 60), "JPEG", icc_profile=DISPLAY_P3)
    shown(page, data[:20] + b"\0" + data[20:], "stray.jpg", "image/jpeg")
    with Image.open(page.save(tmp_path)) as saved:
        assert saved.info["icc_profile"] == DISPLAY_P3


def test_all_photos_are_saved_with_the_settings_at_the_click(opened, tmp_path):
    page, downloads = opened(), []
    photos = [scene(40, 60, seed=seed) for seed in range(2)]
    for number, photo in enumerate(photos):
        page.choose(png(photo), f"{number}.png")
    page.set(strength=1, denoise=0)
    page.page.evaluate(
        """() => {
            const { engine } = window.page;
            const save = engine.save.bind(engine);
            engine.save = async (...given) => {
                const input = document.getElementById("strength");
                input.value = "0";
                input.dispatchEvent(new Event("input"));
                return save(...given);
            };
        }"""
    )
    page.page.on("download", lambda download: downloads.append(download))
    page.page.click("#save-all")
    page.wait(lambda: len(downloads) == 2, "two downloads")
    for download in downloads:
        download.save_as(path := tmp_path / download.suggested_filename)
        photo = photos[int(download.suggested_filename[0])]
        assert np.abs(np.array(Image.open(path)).astype(int) - kdlib.Enhancer(denoise=0)(photo)).max() <= 2


def test_saving_keeps_the_focus_and_releases_what_it_gave(opened, tmp_path):
    page = opened()
    page.choose(png(scene(40, 60)))
    page.page.evaluate(
        """() => {
            window.revoked = [];
            const later = window.setTimeout;
            window.setTimeout = (run, time, ...more) => later(run, time === 60_000 ? 0 : time, ...more);
            const revoke = URL.revokeObjectURL.bind(URL);
            URL.revokeObjectURL = (address) => { window.revoked.push(address); revoke(address); };
        }"""
    )
    page.page.focus("#save")
    with page.page.expect_download():
        page.page.keyboard.press("Enter")
    page.until("document.getElementById('said').textContent.startsWith('Saved')")
    assert page.page.evaluate("document.activeElement.id") == "save"
    page.until("window.revoked.length === 1")


# A graphics processor that fails


def test_a_reset_between_two_tiles_costs_no_pixel(opened, tmp_path):
    page, photo = opened(), scene(4100, 12, seed=5)
    page.choose(png(photo, compress_level=1), "tall.png")
    page.set(denoise=0)
    page.page.evaluate(
        """() => {
            const { gl, canvas } = window.page.engine;
            const extension = gl.gl.getExtension("WEBGL_lose_context");
            const enhance = gl.enhance.bind(gl);
            const change = async (which) => {
                const event = which === "loseContext" ? "webglcontextlost" : "webglcontextrestored";
                const changed = new Promise((resolve) => canvas.addEventListener(event, resolve, { once: true }));
                extension[which]();
                await changed;
                await new Promise((resolve) => setTimeout(resolve));
            };
            window.tiles = 0;
            gl.enhance = (photo, plan, each) => enhance(photo, plan, async (...tile) => {
                await each(...tile);
                window.tiles += 1;
                if (window.tiles > 1) return;
                await change("loseContext");
                await change("restoreContext");
            });
        }"""
    )
    saved = np.array(Image.open(page.save(tmp_path)))
    assert saved.shape == photo.shape
    assert np.abs(saved.astype(int) - kdlib.Enhancer(denoise=0)(photo)).max() <= 2
    assert page.page.evaluate("window.tiles") == 1


# By what fails: the planes that are smoothed, every texture, reading the result.
NO_MEMORY = {
    "smoothing": "(...given) => make(...(given[2] === gl.RGBA32F && given[3] > 64 ? refused(given) : given))",
    "everything": "(...given) => make(...(window.saving ? refused(given) : given))",
}


@pytest.mark.parametrize("fails", NO_MEMORY)
def test_without_memory_on_the_graphics_processor_javascript_computes(opened, tmp_path, fails):
    page, photo = opened(), scene(90, 130)
    page.choose(png(photo), "night.png")
    page.page.evaluate(
        f"""() => {{
            const {{ gl: pass }} = window.page.engine;
            const {{ gl }} = pass;
            pass.textures = {{}};
            const make = gl.texStorage2D.bind(gl);
            const refused = (given) => [...given.slice(0, 3), 1e6, 1e6];
            gl.texStorage2D = {NO_MEMORY[fails]};
        }}"""
    )
    page.set(strength=1.3, denoise=1)
    wanted = kdlib.Enhancer(strength=1.3, denoise=1)(photo).astype(int)
    assert np.abs(page.canvas()[..., :3] - wanted).max() <= 2
    page.page.evaluate("() => { window.saving = true; window.page.engine.gl.textures = {}; }")
    assert np.abs(np.array(Image.open(page.save(tmp_path))) - wanted).max() <= 2


def test_pixels_that_could_not_be_read_are_not_used(opened, tmp_path):
    page, photo = opened(), scene(40, 60)
    page.choose(png(photo), "night.png")
    page.page.evaluate(
        """() => {
            const { gl } = window.page.engine.gl;
            const read = gl.readPixels.bind(gl);
            gl.readPixels = (...given) => read(...given.slice(0, 2), -1, ...given.slice(3));
        }"""
    )
    assert np.abs(page.enhanced("night.png").astype(int)[..., :3] - kdlib.Enhancer(denoise=0)(photo)).max() <= 2


def test_half_precision_gives_the_enhancer_s_result(opened):
    page = opened(
        "const get = WebGL2RenderingContext.prototype.getExtension;"
        "WebGL2RenderingContext.prototype.getExtension = function (name) {"
        "  return name === 'EXT_color_buffer_float' ? null : get.call(this, name); };"
    )
    name = page.choose(png(photo := scene(60, 80)))
    assert page.page.evaluate("page.engine.gl.deep === page.engine.gl.gl.RGBA16F")
    for model in ("grid-960", "student-565"):
        wanted = kdlib.Enhancer(model, denoise=1)(photo)
        assert np.abs(page.enhanced(name, model, denoise=1)[..., :3].astype(int) - wanted).max() <= 2


# What the page holds


def test_photos_that_are_not_looked_at_are_released(opened):
    """Of photos with more than 64 million pixels together, those not used for longest are forgotten."""
    page = opened()
    for number in range(3):
        page.choose(png(scene(20, 30)), f"{number}.png")
    page.page.evaluate(
        """() => {
            window.forgotten = [];
            const { engine, photos } = window.page;
            const close = engine.close.bind(engine);
            engine.close = (photo) => { window.forgotten.push(photo.name); close(photo); };
            for (const photo of photos) photo.width = 1.5e6;
        }"""
    )
    shown(page, png(scene(20, 30)), "3.png")
    page.until("!window.page.photos[0].photo")
    assert page.page.evaluate("page.photos.map(({ photo }) => Boolean(photo))") == [False, True, True, True]
    assert page.page.evaluate("window.forgotten") == ["0.png"]


def test_bitmaps_are_closed_once_their_pixels_are_read(opened):
    page = opened(
        """
        window.bitmaps = [];
        const create = window.createImageBitmap.bind(window);
        window.createImageBitmap = async (...given) => {
            const bitmap = await create(...given);
            window.bitmaps.push(bitmap);
            return bitmap;
        };
        """
    )
    page.choose(png(scene(5000, 3), compress_level=1))
    assert page.page.evaluate("bitmaps.length") > 3
    assert page.page.evaluate("bitmaps.every(({ width }) => width === 0)")


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_photos_with_too_many_pixels_are_refused(opened, kind):
    """By the header, or, of a format whose header the page does not read that far, once decoded."""
    page = opened(
        """
        window.createImageBitmap = async () => ({ width: 20_000, height: 20_000, close() {} });
        """
        if kind == "webp"
        else ""
    )
    data = bytearray(in_format(scene(20, 30), kind.upper(), lossless=True))
    if kind == "png":
        data[16:24] = struct.pack(">II", 20_000, 20_000)
    page.choose(bytes(data), f"large.{kind}", f"image/{kind}")
    assert "has 20,000 × 20,000 pixels, more than the limit" in page.page.locator("#alerts").text_content()


def test_smaller_copies_are_averages_with_less_noise(shared_page):
    """What the screen shows at a third of the size."""
    photo = scene(31, 50)
    found = shared_page.page.evaluate(
        """async (values) => {
            const { reduced } = await import("./view.js");
            const { data, width, height } = reduced({ data: Uint8ClampedArray.from(values), width: 50, height: 31 }, 3);
            return [width, height, [...data]];
        }""",
        four_channels(photo).ravel().tolist(),
    )
    copy = np.array(found[2]).reshape(found[1], found[0], 4)
    assert copy.shape == (11, 17, 4)
    assert np.abs(copy[:10, :16, :3] - photo[:30, :48].reshape(10, 3, 16, 3, 3).mean((1, 3))).max() <= 0.5
    # Differences that noise explains are a third as large, and the shader multiplies their squares.
    name = shared_page.choose(png(scene(60, 90)))
    factors = shared_page.page.evaluate(
        """async (name) => {
            const { photos, engine } = await import("./app.js");
            const { photo } = photos.find(({ file }) => file.name === name);
            const plans = [];
            const draw = engine.gl.draw;
            engine.gl.draw = function (plan, ...more) { plans.push(plan); return draw.call(this, plan, ...more); };
            const canvas = document.createElement("canvas");
            for (const factor of [1, 3]) {
                const region = { x: 0, y: 0, width: 90 / factor, height: 60 / factor };
                await engine.show(photo, { factor, region }, { model: "grid-960", strength: 1, denoise: 1 }, canvas);
            }
            delete engine.gl.draw;
            return plans[1].rounds.map((round, n) => round.light / plans[0].rounds[n].light);
        }""",
        name,
    )
    assert factors
    assert factors == pytest.approx([9] * len(factors))


# The camera and the keyboard


COUNTED = """
    const callback = HTMLVideoElement.prototype.requestVideoFrameCallback;
    window.frames_ = [];
    HTMLVideoElement.prototype.requestVideoFrameCallback = function (run) {
        return callback.call(this, (now, about) => { window.frames_.push(about.presentedFrames); run(now, about); });
    };
"""


def test_a_camera_that_is_started_again_has_one_loop(opened):
    page = opened(SMALL_CAMERA + COUNTED, permissions=["camera"])
    for _ in range(3):
        page.page.click("#start-camera")
        page.page.wait_for_selector("#snap:visible")
        page.page.evaluate("window.frames_ = []")
        page.until("window.frames_.length > 3")
        frames = page.page.evaluate("window.frames_")
        assert len(frames) == len(set(frames))
        page.page.click("#camera")
        page.page.wait_for_selector("#start-camera:visible")
    assert page.page.evaluate("document.getElementById('video').srcObject") is None


def test_a_photo_that_is_opened_while_the_camera_starts_stays(opened):
    page = opened(
        """
        window.streams = [];
        const get = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async () => {
            await new Promise((resolve) => (window.allow = resolve));
            window.streams.push(await get({ video: { width: 160, height: 120 } }));
            return window.streams[0];
        };
        """,
        permissions=["camera"],
    )
    page.page.click("#start-camera")
    page.until("window.allow")
    page.choose(png(scene(30, 40)), "a.png")
    page.page.evaluate("window.allow()")
    page.until("window.streams.length && window.streams[0].getTracks()[0].readyState === 'ended'")
    page.settle()
    assert page.page.locator("#name").text_content() == "a.png"
    assert page.page.locator("#video").is_hidden()
    assert page.page.locator("#busy").is_hidden()
    assert page.page.locator("#alerts").text_content() == ""


def test_a_double_click_takes_one_photo(opened):
    page = opened(SMALL_CAMERA, permissions=["camera"])
    page.page.click("#start-camera")
    page.page.wait_for_selector("#snap:visible")
    page.page.evaluate(
        "() => { const snap = document.getElementById('snap'); snap.focus(); snap.click(); snap.click(); }"
    )
    page.until("document.activeElement.id === 'save'")
    assert page.page.locator("#strip .thumb").count() == 1


def test_maps_of_the_camera_follow_the_scene(shared_page):
    """After a quarter of a second, 1 − 1/e of a change has arrived."""
    found = shared_page.page.evaluate(
        """async () => {
            const { Camera } = await import("./camera.js");
            const camera = new Camera(document.createElement("video"), null);
            const [first, second] = [{ maps: Float32Array.of(1) }, { maps: Float32Array.of(3) }];
            camera._follow(first, "grid-960", 1000);
            camera._follow(second, "grid-960", 1250);
            const other = { maps: Float32Array.of(5) };
            camera._follow(other, "student-565", 1260);
            return [first, second, other].map(({ maps }) => maps[0]);
        }"""
    )
    assert found == pytest.approx([1, 3 - 2 / np.e, 5], abs=1e-4)


def test_no_code_of_the_page_opens_another_address():
    """Which a policy cannot forbid."""
    ways = (
        r"location\s*=|location\.(href|assign|replace)\b|window\.open|\bopen\(\s*[\"'`]|RTCPeer|sendBeacon|<a\s|<iframe"
    )
    for path in FILES:
        assert not re.search(ways, path.read_text(encoding="utf-8")), path.name
    for path in (WEB / "index.html", WEB.parent / "docs/page.md"):
        assert "would block an upload" not in " ".join(path.read_text(encoding="utf-8").split())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_display_p3_is_shown_in_its_colours(opened, kind):
    page, photo = opened(), np.full((40, 60, 3), (150, 60, 60), np.uint8)
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100}
    shown(page, in_format(photo, kind, icc_profile=DISPLAY_P3, **options), "p3.png", f"image/{kind.lower()}")
    page.set(strength=0, denoise=0)
    colours = """(names) => names.map((name) => {
        const small = Object.assign(document.createElement("canvas"), { width: 9, height: 9 }).getContext("2d");
        small.drawImage(document.querySelector(name), 0, 0);
        return [...small.getImageData(4, 4, 1, 1).data.slice(0, 3)];
    })"""
    canvases = ["#before", "#after", "#strip canvas"]
    p3, srgb = ImageCms.ImageCmsProfile(io.BytesIO(DISPLAY_P3)), ImageCms.createProfile("sRGB")
    wanted = ImageCms.profileToProfile(Image.fromarray(photo), p3, srgb).getpixel((0, 0))
    # Browsers take the tone curve of Display P3 for that of the profile, which differs by less than two levels here.
    assert np.abs(np.array(page.page.evaluate(colours, canvases)) - wanted).max() <= 3
    shown(page, in_format(photo, "PNG"), "plain.png")
    assert page.page.evaluate(colours, canvases[:2]) == [[150, 60, 60]] * 2


def test_avif_and_heic_are_told_apart_by_all_their_brands(shared_page):
    brands = {
        "avif": [b"avif\0\0\0\0mif1", b"mif1\0\0\0\0miafavif", b"avis\0\0\0\0avif"],
        "heic": [b"mif1\0\0\0\0mif1heic"],
    }
    for kind, files in brands.items():
        for names in files:
            content = struct.pack(">I", 8 + len(names)) + b"ftyp" + names + b"\0\0\0\x20metaavif"
            found = shared_page.page.evaluate(
                "async (bytes) => (await import('./formats.js')).inspect(Uint8Array.from(bytes)).format", list(content)
            )
            assert found == kind


def test_a_camera_whose_frames_cannot_be_computed_says_so(opened):
    page = opened(SMALL_CAMERA, permissions=["camera"])
    page.page.evaluate(
        """async () => {
            const { engine } = await import("./app.js");
            engine.gl.loadFrame = () => { throw new Error("No memory for a frame."); };
        }"""
    )
    page.page.click("#start-camera")
    page.page.wait_for_selector("#alerts div")
    assert "No memory for a frame." in page.page.locator("#alerts").text_content()
    page.page.wait_for_selector("#start:visible")


def test_every_one_of_many_photos_arrives(opened):
    """Chromium drops downloads that follow each other too fast, and says nothing."""
    page, downloads = opened(), []
    files = [{"name": f"{n}.png", "mimeType": "image/png", "buffer": png(scene(4, 6, seed=n))} for n in range(14)]
    page.page.set_input_files("#files", files)
    page.until("document.querySelectorAll('.strip li').length === 14")
    page.page.on("download", lambda download: downloads.append(download.suggested_filename))
    page.page.click("#save-all")
    page.wait(lambda: len(downloads) == 14, "14 downloads")
    assert sorted(downloads) == sorted(f"{n}_enhanced.png" for n in range(14))
    page.until("document.getElementById('said').textContent === '14 photos saved.'")


@pytest.mark.parametrize("repeats", [False, True], ids=["once", "repeating"])
@pytest.mark.parametrize("frames", [1, 2])
def test_only_a_gif_of_several_pictures_is_an_animation(opened, frames, repeats):
    pictures = [Image.fromarray(scene(9, 12, seed=seed)).quantize(16) for seed in range(frames)]
    pictures[0].save(
        file := io.BytesIO(), "GIF", save_all=True, append_images=pictures[1:], **{"loop": 0} if repeats else {}
    )
    page = opened()
    page.choose(file.getvalue(), "picture.gif", "image/gif")
    said = page.page.locator("#notices").text_content()
    assert ("The file is an animation" in said) == (frames > 1)


def test_what_a_model_is_for_is_a_sentence(opened):
    page = opened()
    page.choose(png(scene(9, 12)))
    for model, sentence in (
        ("grid-960", "Any photo or video, dark, backlit or over-exposed. Licence: "),
        ("student-565-free", "As student-565, with a licence for any use. Licence: "),
    ):
        page.page.select_option("#model", model)
        assert page.page.locator("#use").text_content().startswith(sentence)


def test_on_a_phone_that_lies_on_its_side_everything_can_be_reached(opened):
    page = opened("0", viewport={"width": 844, "height": 390})
    for number in range(2):
        page.choose(png(scene(60, 90, seed=number)), f"{number}.png")
    thumb = page.page.locator(".strip button.thumb").first
    thumb.scroll_into_view_if_needed()
    box = thumb.bounding_box()
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= 390
    thumb.click()
    page.until("window.page.view.current.file.name === '0.png'")


def test_the_last_photo_is_closed_and_the_page_is_as_at_first(opened):
    page = opened()
    for number in range(2):
        page.choose(png(scene(20, 30, seed=number)), f"{number}.png")
    close = page.page.get_by_role("button", name="Close photo", exact=True)
    close.click()
    page.until("window.page.view.current?.file.name === '0.png'")
    close.click()
    page.until("!document.getElementById('start').hidden")
    assert page.page.evaluate("window.page.photos.length") == 0
    assert page.page.evaluate("document.activeElement.id") == "choose"
    page.choose(png(scene(20, 30)), "again.png")
    page.until("window.page.view.current?.file.name === 'again.png'")
