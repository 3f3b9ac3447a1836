// The page: an image that is dropped or chosen, or the camera, and its mask over it.
import {check, load} from "./segment.js";

const home = new URL("../", location.href);
const $ = (id) => document.getElementById(id);
const canvas = $("picture"), brush = canvas.getContext("2d", {willReadFrequently: true});
let network, shown, stream;

// The pixels of an image file or a video's frame, upright, as they are: no colour management.
export async function pixelsOf(source) {
  const options = {colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image"};
  const bitmap = await createImageBitmap(source, source instanceof Blob ? options : {});
  const {width, height} = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const {data} = context.getImageData(0, 0, width, height);
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0, at = 0; i < data.length; i += 4) {
    rgb[at++] = data[i];
    rgb[at++] = data[i + 1];
    rgb[at++] = data[i + 2];
  }
  return {width, height, rgb};
}

async function segment(image) {
  const begin = performance.now();
  const mask = network.mask(await network.infer(image), image.height, image.width);
  shown = {image, mask, ms: performance.now() - begin};
  draw();
  return shown;
}

function draw() {
  if (!shown) return;
  const {image: {width, height, rgb}, mask, ms} = shown, {colours, classes} = network.description;
  const opacity = $("opacity").value / 100, picture = new ImageData(width, height), counts = new Array(classes.length).fill(0);
  for (let i = 0; i < mask.length; i++) {
    const colour = colours[mask[i]];
    counts[mask[i]]++;
    for (let c = 0; c < 3; c++) picture.data[i * 4 + c] = rgb[i * 3 + c] * (1 - opacity) + colour[c] * opacity;
    picture.data[i * 4 + 3] = 255;
  }
  [canvas.width, canvas.height, canvas.hidden] = [width, height, false];
  brush.putImageData(picture, 0, 0);
  $("status").textContent = `${width} × ${height} pixels in ${ms.toFixed(0)} ms`;
  [...$("legend").children].forEach((entry, i) => {
    entry.lastChild.textContent = ` ${(100 * counts[i] / mask.length).toFixed(1)} %`;
  });
}

// What the user gave last is what is shown: an answer that comes later than the next question is dropped.
let latest = 0;
async function show(file) {
  stop();
  const mine = ++latest;
  try {
    const image = await pixelsOf(file);
    if (mine === latest) await segment(image);
  } catch (error) {
    $("status").textContent = `${file.name ?? "This"} is no image that this browser can read (${error.message}).`;
  }
}

async function film() {
  if (stream) return stop();
  try {
    stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}});
  } catch (error) {
    $("status").textContent = `The camera cannot be used: ${error.message}. Pages need https or localhost for it.`;
    return;
  }
  const mine = stream, video = document.createElement("video");
  Object.assign(video, {srcObject: stream, muted: true, playsInline: true});
  $("camera").textContent = "Stop the camera";
  try {
    await video.play();
    if (stream === mine) latest++;
    while (stream === mine) {  // it may be stopped, or an image given, at any time
      const image = await pixelsOf(video);
      if (stream !== mine) break;
      await segment(image);
      window.segquant.frames++;
      await new Promise(requestAnimationFrame);
    }
  } catch (error) {
    if (stream === mine) {
      stop();
      $("status").textContent = `The camera stopped: ${error.message}`;
    }
  } finally {
    mine.getTracks().forEach((track) => track.stop());  // a second click meanwhile may have opened another
  }
}

function stop() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = undefined;
  $("camera").textContent = "Start the camera";
}

function describe({classes, colours, file, input}) {
  $("what").textContent = `${file} at ${input.width} × ${input.height}, by LiteRT.js in this browser. Images stay here.`;
  $("legend").replaceChildren(...classes.map((name, i) => {
    const entry = document.createElement("li"), swatch = document.createElement("span");
    swatch.style.background = `rgb(${colours[i].join(" ")})`;
    entry.append(swatch, name, document.createElement("small"));
    return entry;
  }));
}

async function start() {
  network = await load(home);
  describe(network.description);
  const golden = await check(network, home, pixelsOf);
  $("golden").textContent = `Golden check: ${golden.text}`;
  $("file").addEventListener("change", ({target}) => target.files[0] && show(target.files[0]));
  $("camera").addEventListener("click", film);
  $("opacity").addEventListener("input", draw);
  for (const [kind, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]])
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      $("drop").classList.toggle("over", over);
      if (kind === "drop" && event.dataTransfer.files[0]) show(event.dataTransfer.files[0]);
    });
  return golden;
}

// For programs that drive this page: the golden check, what is shown, and how many frames the camera gave.
window.segquant = {ready: start(), frames: 0, shown: () => shown};
window.segquant.ready.catch((error) => {
  $("golden").textContent = `The network cannot be loaded: ${error}. Run \`npm ci\` in this folder, and serve.py.`;
});
