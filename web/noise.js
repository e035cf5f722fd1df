// Measuring the noise of a photo in its flattest blocks. Reference: kdlib/noise.py.

import { constants } from "./models.js";

const { least, most, block, border, blocks } = constants.noise;
const side = block + 2 * border;
// Near black and white, clipping hides the noise.
const [darkest, brightest] = [0.025, 0.94];
const flattest = 0.05; // quantile of the blocks' deviations

function starts(length) {
  const count = Math.min(blocks, Math.floor(length / block));
  const step = count > 1 ? (length - side) / (count - 1) : 0;
  return Array.from({ length: count }, (_, i) => (i === count - 1 && i ? length - side : Math.trunc(i * step)));
}

/**
 * Return the standard deviation of the luminance, in 255ths, that a photo had before a curve.
 *
 * `luminance(x, y)` reads the photo after the curve, in 255ths; `slopes` is {h, w, values}, the curve's slope at black.
 */
export function measureNoise({ width, height }, luminance, slopes = { h: 1, w: 1, values: [1] }) {
  if (Math.min(width, height) < side) return least;
  const [tops, lefts] = [starts(height), starts(width)];
  const values = new Float32Array(side * side);
  const down = new Float32Array(block * side);
  const deviations = [];
  const cell = (start, cells, length) => Math.trunc(((start + side / 2) * (cells - 1)) / length + 0.5);
  for (const top of tops) {
    for (const left of lefts) {
      for (let y = 0; y < side; y++) {
        for (let x = 0; x < side; x++) values[y * side + x] = luminance(left + x, top + y);
      }
      for (let i = 0; i < down.length; i++) {
        let sum = 0;
        for (let k = 0; k <= 2 * border; k++) sum += values[i + k * side];
        down[i] = sum;
      }
      let squares = 0;
      let total = 0;
      for (let y = 0; y < block; y++) {
        for (let x = 0; x < block; x++) {
          let sum = 0;
          for (let k = 0; k <= 2 * border; k++) sum += down[y * side + x + k];
          const value = values[(y + border) * side + x + border];
          total += value;
          squares += (value - sum / (2 * border + 1) ** 2) ** 2;
        }
      }
      const level = total / block ** 2 / 255;
      if (level <= darkest || level >= brightest) continue;
      const gain = slopes.values[cell(top, slopes.h, height) * slopes.w + cell(left, slopes.w, width)];
      const slope = (level + (1 - level) * gain) ** 2 / gain;
      deviations.push(Math.sqrt(squares / block ** 2) / slope);
    }
  }
  if (!deviations.length) return least;
  deviations.sort((a, b) => a - b);
  const place = flattest * (deviations.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, deviations.length - 1);
  const found = deviations[below] + (place - below) * (deviations[above] - deviations[below]);
  return Math.min(Math.max(found, least), most);
}

/** Return a function that reads the luminance of a photo ({data: RGBA, width}), in 255ths. */
export function luminanceOf({ data, width }) {
  return (x, y) => {
    const i = 4 * (y * width + x);
    return (data[i] + 2 * data[i + 1] + data[i + 2]) / 4;
  };
}
