// The pass over the photo as WebGL2 shaders: rounds of smoothing where denoising is on, and one shader for the rest.

import { constants } from "./models.js";
import { reachOf } from "./plan.js";
import { tiles } from "./view.js";

const G = constants.grid;
const float = (value) => (Number.isInteger(value) ? `${value}.0` : String(value));

const VERTEX = `#version 300 es
void main() {  // one triangle over everything
  gl_Position = vec4(vec2(gl_VertexID % 2, gl_VertexID / 2) * 4.0 - 1.0, 0.0, 1.0);
}`;

const COMMON = `#version 300 es
precision highp float;
precision highp int;
uniform highp sampler2D source;  // pixels, or luminance and two colour differences in 255ths
uniform ivec2 size;  // of the part of the photo that is in the textures
uniform ivec4 turn;  // from the position in the result to that in the textures: a matrix by columns, and an offset
uniform ivec2 offset;
out vec4 result;

ivec2 here() {
  ivec2 p = ivec2(gl_FragCoord.xy);
  return turn.xy * p.x + turn.zw * p.y + offset;
}

vec4 texel(sampler2D image, ivec2 p) {
  return texelFetch(image, clamp(p, ivec2(0), size - 1), 0);
}

vec3 split(vec3 c) {
  return 255.0 * vec3(0.25 * (c.r + c.g + c.g + c.b), c.r - c.b, c.g - 0.5 * (c.r + c.b));
}

vec3 unite(vec3 p) {
  float light = p.x - 0.5 * p.z;
  return clamp(vec3(light + 0.5 * p.y, p.x + 0.5 * p.z, light - 0.5 * p.y), 0.0, 255.0);
}

vec3 planes(ivec2 p) {
#ifdef FIRST
  return split(texel(source, p).rgb);
#else
  return texel(source, p).xyz;
#endif
}

vec4 rounded(vec3 colour, float alpha) {
  return vec4(floor(clamp(colour, 0.0, 255.0) + 0.5) / 255.0, alpha);
}

// The maps, interpolated linearly between the four cells around a place.
uniform highp sampler2D maps;
vec4 between(vec2 place, int row, int rows) {
  ivec2 last = textureSize(maps, 0) / ivec2(1, rows) - 1;
  ivec2 a = clamp(ivec2(floor(place)), ivec2(0), last);
  ivec2 b = min(a + 1, last);
  vec2 t = place - vec2(a);
  vec4 upper = mix(
    texelFetch(maps, ivec2(a.x, a.y * rows + row), 0), texelFetch(maps, ivec2(b.x, a.y * rows + row), 0), t.x);
  vec4 lower = mix(
    texelFetch(maps, ivec2(a.x, b.y * rows + row), 0), texelFetch(maps, ivec2(b.x, b.y * rows + row), 0), t.x);
  return mix(upper, lower, t.y);
}
uniform vec2 origin;  // of the textures in the photo
uniform vec2 whole;  // size of the photo
uniform vec2 cells;  // size of the maps

vec2 aligned(ivec2 p) {  // with aligned corners
  return (vec2(p) + origin) * (cells - 1.0) / max(whole - 1.0, 1.0);
}
`;

const GRID_ROUND = `
uniform int reach;
uniform float light, colour;
void main() {
  ivec2 p = here();
  vec3 own = planes(p);
  float weights = 2.0;  // the pixel itself counts twice
  vec3 sum = vec3(0.0);
  for (int n = 0; n < 4; n++) {
#ifdef DIAGONAL
    ivec2 to = ivec2(n % 2 == 0 ? -reach : reach, n < 2 ? -reach : reach);
#else
    ivec2 to = n < 2 ? ivec2(0, n == 0 ? -reach : reach) : ivec2(n == 2 ? -reach : reach, 0);
#endif
    vec3 apart = planes(p + to) - own;
    float weight = max(1.0 - apart.x * apart.x * light - dot(apart.yz, apart.yz) * colour, 0.0);
    weight *= weight;
    weights += weight;
    sum += weight * apart;
  }
  sum /= weights;
#ifdef COLOUR_ONLY
  sum.x = 0.0;
#endif
  result = vec4(own + sum, 0.0);
}`;

const LIFTED_ROUND = `
uniform int reach;
uniform float light, edge, colour, diagonal;
void main() {
  ivec2 p = here();
  vec3 own = planes(p);
  float slope = between(aligned(p), 0, 1).a;
  float level = own.x / 255.0;
  float unlifted = level + (1.0 - level) * slope;
  float precision_ = slope / (unlifted * unlifted);
  precision_ *= precision_;
  vec2 weights = vec2(2.0);
  vec3 sum = vec3(0.0);
  for (int y = -1; y <= 1; y++) {
    for (int x = -1; x <= 1; x++) {
      if (x == 0 && y == 0) continue;
      vec3 apart = planes(p + reach * ivec2(x, y)) - own;
      float squared = apart.x * apart.x;
      vec2 weight = vec2(squared * light, squared * edge + dot(apart.yz, apart.yz) * colour);
      weight = max(1.0 - weight * precision_, 0.0);
      weight *= weight * (x != 0 && y != 0 ? diagonal : 1.0);
      weights += weight;
      sum += weight.xyy * apart;
    }
  }
  result = vec4(own + sum / weights.xyy, 0.0);
}`;

const ORIGINAL = "uniform highp sampler2D original;\n";

const CURVE = `
uniform int iterations;
void main() {
  ivec2 p = here();
  vec4 own = texel(source, p);
  vec3 x = own.rgb;
  vec3 r = between(aligned(p), 0, 1).rgb;
  for (int n = 0; n < iterations; n++) x += r * (x * x - x);
  result = rounded(255.0 * x, own.a);
}`;

const MERGE = `${ORIGINAL}
void main() {
  ivec2 p = here();
  result = rounded(unite(planes(p)), texel(original, p).a);
}`;

const COPY = `
void main() {
  result = texel(source, here());
}`;

const INTERVALS = G.knots.length - 1;
const GAINS = `${ORIGINAL}
uniform vec2 chroma;
uniform float dark;
const float knots[${INTERVALS + 1}] = float[](${G.knots.map(float).join(", ")});
void main() {
  ivec2 p = here();
  float alpha = texel(original, p).a;
#ifdef SMOOTHED
  vec3 rgb = unite(planes(p));
#else
  vec3 rgb = 255.0 * texel(source, p).rgb;
#endif
  float luminance = 0.25 * (rgb.r + rgb.g + rgb.g + rgb.b);
  float seen = luminance / 255.0;
  int k = 0;
  for (int n = 1; n < ${INTERVALS}; n++) k += int(seen >= knots[n]);
  vec2 place = clamp((vec2(p) + origin + 0.5) * cells / whole - 0.5, vec2(0.0), cells - 1.0);
  vec4 own = between(place, k, ${INTERVALS});  // the gains at both ends of the interval, and the chroma
  float gain = mix(own.x, own.y, (seen - knots[k]) / (knots[k + 1] - knots[k]));
  float lift = max(gain - 1.0, 0.0);
  float lost = max(1.0 + chroma.x * lift * max(1.0 - seen / ${float(G.deep)}, 0.0), ${float(G.leastDivisor)});
  float saturation = own.z * (1.0 + chroma.y * max(1.0 - gain, 0.0)) / lost;
#ifdef SMOOTHED
  gain -= lift * (1.0 - seen / max(seen + dark, ${float(G.leastSignal / 255)}));
#endif
  float scale = gain * saturation;
  rgb = (gain - scale) * luminance + scale * rgb;
  result = rounded(rgb * 255.0 / max(max(rgb.r, rgb.g), max(rgb.b, 255.0)), alpha);
}`;

const PLAIN = [1, 0, 0, 1];

/** The graphics processor has not computed what it was asked for, because it was reset or has no memory. */
export class GlError extends Error {}

/** Runs the pass on a canvas, which must not have a context of another kind. */
export class GlPass {
  /** Throws an Error if the browser has no WebGL2, or cannot compute with textures of floating-point numbers. */
  constructor(canvas) {
    const attributes = { alpha: true, premultipliedAlpha: false, antialias: false, depth: false, preserveDrawingBuffer: true };
    const gl = canvas.getContext("webgl2", attributes);
    if (!gl) throw new Error("no WebGL2");
    // Half precision changes smoothed pixels by at most one level.
    if (gl.getExtension("EXT_color_buffer_float")) this.deep = gl.RGBA32F;
    else if (gl.getExtension("EXT_color_buffer_half_float")) this.deep = gl.RGBA16F;
    else throw new Error("no textures of floating-point numbers");
    this.gl = gl;
    this.canvas = canvas;
    this.wasLost = false;
    // What was in its memory stays lost when the browser gives the context back.
    canvas.addEventListener("webglcontextlost", () => (this.wasLost = true), { once: true });
    // Larger tiles would take more memory and gain nothing.
    this.most = Math.min(gl.getParameter(gl.MAX_TEXTURE_SIZE), 4096);
    const info = gl.getExtension("WEBGL_debug_renderer_info");
    this.renderer = gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
    this.programs = new Map();
    this.textures = {};
    this.framebuffer = gl.createFramebuffer();
    gl.bindVertexArray(gl.createVertexArray());
    gl.disable(gl.DITHER);
    gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.pixelStorei(gl.PACK_ALIGNMENT, 1);
  }

  /** Whether the browser has ever taken the graphics processor away; what was computed since is empty. */
  get lost() {
    return this.wasLost || this.gl.isContextLost();
  }

  /** Whether the canvas can have another colour space than sRGB. */
  get knowsSpaces() {
    return "drawingBufferColorSpace" in this.gl;
  }

  set space(name) {
    if (!this.knowsSpaces || this.gl.drawingBufferColorSpace === name) return;
    this.gl.drawingBufferColorSpace = name;
    this.canvas.width = 0; // Chromium would keep the buffer with its colour space
  }

  /** Throw a GlError if something could not be computed. */
  check() {
    const error = this.gl.getError();
    if (error || this.lost) throw new GlError(this.lost ? "The graphics processor was reset." : `The graphics processor failed (WebGL error ${error}).`);
  }

  /** Load a region of a photo, and around it what `reach` pixels of smoothing read. */
  load(photo, region, reach) {
    const { gl } = this;
    const x = Math.max(region.x - reach, 0);
    const y = Math.max(region.y - reach, 0);
    const width = Math.min(region.x + region.width + reach, photo.width) - x;
    const height = Math.min(region.y + region.height + reach, photo.height) - y;
    this.part = { x, y, width, height, whole: [photo.width, photo.height] };
    this.smoothedWith = null;
    this._texture("source", gl.RGBA8, width, height);
    gl.pixelStorei(gl.UNPACK_ROW_LENGTH, photo.width);
    const start = 4 * (y * photo.width + x);
    const end = 4 * ((y + height - 1) * photo.width + x + width);
    const bytes = new Uint8Array(photo.data.buffer, photo.data.byteOffset + start, end - start);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
    gl.pixelStorei(gl.UNPACK_ROW_LENGTH, 0);
  }

  /** Return the pixels of an ImageBitmap as decoded, RGBA; a 2D canvas would round the colours of translucent ones. */
  pixelsOf(bitmap) {
    const { gl } = this;
    const { width, height } = bitmap;
    this._texture("target", gl.RGBA8, width, height);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
    this._into("target", width, height);
    return this.read({ width, height });
  }

  /** Load a frame of a camera. */
  loadFrame(video, width, height) {
    const { gl } = this;
    this.part = { x: 0, y: 0, width, height, whole: [width, height] };
    this.smoothedWith = null;
    this._texture("source", gl.RGBA8, width, height);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, video);
  }

  /**
   * Enhance a region of what is loaded.
   *
   * @param plan from planOf; null copies
   * @param region {x, y, width, height} in the photo
   * @param turn how the canvas shows the region, from turnOf in view.js; null to draw into memory, see `read`
   */
  draw(plan, region, turn = null) {
    const { gl } = this;
    const offset = [region.x - this.part.x, region.y - this.part.y];
    let source = "source";
    if (plan) {
      this._maps(plan);
      if (plan.family !== "grid" && plan.rounds.length) this._toTexture("bright", gl.RGBA8, CURVE, [], plan, source);
      if (plan.rounds.length) source = this._smooth(plan);
    }
    const [shader, defines] = !plan ? [COPY, []]
      : plan.family === "grid" ? [GAINS, plan.rounds.length ? ["SMOOTHED"] : []]
      : plan.rounds.length ? [MERGE, []] : [CURVE, []];
    if (turn) {
      gl.bindFramebuffer(gl.FRAMEBUFFER, null);
      const [a, b, c, d, width, height, ox, oy] = turn;
      if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
      gl.viewport(0, 0, width, height);
      // The first row of a canvas is its last in WebGL.
      const flipped = [a, b, -c, -d];
      this._run(shader, defines, plan, source, flipped, [offset[0] + ox + c * (height - 1), offset[1] + oy + d * (height - 1)]);
    } else {
      this._texture("target", gl.RGBA8, region.width, region.height);
      this._into("target", region.width, region.height);
      this._run(shader, defines, plan, source, PLAIN, offset);
    }
  }

  /** Return what was last drawn into memory, RGBA. */
  read(region) {
    const { gl } = this;
    const pixels = new Uint8Array(4 * region.width * region.height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.framebuffer);
    gl.readPixels(0, 0, region.width, region.height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    this.check(); // else the pixels could be zeros
    return pixels;
  }

  /**
   * Enhance a whole photo in tiles: `each(region, pixels)` takes the results, and may return a promise.
   *
   * @throws GlError if the graphics processor fails at any tile
   */
  async enhance(photo, plan, each) {
    const reach = plan ? reachOf(plan) : 0;
    const side = Math.min(this.most, 2048) - 2 * reach;
    for (const region of tiles(photo, side)) {
      this.load(photo, region, reach);
      this.draw(plan, region);
      await each(region, this.read(region));
    }
  }

  _smooth(plan) {
    const { gl } = this;
    if (plan.smoothing && this.smoothedWith?.key === plan.smoothing) return this.smoothedWith.texture;
    let source = plan.family === "grid" ? "source" : "bright";
    plan.rounds.forEach((round, n) => {
      const target = `planes${n % 2}`;
      const defines = n ? [] : ["FIRST"];
      if (round.diagonal === true) defines.push("DIAGONAL");
      if (round.colourOnly) defines.push("COLOUR_ONLY");
      this._toTexture(target, this.deep, plan.family === "grid" ? GRID_ROUND : LIFTED_ROUND, defines, plan, source, round);
      source = target;
    });
    if (plan.smoothing) this.smoothedWith = { key: plan.smoothing, texture: source };
    return source;
  }

  _toTexture(name, format, shader, defines, plan, source, round) {
    const { width, height } = this.part;
    this._texture(name, format, width, height);
    this._into(name, width, height);
    this._run(shader, defines, plan, source, PLAIN, [0, 0], round);
  }

  _into(name, width, height) {
    const { gl } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.framebuffer);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.textures[name].texture, 0);
    gl.viewport(0, 0, width, height);
  }

  /** Make a texture, or keep one of that size. */
  _texture(name, format, width, height) {
    const { gl } = this;
    const held = this.textures[name];
    gl.activeTexture(gl.TEXTURE0);
    if (held && held.width === width && held.height === height) {
      gl.bindTexture(gl.TEXTURE_2D, held.texture);
      return;
    }
    if (held) gl.deleteTexture(held.texture);
    delete this.textures[name];
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, format, width, height);
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
    try {
      this.check(); // what is drawn into a texture without memory vanishes
    } catch (error) {
      gl.deleteTexture(texture);
      throw error;
    }
    this.textures[name] = { texture, width, height };
  }

  _maps(plan) {
    const { gl } = this;
    const { h, w } = plan;
    let [texels, rows] = [plan.texels, 1];
    if (plan.family === "grid") {
      // For each interval between knots: the gains at its ends, and the chroma.
      rows = INTERVALS;
      texels = new Float32Array(4 * w * h * rows);
      const chroma = (INTERVALS + 1) * h * w;
      for (let y = 0, i = 0; y < h; y++) {
        for (let k = 0; k < rows; k++) {
          for (let x = 0; x < w; x++, i += 4) {
            const cell = y * w + x;
            texels.set([plan.gains[k * h * w + cell], plan.gains[(k + 1) * h * w + cell], plan.gains[chroma + cell]], i);
          }
        }
      }
    }
    this._texture("maps", gl.RGBA32F, w, h * rows);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, w, h * rows, gl.RGBA, gl.FLOAT, texels);
  }

  _run(shader, defines, plan, source, turn, offset, round = {}) {
    const { gl, part } = this;
    const { program, place } = this._program(shader, defines);
    gl.useProgram(program);
    ["maps", "original", source].forEach((name, unit) => {
      const held = this.textures[name === "original" ? "source" : name];
      if (!held) return;
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, held.texture);
    });
    gl.uniform1i(place("maps"), 0);
    gl.uniform1i(place("original"), 1);
    gl.uniform1i(place("source"), 2);
    gl.uniform2i(place("size"), part.width, part.height);
    gl.uniform4i(place("turn"), ...turn);
    gl.uniform2i(place("offset"), ...offset);
    gl.uniform2f(place("origin"), part.x, part.y);
    gl.uniform2f(place("whole"), ...part.whole);
    if (plan) gl.uniform2f(place("cells"), plan.w, plan.h);
    if (plan?.chroma) gl.uniform2f(place("chroma"), ...plan.chroma);
    if (plan?.chroma) gl.uniform1f(place("dark"), plan.floor);
    if (plan?.iterations) gl.uniform1i(place("iterations"), plan.iterations);
    if (round.step) gl.uniform1i(place("reach"), round.step);
    for (const name of ["light", "edge", "colour", "diagonal"]) {
      if (typeof round[name] === "number") gl.uniform1f(place(name), round[name]);
    }
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  _program(shader, defines) {
    const { gl } = this;
    const key = `${defines.join()}\n${shader}`;
    if (!this.programs.has(key)) {
      const program = gl.createProgram();
      const head = COMMON.replace("precision highp float;", `${defines.map((name) => `#define ${name}\n`).join("")}$&`);
      for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, head + shader]]) {
        const part = gl.createShader(kind);
        gl.shaderSource(part, text);
        gl.compileShader(part);
        gl.attachShader(program, part);
        if (!gl.getShaderParameter(part, gl.COMPILE_STATUS) && !gl.isContextLost()) {
          throw new GlError(`a shader does not compile: ${gl.getShaderInfoLog(part)}`);
        }
      }
      gl.linkProgram(program);
      const places = new Map();
      const place = (name) => {
        if (!places.has(name)) places.set(name, gl.getUniformLocation(program, name));
        return places.get(name);
      };
      this.programs.set(key, { program, place });
    }
    return this.programs.get(key);
  }
}
