// Enhancing photos in the browser: networks in JavaScript, the pass over the photo as shaders or in JavaScript.

import { NAMES, asStored, encode, inspect, shownIn } from "./formats.js";
import { GlError, GlPass } from "./gl.js";
import { models } from "./models.js";
import { estimate, openModel } from "./networks.js";
import { luminanceOf, measureNoise } from "./noise.js";
import { enhancePlain } from "./plain.js";
import { planOf } from "./plan.js";
import { cut, drawUpright, reduced, storedRegion, tiles, turnOf, upright } from "./view.js";

const MOST_PIXELS = 250_000_000;
const REACH = 8; // pixels that any smoothing reads around a pixel
const STRIP = 64; // rows between two pauses of plain JavaScript, in which the page answers
const DECODE = { premultiplyAlpha: "none", colorSpaceConversion: "none" };
const TO_SRGB = { ...DECODE, colorSpaceConversion: "default" };
const pause = () => new Promise((resolve) => setTimeout(resolve));

/** Enhances photos in this browser. Both engines have the same methods. */
export class BrowserEngine {
  local = false;
  models = Object.entries(models).map(([name, { use, licence, denoise }]) => ({ name, use, licence, denoise }));

  /** The engine draws enhanced photos on `canvas`. */
  constructor(canvas) {
    this.canvas = canvas;
    try {
      this.gl = new GlPass(canvas);
      this.how = `WebGL2, ${this.gl.renderer}`;
      canvas.addEventListener("webglcontextlost", (event) => event.preventDefault()); // asks for it back
      canvas.addEventListener("webglcontextrestored", () => Object.assign(this, { gl: new GlPass(canvas), shown: {} }));
    } catch {
      this.gl = null;
      this.how = "JavaScript";
      // A canvas that has a context of WebGL gets no other one.
      canvas.replaceWith((this.canvas = canvas.cloneNode()));
    }
    this.shown = {};
    this.spaceBefore = "srgb"; // of the canvas for originals
    this.most = this.gl ? this.gl.most - 2 * REACH : 4096; // longest side of what is shown at once
  }

  /**
   * Read a photo.
   *
   * @returns {name, width, height, notes} and what this engine needs
   * @throws Error with a message for the user
   */
  async open(file) {
    const bytes = new Uint8Array(await file.arrayBuffer());
    const header = inspect(bytes);
    const kind = NAMES[header.format];
    if (!kind) throw new Error(`${file.name} is not a photo in a known format. JPEG, PNG, WebP, AVIF, GIF and BMP work.`);
    if (!header.complete) throw new Error(`${file.name} is damaged: the file ends before the photo does. Copy it again from its source.`);
    if (header.width * header.height > MOST_PIXELS) throw new Error(tooLarge(file.name, header));
    const blob = new Blob([asStored(bytes, header)], { type: `image/${header.format}` });
    const bitmap = await createImageBitmap(blob, header.toSrgb ? TO_SRGB : DECODE).catch(() => {
      const reason = ["tiff", "heic"].includes(header.format)
        ? `This browser cannot read ${kind} photos. Convert it to PNG or JPEG, or use kdlib on your computer.`
        : `The ${kind} file is damaged, or of a kind that this browser cannot read.`;
      throw new Error(`${file.name} could not be opened. ${reason}`);
    });
    const pixels = { width: bitmap.width, height: bitmap.height, grey: header.grey };
    try {
      if (pixels.width * pixels.height > MOST_PIXELS) throw new Error(tooLarge(file.name, pixels));
      pixels.data = await this._pixelsOf(bitmap, blob);
    } finally {
      bitmap.close();
    }
    const space = await shownIn(header);
    const notes = [...header.notes];
    if (header.bits > 8) notes.push(`The photo has ${header.bits} bits a sample. Browsers decode 8, and 8 are saved.`);
    if (header.animated) notes.push("The file is an animation. Only its first picture is opened and saved.");
    return { name: file.name, ...upright(pixels, header.orientation), notes, header, space, pixels, found: new Map(), copies: new Map() };
  }

  async _pixelsOf(bitmap, blob) {
    // A 2D canvas keeps colours exactly where they are opaque only.
    return (
      (await this._onGl((gl) => pixelsInTiles(bitmap, gl.most, (tile) => gl.pixelsOf(tile)))) ??
      (await exactPixels(blob, bitmap.width, bitmap.height)) ??
      (await pixelsInTiles(bitmap, 4096, canvasPixels))
    );
  }

  /** Return what `run` computes with the graphics processor, or null if there is none or it fails meanwhile. */
  async _onGl(run) {
    const { gl } = this;
    if (!gl || gl.lost) return null;
    try {
      const result = await run(gl);
      return gl.lost ? null : result;
    } catch (error) {
      this.shown = {};
      if (gl.lost || error instanceof GlError) return null;
      throw error;
    }
  }

  /** Draw a small copy of a photo. */
  thumbnail(photo, canvas, side) {
    const { pixels, header, space } = photo;
    const small = reduced(pixels, Math.max(1, Math.floor(Math.min(pixels.width, pixels.height) / side)));
    // The middle of a panorama.
    const [width, height] = [Math.min(small.width, 4 * side), Math.min(small.height, 4 * side)];
    const region = { x: (small.width - width) >> 1, y: (small.height - height) >> 1, width, height };
    drawUpright(canvas, cut(small, region), region, header.orientation, space);
  }

  /** Forget a photo. */
  close(photo) {
    if (this.shown.photo === photo) this.shown = {};
  }

  /**
   * Show a region of a photo, and the same region enhanced.
   *
   * @param view {region: {x, y, width, height}, factor}: a region of the upright photo at 1 / factor of its size
   * @param settings {model, strength, denoise}
   * @param before canvas for the original
   * @param wanted returns false as soon as the result is not needed any more
   * @returns whether it was shown
   */
  async show(photo, view, settings, before, wanted = () => true) {
    const { factor } = view;
    if (!photo.copies.has(factor)) {
      photo.copies.clear(); // one smaller copy at a time
      photo.copies.set(factor, reduced(photo.pixels, factor));
    }
    const copy = photo.copies.get(factor);
    const { orientation } = photo.header;
    const space = this.gl && !this.gl.knowsSpaces ? "srgb" : photo.space;
    if (this.gl) this.gl.space = space;
    if (this.gl && space !== this.spaceBefore) {
      this.spaceBefore = space;
      const other = before.cloneNode(); // because a canvas keeps its colour space
      before.replaceWith(other);
      before = other;
      this.shown = {};
    }
    const region = storedRegion(view.region, copy, orientation);
    const plan = scaled(this._plan(photo, settings), factor);
    const key = JSON.stringify([factor, region]);
    const same = this.shown.photo === photo && this.shown.key === key;
    if (this.gl) {
      if (this.gl.lost) return false;
      try {
        if (!same) this.gl.load(copy, region, REACH);
        this.gl.draw(plan, region, turnOf(region, orientation));
        this.gl.check();
      } catch (error) {
        if (!(error instanceof GlError)) throw error;
        if (this.gl.lost) return false;
        const shown = await this._showPlain(copy, region, plan, orientation, before, wanted, space);
        this.shown = shown ? { photo } : {};
        return shown;
      }
    } else {
      const enhanced = await enhancedInStrips(copy, region, plan, wanted);
      if (!enhanced) return false;
      drawUpright(this.canvas, enhanced, region, orientation, space);
    }
    if (!same) drawUpright(before, cut(copy, region), region, orientation, space);
    this.shown = { photo, key };
    return true;
  }

  /** Show what JavaScript computes, where the graphics processor has memory for showing only. */
  async _showPlain(copy, region, plan, orientation, before, wanted, space) {
    const data = await enhancedInStrips(copy, region, plan, wanted);
    if (!data || this.gl.lost) return false;
    const whole = { x: 0, y: 0, width: region.width, height: region.height };
    this.gl.load({ data, width: whole.width, height: whole.height }, whole, 0);
    this.gl.draw(null, whole, turnOf(whole, orientation));
    drawUpright(before, cut(copy, region), region, orientation, space);
    return true;
  }

  /** Draw pixels, RGBA, that were computed elsewhere. */
  paint(data, width, height) {
    const whole = { x: 0, y: 0, width, height };
    this.shown = {};
    if (this.gl?.lost) return;
    if (!this.gl) return drawUpright(this.canvas, data, whole, 1);
    this.gl.space = "srgb";
    this.gl.load({ data, width, height }, whole, 0);
    return this.gl.draw(null, whole, turnOf(whole, 1));
  }

  /** Return the pixels of the enhanced photo, {data: RGBA, width, height}, as stored. */
  async enhanced(photo, settings, progress = () => {}) {
    const { pixels } = photo;
    const plan = this._plan(photo, settings);
    if (!plan) return pixels;
    const whole = { x: 0, y: 0, width: pixels.width, height: pixels.height };
    const data =
      (await this._onGl((gl) => this._enhancedInTiles(gl, pixels, plan, progress))) ??
      (await enhancedInStrips(pixels, whole, plan, () => true, progress));
    return { ...pixels, data };
  }

  async _enhancedInTiles(gl, pixels, plan, progress) {
    const data = new Uint8ClampedArray(pixels.data.length);
    await gl.enhance(pixels, plan, (region, tile) => {
      paste(data, pixels.width, tile, region);
      this.shown = {}; // the tile has taken its place on the graphics processor
      progress((region.y + region.height) / pixels.height);
      return pause();
    });
    return data;
  }

  /**
   * Enhance a photo at its full size and encode it.
   *
   * @returns {blob, name, notes}
   */
  async save(photo, settings, progress) {
    const { blob, extension, notes } = await encode(await this.enhanced(photo, settings, progress), photo.header);
    const dot = photo.name.lastIndexOf(".");
    const [stem, own] = dot > 0 ? [photo.name.slice(0, dot), photo.name.slice(dot + 1)] : [photo.name, ""];
    const same = { jpeg: "jpg", dib: "bmp" }[own.toLowerCase()] ?? own.toLowerCase();
    return { blob, name: `${stem}_enhanced.${same === extension ? own : extension}`, notes };
  }

  _plan(photo, { model: name, strength, denoise }) {
    const model = openModel(name);
    if (!photo.found.has(name)) photo.found.set(name, estimate(model, photo.pixels));
    if (denoise && photo.noise === undefined) photo.noise = measureNoise(photo.pixels, luminanceOf(photo.pixels));
    return planOf(model, photo.found.get(name), photo.pixels, { strength, denoise }, photo.noise);
  }
}

const tooLarge = (name, { width, height }) =>
  `${name} has ${width.toLocaleString("en")} × ${height.toLocaleString("en")} pixels, more than the limit of ` +
  `${MOST_PIXELS.toLocaleString("en")}. Make it smaller, or use kdlib on your computer.`;

/** Return a plan for a copy at 1 / factor, in which averaging has reduced the noise by that factor. */
function scaled(plan, factor) {
  if (!plan?.rounds.length || factor === 1) return plan;
  const rounds = plan.rounds.map((round) => {
    const own = { ...round };
    for (const name of ["light", "edge", "colour"]) if (name in own) own[name] *= factor ** 2;
    return own;
  });
  return { ...plan, rounds };
}

async function enhancedInStrips(photo, region, plan, wanted, progress = () => {}) {
  const out = new Uint8ClampedArray(4 * region.width * region.height);
  for (let y = 0; y < region.height; y += STRIP) {
    const strip = { ...region, y: region.y + y, height: Math.min(STRIP, region.height - y) };
    out.set(enhancePlain(photo, strip, plan), 4 * y * region.width);
    progress((y + strip.height) / region.height);
    await pause();
    if (!wanted()) return null;
  }
  return out;
}

/** Put the pixels of a region into those of a whole photo. */
function paste(data, width, part, region) {
  for (let row = 0; row < region.height; row++) {
    const from = 4 * row * region.width;
    data.set(part.subarray(from, from + 4 * region.width), 4 * ((region.y + row) * width + region.x));
  }
}

async function pixelsInTiles(bitmap, side, pixelsOf) {
  const { width, height } = bitmap;
  const data = new Uint8ClampedArray(4 * width * height);
  for (const region of tiles(bitmap, side)) {
    const whole = region.width === width && region.height === height;
    const tile = whole ? bitmap : await createImageBitmap(bitmap, region.x, region.y, region.width, region.height, DECODE);
    paste(data, width, pixelsOf(tile), region);
    if (!whole) tile.close();
  }
  return data;
}

function canvasPixels(bitmap) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height).data;
}

/** Return the pixels of a lossless photo with an alpha channel, or null where the browser does not give them. */
async function exactPixels(blob, width, height) {
  if (!["image/png", "image/webp"].includes(blob.type) || !("ImageDecoder" in globalThis)) return null;
  try {
    const decoder = new ImageDecoder({ data: await blob.arrayBuffer(), type: blob.type, premultiplyAlpha: "none", colorSpaceConversion: "none" });
    const { image } = await decoder.decode();
    const pixels = new Uint8ClampedArray(4 * width * height);
    const swapped = ["BGRA", "BGRX"].includes(image.format);
    if (image.codedWidth !== width || image.codedHeight !== height || !(swapped || ["RGBA", "RGBX"].includes(image.format))) return null;
    await image.copyTo(pixels);
    if (swapped) for (let i = 0; i < pixels.length; i += 4) [pixels[i], pixels[i + 2]] = [pixels[i + 2], pixels[i]];
    if (image.format.endsWith("X")) for (let i = 3; i < pixels.length; i += 4) pixels[i] = 255;
    image.close();
    decoder.close();
    return pixels;
  } catch {
    return null;
  }
}

