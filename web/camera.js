// The camera: every frame is enhanced as it comes, at the rate of the camera or of the device, whichever is lower.

import { copySize, estimateSmall, openModel, smallCopy } from "./networks.js";
import { luminanceOf, measureNoise } from "./noise.js";
import { enhancePlain } from "./plain.js";
import { planOf } from "./plan.js";
import { drawUpright } from "./view.js";

const SMOOTHING = 0.25; // seconds with which the maps follow the scene, as in kdlib camera
const NOISE_EVERY = 2; // seconds between two measurements of the noise
const PLAIN_SIDE = 480; // longest side without WebGL2

const WORDS = {
  NotAllowedError: "The camera was not allowed. Allow it for this page in the browser's settings, and try again.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera is in use by another program.",
};

function pixelsOf(video, width, height, canvas) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(video, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

export class Camera {
  /** `engine` is a BrowserEngine; enhanced frames appear on its canvas. */
  constructor(video, engine) {
    Object.assign(this, { video, engine, small: document.createElement("canvas"), full: document.createElement("canvas") });
  }

  /**
   * Start the camera.
   *
   * @param settings returns {model, strength, denoise}
   * @param shown is called with the number of frames in the last second
   * @param ended is called with a message for the user when the camera is taken away or fails
   * @returns whether it runs; not if it was stopped before it had started
   * @throws Error with a message for the user
   */
  async start(settings, shown, ended) {
    if (!navigator.mediaDevices) throw new Error("The camera needs a page from https or from this computer.");
    const own = (this.run = {}); // what waits for a camera or a frame ends when another run or none has taken its place
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, height: { ideal: 720 } } });
      if (this.run !== own) {
        for (const track of stream.getTracks()) track.stop();
        return false;
      }
      this.stream = stream;
      stream.getVideoTracks()[0].addEventListener("ended", () => ended("The camera was disconnected."));
      this.video.srcObject = this.stream;
      await this.video.play();
    } catch (error) {
      if (this.run !== own) return false;
      this.stop();
      throw new Error(WORDS[error.name] ?? `The camera could not be opened (${error.message}).`);
    }
    if (this.run !== own) return false;
    this.maps = null;
    let [frames, since] = [0, performance.now()];
    const next = (now) => {
      if (this.run !== own) return;
      try {
        this._frame(settings(), now);
      } catch (error) {
        ended(error.message);
        return;
      }
      frames += 1;
      if (now - since >= 1000) {
        shown(Math.round((1000 * frames) / (now - since)));
        [frames, since] = [0, now];
      }
      this._schedule(next);
    };
    this._schedule(next);
    return true;
  }

  stop() {
    this.run = null;
    if (this.video.cancelVideoFrameCallback) this.video.cancelVideoFrameCallback(this.waiting);
    else cancelAnimationFrame(this.waiting);
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.video.srcObject = null;
  }

  /** Return the current frame as a PNG file. */
  async take() {
    const { videoWidth, videoHeight } = this.video;
    pixelsOf(this.video, videoWidth, videoHeight, this.full);
    const blob = await new Promise((resolve) => this.full.toBlob(resolve, "image/png"));
    const time = new Date().toISOString().slice(0, 19).replace(/[-:]/g, "").replace("T", "-");
    return new File([blob], `camera-${time}.png`, { type: "image/png" });
  }

  _schedule(next) {
    const { video } = this;
    this.waiting = video.requestVideoFrameCallback ? video.requestVideoFrameCallback(next) : requestAnimationFrame(next);
  }

  _frame({ model: name, strength, denoise }, now) {
    const { video, engine } = this;
    const [width, height] = [video.videoWidth, video.videoHeight];
    if (!width || engine.gl?.lost) return;
    const model = openModel(name);
    const size = copySize(model, height, width);
    // The browser's reduction reads few pixels; averaging twice as many as the network sees makes up for it.
    const copy = pixelsOf(video, Math.min(2 * size[1], width), Math.min(2 * size[0], height), this.small);
    const found = estimateSmall(model, smallCopy(copy, size), size, copy);
    this._follow(found, name, now);
    const shrink = engine.gl ? 1 : Math.min(1, PLAIN_SIDE / Math.max(width, height));
    const [w, h] = [Math.max(1, Math.round(width * shrink)), Math.max(1, Math.round(height * shrink))];
    const wanted = denoise && !(now - this.measured < 1000 * NOISE_EVERY);
    const frame = !engine.gl || wanted || (denoise && model.family !== "grid") ? pixelsOf(video, w, h, this.full) : { data: null, width: w, height: h };
    if (wanted) [this.noise, this.measured] = [measureNoise(frame, luminanceOf(frame)), now];
    const plan = planOf(model, found, frame, { strength, denoise }, this.noise);
    const whole = { x: 0, y: 0, width: w, height: h };
    if (engine.gl) {
      engine.gl.space = "srgb";
      engine.gl.loadFrame(video, w, h);
      engine.gl.draw(plan, whole, [1, 0, 0, 1, w, h, 0, 0]);
    } else {
      drawUpright(engine.canvas, enhancePlain(frame, whole, plan), whole, 1);
    }
    engine.shown = {};
  }

  /** Let the maps follow the scene instead of jumping, so that the picture does not flicker. */
  _follow(found, name, now) {
    const share = this.maps?.length === found.maps.length && this.name === name ? Math.exp((this.then - now) / 1000 / SMOOTHING) : 0;
    if (share) found.maps = found.maps.map((value, i) => value + share * (this.maps[i] - value));
    Object.assign(this, { maps: found.maps, name, then: now });
  }
}
