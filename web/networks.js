// The networks, which see a small copy of the photo. References: kdlib/models/grid.py and kdlib/models/zero_dce.py.

import { constants, models } from "./models.js";

const { grid: G, maxNetworkSide } = constants;

function tensor({ shape, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const values = Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  return { shape, values };
}

const opened = new Map();

/** Return a model by name: family, architecture and tensors. */
export function openModel(name) {
  if (!opened.has(name)) {
    const model = models[name];
    const tensors = Object.fromEntries(Object.entries(model.tensors).map(([key, stored]) => [key, tensor(stored)]));
    opened.set(name, { ...model, name, tensors });
  }
  return opened.get(name);
}

/** Return height and width of the copy that a model's network sees of a photo. */
export function copySize({ family, architecture: a }, height, width) {
  if (family === "grid") return [Math.min(height, a.side, maxNetworkSide), Math.min(width, a.side, maxNetworkSide)];
  const longest = Math.max(height, width);
  const own = Math.max(a.scale_factor, a.network_side ? Math.ceil(longest / a.network_side) : 1);
  const shrink = Math.max(own, longest / maxNetworkSide);
  return [height, width].map((side) => Math.max(1, Math.ceil(side / shrink - 1e-9)));
}

/**
 * Average areas of a photo ({data: RGBA, width, height}); windows share a row or column where sizes do not divide.
 * Returns 3×h×w in [0, 1].
 */
export function smallCopy({ data, width, height }, [h, w]) {
  const small = new Float32Array(3 * h * w);
  const sums = new Float64Array(3 * w);
  const lefts = Array.from({ length: w }, (_, j) => Math.floor((j * width) / w));
  const rights = Array.from({ length: w }, (_, j) => Math.ceil(((j + 1) * width) / w));
  for (let i = 0; i < h; i++) {
    const upper = Math.floor((i * height) / h);
    const lower = Math.ceil(((i + 1) * height) / h);
    sums.fill(0);
    for (let y = upper; y < lower; y++) {
      for (let j = 0; j < w; j++) {
        let red = 0;
        let green = 0;
        let blue = 0;
        for (let k = 4 * (y * width + lefts[j]), end = 4 * (y * width + rights[j]); k < end; k += 4) {
          red += data[k];
          green += data[k + 1];
          blue += data[k + 2];
        }
        sums[3 * j] += red;
        sums[3 * j + 1] += green;
        sums[3 * j + 2] += blue;
      }
    }
    for (let j = 0; j < w; j++) {
      const area = 255 * (lower - upper) * (rights[j] - lefts[j]);
      for (let c = 0; c < 3; c++) small[(c * h + i) * w + j] = sums[3 * j + c] / area;
    }
  }
  return small;
}

/** Convolve C×h×w planes by 3×3 with zeros beyond the border; `depthwise` has one filter for each plane. */
function conv3({ values: k }, { values: bias }, planes, [h, w], stride, depthwise) {
  const count = planes.length / (h * w);
  const [oh, ow] = [Math.ceil(h / stride), Math.ceil(w / stride)];
  const out = new Float32Array(bias.length * oh * ow);
  for (let o = 0; o < bias.length; o++) {
    for (let y = 0; y < oh; y++) {
      for (let x = 0; x < ow; x++) {
        let sum = bias[o];
        for (let c = depthwise ? o : 0, last = depthwise ? o : count - 1; c <= last; c++) {
          const filter = 9 * (depthwise ? o : o * count + c);
          for (let dy = 0; dy < 3; dy++) {
            const row = y * stride + dy - 1;
            if (row < 0 || row >= h) continue;
            for (let dx = 0; dx < 3; dx++) {
              const column = x * stride + dx - 1;
              if (column >= 0 && column < w) sum += k[filter + 3 * dy + dx] * planes[(c * h + row) * w + column];
            }
          }
        }
        out[(o * oh + y) * ow + x] = sum;
      }
    }
  }
  return out;
}

/** Mix planes (C×n) by a 1×1 convolution. */
function mix({ values: k }, { values: bias }, planes, n) {
  const count = planes.length / n;
  const out = new Float32Array(bias.length * n);
  for (let o = 0; o < bias.length; o++) {
    for (let i = 0; i < n; i++) {
      let sum = bias[o];
      for (let c = 0; c < count; c++) sum += k[o * count + c] * planes[c * n + i];
      out[o * n + i] = sum;
    }
  }
  return out;
}

const relu = (values) => values.map((value) => Math.max(value, 0));

/** Return the shares of the knots in the histogram of luminances, by linear interpolation. */
function histogram(luminance, knots) {
  const shares = new Float64Array(knots.length);
  for (const value of luminance) {
    const above = knots.findIndex((knot) => knot >= value);
    if (above === 0) shares[0] += 1;
    else if (above < 0) shares[knots.length - 1] += 1;
    else {
      const t = (value - knots[above - 1]) / (knots[above] - knots[above - 1]);
      shares[above - 1] += 1 - t;
      shares[above] += t;
    }
  }
  return shares.map((share) => share / luminance.length);
}

/** Run GridNet on a thumbnail, 3×h×w. Returns logarithms of gains and chroma, 9×h'×w'. */
function estimateGrid({ tensors: t, architecture: { width: channels } }, thumbnail, [h, w]) {
  const n = h * w;
  const luminance = new Float32Array(n);
  const seen = new Float32Array(3 * n);
  for (let i = 0; i < n; i++) {
    const [red, green, blue] = [thumbnail[i], thumbnail[n + i], thumbnail[2 * n + i]];
    luminance[i] = (red + 2 * green + blue) / 4;
    seen[i] = Math.log2(luminance[i] + G.floor) / 3 + 1;
    seen[n + i] = 2 * (red - luminance[i]);
    seen[2 * n + i] = 2 * (blue - luminance[i]);
  }
  const half = [Math.ceil(h / 2), Math.ceil(w / 2)];
  const size = half.map((side) => Math.ceil(side / 2));
  const m = size[0] * size[1];
  const separable = (planes, from, number, stride) => {
    const [depth, point] = [`features.depth${number}`, `features.point${number}`];
    const own = relu(conv3(t[`${depth}.weight`], t[`${depth}.bias`], planes, from, stride, true));
    return mix(t[`${point}.weight`], t[`${point}.bias`], own, m);
  };
  let features = relu(conv3(t["features.conv.weight"], t["features.conv.bias"], seen, [h, w], 2, false));
  features = relu(separable(features, half, 1, 2));
  const added = separable(features, size, 2, 1);
  features = features.map((value, i) => value + added[i]);

  const planes = Array.from({ length: channels }, (_, c) => features.subarray(c * m, (c + 1) * m));
  const means = planes.map((plane) => plane.reduce((sum, value) => sum + value, 0) / m);
  const tops = planes.map((plane) => plane.reduce((top, value) => Math.max(top, value), -Infinity));
  const shares = histogram(luminance, G.histogramKnots);
  const pooled = Float32Array.from([...means, ...tops, ...shares.map((share) => 4 * share)]);
  const hidden = relu(mix(t["decide.weight"], t["decide.bias"], pooled, 1));
  const global = mix(t["globals.weight"], t["globals.bias"], hidden, 1);
  features = features.map((value, i) => Math.max(value + global[Math.floor(i / m)], 0));
  const raw = mix(t["knots.weight"], t["knots.bias"], features, m);
  const white = raw.length - m;
  const maps = new Float32Array(raw.length + m);
  raw.forEach((gain, i) => {
    const limit = i >= white && gain < 0 ? G.mostLossOfWhite : G.mostGain;
    maps[i] = limit * Math.tanh(gain / limit);
  });
  maps.fill(G.mostChroma * Math.tanh(mix(t["saturate.weight"], t["saturate.bias"], hidden, 1)[0]), raw.length);
  return { maps, h: size[0], w: size[1] };
}

/** Run a separable network of the Zero-DCE family on a small copy, 3×h×w. Returns its curve map, 3×h×w. */
function estimateCurve({ tensors: t, architecture: a }, small, [h, w]) {
  const straight = a.skips ? Math.floor(a.depth / 2) + 1 : a.depth;
  const outputs = [];
  let x = small;
  for (let i = 0; i < a.depth; i++) {
    if (i >= straight) {
      const mirrored = outputs[a.depth - 1 - i];
      const both = new Float32Array(mirrored.length + x.length);
      both.set(mirrored);
      both.set(x, mirrored.length);
      x = both;
    }
    const layer = `e_conv${i + 1}`;
    x = conv3(t[`${layer}.depth_conv.weight`], t[`${layer}.depth_conv.bias`], x, [h, w], 1, true);
    x = mix(t[`${layer}.point_conv.weight`], t[`${layer}.point_conv.bias`], x, h * w);
    if (i < a.depth - 1) outputs.push((x = relu(x)));
  }
  const slope = a.curve_activation === "sigmoid" ? 0.5 : 1;
  return { maps: x.map((value) => Math.tanh(slope * value)), h, w };
}

/** Run a model's network on a photo ({data: RGBA, width, height}). Returns its maps, K×h×w. */
export function estimate(model, photo) {
  const size = copySize(model, photo.height, photo.width);
  return estimateSmall(model, smallCopy(photo, size), size, photo);
}

/** Run a model's network on a copy of a photo, 3×h×w; `photo` itself shows whether it is over-exposed. */
export function estimateSmall(model, small, size, photo) {
  if (model.family !== "grid") return estimateCurve(model, small, size);
  const found = estimateGrid(model, small, size);
  const cells = found.h * found.w;
  measureOverExposure(photo).forEach((limit, k) => {
    for (let i = k * cells; i < (k + 1) * cells; i++) if (found.maps[i] < 0) found.maps[i] *= limit;
  });
  return found;
}

/** Return how far a photo may be darkened, for each knot, from 0 to 1; see kdlib/gain_grid.py. */
function measureOverExposure({ data, width, height }) {
  const [rows, columns] = [Math.min(height, G.samples), Math.min(width, G.samples)];
  let [clipped, bright] = [0, 0];
  for (let i = 0; i < rows; i++) {
    const row = Math.floor((i * height) / rows) * width;
    for (let j = 0; j < columns; j++) {
      const k = 4 * (row + Math.floor((j * width) / columns));
      const brightest = Math.max(data[k], data[k + 1], data[k + 2]);
      if (brightest > 255 * G.clipped) clipped += 1;
      if (brightest > 255 * G.nearlyClipped) bright += 1;
    }
  }
  const nearly = (bright - clipped) / (rows * columns);
  clipped /= rows * columns;
  const [first, last] = G.fallingOff;
  const falling = clipped ? (nearly - first * clipped) / ((last - first) * clipped) : 0;
  const limits = G.knots.map(() => Math.min(clipped / G.certainClipped, 1));
  limits[limits.length - 1] *= Math.min(Math.max(falling, 0), 1);
  return limits;
}
