"use strict";
// Makes a viewer of each set of pictures: two layers with a slider between them, or in turns. Without this script all
// pictures are there side by side; with it nothing is added but what is there already.

const BLINK_MS = 700;
const HIGHLIGHT = [213, 94, 0];  // vermilion of Okabe and Ito's palette

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in made && typeof value !== "string") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function labelled(text, control) {
  return element("label", {}, text, control);
}

function rgb(entry) {
  const colour = getComputedStyle(entry.querySelector(".swatch")).backgroundColor;
  return colour.match(/\d+/g).slice(0, 3).join();
}

const isolated = new Map();

// The pixels of one class alone, in a colour that everybody sees; the others let the image through.
function alone(mask, colour) {
  const key = `${colour} ${mask.src}`;
  if (!isolated.has(key)) {
    const canvas = element("canvas", {width: mask.naturalWidth, height: mask.naturalHeight});
    const context = canvas.getContext("2d");
    context.drawImage(mask, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height), data = pixels.data;
    const wanted = colour.split(",").map(Number);
    for (let i = 0; i < data.length; i += 4) {
      const inside = wanted.every((value, channel) => data[i + channel] === value);
      [data[i], data[i + 1], data[i + 2], data[i + 3]] = [...HIGHLIGHT, inside ? 255 : 0];
    }
    context.putImageData(pixels, 0, 0);
    isolated.set(key, canvas.toDataURL());
  }
  return isolated.get(key);
}

function viewer(block) {
  const articles = [...block.querySelectorAll("article.picture")];
  if (!articles.length) return;
  const image = element("select", {name: "image"});
  articles.forEach((article, i) => {
    image.append(element("option", {value: String(i)}, `${article.dataset.reasons}: ${article.dataset.name}`));
  });
  const left = element("select", {name: "left"}), right = element("select", {name: "right"});
  const split = element("input", {type: "range", name: "split", min: "0", max: "100", value: "50"});
  const opacity = element("input", {type: "range", name: "opacity", min: "0", max: "100", value: "75"});
  const only = element("select", {name: "only"}, element("option", {value: ""}, "all"));
  const blink = element("button", {type: "button", "aria-pressed": "false"}, "Blink");
  const [base, first, second] = [0, 1, 2].map(() => element("img", {alt: ""}));
  const line = element("div", {class: "line"});
  const tags = ["left", "right"].map((side) => element("span", {class: `tag ${side}`}));
  const stage = element("div", {class: "stage"}, base, first, second, line, ...tags);
  const readout = element("p", {class: "readout"}, "Move over the picture to read the classes of a pixel.");
  const box = element("div", {class: "viewer", role: "group", "aria-label": "Compare two pictures"},
    element("h4", {}, "Compare"),
    element("div", {class: "controls"}, labelled("Image", image), labelled("Left", left), labelled("Right", right),
      labelled("Class", only), labelled("Slider between them", split), labelled("Colours over the image", opacity), blink),
    stage, readout);
  let layers = [], timer = null, shown = 0;
  // Of two classes with one colour the first counts; a class may have a colour of the differences.
  const [classes, differences] = [...block.querySelectorAll(".legend")].map((legend) => {
    return new Map([...legend.querySelectorAll("li")].map((entry) => [rgb(entry), entry.textContent.trim()]).reverse());
  });
  for (const entry of block.querySelector(".legend").querySelectorAll("li")) {
    only.append(element("option", {value: rgb(entry)}, entry.textContent.trim()));
  }

  function choose() {
    const article = articles[image.value];
    layers = [...article.querySelectorAll("img")];
    const before = [left, right].map((side) => side.selectedOptions[0]?.textContent);
    const masks = layers.map((layer, i) => ({i, layer})).filter(({layer}) => layer.dataset.kind === "mask");
    [left, right].forEach((side, place) => {
      side.replaceChildren(...layers.map((layer, i) => {
        const what = layer.dataset.kind === "differences" ? `differences: ${layer.dataset.title}` : layer.dataset.title;
        return element("option", {value: String(i)}, what);
      }));
      const same = [...side.options].find((option) => option.textContent === before[place]);
      const usual = masks[Math.min(1 + place, masks.length - 1)];  // the first is the label
      side.value = same ? same.value : String(usual ? usual.i : 0);
    });
    base.src = layers[0].src;
    base.width = layers[0].width;
    base.height = layers[0].height;
    show();
  }

  function show() {
    [[first, left], [second, right]].forEach(([picture, side], place) => {
      const layer = layers[side.value];
      const mask = layer.dataset.kind === "mask";
      picture.src = mask && only.value ? alone(layer, only.value) : layer.src;
      picture.alt = layer.alt;
      picture.style.opacity = mask ? opacity.value / 100 : 1;
      tags[place].textContent = side.selectedOptions[0].textContent;
    });
    const at = Number(split.value), blinking = timer !== null;
    first.style.clipPath = blinking ? "none" : `inset(0 ${100 - at}% 0 0)`;
    second.style.clipPath = blinking ? "none" : `inset(0 0 0 ${at}%)`;
    first.style.visibility = blinking && shown === 1 ? "hidden" : "visible";
    second.style.visibility = blinking && shown === 0 ? "hidden" : "visible";
    tags[0].hidden = blinking && shown === 1;
    tags[1].hidden = blinking && shown === 0;
    line.hidden = blinking;
    line.style.left = `${at}%`;
  }

  function toggle() {
    if (timer === null) timer = setInterval(() => { shown = 1 - shown; show(); }, BLINK_MS);
    else { clearInterval(timer); timer = null; }
    blink.setAttribute("aria-pressed", String(timer !== null));
    show();
  }

  function read(event) {
    const place = stage.getBoundingClientRect();
    const [x, y] = [(event.clientX - place.left) / place.width, (event.clientY - place.top) / place.height];
    const found = layers.filter((layer) => layer.dataset.kind !== "image").map((layer) => {
      const canvas = element("canvas", {width: 1, height: 1});
      const context = canvas.getContext("2d", {willReadFrequently: true});
      const {naturalWidth: width, naturalHeight: height} = layer;
      context.drawImage(layer, Math.min(width - 1, Math.floor(x * width)), Math.min(height - 1, Math.floor(y * height)),
        1, 1, 0, 0, 1, 1);
      const colour = [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)].join();
      const names = layer.dataset.kind === "differences" ? differences : classes;
      return `${layer.dataset.title}: ${names.get(colour) ?? "unknown"}`;
    });
    readout.textContent = found.join(" · ");
  }

  function follow(event) {
    if (event.type === "pointerdown" || event.buttons) {
      const place = stage.getBoundingClientRect();
      split.value = 100 * (event.clientX - place.left) / place.width;
      show();
    }
    read(event);
  }

  image.addEventListener("change", choose);
  for (const control of [left, right, only]) control.addEventListener("change", show);
  for (const control of [split, opacity]) control.addEventListener("input", show);
  blink.addEventListener("click", toggle);
  stage.addEventListener("pointerdown", follow);
  stage.addEventListener("pointermove", follow);
  articles[0].before(box);
  choose();
}

for (const block of document.querySelectorAll(".pictures")) viewer(block);

let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")].filter((one) => !one.closest("#provenance"));
  for (const details of opened) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
});
