// From stored pixels to the screen: the EXIF orientation, smaller copies, and regions.

// By orientation: how the place in the stored photo changes with the column and with the row of the upright one.
const TURNS = {
  1: [1, 0, 0, 1], 2: [-1, 0, 0, 1], 3: [-1, 0, 0, -1], 4: [1, 0, 0, -1],
  5: [0, 1, 1, 0], 6: [0, -1, 1, 0], 7: [0, -1, -1, 0], 8: [0, 1, -1, 0],
};

/** Return width and height as a person sees them. */
export const upright = ({ width, height }, orientation) =>
  orientation >= 5 ? { width: height, height: width } : { width, height };

/** Return the region of the stored photo that a region of the upright one shows. */
export function storedRegion({ x, y, width, height }, photo, orientation) {
  const [a, b, c, d] = TURNS[orientation];
  const place = (u, v) => [
    a * u + c * v + (a < 0 || c < 0 ? photo.width - 1 : 0),
    b * u + d * v + (b < 0 || d < 0 ? photo.height - 1 : 0),
  ];
  const [[x0, y0], [x1, y1]] = [place(x, y), place(x + width - 1, y + height - 1)];
  return { x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0) + 1, height: Math.abs(y1 - y0) + 1 };
}

/** Return how an upright canvas shows a stored region: the turn, width and height, and the offset in the region. */
export function turnOf(region, orientation) {
  const [a, b, c, d] = TURNS[orientation];
  const { width, height } = upright(region, orientation);
  const offset = [a < 0 || c < 0 ? region.width - 1 : 0, b < 0 || d < 0 ? region.height - 1 : 0];
  return [a, b, c, d, width, height, ...offset];
}

/** Draw RGBA of a stored region, in a colour space, upright on a canvas. */
export function drawUpright(canvas, data, region, orientation, colorSpace = "srgb") {
  const [a, b, c, d, width, height, ox, oy] = turnOf(region, orientation);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { colorSpace });
  if (orientation === 1) {
    context.putImageData(new ImageData(data, width, height, { colorSpace }), 0, 0);
    return;
  }
  const image = new ImageData(width, height, { colorSpace });
  const [from, to] = [new Uint32Array(data.buffer, data.byteOffset, data.length / 4), new Uint32Array(image.data.buffer)];
  for (let v = 0, i = 0; v < height; v++) {
    let place = (oy + d * v) * region.width + ox + c * v;
    for (let u = 0, along = b * region.width + a; u < width; u++, place += along) to[i++] = from[place];
  }
  context.putImageData(image, 0, 0);
}

/** Yield the regions of at most `side` pixels a side that make up a photo, row by row. */
export function* tiles({ width, height }, side) {
  for (let y = 0; y < height; y += side) {
    for (let x = 0; x < width; x += side) {
      yield { x, y, width: Math.min(side, width - x), height: Math.min(side, height - y) };
    }
  }
}

/** Return the pixels of a region, RGBA. */
export function cut({ data, width }, region) {
  const out = new Uint8ClampedArray(4 * region.width * region.height);
  for (let y = 0; y < region.height; y++) {
    const start = 4 * ((region.y + y) * width + region.x);
    out.set(data.subarray(start, start + 4 * region.width), 4 * y * region.width);
  }
  return out;
}

/** Return a copy of a photo at 1 / factor of its size, averaged over areas. */
export function reduced({ data, width, height, grey }, factor) {
  if (factor === 1) return { data, width, height, grey };
  const [w, h] = [Math.ceil(width / factor), Math.ceil(height / factor)];
  const out = new Uint8ClampedArray(4 * w * h);
  const sums = new Uint32Array(4 * w);
  for (let i = 0; i < h; i++) {
    const [upper, lower] = [i * factor, Math.min((i + 1) * factor, height)];
    sums.fill(0);
    for (let y = upper; y < lower; y++) {
      let k = 4 * y * width;
      for (let j = 0, x = 0; j < w; j++) {
        for (const end = Math.min(x + factor, width); x < end; x++, k += 4) {
          sums[4 * j] += data[k];
          sums[4 * j + 1] += data[k + 1];
          sums[4 * j + 2] += data[k + 2];
          sums[4 * j + 3] += data[k + 3];
        }
      }
    }
    for (let j = 0; j < w; j++) {
      const area = (lower - upper) * (Math.min((j + 1) * factor, width) - j * factor);
      for (let c = 0; c < 4; c++) out[4 * (i * w + j) + c] = sums[4 * j + c] / area;
    }
  }
  return { data: out, width: w, height: h, grey };
}
