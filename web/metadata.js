// What photo files hold besides their pixels: EXIF, XMP, Photoshop's resources, and ICC profiles.
// References: kdlib/enhance/photos/formats/{exif,xmp,photoshop}.py.

export const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Return bytes as a string with one character for each, in parts because functions take a limited number of values. */
export function text(bytes, start = 0, length = bytes.length) {
  const parts = [];
  for (let i = start, end = Math.min(start + length, bytes.length); i < end; i += 8192) {
    parts.push(String.fromCharCode(...bytes.subarray(i, Math.min(i + 8192, end))));
  }
  return parts.join("");
}

export const bytesOf = (letters) => Uint8Array.from(letters, (letter) => letter.charCodeAt(0));

/** Whether a word stands in bytes at or behind a place; `text` would copy a whole photo to look for it. */
export function hasWord(bytes, word, start) {
  const wanted = bytesOf(word);
  for (let i = bytes.indexOf(wanted[0], start); i >= 0; i = bytes.indexOf(wanted[0], i + 1)) {
    if (wanted.every((byte, n) => bytes[i + n] === byte)) return true;
  }
  return false;
}

export function joined(parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    all.set(part, place);
    place += part.length;
  }
  return all;
}

// ICC

// The primaries of Display P3, adapted to the white of profiles.
const DISPLAY_P3 = { rXYZ: [0.5151, 0.2412, -0.0011], gXYZ: [0.292, 0.6922, 0.0419], bXYZ: [0.1571, 0.0666, 0.7841] };

/** Return the colour space of a profile, "display-p3" or "srgb": those that canvases have. */
export function spaceOf(profile) {
  const view = viewOf(profile);
  let same = 0;
  for (let i = 132; profile.length > 132 && i < 132 + 12 * view.getUint32(128) && i + 12 <= profile.length; i += 12) {
    const place = view.getUint32(i + 4) + 8;
    const wanted = DISPLAY_P3[text(profile, i, 4)];
    if (!wanted || place + 12 > profile.length) continue;
    if (wanted.every((value, n) => Math.abs(view.getInt32(place + 4 * n) / 65536 - value) < 0.002)) same += 1;
  }
  return same === 3 ? "display-p3" : "srgb";
}

// EXIF

/** Return the entries of a directory of an EXIF block, {tag: place of its value}, and where it links to the next one. */
function exifDirectory(view, directory, little) {
  const entries = view.getUint16(directory, little);
  const next = directory + 2 + 12 * entries;
  const places = {};
  for (let i = directory + 2; i < next; i += 12) places[view.getUint16(i, little)] = i + 8;
  return { places, next };
}

/** Return the first directory of an EXIF block. */
export function exifPlaces(exif) {
  const start = text(exif, 0, 4) === "Exif" ? 6 : 0;
  const view = viewOf(exif);
  const little = exif[start] === 0x49;
  const { places, next } = exifDirectory(view, start + view.getUint32(start + 4, little), little);
  return { view, start, little, orientation: places[0x0112], next };
}

export function orientationOf(exif) {
  try {
    const { view, little, orientation } = exifPlaces(exif);
    const value = orientation ? view.getUint16(orientation, little) : 1;
    return value >= 1 && value <= 8 ? value : 1;
  } catch {
    return 1;
  }
}

// Tags with the offset and the length of a thumbnail that is a JPEG, and of one that is stored in a single strip.
const THUMBNAILS = [[0x0201, 0x0202], [0x0111, 0x0117]];

/** Return an EXIF block without the embedded thumbnail, which would still show the dark photo; all else stays in place. */
export function withoutExifThumbnail(exif) {
  const copy = exif.slice();
  try {
    const { view, start, little, next } = exifPlaces(copy);
    const directory = view.getUint32(next, little);
    view.setUint32(next, 0);
    if (!directory) return copy;
    const { places } = exifDirectory(view, start + directory, little);
    for (const [offset, length] of THUMBNAILS) {
      if (!places[offset] || !places[length]) continue;
      const from = start + view.getUint32(places[offset], little);
      const to = from + view.getUint32(places[length], little);
      if (from >= next + 4 && to <= copy.length) copy.fill(0, from, to);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // the block is damaged
  }
  return copy;
}

// XMP

// Namespaces, whose prefixes a file may choose, with the usual prefix and the properties that describe an attachment.
const ATTACHED = [
  ["http://ns.google.com/photos/1.0/camera/", "GCamera", "MotionPhoto\\w{0,40}|MicroVideo\\w{0,40}"],
  ["http://ns.google.com/photos/1.0/container/", "Container", "Directory|Version"],
  ["http://ns.google.com/photos/dd/1.0/device/", "Device", "Container"],
  ["http://ns.adobe.com/hdr-gain-map/1.0/", "hdrgm", "Version|BaseRenditionIsHDR|GainMapM(?:in|ax)|Gamma|OffsetS?H?DR|HDRCapacityM(?:in|ax)"],
  ["http://ns.apple.com/HDRGainMap/1.0/", "HDRGainMap", "HDRGainMapVersion|HDRGainMapHeadroom"],
];
const literally = (words) => words.replace(/[.\-/]/g, "\\$&");

/** Remove the properties of XMP that announce a video, a gain map or other attached files; all else stays as it is. */
export function ofPictureAlone(data) {
  let xmp = text(data);
  const video = /(?:MotionPhoto|MicroVideo)\s*(?:=\s*["']\s*[1-9]|>\s*[1-9])/.test(xmp);
  const gainMap = /hdr-gain-map|hdrgm:|HDRGainMap|Semantic\s*=\s*["']GainMap/.test(xmp);
  for (const [namespace, usual, names] of ATTACHED) {
    const bound = xmp.matchAll(new RegExp(`xmlns:([\\w.-]+)\\s*=\\s*["']${literally(namespace)}["']`, "g"));
    for (const prefix of new Set([usual, ...[...bound].map(([, own]) => own)])) {
      const name = `${literally(prefix)}:(?:${names})`;
      xmp = withoutElements(xmp, new RegExp(`<(${name})(?=[\\s/>])[^<>]*>`, "g"));
      xmp = xmp.replace(new RegExp(`\\s${name}\\s*=\\s*(?:"[^"]*"|'[^']*')`, "g"), "");
    }
  }
  return { data: bytesOf(xmp), video, gainMap };
}

/** Remove the elements that begin with such a tag, with their content. */
function withoutElements(xmp, opening) {
  const [parts, unclosed] = [[], new Set()];
  let place = 0;
  for (const { 0: tag, 1: name, index } of xmp.matchAll(opening)) {
    if (index < place || unclosed.has(name)) continue;
    let end = index + tag.length;
    if (!tag.endsWith("/>")) {
      const close = new RegExp(`</${literally(name)}\\s*>`, "g");
      close.lastIndex = end;
      if (!close.test(xmp)) {
        unclosed.add(name); // looked for once only, because damaged data may hold thousands of such tags
        continue;
      }
      end = close.lastIndex;
    }
    parts.push(xmp.slice(place, index));
    place = end;
  }
  return parts.join("") + xmp.slice(place);
}

// Photoshop

const SIGNATURES = ["8BIM", "AgHg", "DCSR", "PHUT", "MeSa"];

/** Return Photoshop's resources without their thumbnails; resources that cannot be read are returned unchanged. */
export function withoutPhotoshopThumbnail(resources) {
  const view = viewOf(resources);
  const kept = [];
  for (let i = 0; i < resources.length; ) {
    let nameEnd = i + 7 + (resources[i + 6] ?? resources.length);
    nameEnd += (nameEnd - i) % 2;
    if (!SIGNATURES.includes(text(resources, i, 4)) || nameEnd + 4 > resources.length) {
      kept.push(resources.subarray(i)); // padding
      break;
    }
    const size = view.getUint32(nameEnd);
    if (nameEnd + 4 + size > resources.length) return resources;
    const end = nameEnd + 4 + size + (size % 2);
    if (![1033, 1036].includes(view.getUint16(i + 4))) kept.push(resources.subarray(i, end));
    i = end;
  }
  return joined(kept);
}
