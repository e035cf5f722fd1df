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
    // An address with a token that is pasted into this tab changes nothing but the hash.
    addEventListener("hashchange", () => location.hash.includes("token=") && location.reload());
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
const STATES = { waiting: "Waiting", running: "Starting" }; // of jobs that have not ended
const isActive = ({ state }) => state in STATES;

/** The list of folders and videos that kdlib works on. */
export class JobsPanel {
  constructor(engine, settings, alertUser, download) {
    Object.assign(this, { engine, settings, alertUser, download, timer: null, polling: null, loaded: false });
    this.list = document.getElementById("job-list");
    this.items = new Map(); // by the jobs' ids
    const checked = (id) => document.getElementById(id).checked;
    document.getElementById("job-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const path = document.getElementById("path").value.trim();
      const body = { path, recursive: checked("recursive"), side_by_side: checked("side-by-side"), overwrite: checked("overwrite"), ...settings() };
      if (path) this._attempt(() => this._start("jobs", JSON.stringify(body)));
    });
    // Jobs that were ordered before the page was loaded. The page itself says why the engine is not ready.
    if (engine.local) engine.ready.then(() => this._attempt(() => this._poll()), () => {});
  }

  /** Have kdlib brighten a video that is dropped or chosen. */
  upload(file) {
    const values = { name: file.name, side_by_side: document.getElementById("side-by-side").checked, ...this.settings() };
    return this._start(`videos?${query(values)}`, file);
  }

  _attempt = (act) => act().catch((error) => this.alertUser(error.message));

  async _start(path, body) {
    await this.engine.request(path, { method: "POST", body });
    await this._poll();
  }

  /** Show the jobs as they are now, and again until all have ended. Of calls at the same time, one asks kdlib. */
  _poll() {
    clearTimeout(this.timer);
    this.stale = true;
    this.polling ??= this._ask();
    return this.polling;
  }

  async _ask() {
    try {
      let jobs;
      while (this.stale) {
        this.stale = false;
        jobs = await this.engine.json("jobs");
      }
      this._show(jobs);
      if (jobs.some(isActive)) this.timer = setTimeout(() => this._attempt(() => this._poll()), POLL);
    } finally {
      this.polling = null;
    }
  }

  /** Change the items in place: those that were there keep the focus of the keyboard. */
  _show(jobs) {
    for (const [id, item] of this.items) {
      if (jobs.some((job) => job.id === id)) continue;
      if (item.element.contains(document.activeElement)) document.getElementById("path").focus();
      item.element.remove();
      this.items.delete(id);
    }
    const news = [];
    for (const job of [...jobs].reverse()) { // the newest is shown first
      let item = this.items.get(job.id);
      if (!item) {
        item = this._item(job);
        this.items.set(job.id, item);
        this.list.prepend(item.element);
      }
      if (item.state !== job.state) news.push(`${job.name}: ${STATES[job.state] ?? job.message[0] ?? job.state}`);
      this._update(item, job);
    }
    if (this.loaded && news.length) document.getElementById("said").textContent = news.join(" ");
    this.loaded = true;
  }

  _item({ id, name }) {
    const add = (parent, tag, values = {}) => {
      const one = Object.assign(document.createElement(tag), values);
      parent.append(one);
      return one;
    };
    const element = document.createElement("li");
    const item = { element, name: add(element, "p"), bar: add(element, "progress"), place: add(element, "p"), lines: add(element, "div") };
    const row = add(element, "div", { className: "row" });
    const button = (textContent, act) => {
      const one = add(row, "button", { type: "button", textContent });
      one.addEventListener("click", () => this._attempt(act));
      return one;
    };
    item.stop = button("Stop", () => this._start(`jobs/${id}/stop`));
    item.save = button("Save video", async () => {
      const answer = await this.engine.request(`jobs/${id}/result`);
      this.download(await answer.blob(), JSON.parse(decodeURIComponent(answer.headers.get("X-Kdlib"))).name);
    });
    item.remove = button("Remove", async () => {
      await this.engine.request(`jobs/${id}`, { method: "DELETE" });
      await this._poll();
    });
    return item;
  }

  _update(item, job) {
    const { name, state, done, total, message, result } = job;
    const active = isActive(job);
    const focused = document.activeElement;
    item.name.textContent = name;
    item.bar.hidden = item.place.hidden = item.stop.hidden = !active;
    item.bar.setAttribute("aria-label", `Progress of ${name}`);
    if (total) Object.assign(item.bar, { max: total, value: done });
    item.place.textContent = state === "running" && total ? `${done} of ${total}` : STATES[state];
    const lines = message.map((textContent) => Object.assign(document.createElement("p"), { textContent }));
    item.lines.replaceChildren(...lines);
    item.lines.hidden = !lines.length;
    item.save.hidden = !result;
    item.remove.hidden = active;
    for (const button of [item.stop, item.save, item.remove]) button.setAttribute("aria-label", `${button.textContent}: ${name}`);
    // A button that is hidden loses the focus.
    if (item.element.contains(focused) && focused.hidden) (result ? item.save : item.remove).focus();
    item.state = state;
  }
}
