// The page: opening, looking, adjusting and saving. What computes is an engine; see engine.js and local.js.

import { Camera } from "./camera.js";
import { BrowserEngine } from "./engine.js";
import { JobsPanel, LocalEngine } from "./local.js";
import { sample } from "./sample.js";

const $ = (id) => document.getElementById(id);
const MOST_HELD = 64e6; // pixels of photos that stay decoded
const THUMBNAIL = 128;
const PAGE = 10; // of the boundary's range that Page Up and Page Down move, in percent

const isLocal = document.querySelector('meta[name="kdlib-engine"]') !== null;
const engine = isLocal ? new LocalEngine($("after")) : new BrowserEngine($("after"));
const inBrowser = isLocal ? engine.browser : engine;
const camera = new Camera($("video"), inBrowser);

const photos = []; // {file, photo (null while it is not decoded), canvas, item (of the strip), width, height, metrics}
const settings = { model: "", strength: 1, denoise: 0 };
const view = { current: null, wanted: null, zoomed: false, x: 0, y: 0, live: false };
const tasks = new Map(); // what the page is doing, by kind
let rendering = null;
let stale = false;

// Messages

function alertUser(message) {
  const box = document.createElement("div");
  const words = document.createElement("p");
  const close = document.createElement("button");
  words.textContent = message;
  close.textContent = "Close";
  close.type = "button";
  close.addEventListener("click", () => dismiss(box));
  box.append(words, close);
  $("alerts").append(box);
  while ($("alerts").childElementCount > 4) $("alerts").firstChild.remove();
}

/** Close a message; the focus does not leave the page with it. */
function dismiss(box) {
  const focused = box.contains(document.activeElement);
  box.remove();
  if (focused) ($("alerts").querySelector("button") ?? $($("work").hidden ? "choose" : "split")).focus({ preventScroll: true });
}

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && $("alerts").lastChild) dismiss($("alerts").lastChild);
});

const say = (message) => ($("said").textContent = message);

/** Show what the page is doing, or, without a message, that it has done it; what began first is shown. */
function busy(task, message = "") {
  if (message) tasks.set(task, message);
  else tasks.delete(task);
  const [first = ""] = tasks.values();
  $("busy").hidden = !first;
  $("busy").textContent = first;
}

/** Wait for a promise, and show what the page is doing if it takes long. */
async function patiently(task, message, promise) {
  const slow = setTimeout(() => busy(task, message), 400);
  try {
    return await promise;
  } finally {
    clearTimeout(slow);
    busy(task);
  }
}

function notice(lines) {
  $("notices").replaceChildren(
    ...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })),
  );
}

// Opening

async function open(files) {
  const opened = [];
  for (const [n, file] of [...files].entries()) {
    if (file.type.startsWith("video/")) {
      if (isLocal) await jobs.upload(file).catch((error) => alertUser(error.message));
      else alertUser(`${file.name} is a video. This page brightens photos; kdlib on your computer also brightens videos.`);
      continue;
    }
    busy("open", files.length > 1 ? `Opening ${n + 1} of ${files.length} …` : "Opening …");
    try {
      await checkReadable(file);
      const photo = await engine.open(file);
      const canvas = document.createElement("canvas");
      await engine.thumbnail(photo, canvas, THUMBNAIL);
      const entry = { file, photo, canvas, width: photo.width, height: photo.height, used: performance.now() };
      entry.item = stripItem(entry);
      $("strip").append(entry.item);
      photos.push(entry);
      opened.push(entry);
      updateStrip();
      if (opened.length === 1) await select(entry);
      release(entry);
    } catch ({ message }) {
      alertUser(message.includes(file.name) ? message : `${file.name} could not be opened: ${message}`);
    }
  }
  busy("open");
  if (opened.length) say(`${opened.length} opened. ${opened[0].file.name} is shown.`);
}

/** Throw an error for a file that cannot be read: a dropped folder, or one that was moved after it had been chosen. */
async function checkReadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new Error(`${file.name} could not be read. If it is a folder, choose the photos in it; if it was moved, choose it again.`);
  }
}

/** Forget the pixels of photos that were not used for longest; they are decoded again when they are wanted. */
function release(keep) {
  const held = photos.filter(({ photo }) => photo).sort((a, b) => b.used - a.used);
  let pixels = 0;
  for (const entry of held) {
    pixels += entry.width * entry.height;
    if (pixels > MOST_HELD && entry !== keep && entry !== view.current) {
      engine.close(entry.photo);
      entry.photo = null;
    }
  }
}

async function decoded(entry) {
  entry.used = performance.now();
  if (entry.photo) return entry.photo;
  entry.opening ??= engine.open(entry.file).finally(() => (entry.opening = null));
  const photo = await entry.opening;
  if (photos.includes(entry)) entry.photo = photo;
  else engine.close(photo); // it was closed meanwhile
  release(entry);
  return photo;
}

async function select(entry) {
  stopCamera();
  view.wanted = entry;
  await patiently("decode", "Opening …", decoded(entry));
  if (view.wanted !== entry) return; // another one was chosen meanwhile
  Object.assign(view, { current: entry, zoomed: false, x: entry.width / 2, y: entry.height / 2 });
  showWork();
  entry.item.scrollIntoView({ block: "nearest", inline: "nearest" });
  $("name").textContent = entry.file.name;
  const megapixels = (entry.width * entry.height) / 1e6;
  $("details").textContent =
    `${entry.width.toLocaleString("en")} × ${entry.height.toLocaleString("en")}` +
    (megapixels >= 0.1 ? ` · ${megapixels.toFixed(1)} megapixels` : "");
  notice(entry.photo.notes);
  showMetrics();
  await render();
}

const choose = (entry) => select(entry).catch((error) => alertUser(error.message));

function remove(entry) {
  if (entry.photo) engine.close(entry.photo);
  const place = photos.indexOf(entry);
  photos.splice(place, 1);
  const next = photos[Math.min(place, photos.length - 1)];
  const focused = entry.item.contains(document.activeElement);
  entry.item.remove();
  if (view.wanted === entry) view.wanted = null;
  if (entry === view.current) view.current = null;
  if (!next || view.current) showWork();
  else choose(next);
  if (focused && next) (photos.length > 1 ? next.item.firstChild : $("split")).focus();
}

function stripItem(entry) {
  const item = document.createElement("li");
  const thumb = Object.assign(document.createElement("button"), { type: "button", className: "thumb" });
  thumb.setAttribute("aria-label", entry.file.name);
  thumb.append(entry.canvas);
  thumb.addEventListener("click", () => choose(entry));
  const close = Object.assign(document.createElement("button"), { type: "button", className: "close", textContent: "×" });
  close.setAttribute("aria-label", `Close ${entry.file.name}`);
  close.addEventListener("click", () => remove(entry));
  item.append(thumb, close);
  return item;
}

function updateStrip() {
  for (const { item } of photos) item.firstChild.setAttribute("aria-current", String(item === view.current?.item));
  $("strip").hidden = photos.length < 2;
  $("save-all").hidden = photos.length < 2 || view.live;
  $("save-all").textContent = `Save all ${photos.length}`;
}

function showWork() {
  const working = Boolean(view.current) || view.live;
  const first = working && $("work").hidden;
  $("start").hidden = working;
  $("work").hidden = !working;
  $("actions").hidden = !working;
  document.body.classList.toggle("working", working);
  $("video").hidden = !view.live;
  $("before").hidden = view.live;
  $("save").hidden = view.live;
  $("snap").hidden = !view.live;
  $("zoom").hidden = view.live;
  $("close").hidden = view.live;
  $("reference").hidden = !isLocal || view.live;
  $("camera").setAttribute("aria-pressed", String(view.live));
  updateStrip();
  if (first) $("split").focus({ preventScroll: true });
  if (!working) $("choose").focus();
}

// Looking

/** Size the frame, and return which region of the photo it shows, at 1 / factor of its size. */
function layout() {
  const { clientWidth: sw, clientHeight: sh } = $("stage");
  const dpr = window.devicePixelRatio || 1;
  const { width, height } = view.live ? { width: $("video").videoWidth || 16, height: $("video").videoHeight || 9 } : view.current;
  // Small photos are enlarged, tiny ones as far as they can be seen.
  const fit = Math.min(sw / width, sh / height, Math.max(2, 320 / Math.max(width, height)));
  const scale = view.zoomed ? 1 / dpr : fit;
  const css = [Math.min(width * scale, view.zoomed ? sw : Infinity), Math.min(height * scale, view.zoomed ? sh : Infinity)];
  const frame = $("frame");
  frame.style.width = `${Math.max(css[0], 1)}px`;
  frame.style.height = `${Math.max(css[1], 1)}px`;
  frame.classList.toggle("zoomed", view.zoomed);
  frame.classList.toggle("magnified", scale * dpr > 3);
  frame.classList.toggle("narrow", css[0] < 200 || css[1] < 60);
  $("zoom").disabled = Math.abs(fit * dpr - 1) < 0.01;
  $("zoom").setAttribute("aria-pressed", String(view.zoomed));
  if (view.zoomed) {
    const [w, h] = css.map((side, n) => Math.max(1, Math.min(Math.round(side * dpr), [width, height][n], engine.most)));
    view.x = Math.min(Math.max(view.x, w / 2), width - w / 2);
    view.y = Math.min(Math.max(view.y, h / 2), height - h / 2);
    return { factor: 1, region: { x: Math.round(view.x - w / 2), y: Math.round(view.y - h / 2), width: w, height: h } };
  }
  let factor = Math.max(1, Math.floor(1 / (scale * dpr)));
  while (Math.max(width, height) / factor > engine.most) factor += 1;
  return { factor, region: { x: 0, y: 0, width: Math.ceil(width / factor), height: Math.ceil(height / factor) } };
}

/** Show the current photo; of several calls in a short time, the last one counts. */
function render() {
  stale = true;
  rendering ??= (async () => {
    await null; // else it could end before it is remembered
    try {
      while (stale && view.current && !view.live) {
        await new Promise((resolve) => requestAnimationFrame(resolve));
        stale = false;
        const entry = view.current;
        const photo = await decoded(entry);
        if (entry !== view.current) stale = true;
        else await patiently("show", "Working …", engine.show(photo, layout(), { ...settings }, $("before"), () => !stale));
      }
    } catch (error) {
      alertUser(error.message);
    } finally {
      rendering = null;
    }
  })();
  return rendering;
}

function setSplit(percent) {
  $("split").value = String(Math.min(Math.max(percent, 0), 100));
  showSplit();
}

function showSplit() {
  const { value } = $("split");
  $("frame").style.setProperty("--split", `${value}%`);
  $("split").setAttribute("aria-valuetext", `${value}% original, ${100 - value}% brightened`);
}

function zoom(x, y) {
  view.zoomed = !view.zoomed;
  Object.assign(view, { x: x ?? view.current.width / 2, y: y ?? view.current.height / 2 });
  render();
}

function move(dx, dy) {
  view.x += dx;
  view.y += dy;
  render();
}

$("split").addEventListener("input", showSplit);
$("split").addEventListener("keydown", (event) => {
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (event.shiftKey && view.zoomed && arrows[event.key]) {
    event.preventDefault();
    move(...arrows[event.key].map((step) => 100 * step));
  } else if (["PageUp", "PageDown"].includes(event.key)) {
    event.preventDefault();
    setSplit(Number($("split").value) + (event.key === "PageUp" ? PAGE : -PAGE));
  }
});

$("frame").addEventListener("pointerdown", (event) => {
  if (event.button) return;
  const frame = $("frame");
  const bounds = frame.getBoundingClientRect();
  const boundary = bounds.left + (bounds.width * Number($("split").value)) / 100;
  const pans = view.zoomed && Math.abs(event.clientX - boundary) > 28;
  let [lastX, lastY] = [event.clientX, event.clientY];
  const dpr = window.devicePixelRatio || 1;
  const follow = ({ clientX, clientY }) => {
    if (pans) move((lastX - clientX) * dpr, (lastY - clientY) * dpr);
    else setSplit((100 * (clientX - bounds.left)) / bounds.width);
    [lastX, lastY] = [clientX, clientY];
  };
  if (!pans) follow(event);
  frame.setPointerCapture(event.pointerId);
  const end = () => {
    frame.removeEventListener("pointermove", follow);
    for (const name of ["pointerup", "pointercancel"]) frame.removeEventListener(name, end);
  };
  frame.addEventListener("pointermove", follow);
  for (const name of ["pointerup", "pointercancel"]) frame.addEventListener(name, end);
});

$("frame").addEventListener("dblclick", (event) => {
  if (view.live || $("zoom").disabled) return;
  const bounds = $("frame").getBoundingClientRect();
  zoom(((event.clientX - bounds.left) / bounds.width) * view.current.width, ((event.clientY - bounds.top) / bounds.height) * view.current.height);
});

$("zoom").addEventListener("click", () => zoom());
new ResizeObserver(() => (view.live ? layout() : view.current && render())).observe($("stage"));

// Adjusting

function showSettings() {
  const model = engine.models.find(({ name }) => name === settings.model);
  $("model").value = model.name;
  const use = model.use.replace(/^the default: /, "");
  $("use").textContent = `${use[0].toUpperCase()}${use.slice(1)}. Licence: ${model.licence.split(":")[0]}.`;
  for (const name of ["strength", "denoise"]) {
    const input = $(name);
    input.value = String(settings[name]);
    input.style.setProperty("--fill", `${50 * settings[name]}%`);
    $(`${name}-value`).textContent = settings[name] ? settings[name].toFixed(2) : "off";
  }
  $("denoise").disabled = model.denoise === null;
}

function setModel(name) {
  const model = engine.models.find((one) => one.name === name);
  Object.assign(settings, { model: name, denoise: model.denoise ?? 0 });
  showSettings();
  render();
}

for (const name of ["strength", "denoise"]) {
  $(name).addEventListener("input", () => {
    settings[name] = Number($(name).value);
    showSettings();
    render();
  });
}
$("model").addEventListener("change", () => setModel($("model").value));
$("close").addEventListener("click", () => view.current && remove(view.current));
$("reset").addEventListener("click", () => {
  settings.strength = 1;
  setModel(engine.models[0].name);
});

// Saving

const PAUSE = 200; // milliseconds: of downloads at a faster rate than ten a second, Chromium drops some
let pause = Promise.resolve();

async function download(blob, name) {
  await pause;
  pause = new Promise((resolve) => setTimeout(resolve, PAUSE));
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function save(entries) {
  const buttons = [$("save"), $("save-all")];
  if (tasks.has("save")) return;
  // A disabled button would lose the focus of the keyboard.
  for (const button of buttons) button.setAttribute("aria-disabled", "true");
  const saved = [];
  const own = { ...settings }; // the same for all photos, also if a slider moves meanwhile
  for (const [n, entry] of entries.entries()) {
    if (!photos.includes(entry)) continue; // closed meanwhile
    const which = entries.length > 1 ? ` ${n + 1} of ${entries.length}` : "";
    busy("save", `Saving${which} …`);
    try {
      const progress = (share) => busy("save", `Saving${which} … ${Math.round(100 * share)}%`);
      const { blob, name, notes } = await engine.save(await decoded(entry), own, progress);
      await download(blob, name);
      saved.push(name);
      if (entry === view.current) notice([...new Set([...entry.photo.notes, ...notes])]);
    } catch (error) {
      if (photos.includes(entry)) alertUser(`${entry.file.name} could not be saved: ${error.message}`);
    }
  }
  busy("save");
  for (const button of buttons) button.removeAttribute("aria-disabled");
  if (saved.length) say(saved.length === 1 ? `Saved as ${saved[0]}.` : `${saved.length} photos saved.`);
  showMetrics();
  render();
}

$("save").addEventListener("click", () => save([view.current]));
$("save-all").addEventListener("click", () => save([...photos]));

// The camera

async function startCamera() {
  if (tasks.has("camera")) return;
  try {
    busy("camera", "Starting the camera …");
    const started = await camera.start(
      // The local engine has more models than can follow a camera.
      () => (inBrowser.models.some(({ name }) => name === settings.model) ? settings : { ...settings, model: inBrowser.models[0].name }),
      (rate) => ($("details").textContent = `${$("video").videoWidth} × ${$("video").videoHeight} · ${rate} frames a second`),
      (message) => {
        alertUser(message);
        leaveCamera();
      },
    );
    if (!started) return; // a photo was opened meanwhile
    view.live = true;
    view.zoomed = false;
    $("name").textContent = "Camera";
    $("details").textContent = `${$("video").videoWidth} × ${$("video").videoHeight}`;
    notice([]);
    showWork();
    layout();
  } catch (error) {
    alertUser(error.message);
  }
  busy("camera");
}

function stopCamera() {
  camera.stop(); // also one that is about to start
  busy("camera");
  if (!view.live) return;
  view.live = false;
  showWork();
}

function leaveCamera() {
  stopCamera();
  if (view.current) choose(view.current);
}

for (const id of ["camera", "start-camera"]) {
  $(id).addEventListener("click", () => (view.live ? leaveCamera() : startCamera()));
}
$("snap").addEventListener("click", async () => {
  if (tasks.has("snap")) return;
  busy("snap", "Taking …");
  const file = await camera.take().finally(() => busy("snap"));
  const focused = document.activeElement === $("snap");
  stopCamera();
  await open([file]);
  if (focused && view.current) $("save").focus({ preventScroll: true }); // which has taken the place of this button
});
$("video").addEventListener("resize", () => view.live && layout());

// Choosing, dropping and pasting

for (const id of ["choose", "add"]) $(id).addEventListener("click", () => $("files").click());
$("files").addEventListener("change", async () => {
  const files = [...$("files").files];
  $("files").value = ""; // the same file may be chosen again
  await open(files);
});

$("sample").addEventListener("click", () => open([sample()]));

let depth = 0;
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => {
  if (carriesFiles(event)) $("drop").hidden = (depth += 1) === 0;
});
addEventListener("dragleave", (event) => {
  if (carriesFiles(event)) $("drop").hidden = (depth = Math.max(depth - 1, 0)) === 0;
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  $("drop").hidden = true;
  if (event.dataTransfer.files.length) open(event.dataTransfer.files);
});
addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) open(event.clipboardData.files);
});

// References, folders and videos, which the local engine knows

function showMetrics() {
  const found = view.current?.metrics ?? {};
  $("metrics").replaceChildren(
    ...Object.entries(found).flatMap(([name, value]) => [
      Object.assign(document.createElement("dt"), { textContent: name }),
      Object.assign(document.createElement("dd"), { textContent: value }),
    ]),
  );
}

$("choose-reference").addEventListener("click", () => $("reference-file").click());
$("reference-file").addEventListener("change", async () => {
  const [file] = $("reference-file").files;
  $("reference-file").value = "";
  if (!file) return;
  const entry = view.current;
  try {
    await checkReadable(file);
    busy("compare", "Comparing …");
    entry.metrics = await engine.compare(await decoded(entry), file, { ...settings });
    showMetrics();
  } catch (error) {
    alertUser(error.message);
  }
  busy("compare");
});

const jobs = new JobsPanel(engine, () => ({ ...settings }), alertUser, download);

// What the page says of itself

let requests = 0;
new PerformanceObserver((list) => {
  requests += list.getEntries().filter(({ name }) => name.startsWith("http")).length;
  $("requests").textContent = String(requests);
}).observe({ type: "resource" });

inBrowser.canvas.addEventListener("webglcontextlost", () => {
  alertUser("The graphics processor was reset. If the picture does not come back, reload the page and open the photos again.");
});
// kdlib keeps what this page has sent until it ends.
addEventListener("pagehide", ({ persisted }) => {
  if (isLocal && !persisted) for (const { photo } of photos) if (photo) engine.close(photo);
});

inBrowser.canvas.addEventListener("webglcontextrestored", () => view.current && render());

async function start() {
  await engine.ready;
  $("model").replaceChildren(...engine.models.map(({ name }) => new Option(name, name)));
  document.body.classList.toggle("local", isLocal);
  if (isLocal) {
    $("privacy").textContent = "Photos stay on this computer";
    $("policy").textContent = "Photos go to kdlib on this computer and nowhere else: the page's security policy forbids its scripts to fetch from or send to anyone else.";
    $("jobs").hidden = false;
    $("files").accept += ",video/*";
  }
  $("how").textContent = `Computed by ${engine.how}.`;
  setModel(engine.models[0].name);
  showSplit();
  document.documentElement.dataset.ready = "true";
  await showSample();
}

/** Show the sample on the first screen, the left half as it is and the right half enhanced. */
async function showSample() {
  const photo = await inBrowser.open(sample());
  const { data, width, height } = await inBrowser.enhanced(photo, { model: inBrowser.models[0].name, strength: 1, denoise: 1 });
  const context = $("demo").getContext("2d");
  context.putImageData(new ImageData(photo.pixels.data, width, height), 0, 0);
  context.putImageData(new ImageData(data, width, height), 0, 0, width / 2, 0, width / 2, height);
  context.fillStyle = "#fff";
  context.fillRect(width / 2 - 1, 0, 2, height);
}

start().catch((error) => alertUser(error.message));

// For tests and the console.
export { engine, photos, render, settings, view };
