// Enhancing photos by kdlib on this computer: the engine behind `kdlib app`, which knows every model and format.

import { BrowserEngine } from "./engine.js";
import { drawUpright } from "./view.js";

/** The token of the address that kdlib app has opened; it stays for this tab, and out of the address bar. */
function token() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("kdlib-token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("kdlib-token") ?? "";
}

const query = (values) => new URLSearchParams(values).toString();

/** Enhances photos by kdlib; see BrowserEngine, which has the same methods. */
export class LocalEngine {
  local = true;

  constructor(canvas) {
    this.browser = new BrowserEngine(canvas); // draws, and runs the camera
    this.most = this.browser.most;
    this.token = token();
    this.shown = {};
    this.ready = this.json("models").then(({ models, how }) => Object.assign(this, { models, how }));
  }

  async request(path, options = {}) {
    let answer;
    try {
      answer = await fetch(`api/${path}`, { ...options, headers: { Authorization: `Bearer ${this.token}` } });
    } catch {
      throw new Error("kdlib does not answer. Start `kdlib app` again, and open the address that it prints.");
    }
    if (!answer.ok) throw new Error((await answer.json()).error);
    return answer;
  }

  json = async (path, options) => (await this.request(path, options)).json();

  async open(file) {
    const photo = await this.json(`photos?${query({ name: file.name })}`, { method: "POST", body: file });
    return { name: file.name, ...photo };
  }

  async thumbnail(photo, canvas, side) {
    const factor = Math.max(1, Math.floor(Math.min(photo.width, photo.height) / side));
    const { pixels, width, height } = await this._view(photo, { factor });
    drawUpright(canvas, pixels, { width, height }, 1);
  }

  close(photo) {
    if (this.shown.photo === photo) this.shown = {};
    this.request(`photos/${photo.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
  }

  async show(photo, view, settings, before, wanted = () => true) {
    const place = { factor: view.factor, ...view.region };
    const after = await this._view(photo, { ...place, ...settings });
    if (!wanted()) return false;
    const key = JSON.stringify(place);
    if (this.shown.photo !== photo || this.shown.key !== key) {
      const { pixels, width, height } = await this._view(photo, place);
      drawUpright(before, pixels, { width, height }, 1);
      this.shown = { photo, key };
    }
    this.browser.paint(after.pixels, after.width, after.height);
    return true;
  }

  /** Return the enhanced photo, {data: RGBA, width, height}, upright and in 8 bits. */
  async enhanced(photo, settings) {
    const { pixels: data, width, height } = await this._view(photo, { factor: 1, ...settings });
    return { data, width, height };
  }

  async save(photo, settings) {
    const answer = await this.request(`photos/${photo.id}/result?${query(settings)}`);
    const { name, notes } = JSON.parse(decodeURIComponent(answer.headers.get("X-Kdlib")));
    return { blob: await answer.blob(), name, notes };
  }

  /** Return how near the enhanced photo is to a reference, by the name of each measure. */
  compare = (photo, file, settings) =>
    this.json(`photos/${photo.id}/compare?${query({ ...settings, name: file.name })}`, { method: "POST", body: file });

  async _view(photo, values) {
    const answer = await this.request(`photos/${photo.id}/view?${query(values)}`);
    const { width, height } = JSON.parse(decodeURIComponent(answer.headers.get("X-Kdlib")));
    return { pixels: new Uint8ClampedArray(await answer.arrayBuffer()), width, height };
  }
}

const POLL = 700; // milliseconds between two looks at the progress

/** The list of folders and videos that kdlib works on. */
export class JobsPanel {
  constructor(engine, settings, alertUser, download) {
    Object.assign(this, { engine, settings, alertUser, download, list: document.getElementById("job-list"), timer: null });
    const checked = (id) => document.getElementById(id).checked;
    document.getElementById("job-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const path = document.getElementById("path").value.trim();
      const body = { path, recursive: checked("recursive"), side_by_side: checked("side-by-side"), ...settings() };
      if (path) this._start("jobs", JSON.stringify(body)).catch((error) => alertUser(error.message));
    });
  }

  /** Have kdlib brighten a video that is dropped or chosen. */
  upload(file) {
    const values = { name: file.name, side_by_side: document.getElementById("side-by-side").checked, ...this.settings() };
    return this._start(`videos?${query(values)}`, file);
  }

  async _start(path, body) {
    await this.engine.request(path, { method: "POST", body });
    await this._poll();
  }

  async _poll() {
    clearTimeout(this.timer);
    const jobs = await this.engine.json("jobs");
    this.list.replaceChildren(...jobs.map((job) => this._item(job)));
    if (jobs.some(({ state }) => state === "waiting" || state === "running")) {
      this.timer = setTimeout(() => this._poll().catch((error) => this.alertUser(error.message)), POLL);
    }
  }

  _item({ id, name, state, done, total, message, result }) {
    const item = document.createElement("li");
    const line = (text) => item.append(Object.assign(document.createElement("p"), { textContent: text }));
    const button = (text, act) => {
      const one = Object.assign(document.createElement("button"), { type: "button", textContent: text });
      one.setAttribute("aria-label", `${text}: ${name}`);
      one.addEventListener("click", () => act().catch((error) => this.alertUser(error.message)));
      item.append(one);
    };
    line(name);
    if (state === "waiting" || state === "running") {
      const bar = document.createElement("progress");
      bar.setAttribute("aria-label", `Progress of ${name}`);
      if (total) Object.assign(bar, { max: total, value: done });
      item.append(bar);
      line(state === "waiting" ? "Waiting" : total ? `${done} of ${total}` : "Starting");
      button("Stop", async () => {
        await this.engine.request(`jobs/${id}`, { method: "DELETE" });
        await this._poll();
      });
    }
    for (const text of message) line(text);
    if (result) {
      button("Save video", async () => {
        const answer = await this.engine.request(`jobs/${id}/result`);
        this.download(await answer.blob(), JSON.parse(decodeURIComponent(answer.headers.get("X-Kdlib"))).name);
      });
    }
    return item;
  }
}
