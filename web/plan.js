// What the pass over the full photo takes: the maps after strength and denoising, for the shaders and plain JavaScript.

import { constants } from "./models.js";
import { luminanceOf, measureNoise } from "./noise.js";

const { grid: G, lifted: L, noise: N } = constants;

/** Return how many pixels the rounds of smoothing of a plan reach around a pixel. */
export const reachOf = (plan) => plan.rounds.reduce((sum, { step }) => sum + step, 0);

/** Interpolate linearly between the four texels around a place: calls `each(index, weight)` for each of them. */
export function around(h, w, y, x, each) {
  const [above, left] = [Math.min(Math.floor(y), h - 1), Math.min(Math.floor(x), w - 1)];
  const [below, right] = [Math.min(above + 1, h - 1), Math.min(left + 1, w - 1)];
  const [v, u] = [y - above, x - left];
  each(above * w + left, (1 - v) * (1 - u));
  each(above * w + right, (1 - v) * u);
  each(below * w + left, v * (1 - u));
  each(below * w + right, v * u);
}

/** Return the curve x ← x + r·(x² − x) of one sample in [0, 1]. */
export function curve(x, r, iterations) {
  for (let n = 0; n < iterations; n++) x += r * (x * x - x);
  return x;
}

/**
 * Plan the pass over a photo.
 *
 * @param model from openModel
 * @param found the network's maps, from estimate
 * @param photo {data: RGBA, width, height, grey}
 * @param settings {strength, denoise}, each from 0 to 2
 * @param noise of the photo; measured if absent
 * @returns family, h and w of the maps, `rounds` of smoothing, and what the family needs besides; null if the photo is
 *   to stay as it is.
 */
export function planOf(model, found, photo, { strength, denoise }, noise) {
  if (!strength && !denoise) return null;
  return model.family === "grid"
    ? planGrid(model, found, photo, strength, denoise, noise)
    : planCurve(model, found, photo, strength, denoise);
}

function planGrid({ name, tensors: t }, { maps, h, w }, photo, strength, denoise, noise) {
  const sigma = denoise ? denoise * (noise ?? measureNoise(photo, luminanceOf(photo))) : 0;
  const tolerances = t["smoothing.log_tolerance"].values;
  const size = (n, c) => Math.max(sigma, N.leastTolerated) * Math.exp(Math.min(Math.max(tolerances[2 * n + c], -12), 12));
  return {
    family: "grid",
    h,
    w,
    gains: Float32Array.from(maps, (value) => Math.exp(value * strength)),
    chroma: [...t.chroma.values],
    // The luminance, from 0 to 1, at which half of the gain above 1 remains.
    floor: (Math.max(t.floor.values[0], 0) * sigma) / 255,
    smoothing: `${name} ${sigma}`, // by which a smoothed photo is known again when only the strength changes
    rounds: denoise ? G.taps.map((tap, n) => ({ ...tap, light: size(n, 0) ** -2, colour: size(n, 1) ** -2 })) : [],
  };
}

function planCurve({ architecture: { iterations } }, { maps, h, w }, photo, strength, denoise) {
  const n = h * w;
  // r of the three channels and, for the smoothing, the slope of the curve at black.
  const texels = new Float32Array(4 * n);
  for (let i = 0; i < n; i++) {
    let own = [maps[i], maps[n + i], maps[2 * n + i]];
    if (photo.grey) own = own.fill((own[0] + own[1] + own[2]) / 3);
    own = own.map((r) => Math.min(Math.max(r * strength, -1), 1));
    texels.set(own, 4 * i);
    texels[4 * i + 3] = Math.max((1 - (own[0] + own[1] + own[2]) / 3) ** iterations, 1 / 8);
  }
  const plan = { family: "zero-dce", h, w, texels, iterations, rounds: [] };
  if (denoise) {
    const enhanced = curveReader(photo, plan);
    const slopes = { h, w, values: texels.filter((_, i) => i % 4 === 3) };
    const sigma = denoise * measureNoise(photo, enhanced, slopes);
    plan.rounds = Array.from({ length: L.rounds }, (_, k) => {
      const narrows = [L.narrows[0] ** k, L.narrows[1] ** k, L.narrows[1] ** k];
      const [light, edge, colour] = L.tolerances.map((own, c) => Math.max((sigma * own) / narrows[c], 1e-3) ** -2);
      return { step: 2 ** k, light, edge, colour, diagonal: L.diagonal };
    });
  }
  return plan;
}

/** Return how far a pixel of a photo, down and along, leads in a map whose corners are those of the photo. */
export const alignedSteps = ({ h, w }, { width, height }) => [(h - 1) / Math.max(height - 1, 1), (w - 1) / Math.max(width - 1, 1)];

/** Return a function that reads the luminance of a photo after the curve and rounding, in 255ths. */
function curveReader(photo, { h, w, texels, iterations }) {
  const { data, width } = photo;
  const [down, along] = alignedSteps({ h, w }, photo);
  const r = [0, 0, 0];
  return (x, y) => {
    r.fill(0);
    around(h, w, y * down, x * along, (index, weight) => {
      for (let c = 0; c < 3; c++) r[c] += weight * texels[4 * index + c];
    });
    const i = 4 * (y * width + x);
    const [red, green, blue] = r.map((own, c) => Math.floor(255 * curve(data[i + c] / 255, own, iterations) + 0.5));
    return (red + 2 * green + blue) / 4;
  };
}
