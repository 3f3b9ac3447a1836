// From an image to the mask, in a browser: the same numbers as the other programs of this folder.

const MOST_THREADS = 4, BAND_ROWS = 32;

export async function load(home) {
  const network = await (await fetch(new URL("network.json", home))).json();
  const litert = await import("@litertjs/core");
  // Threads need shared memory, which a browser gives to isolated pages alone: see serve.py.
  const threads = globalThis.crossOriginIsolated === true;
  await litert.loadLiteRt(new URL("node_modules/@litertjs/core/wasm/", import.meta.url).href, {threads});
  const file = new Uint8Array(await (await fetch(new URL(network.browser.file, home))).arrayBuffer());
  const numThreads = threads ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
  const model = await litert.loadAndCompile(file, {accelerator: "wasm", cpuOptions: {numThreads}});
  return new Network(network, litert, model);
}

export class Network {
  constructor(description, litert, model) {
    Object.assign(this, {description, litert, model});
  }

  // {width, height, rgb: Uint8Array} → the output as the .tflite file gives it: a typed array of its own type.
  async infer(image) {
    const {input, output, browser} = this.description;
    const fitted = resized(image, input.height, input.width).rgb;
    const values = browser.input === "float32" ? Float32Array.from(fitted, (raw) => raw * SCALE) : fitted;
    const tensor = new this.litert.Tensor(values, [1, input.height, input.width, 3]);
    const [made] = await this.model.run(tensor);
    const there = made.accelerator === "wasm" ? made : await made.moveTo("wasm");
    const given = there.toTypedArray().slice();
    there.delete();
    tensor.delete?.();
    if (output.dtype !== "int8") return given;
    // LiteRT.js has no arrays of int8: the file for browsers ends in one op that makes reals of them.
    return Int8Array.from(given, (real) => Math.round(real / output.scale + output.zero_point));
  }

  mask(output, height, width) {
    return toMask(output, this.description, height, width);
  }
}

const SCALE = Math.fround(1 / 255);

// Pillow's bilinear resize, which averages over all pixels when it shrinks; weights of 22 bits.
const ONE = 1 << 22;

function weightsOf(from, to) {
  const scale = from / to, widened = Math.max(scale, 1), all = [];
  for (let i = 0; i < to; i++) {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - widened + 0.5));
    const last = Math.min(from, Math.trunc(centre + widened + 0.5));
    const values = [];
    for (let j = first; j < last; j++) values.push(Math.max(0, 1 - Math.abs((j - centre + 0.5) * (1 / widened))));
    const sum = values.reduce((a, b) => a + b, 0);
    all.push({first, values: values.map((value) => Math.trunc(0.5 + (sum ? value / sum : value) * ONE))});
  }
  return all;
}

const clipped = (sum) => Math.min(255, Math.max(0, Math.floor(sum / ONE)));

function withWidth({width, height, rgb}, to) {
  if (width === to) return {width, height, rgb};
  const out = new Uint8Array(height * to * 3), weights = weightsOf(width, to);
  for (let y = 0, at = 0; y < height; y++)
    for (let x = 0; x < to; x++) {
      const {first, values} = weights[x];
      for (let c = 0; c < 3; c++, at++) {
        let sum = ONE / 2;
        for (let k = 0; k < values.length; k++) sum += rgb[(y * width + first + k) * 3 + c] * values[k];
        out[at] = clipped(sum);
      }
    }
  return {width: to, height, rgb: out};
}

function withHeight({width, height, rgb}, to) {
  if (height === to) return {width, height, rgb};
  const line = width * 3, out = new Uint8Array(to * line), weights = weightsOf(height, to);
  for (let y = 0; y < to; y++) {
    const {first, values} = weights[y];
    for (let i = 0; i < line; i++) {
      let sum = ONE / 2;
      for (let k = 0; k < values.length; k++) sum += rgb[(first + k) * line + i] * values[k];
      out[y * line + i] = clipped(sum);
    }
  }
  return {width, height: to, rgb: out};
}

// The values between the passes are rounded, so that their order counts: it is that of Pillow 13.
export function resized(image, height, width) {
  const lower = image.height - height, narrower = image.width - width;
  if (lower > 0 && lower > 2 * narrower) return withWidth(withHeight(image, height), width);
  return withHeight(withWidth(image, width), height);
}

// Along one axis: the sample before each pixel, the one behind it, and the latter's share as a fraction.
function axis(samples, pixels, resize) {
  const low = new Int32Array(pixels), high = new Int32Array(pixels), share = new Float64Array(pixels);
  const half = resize === "half_pixel";
  const den = half ? 2 * pixels : Math.max(1, pixels - 1);
  for (let i = 0; i < pixels; i++) {
    const place = half
      ? Math.min(Math.max((2 * i + 1) * samples - pixels, 0), (samples - 1) * den)
      : i * (pixels > 1 ? samples - 1 : 0);
    low[i] = Math.floor(place / den);
    high[i] = Math.min(low[i] + 1, samples - 1);
    share[i] = place % den;
  }
  return {low, high, share, den};
}

// The class with the largest value of each sample, the lowest on ties.
function winners(values, samples, classes) {
  const best = new Uint8Array(samples);
  for (let i = 0; i < samples; i++)
    for (let c = 1; c < classes; c++) if (values[i * classes + c] > values[i * classes + best[i]]) best[i] = c;
  return best;
}

// int8 → class ids: bilinear in whole numbers, which doubles hold, then the largest, the lowest class on ties.
// Where the four samples around a pixel have one winner, it is the pixel's, too, and nothing is computed.
function exactMask(output, rows, columns, classes, height, width, resize) {
  const down = axis(rows, height, resize), across = axis(columns, width, resize);
  const won = winners(output, rows * columns, classes), mask = new Uint8Array(height * width);
  for (let y = 0, at = 0; y < height; y++) {
    const top = down.low[y] * columns, bottom = down.high[y] * columns, below = down.share[y], above = down.den - below;
    for (let x = 0; x < width; x++, at++) {
      const left = across.low[x], right = across.high[x], winner = won[top + left];
      if (winner === won[top + right] && winner === won[bottom + left] && winner === won[bottom + right]) {
        mask[at] = winner;
        continue;
      }
      const beside = across.share[x], before = across.den - beside;
      let best = -Infinity;
      for (let c = 0; c < classes; c++) {
        const upper = output[(top + left) * classes + c] * before + output[(top + right) * classes + c] * beside;
        const lower = output[(bottom + left) * classes + c] * before + output[(bottom + right) * classes + c] * beside;
        const value = upper * above + lower * below;
        if (value > best) {
          best = value;
          mask[at] = c;
        }
      }
    }
  }
  return mask;
}

// Rows begin to end of the result, in float32: along columns first, then along rows.
function interpolated(values, from, to, classes, resize, begin = 0, end = to.height) {
  const {fround} = Math, line = from.width * classes, count = end - begin;
  let rows = values.subarray(begin * line, end * line);
  if (from.height !== to.height) {
    const {low, high, share, den} = axis(from.height, to.height, resize);
    rows = new Float32Array(count * line);
    for (let y = 0; y < count; y++) {
      const part = fround(share[begin + y] / den), rest = fround(1 - part);
      const top = low[begin + y] * line, bottom = high[begin + y] * line;
      for (let i = 0; i < line; i++)
        rows[y * line + i] = fround(values[top + i] * rest) + fround(values[bottom + i] * part);
    }
  }
  if (from.width === to.width) return rows;
  const {low, high, share, den} = axis(from.width, to.width, resize);
  const out = new Float32Array(count * to.width * classes);
  for (let x = 0; x < to.width; x++) {
    const part = fround(share[x] / den), rest = fround(1 - part);
    for (let y = 0; y < count; y++)
      for (let c = 0; c < classes; c++)
        out[(y * to.width + x) * classes + c] =
          fround(rows[y * line + low[x] * classes + c] * rest) + fround(rows[y * line + high[x] * classes + c] * part);
  }
  return out;
}

function nearest(values, from, to, resize) {
  const down = axis(from.height, to.height, resize), across = axis(from.width, to.width, resize);
  const at = ({low, high, share, den}, i) => (2 * share[i] >= den ? high[i] : low[i]);
  const out = new Uint8Array(to.height * to.width);
  for (let y = 0; y < to.height; y++)
    for (let x = 0; x < to.width; x++) out[y * to.width + x] = values[at(down, y) * from.width + at(across, x)];
  return out;
}

export function toMask(output, {input, output: made, classes}, height, width) {
  const image = {height, width, resize: "half_pixel"}, count = classes.length;
  const steps = made.height === input.height && made.width === input.width ? [image] : [{...input, resize: made.resize}, image];
  let size = {height: made.height, width: made.width}, values = output;
  if (made.kind === "mask") {
    for (const step of steps) {
      values = nearest(values, size, step, step.resize);
      size = step;
    }
    return values;
  }
  if (made.dtype === "int8" && steps[0].height === height && steps[0].width === width)
    return exactMask(output, size.height, size.width, count, height, width, steps[0].resize);
  for (const step of steps.slice(0, -1)) {
    values = interpolated(values, size, step, count, step.resize);
    size = step;
  }
  const mask = new Uint8Array(height * width);
  for (let begin = 0; begin < height; begin += BAND_ROWS) {  // the whole would not fit the memory for a large photo
    const end = Math.min(begin + BAND_ROWS, height);
    const band = interpolated(values, size, image, count, image.resize, begin, end);
    mask.set(winners(band, (end - begin) * width, count), begin * width);
  }
  return mask;
}

// Whether the file gives the golden output here, and this program the golden mask of the golden image.
export async function check(network, home, pixelsOf) {
  const {golden, output: made} = network.description;
  const get = async (name) => (await fetch(new URL(`golden/${name}`, home))).arrayBuffer();
  const image = await pixelsOf(new Blob([await get("image.png")], {type: "image/png"}));
  const output = await network.infer(image);
  const expected = new output.constructor(await get("output.bin"));
  const mask = network.mask(output, image.height, image.width);
  const expectedMask = new Uint8Array(await get("mask.pgm")).slice(-image.height * image.width);
  const same = mask.reduce((count, id, i) => count + (id === expectedMask[i]), 0) / expectedMask.length;
  let text, passed;
  if (made.dtype === "float32") {
    const difference = output.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i])), 0);
    passed = difference <= golden.tolerance && same >= golden.least_equal_pixels;
    text = `golden output differs by at most ${difference.toPrecision(3)} (${golden.tolerance.toPrecision(3)} is allowed)`;
  } else {
    const equal = output.reduce((count, value, i) => count + (value === expected[i]), 0);
    passed = equal === expected.length && output.length === expected.length && same === 1;
    text = `${equal} of ${expected.length} golden values are equal`;
  }
  return {passed, text: `${passed ? "PASSED" : "FAILED"}: ${text}; ${(100 * same).toFixed(4)} % of the golden mask's pixels are equal`};
}
