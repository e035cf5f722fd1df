// Reading the headers of photo files, and writing photos in their own format with their metadata.
// References: kdlib/enhance/photos/formats.

import {
  bytesOf, exifPlaces, hasWord, joined, ofPictureAlone, orientationOf, spaceOf, text, viewOf, withoutExifThumbnail, withoutPhotoshopThumbnail,
} from "./metadata.js";

/** Formats that the page writes: extension, MIME type and name. */
const WRITTEN = { jpeg: ["jpg", "image/jpeg"], png: ["png", "image/png"], webp: ["webp", "image/webp"], bmp: ["bmp", "image/bmp"] };
export const NAMES = { jpeg: "JPEG", png: "PNG", webp: "WebP", bmp: "BMP", tiff: "TIFF", avif: "AVIF", heic: "HEIC", gif: "GIF" };

function formatOf(bytes) {
  const head = text(bytes, 0, 4);
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return "jpeg";
  if (head === "\x89PNG") return "png";
  if (head === "RIFF" && text(bytes, 8, 4) === "WEBP") return "webp";
  if (head.startsWith("BM")) return "bmp";
  if (["II*\0", "MM\0*", "II+\0", "MM\0+"].includes(head)) return "tiff";
  if (head === "GIF8") return "gif";
  if (text(bytes, 4, 4) === "ftyp") {
    const brands = text(bytes, 8, viewOf(bytes).getUint32(0) - 8);
    return ["avif", "avis"].some((brand) => brands.includes(brand)) ? "avif" : "heic";
  }
  return "";
}

/**
 * Read a file's header.
 *
 * @returns format ("" if it is none of a photo), orientation (of EXIF, 1 to 8), bits a sample, grey, animated, complete
 *   (whether the file reaches its end), width and height where the header has them in a known place, notes, toSrgb
 *   (whether the colours are to be converted, because the written file cannot have their profile), and what writing the
 *   same kind of file takes.
 */
export function inspect(bytes) {
  const format = formatOf(bytes);
  const found = { format, orientation: 1, bits: 8, grey: false, animated: false, lossless: true, complete: true, kept: [], notes: [] };
  try {
    ({ jpeg: readJpeg, png: readPng, webp: readWebp, bmp: readBmp, avif: readAvif, gif: readGif }[format] ?? (() => {}))(bytes, found);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // a cut header, which the browser's decoder judges
  }
  // A canvas writes colours, for which a profile of grey or of inks would be wrong.
  found.toSrgb = !(format in WRITTEN) || (format === "jpeg" && Boolean(found.grey || found.ink));
  return found;
}

/** Return the colour space in which canvases show a photo; none of them knows other profiles than sRGB and Display P3. */
export async function shownIn({ format, kept: pieces, toSrgb }) {
  if (toSrgb) return "srgb";
  if (format === "png") {
    const packed = pieces.find(({ name }) => name === "iCCP")?.body;
    if (!packed) return "srgb";
    const stream = new Blob([packed.subarray(packed.indexOf(0) + 2)]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).arrayBuffer().then((profile) => spaceOf(new Uint8Array(profile)), () => "srgb");
  }
  const parts = pieces.filter(({ name }) => name === "ICCP" || name === "ICC_").map(({ body }) => body);
  if (format === "jpeg") parts.sort((a, b) => a[12] - b[12]); // numbered, behind a name
  return spaceOf(joined(parts.map((part) => (format === "jpeg" ? part.subarray(14) : part))));
}

const [XMP, PHOTOSHOP] = ["http://ns.adobe.com/xap/1.0/\0", "Photoshop 3.0\0"];
const NOT_SAVED = {
  video: "The file also holds a short video, which is not saved.",
  gainMap: "The file also holds a gain map for HDR displays, which is not saved, because it fits the original brightness only.",
  others: "The file also holds further pictures, such as a preview or a depth map, which are not saved.",
};

function readJpeg(bytes, found) {
  const view = viewOf(bytes);
  const holds = {};
  Object.assign(found, { lossless: false, quality: 0.92, complete: false });
  for (let i = 2; i + 4 <= bytes.length; ) {
    const marker = bytes[i + 1];
    // Decoders pass over stray bytes between segments, and over bytes that fill them.
    if (bytes[i] !== 0xff || marker === 0xff) {
      i += 1;
      continue;
    }
    if (marker <= 1 || (marker >= 0xd0 && marker <= 0xd8)) {
      i += 2; // markers without content
      continue;
    }
    if (marker === 0xda || marker === 0xd9) {
      for (let k = bytes.length - 2; k >= i && !found.complete; k--) found.complete = bytes[k] === 0xff && bytes[k + 1] === 0xd9;
      // Samsung's phones attach a video under this name.
      holds.video ||= hasWord(bytes, "MotionPhoto_Data", Math.max(i, bytes.length - 2 ** 26));
      break;
    }
    const length = view.getUint16(i + 2);
    const body = bytes.subarray(i + 4, i + 2 + length);
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      found.bits = body[0];
      [found.height, found.width] = [view.getUint16(i + 5), view.getUint16(i + 7)];
      found.grey = body[5] === 1;
      found.ink = body[5] === 4;
      // Whether colours have the full resolution (4:4:4): all components have the same sampling factors.
      found.full = body[5] === 3 && body[7] === body[10] && body[7] === body[13];
    } else if (marker === 0xdb && (body[0] & 15) === 0) {
      found.quality = jpegQuality(body);
    } else if ((marker > 0xe0 && marker < 0xee) || marker === 0xef || marker === 0xfe) {
      keepSegment(marker, body, found, holds);
    }
    i += 2 + length;
  }
  if (holds.video) found.notes.push(NOT_SAVED.video);
  if (holds.gainMap) found.notes.push(NOT_SAVED.gainMap);
  else if (holds.others) found.notes.push(NOT_SAVED.others);
  mendPhotoshop(found);
}

function keepSegment(marker, body, found, holds) {
  const name = text(body, 0, 4);
  // The index of further pictures would point to nothing; neither would a gain map or residuals fit the pixels.
  if (marker === 0xe2 && name === "MPF\0") holds.others = true;
  else if (marker === 0xe2 && text(body, 0, 28) === "urn:iso:std:iso:ts:21496:-1\0") holds.gainMap = true;
  else if (marker === 0xeb && name.startsWith("JP")) return;
  else if (marker === 0xe1 && text(body, 0, XMP.length) === XMP) {
    const { data, video, gainMap } = ofPictureAlone(body);
    holds.video ||= video;
    holds.gainMap ||= gainMap;
    found.kept.push({ marker, body: data, name });
  } else {
    if (name === "Exif" && !found.kept.some((other) => other.name === "Exif")) found.orientation = orientationOf(body.subarray(6));
    found.kept.push({ marker, body, name });
  }
}

/** Remove the thumbnail from Photoshop's resources, which may be spread over several segments. */
function mendPhotoshop(found) {
  const isOne = ({ marker, body }) => marker === 0xed && text(body, 0, PHOTOSHOP.length) === PHOTOSHOP;
  const whole = joined(found.kept.filter(isOne).map(({ body }) => body.subarray(PHOTOSHOP.length)));
  const rest = withoutPhotoshopThumbnail(whole);
  if (rest.length === whole.length) return;
  found.kept = found.kept.filter((segment) => !isOne(segment));
  const room = 65_533 - PHOTOSHOP.length;
  for (let i = 0; i < rest.length; i += room) {
    found.kept.push({ marker: 0xed, body: joined([bytesOf(PHOTOSHOP), rest.subarray(i, i + room)]), name: "Phot" });
  }
}

// Table K.1 of the JPEG standard in zigzag order, which encoders scale by quality.
const LUMINANCE = [
  16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60,
  57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103, 104, 103, 62, 77, 113, 121, 112,
  100, 120, 92, 101, 103, 99,
];

/** Return the quality, from 0.01 to 1, whose table is nearest to a file's first quantisation table. */
function jpegQuality(body) {
  const wide = body[0] >> 4;
  const table = LUMINANCE.map((_, i) => (wide ? 256 * body[1 + 2 * i] + body[2 + 2 * i] : body[1 + i]));
  let [best, least] = [92, Infinity];
  for (let quality = 1; quality <= 100; quality++) {
    const scale = quality < 50 ? 5000 / quality : 200 - 2 * quality;
    const off = table.reduce((sum, value, i) => {
      return sum + Math.abs(value - Math.min(Math.max(Math.floor((LUMINANCE[i] * scale + 50) / 100), 1), 255));
    }, 0);
    if (off < least) [best, least] = [quality, off];
  }
  return best / 100;
}

function* pngChunks(bytes) {
  const view = viewOf(bytes);
  for (let i = 8; i + 12 <= bytes.length; ) {
    const length = view.getUint32(i);
    yield { name: text(bytes, i + 4, 4), body: bytes.subarray(i + 8, i + 8 + length) };
    i += 12 + length;
  }
}

// Chunks that describe pixels which are stored in another way: palettes, and what belongs to one of 16 bits.
const OF_PIXELS = ["IHDR", "PLTE", "tRNS", "IDAT", "IEND", "hIST", "sPLT", "bKGD", "sBIT", "acTL", "fcTL", "fdAT"];

function readPng(bytes, found) {
  found.complete = false;
  for (const { name, body } of pngChunks(bytes)) {
    if (name === "IHDR") {
      [found.width, found.height] = [viewOf(body).getUint32(0), viewOf(body).getUint32(4)];
      found.bits = body[8];
      found.grey = body[9] === 0 || body[9] === 4;
    }
    if (name === "IEND") found.complete = true;
    if (name === "acTL") found.animated = true;
    if (name === "eXIf") found.orientation = orientationOf(body);
    if (!OF_PIXELS.includes(name)) found.kept.push({ name, body });
  }
}

function* riffChunks(bytes) {
  const view = viewOf(bytes);
  for (let i = 12; i + 8 <= bytes.length; ) {
    const length = view.getUint32(i + 4, true);
    yield { name: text(bytes, i, 4), body: bytes.subarray(i + 8, i + 8 + length) };
    i += 8 + length + (length % 2);
  }
}

function readWebp(bytes, found) {
  found.lossless = false;
  found.complete = viewOf(bytes).getUint32(4, true) + 8 <= bytes.length;
  for (const { name, body } of riffChunks(bytes)) {
    if (name === "VP8L") found.lossless = true;
    if (name === "ANIM") found.animated = true;
    if (name === "EXIF") found.orientation = orientationOf(body);
    if (["ICCP", "EXIF", "XMP "].includes(name)) found.kept.push({ name, body });
  }
  found.quality = found.lossless ? 1 : 0.9;
}

function readBmp(bytes, found) {
  found.width = viewOf(bytes).getInt32(18, true);
  found.height = Math.abs(viewOf(bytes).getInt32(22, true));
  // Headers of versions 4 and 5 describe the colours, and version 5 may have a profile.
  const size = viewOf(bytes).getUint32(14, true);
  if (![108, 124].includes(size)) return;
  const kind = text(bytes, 70, 4);
  if (size === 124 && ["DEBM", "KNIL"].includes(kind)) {
    const [start, length] = [viewOf(bytes).getUint32(126, true), viewOf(bytes).getUint32(130, true)];
    const profile = bytes.subarray(14 + start, 14 + start + length);
    if (kind === "KNIL" || !length || profile.length !== length) {
      const why = kind === "KNIL" ? "is in another file" : "is damaged";
      found.notes.push(`The colour profile is not saved, because it ${why}.`);
      return;
    }
    found.kept.push({ name: "ICCP", body: profile });
  }
  if (kind !== "BGRs") found.colours = bytes.subarray(70, size === 108 ? 122 : 126);
}

/** Whether a GIF has more than one picture; a block that says how often to repeat them stands in still ones, too. */
function hasTwoFrames(bytes) {
  const table = (flags) => (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0); // bytes of a table of colours
  let i = 13 + table(bytes[10]);
  let frames = 0;
  while (frames < 2 && (bytes[i] === 0x21 || bytes[i] === 0x2c)) {
    if (bytes[i] === 0x21) i += 2;
    else {
      frames++;
      i += 11 + table(bytes[i + 9]);
    }
    while (bytes[i]) i += bytes[i] + 1;
    i++;
  }
  return frames > 1;
}

function readGif(bytes, found) {
  [found.width, found.height] = [viewOf(bytes).getUint16(6, true), viewOf(bytes).getUint16(8, true)];
  found.animated = hasTwoFrames(bytes);
}

function readAvif(bytes, found) {
  found.lossless = false;
  found.animated = text(bytes, 8, 4) === "avis";
  const head = text(bytes, 0, Math.min(bytes.length, 4096));
  const place = head.indexOf("av1C");
  const flags = place < 0 ? 0 : bytes[place + 6];
  if (flags & 0x40) found.bits = flags & 0x20 ? 12 : 10;
}

/** Return a copy of a file in which the EXIF orientation is 1, so that browsers decode the pixels as stored. */
export function asStored(bytes, { format, kept, orientation }) {
  if (orientation === 1) return bytes;
  const copy = bytes.slice();
  for (const { name, body } of kept) {
    if (!["Exif", "eXIf", "EXIF"].includes(name)) continue;
    const exif = copy.subarray(body.byteOffset - bytes.byteOffset, body.byteOffset - bytes.byteOffset + body.length);
    const places = exifPlaces(exif);
    if (places.orientation) places.view.setUint16(places.orientation, 1, places.little);
    if (format === "png") viewOf(copy).setUint32(body.byteOffset - bytes.byteOffset + body.length, crc(copy, body.byteOffset - bytes.byteOffset - 4, body.length + 4));
  }
  return copy;
}

/** Return what is written of a piece of metadata. */
function kept({ name, body }) {
  if (["Exif", "eXIf", "EXIF"].includes(name)) return withoutExifThumbnail(body);
  return name === "XMP " ? ofPictureAlone(body).data : body;
}

/**
 * Encode a photo.
 *
 * @param pixels {data: RGBA, width, height}, as stored
 * @param header from inspect
 * @returns {blob, extension, notes}
 */
export async function encode(pixels, header) {
  const notes = [];
  const translucent = hasAlpha(pixels.data);
  let format = header.format in WRITTEN ? header.format : "png";
  if (format === "bmp" && translucent) format = "png";
  let blob = null;
  if (format === "jpeg") {
    const quality = header.full ? await fullColourQuality(header.quality) : header.quality;
    if (!quality) notes.push("This browser writes JPEG with a quarter of the photo's colour resolution only.");
    blob = withJpegMetadata(await byBrowser(pixels, "image/jpeg", quality ?? header.quality), header, notes);
  }
  if (format === "webp") {
    blob = await byBrowser(pixels, "image/webp", header.quality, translucent);
    if (blob.type === "image/webp") blob = await withWebpMetadata(blob, header, pixels, translucent);
    else format = "png";
  }
  if (format === "bmp") blob = encodeBmp(pixels, header);
  if (format === "png") blob = await encodePng(pixels, header, translucent);
  if (format !== header.format) {
    const kind = NAMES[header.format] ?? "this format";
    notes.push(
      header.format === "bmp" ? "The page writes BMP without transparency, so the photo is saved as PNG."
      : header.format === "webp" ? "This browser cannot write WebP, so the photo is saved as PNG."
      : `The page cannot write ${kind}, so the photo is saved as PNG in sRGB, without its metadata.`,
    );
  }
  return { blob: await blob, extension: WRITTEN[format][0], notes };
}

function hasAlpha(data) {
  for (let i = 3; i < data.length; i += 4) if (data[i] !== 255) return true;
  return false;
}

async function byBrowser({ data, width, height }, type, quality, translucent = false) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  // A 2D canvas would round the colours of translucent pixels.
  const context = canvas.getContext(translucent ? "bitmaprenderer" : "2d");
  if (!context) throw new Error("This browser has no memory for a photo of this size.");
  const image = new ImageData(data, width, height);
  if (translucent) context.transferFromImageBitmap(await createImageBitmap(image, { premultiplyAlpha: "none", colorSpaceConversion: "none" }));
  else context.putImageData(image, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, type, quality));
  Object.assign(canvas, { width: 0, height: 0 }); // frees the memory at once
  if (!blob) throw new Error("This browser cannot write a photo of this size.");
  return blob;
}

async function withJpegMetadata(blob, header, notes) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const parts = [bytes.subarray(0, 2)];
  for (const segment of header.kept) {
    if (segment.name === "ICC_" && header.toSrgb) continue;
    const body = kept(segment);
    parts.push(Uint8Array.of(0xff, segment.marker, (body.length + 2) >> 8, (body.length + 2) & 255), body);
  }
  if (header.ink) notes.push("The photo was made for print (CMYK) and is saved in RGB.");
  let i = 2;
  while (bytes[i] === 0xff && bytes[i + 1] >= 0xe0 && bytes[i + 1] <= 0xef) {
    const length = 2 + viewOf(bytes).getUint16(i + 2);
    if (bytes[i + 1] === 0xe0) parts.splice(1, 0, bytes.subarray(i, i + length)); // JFIF stands first
    i += length;
  }
  return new Blob([...parts, bytes.subarray(i)], { type: "image/jpeg" });
}

async function withWebpMetadata(blob, header, { width, height }, translucent) {
  if (!header.kept.length) return blob;
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const image = [...riffChunks(bytes)].filter(({ name }) => ["ALPH", "VP8 ", "VP8L"].includes(name));
  const extended = new Uint8Array(10);
  const flags = { ICCP: 0x20, EXIF: 0x08, "XMP ": 0x04 };
  for (const { name } of header.kept) extended[0] |= flags[name];
  if (translucent) extended[0] |= 0x10;
  [width - 1, height - 1].forEach((side, n) => {
    for (let k = 0; k < 3; k++) extended[4 + 3 * n + k] = (side >> (8 * k)) & 255;
  });
  const profile = header.kept.filter(({ name }) => name === "ICCP");
  const others = header.kept.filter(({ name }) => name !== "ICCP");
  const chunks = [{ name: "VP8X", body: extended }, ...profile, ...image, ...others];
  const parts = chunks.flatMap((chunk) => {
    const body = kept(chunk);
    const head = new Uint8Array(8);
    head.set(bytesOf(chunk.name));
    viewOf(head).setUint32(4, body.length, true);
    return [head, body, new Uint8Array(body.length % 2)];
  });
  const head = new Uint8Array(12);
  head.set(bytesOf("RIFF\0\0\0\0WEBP"));
  viewOf(head).setUint32(4, 4 + parts.reduce((sum, part) => sum + part.length, 0), true);
  return new Blob([head, ...parts], { type: "image/webp" });
}

function encodeBmp({ data, width, height }, { colours, kept: pieces }) {
  const stride = Math.ceil((3 * width) / 4) * 4;
  // The header of version 3 does not describe colours.
  const size = !colours ? 40 : colours.length === 52 ? 108 : 124;
  const profile = size === 124 && pieces.length ? pieces[0].body : new Uint8Array(0);
  const start = 14 + size;
  const bytes = new Uint8Array(start + stride * height + profile.length);
  const view = viewOf(bytes);
  bytes.set([0x42, 0x4d]);
  view.setUint32(2, bytes.length, true);
  view.setUint32(10, start, true);
  view.setUint32(14, size, true);
  view.setInt32(18, width, true);
  view.setInt32(22, height, true);
  view.setUint16(26, 1, true);
  view.setUint16(28, 24, true);
  view.setUint32(34, stride * height, true);
  if (colours) bytes.set(colours, 70);
  if (profile.length) {
    view.setUint32(126, size + stride * height, true);
    view.setUint32(130, profile.length, true);
    bytes.set(profile, start + stride * height);
  }
  for (let y = 0; y < height; y++) {
    let to = start + (height - 1 - y) * stride;
    for (let from = 4 * y * width, end = from + 4 * width; from < end; from += 4, to += 3) {
      bytes[to] = data[from + 2];
      bytes[to + 1] = data[from + 1];
      bytes[to + 2] = data[from];
    }
  }
  return new Blob([bytes], { type: "image/bmp" });
}

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc(bytes, start, length, value = 0xffffffff) {
  for (let i = start; i < start + length; i++) value = CRC[(value ^ bytes[i]) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

function pngChunk(name, body) {
  const chunk = new Uint8Array(12 + body.length);
  const view = viewOf(chunk);
  view.setUint32(0, body.length);
  chunk.set(bytesOf(name), 4);
  chunk.set(body, 8);
  view.setUint32(8 + body.length, crc(chunk, 4, 4 + body.length));
  return chunk;
}

/** Return the least quality from this one on at which the browser writes colours at their full resolution, or null. */
async function fullColourQuality(least) {
  const side = 16;
  const grey = { data: new Uint8ClampedArray(4 * side * side).fill(128), width: side, height: side };
  for (const quality of [least, 0.9, 0.95, 1].filter((one) => one >= least)) {
    const blob = await byBrowser(grey, "image/jpeg", quality);
    if (inspect(new Uint8Array(await blob.arrayBuffer())).full) return quality;
  }
  return null;
}

/** Return the metadata of another format as chunks of PNG. */
async function asChunks(header) {
  const chunks = [];
  for (const piece of header.kept) {
    const body = kept(piece);
    if (piece.name === "ICCP") {
      const packed = new Blob([body]).stream().pipeThrough(new CompressionStream("deflate"));
      chunks.push({ name: "iCCP", body: joined([bytesOf("ICC profile\0\0"), new Uint8Array(await new Response(packed).arrayBuffer())]) });
    }
    if (piece.name === "EXIF") chunks.push({ name: "eXIf", body: text(body, 0, 4) === "Exif" ? body.subarray(6) : body });
    if (piece.name === "XMP ") chunks.push({ name: "iTXt", body: joined([bytesOf("XML:com.adobe.xmp\0\0\0\0\0"), body]) });
  }
  return chunks;
}

/** Encode a PNG exactly; a canvas would round the colours of translucent pixels. */
async function encodePng(pixels, header, translucent) {
  const { width, height } = pixels;
  const grey = header.grey && header.format === "png";
  const body = new Uint8Array(13);
  viewOf(body).setUint32(0, width);
  viewOf(body).setUint32(4, height);
  body.set([8, (grey ? 0 : 2) + (translucent ? 4 : 0)], 8);
  const own = header.format === "png" ? header.kept : header.toSrgb ? [] : await asChunks(header);
  const parts = [Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a), pngChunk("IHDR", body)];
  for (const chunk of own) parts.push(pngChunk(chunk.name, kept(chunk)));
  for await (const packed of deflated(pixels, grey, translucent)) parts.push(pngChunk("IDAT", packed));
  parts.push(pngChunk("IEND", new Uint8Array(0)));
  return new Blob(parts, { type: "image/png" });
}

async function* deflated(pixels, grey, translucent) {
  const packing = new CompressionStream("deflate");
  const writer = packing.writable.getWriter();
  const writing = (async () => {
    for (const rows of filteredRows(pixels, grey, translucent)) await writer.write(rows);
    await writer.close();
  })();
  for (const reader = packing.readable.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    yield value;
  }
  await writing;
}

/** Yield rows in the filter, Sub, Up or Paeth, whose differences are least, as the PNG specification advises. */
function* filteredRows({ data, width, height }, grey, translucent) {
  const places = grey ? [0] : [0, 1, 2];
  if (translucent) places.push(3);
  const n = places.length;
  let [row, above] = [new Uint8Array(n * width), new Uint8Array(n * width)];
  const tries = [1, 2, 4].map((filter) => ({ filter, bytes: new Uint8Array(n * width) }));
  const batch = Math.max(1, Math.floor(1e6 / (n * width)));
  for (let y = 0; y < height; y += batch) {
    const rows = Math.min(batch, height - y);
    const out = new Uint8Array(rows * (1 + n * width));
    for (let k = 0; k < rows; k++) {
      for (let x = 0, from = 4 * (y + k) * width, to = 0; x < width; x++, from += 4) {
        for (let c = 0; c < n; c++) row[to++] = data[from + places[c]];
      }
      let [best, least] = [null, Infinity];
      for (const own of tries) {
        const total = filterRow(own.filter, row, above, n, own.bytes);
        if (total < least) [best, least] = [own, total];
      }
      out[k * (1 + n * width)] = best.filter;
      out.set(best.bytes, k * (1 + n * width) + 1);
      [row, above] = [above, row];
    }
    yield out;
  }
}

function filterRow(filter, row, above, n, out) {
  let total = 0;
  for (let i = 0; i < row.length; i++) {
    const [left, up, corner] = i < n ? [0, above[i], 0] : [row[i - n], above[i], above[i - n]];
    let guess = filter === 1 ? left : up;
    if (filter === 4) {
      const [a, b, c] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
      guess = a <= b && a <= c ? left : b <= c ? up : corner;
    }
    out[i] = row[i] - guess;
    total += out[i] < 128 ? out[i] : 256 - out[i];
  }
  return total;
}
