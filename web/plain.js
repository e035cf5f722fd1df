// The pass over the photo in plain JavaScript, for browsers without WebGL2. References: kdlib/enhance/kernels.

import { constants } from "./models.js";
import { alignedSteps, curve, reachOf } from "./plan.js";
import { cut } from "./view.js";

const G = constants.grid;
const TINY = G.leastSignal / 255;
const clamp = (value, top) => Math.min(Math.max(value, 0), top);

/**
 * Enhance a region of a photo.
 *
 * @param photo {data: RGBA, width, height}
 * @param region {x, y, width, height} within the photo
 * @param plan from planOf, or null to copy
 * @returns RGBA of the region
 */
export function enhancePlain(photo, region, plan) {
  const out = cut(photo, region);
  if (!plan) return out;
  if (plan.family === "grid") {
    const planes = plan.rounds.length ? smoothed(photo, region, plan, null) : null;
    applyGrid(out, region, photo, plan, planes);
    return out;
  }
  if (!plan.rounds.length) {
    applyCurve(out, region, photo, plan);
    return out;
  }
  merge(out, smoothed(photo, region, plan, applyCurve));
  return out;
}

/** Interpolate `depth` values of a map's rows linearly at a place, into `line` (w × depth). */
function mapRow(values, depth, { h, w }, place, line) {
  const above = Math.min(Math.floor(place), h - 1);
  const below = Math.min(above + 1, h - 1);
  for (let i = 0; i < w * depth; i++) {
    const upper = values[above * w * depth + i];
    line[i] = upper + (place - above) * (values[below * w * depth + i] - upper);
  }
}

function applyCurve(out, region, photo, plan) {
  const { w, texels, iterations } = plan;
  const [down, along] = alignedSteps(plan, photo);
  const line = new Float32Array(4 * w);
  for (let y = 0, i = 0; y < region.height; y++) {
    mapRow(texels, 4, plan, (region.y + y) * down, line);
    for (let x = 0; x < region.width; x++, i += 4) {
      const place = (region.x + x) * along;
      const left = Math.min(Math.floor(place), w - 1);
      const right = Math.min(left + 1, w - 1);
      for (let c = 0; c < 3; c++) {
        const r = line[4 * left + c] + (place - left) * (line[4 * right + c] - line[4 * left + c]);
        out[i + c] = Math.floor(255 * curve(out[i + c] / 255, r, iterations) + 0.5);
      }
    }
  }
}

function applyGrid(out, region, { width, height }, plan, planes) {
  const { h, w, gains, chroma, floor } = plan;
  const { knots } = G;
  const count = knots.length;
  // Cell by cell: the gains at the knots, and the chroma.
  const cells = new Float32Array(h * w * (count + 1));
  for (let k = 0; k <= count; k++) {
    for (let i = 0; i < h * w; i++) cells[i * (count + 1) + k] = gains[k * h * w + i];
  }
  const line = new Float32Array(w * (count + 1));
  for (let y = 0, i = 0, n = 0; y < region.height; y++) {
    mapRow(cells, count + 1, plan, clamp(((region.y + y + 0.5) * h) / height - 0.5, h - 1), line);
    for (let x = 0; x < region.width; x++, i += 4, n++) {
      const place = clamp(((region.x + x + 0.5) * w) / width - 0.5, w - 1);
      const left = Math.floor(place);
      const a = left * (count + 1);
      const b = Math.min(left + 1, w - 1) * (count + 1);
      const u = place - left;
      let [red, green, blue] = [out[i], out[i + 1], out[i + 2]];
      if (planes) {
        const [light, tint, half] = [planes.y[n], planes.g[n] / 2, planes.o[n] / 2];
        red = clamp(light - tint + half, 255);
        green = clamp(light + tint, 255);
        blue = clamp(light - tint - half, 255);
      }
      const luminance = (red + 2 * green + blue) / 4;
      const seen = luminance / 255;
      let k = 0;
      while (k < count - 2 && seen >= knots[k + 1]) k++;
      const t = (seen - knots[k]) / (knots[k + 1] - knots[k]);
      const at = (j) => line[a + j] + u * (line[b + j] - line[a + j]);
      const low = at(k);
      let gain = low + t * (at(k + 1) - low);
      const lift = Math.max(gain - 1, 0);
      const lost = Math.max(1 + chroma[0] * lift * Math.max(1 - seen / G.deep, 0), G.leastDivisor);
      const saturation = (at(count) * (1 + chroma[1] * Math.max(1 - gain, 0))) / lost;
      if (planes) gain -= lift * (1 - seen / Math.max(seen + floor, TINY));
      const scale = gain * saturation;
      const base = (gain - scale) * luminance;
      red = base + scale * red;
      green = base + scale * green;
      blue = base + scale * blue;
      const share = 255 / Math.max(red, green, blue, 255);
      out[i] = Math.floor(clamp(share * red, 255) + 0.5);
      out[i + 1] = Math.floor(clamp(share * green, 255) + 0.5);
      out[i + 2] = Math.floor(clamp(share * blue, 255) + 0.5);
    }
  }
}

/** Smooth a region and return its luminance and colour differences; `before` first enhances the pixels that it reads. */
function smoothed(photo, region, plan, before) {
  const reach = reachOf(plan);
  const x = Math.max(region.x - reach, 0);
  const y = Math.max(region.y - reach, 0);
  const wide = {
    x,
    y,
    width: Math.min(region.x + region.width + reach, photo.width) - x,
    height: Math.min(region.y + region.height + reach, photo.height) - y,
  };
  const pixels = enhancePlain(photo, wide, before ? { ...plan, rounds: [] } : null);
  const n = wide.width * wide.height;
  let planes = { y: new Float32Array(n), o: new Float32Array(n), g: new Float32Array(n) };
  for (let i = 0; i < n; i++) {
    const [red, green, blue] = [pixels[4 * i], pixels[4 * i + 1], pixels[4 * i + 2]];
    planes.y[i] = (red + 2 * green + blue) / 4;
    planes.o[i] = red - blue;
    planes.g[i] = green - (red + blue) / 2;
  }
  const slopes = before ? slopesOf(wide, photo, plan) : null;
  for (const round of plan.rounds) {
    planes = slopes ? liftedRound(planes, wide, round, slopes) : gridRound(planes, wide, round);
  }
  const inside = (plane) => {
    const part = new Float32Array(region.width * region.height);
    for (let row = 0; row < region.height; row++) {
      const start = (region.y - wide.y + row) * wide.width + region.x - wide.x;
      part.set(plane.subarray(start, start + region.width), row * region.width);
    }
    return part;
  };
  return { y: inside(planes.y), o: inside(planes.o), g: inside(planes.g) };
}

function slopesOf(region, photo, plan) {
  const { w, texels } = plan;
  const [down, along] = alignedSteps(plan, photo);
  const [values, line] = [new Float32Array(region.width * region.height), new Float32Array(4 * w)];
  for (let y = 0, i = 0; y < region.height; y++) {
    mapRow(texels, 4, plan, (region.y + y) * down, line);
    for (let x = 0; x < region.width; x++, i++) {
      const place = (region.x + x) * along;
      const left = Math.min(Math.floor(place), w - 1);
      const from = line[4 * left + 3];
      values[i] = from + (place - left) * (line[4 * Math.min(left + 1, w - 1) + 3] - from);
    }
  }
  return values;
}

/** Run one round of GridNet's smoothing, kdlib.models.grid.QuincunxSmoothing. */
function gridRound({ y, o, g }, { width, height }, { step, diagonal, colourOnly, light, colour }) {
  const out = { y: colourOnly ? y : new Float32Array(y.length), o: new Float32Array(y.length), g: new Float32Array(y.length) };
  const there = new Int32Array(4);
  for (let row = 0, i = 0; row < height; row++) {
    const above = Math.max(row - step, 0) * width;
    const below = Math.min(row + step, height - 1) * width;
    for (let x = 0; x < width; x++, i++) {
      const left = Math.max(x - step, 0);
      const right = Math.min(x + step, width - 1);
      there[0] = above + (diagonal ? left : x);
      there[1] = below + (diagonal ? right : x);
      there[2] = diagonal ? above + right : row * width + left;
      there[3] = diagonal ? below + left : row * width + right;
      let [weights, sumY, sumO, sumG] = [2, 0, 0, 0];
      for (let k = 0; k < 4; k++) {
        const [dy, d1, d2] = [y[there[k]] - y[i], o[there[k]] - o[i], g[there[k]] - g[i]];
        let weight = Math.max(1 - dy * dy * light - (d1 * d1 + d2 * d2) * colour, 0);
        weight *= weight;
        weights += weight;
        sumY += weight * dy;
        sumO += weight * d1;
        sumG += weight * d2;
      }
      if (!colourOnly) out.y[i] = y[i] + sumY / weights;
      out.o[i] = o[i] + sumO / weights;
      out.g[i] = g[i] + sumG / weights;
    }
  }
  return out;
}

/** Run one round of the smoothing that follows a curve, kdlib.enhance.kernels.denoise. */
function liftedRound({ y, o, g }, { width, height }, { step, light, edge, colour, diagonal }, slopes) {
  const out = { y: new Float32Array(y.length), o: new Float32Array(y.length), g: new Float32Array(y.length) };
  for (let row = 0, i = 0; row < height; row++) {
    for (let x = 0; x < width; x++, i++) {
      const level = y[i] / 255;
      const unlifted = level + (1 - level) * slopes[i];
      const precision = (slopes[i] / (unlifted * unlifted)) ** 2;
      let [weights, weightsC, sumY, sumO, sumG] = [2, 2, 0, 0, 0];
      for (let down = -1; down <= 1; down++) {
        const line = clamp(row + down * step, height - 1) * width;
        for (let along = -1; along <= 1; along++) {
          if (!down && !along) continue;
          const k = line + clamp(x + along * step, width - 1);
          const share = down && along ? diagonal : 1;
          const [dy, d1, d2] = [y[k] - y[i], o[k] - o[i], g[k] - g[i]];
          let weight = Math.max(1 - dy * dy * light * precision, 0);
          weight *= weight * share;
          weights += weight;
          sumY += weight * dy;
          weight = Math.max(1 - (dy * dy * edge + (d1 * d1 + d2 * d2) * colour) * precision, 0);
          weight *= weight * share;
          weightsC += weight;
          sumO += weight * d1;
          sumG += weight * d2;
        }
      }
      out.y[i] = y[i] + sumY / weights;
      out.o[i] = o[i] + sumO / weightsC;
      out.g[i] = g[i] + sumG / weightsC;
    }
  }
  return out;
}

function merge(out, { y, o, g }) {
  for (let i = 0; i < y.length; i++) {
    const [light, tint, half] = [y[i], g[i] / 2, o[i] / 2];
    out[4 * i] = Math.floor(clamp(light - tint + half, 255) + 0.5);
    out[4 * i + 1] = Math.floor(clamp(light + tint, 255) + 0.5);
    out[4 * i + 2] = Math.floor(clamp(light - tint - half, 255) + 0.5);
  }
}
