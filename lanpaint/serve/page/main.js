// The page: puts the parts together.

import { Mask } from "./mask.js";
import { Panel } from "./panel.js";
import { Results } from "./results.js";
import * as keep from "./keep.js";
import * as server from "./server.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const SENT_AS_IT_IS = ["image/png", "image/jpeg", "image/webp", "image/bmp"];
const view = new View($("view")), results = new Results($("list"));
let panel, limits, source = null, name = "picture", running = null, taken = 0, stopWatching = () => {};

// --- words

// What changes all the time is shown, and not read aloud.
function say(text, isProblem = false, isLoud = true) {
  if ($("status").textContent === text) return;
  $("status").setAttribute("aria-live", isLoud ? "polite" : "off");
  $("status").textContent = text;
  $("status").classList.toggle("problem", isProblem);
}

const problem = (error) => say(error.message, true);

function seconds(left) {
  if (left === null) return "";
  if (left < 1.5) return ", about a second left";
  return left < 90 ? `, about ${Math.round(left)} seconds left` : `, about ${Math.round(left / 60)} minutes left`;
}

// --- pictures

async function open(blob, called) {
  let picture;
  try {
    picture = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    return say("This is no picture that a browser can show; give a PNG or a JPEG.", true);
  }
  if (picture.width * picture.height > limits.pixels)
    return say(`The picture is ${picture.width} × ${picture.height}; at most ${limits.pixels / 1e6} megapixels are taken.`, true);
  source = SENT_AS_IT_IS.includes(blob.type) ? blob : await asPng(picture);
  name = (called ?? "picture").replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N} _-]/gu, "").slice(0, 60) || "picture";
  results.clear();
  $("results").hidden = true;
  begin(picture, clearPixels(picture));
  say("Paint over what should change.");
  remember();
}

function begin(picture, values) {
  $("welcome").hidden = true;
  document.body.classList.add("has-picture");
  view.open(picture, values);
  $("by").value = Math.max(1, Math.round(Math.max(picture.width, picture.height) / 64));
  compare(null);
  padShown();
  sized();
}

function asPng(picture) {
  const canvas = document.createElement("canvas");
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.getContext("2d").drawImage(picture, 0, 0);
  return new Promise((good) => canvas.toBlob(good, "image/png"));
}

function pixelsOf(picture) {
  const canvas = document.createElement("canvas");
  canvas.width = picture.width;
  canvas.height = picture.height;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(picture, 0, 0);
  return pen.getImageData(0, 0, picture.width, picture.height).data;
}

// What is transparent in a picture is to be painted.
function clearPixels(picture) {
  const pixels = pixelsOf(picture);
  let made = null;
  for (let i = 3; i < pixels.length; i += 4)
    if (pixels[i] < 255) (made ??= new Uint8ClampedArray(pixels.length / 4))[i >> 2] = 255;
  return made;
}

function maskPng() {
  const { width, height, data } = view.mask, canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let i = 0; i < data.length; i++) {
    image.data[4 * i] = image.data[4 * i + 1] = image.data[4 * i + 2] = data[i];
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return new Promise((good) => canvas.toBlob(good, "image/png"));
}

async function readMask(blob) {
  const picture = await createImageBitmap(blob);
  if (picture.width !== view.picture.width || picture.height !== view.picture.height)
    throw new Error(`The mask is ${picture.width} × ${picture.height} and the picture ` +
                    `${view.picture.width} × ${view.picture.height}; load a mask of the picture's size.`);
  const pixels = pixelsOf(picture), made = new Uint8ClampedArray(pixels.length / 4);
  for (let i = 0; i < made.length; i++) {
    const [r, g, b, a] = pixels.subarray(4 * i, 4 * i + 4);
    made[i] = Math.round(((0.299 * r + 0.587 * g + 0.114 * b) * a) / 255);
  }
  return made;
}

function download(blob, called) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = called;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// --- what is kept over a reload

let remembering = null;

function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(rememberNow, 250);
}

async function rememberNow() {
  if (!view.picture) return;
  const mask = await maskPng();
  await keep.save({ picture: source, name, mask, pad: view.pad, texts: panel.texts(), job: running?.id ?? taken.id ?? null });
}

async function restore() {
  const kept = await keep.load();
  if (!kept) return;
  panel.restore(kept.texts);
  if (!kept.picture) return;
  source = kept.picture;
  name = kept.name;
  begin(await createImageBitmap(source, { colorSpaceConversion: "none" }), null);
  view.mask.data.set(await readMask(kept.mask));
  view.inked({ x: 0, y: 0, w: view.picture.width, h: view.picture.height });
  view.setPad(kept.pad);
  view.fit();
  if (!kept.job) return;
  try {
    attach(await server.job(kept.job));
  } catch {
    say("Paint over what should change."); // the server has forgotten the job
  }
}

// --- painting

function settings() {
  const made = panel.values();
  if (view.pad.some(Boolean)) made.pad = view.pad;
  if (view.mask && view.mask.isSoft) made.soft = true;
  return made;
}

async function paint() {
  if (running) return;
  if (!view.picture) return say("Open a picture first.", true);
  const isEmpty = view.mask.isEmpty;
  if (isEmpty && !view.pad.some(Boolean)) return say("Paint over what should change first.", true);
  const sent = (running = {});
  busy(true);
  try {
    const asked = settings();
    compare(null);
    say("Sending the picture …");
    const mask = isEmpty ? null : await maskPng();
    results.clear();
    $("results").hidden = true;
    attach(await server.inpaint(source, mask, asked));
    if (sent.isUnwanted) cancel();
  } catch (error) {
    running = null;
    busy(false);
    problem(error);
  }
}

function attach(job) {
  running = job;
  taken = { id: job.id, count: 0, queue: Promise.resolve() };
  remember();
  busy(true);
  stopWatching();
  stopWatching = server.watch(job.id, follow, (error) => {
    running = null;
    busy(false);
    view.show(null);
    problem(error);
  });
}

function follow(job) {
  if (!running || running.id !== job.id) return;
  const count = job.settings.count ?? 1;
  while (taken.count < job.results.length) {
    const result = job.results[taken.count++];
    taken.queue = taken.queue.then(() => take(result)).catch(problem);
  }
  const done = job.results.length + (job.planned ? job.made / job.planned : 0);
  $("bar").value = Math.min(1, done / count);
  if (job.state === "waiting") say(job.place > 1 ? `Waiting: ${job.place - 1} before this one.` : "Waiting for its turn.");
  else if (job.state === "running") {
    const which = count > 1 ? `Result ${Math.min(count, job.results.length + 1)} of ${count}: ` : "";
    if (job.planned) say(`${which}${job.made} of ${job.planned} evaluations${seconds(job.seconds_left)}`, false, false);
    else say("Loading the model …");
    if (job.preview && job.preview !== running.preview) showPreview(job);
    running = job;
  } else over(job);
}

async function showPreview(job) {
  try {
    const picture = await createImageBitmap(await server.blob(`/api/jobs/${job.id}/preview?${job.preview}`));
    if (running?.id === job.id && !view.drag) view.show(picture);
  } catch {
    // the next one comes soon
  }
}

async function take(result) {
  const blob = await server.blob(result.url);
  const item = await results.add(blob, result.seed, name);
  $("results").hidden = false;
  if (results.items.length === 1) results.first = item;
}

async function over(job) {
  running = null;
  await taken.queue;
  busy(false);
  view.show(null);
  if (job.state === "failed") say(job.error, true);
  else if (job.state === "cancelled") say("Cancelled.");
  else say(job.results.length > 1 ? `Done: ${job.results.length} results.` : "Done.");
  if (results.items.length) results.select(results.items[0]);
  view.draw();
  remember();
}

async function cancel() {
  if (!running) return;
  say("Cancelling …");
  running.isUnwanted = true;
  if (!running.id) return; // the picture is being sent: it is cancelled when the server has named the job
  try {
    await server.cancel(running.id);
  } catch (error) {
    problem(error);
  }
}

function busy(is) {
  const hadFocus = [$("paint"), $("cancel")].includes(document.activeElement);
  $("paint").hidden = is;
  $("cancel").hidden = !is;
  if (hadFocus) $(is ? "cancel" : "paint").focus();
  $("progress").hidden = !is;
  $("bar").value = 0;
}

// --- results

function compare(item) {
  $("compare").hidden = !item;
  if (!item) {
    for (const one of results.items) one.button.setAttribute("aria-pressed", "false");
    view.show(null);
    return;
  }
  view.split = 0;
  splitShown();
  view.show(item.picture, true);
}

function splitShown() {
  const before = Math.round(100 * view.split);
  $("split").value = Math.round(1000 * view.split);
  $("split").setAttribute("aria-valuetext", `${before} % before, ${100 - before} % after`);
}

results.onshow = compare;
results.onagain = async (item) => {
  const mask = view.mask.data.slice(), wasPadded = view.pad.some(Boolean);
  source = item.blob;
  begin(item.picture, wasPadded ? null : mask);
  say("The result is the picture now. Paint over what should change.");
  remember();
};

// --- tools

function choose(tool) {
  view.tool = tool;
  for (const button of $("tools").children) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  const paints = !["frame", "move"].includes(tool);
  $("of-size").hidden = !["brush", "eraser"].includes(tool);
  $("of-strength").hidden = !paints || tool === "eraser";
  $("of-frame").hidden = tool !== "frame";
  $("view").dataset.tool = tool;
  if (view.comparing) compare(null);
  view.draw();
}

const most = () => (view.picture ? Math.max(view.picture.width, view.picture.height) : 256);

function sized() {
  $("size-shown").value = Math.round(view.size);
  $("size").value = 100 * Math.sqrt(Math.min(1, (view.size - 1) / most()));
}

function padShown() {
  view.pad.forEach((value, i) => ($(`pad-${i}`).value = value));
}

function masked(change) {
  if (!view.picture) return say("Open a picture first.", true);
  compare(null);
  change(view.mask);
}

function listen() {
  for (const id of ["open", "open-first"]) $(id).addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    $("file").value = "";
    if (file) open(file, file.name);
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    $("stage").classList.add("over");
  });
  addEventListener("dragleave", (event) => event.relatedTarget ?? $("stage").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("stage").classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) open(file, file.name);
  });
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (file) open(file, "pasted");
  });
  $("tools").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) choose(button.dataset.tool);
  });
  $("undo").addEventListener("click", () => view.mask?.undo());
  $("redo").addEventListener("click", () => view.mask?.redo());
  $("zoom-in").addEventListener("click", () => view.zoom(1.5));
  $("zoom-out").addEventListener("click", () => view.zoom(1 / 1.5));
  $("fit").addEventListener("click", () => view.fit());
  $("size").addEventListener("input", () => {
    view.size = Math.max(1, Math.round(1 + most() * (Number($("size").value) / 100) ** 2));
    $("size-shown").value = view.size;
    view.draw();
  });
  $("strength").addEventListener("input", () => {
    view.strength = Number($("strength").value) / 100;
    $("strength-shown").value = `${$("strength").value} %`;
  });
  $("invert").addEventListener("click", () => masked((mask) => mask.invert()));
  $("clear").addEventListener("click", () => masked((mask) => mask.clear()));
  const by = () => Math.max(1, Math.min(500, Math.round(Number($("by").value)) || 1));
  $("grow").addEventListener("click", () => masked((mask) => mask.grow(by())));
  $("shrink").addEventListener("click", () => masked((mask) => mask.grow(-by())));
  $("feather").addEventListener("click", () => masked((mask) => mask.feather(by())));
  $("save-mask").addEventListener("click", () => masked(async () => download(await maskPng(), `${name}-mask.png`)));
  $("load-mask").addEventListener("click", () => masked(() => $("mask-file").click()));
  $("mask-file").addEventListener("change", async () => {
    const [file] = $("mask-file").files;
    $("mask-file").value = "";
    if (!file) return;
    try {
      view.mask.set(await readMask(file));
    } catch (error) {
      problem(error.message ? error : new Error("This is no picture that a browser can show."));
    }
  });
  for (let side = 0; side < 4; side++)
    $(`pad-${side}`).addEventListener("input", () => {
      if (!view.picture) return;
      view.setPad(view.pad.map((value, i) => (i === side ? Number($(`pad-${i}`).value) : value)));
      view.fit();
    });
  $("split").addEventListener("input", () => {
    view.split = Number($("split").value) / 1000;
    splitShown();
    view.draw();
  });
  $("back").addEventListener("click", () => {
    compare(null);
    $("view").focus();
  });
  $("paint").addEventListener("click", paint);
  $("cancel").addEventListener("click", cancel);
  $("form").addEventListener("submit", (event) => event.preventDefault());
  $("recipe").addEventListener("toggle", showRecipe);
  $("help").addEventListener("click", () => $("keys").showModal());
  $("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = localStorage.theme = isDark ? "light" : "dark";
    view.draw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view.draw());
  addEventListener("click", (event) => {
    if (!event.target.closest("#mask-menu")) $("mask-menu").open = false;
  });
  addEventListener("keydown", key);
  view.onresize = sized;
  view.onpad = padShown;
  view.onsplit = splitShown;
  view.onchange = () => {
    if ($("compare").hidden === false && !view.shown) compare(null);
    $("undo").disabled = !view.mask?.past.length;
    $("redo").disabled = !view.mask?.future.length;
    if (!view.drag) remember();
  };
}

function key(event) {
  if ($("keys").open) return;
  const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && event.target.type !== "range";
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") paint();
  else if (event.key === "Escape") {
    if ($("mask-menu").open) $("mask-menu").open = false;
    else if (!view.drag && event.target !== $("view")) cancel();
    else if (!view.drag) cancel();
  } else if (isTyping) return;
  else if (event.ctrlKey || event.metaKey) {
    const letter = event.key.toLowerCase();
    if (letter === "y" || (letter === "z" && event.shiftKey)) view.mask?.redo();
    else if (letter === "z") view.mask?.undo();
    else if (letter === "o") $("file").click();
    else return;
  } else if (event.altKey) return;
  else {
    const tools = { b: "brush", e: "eraser", r: "rectangle", l: "lasso", f: "frame", h: "move" };
    const other = {
      "[": () => view.resize(1 / 1.15), "]": () => view.resize(1.15), "+": () => view.zoom(1.25), "=": () => view.zoom(1.25),
      "-": () => view.zoom(0.8), 0: () => view.fit(), i: () => masked((mask) => mask.invert()), "?": () => $("keys").showModal(),
    };
    const letter = event.key.toLowerCase();
    if (letter in tools) choose(tools[letter]);
    else if (letter in other) other[letter]();
    else return;
  }
  event.preventDefault();
}

async function showRecipe() {
  if (!$("recipe").open) return;
  try {
    const made = await server.recipe(settings(), view.picture, Boolean(view.mask && !view.mask.isEmpty));
    $("command").textContent = made.command;
    $("python").textContent = made.python;
  } catch (error) {
    $("command").textContent = error.message;
    $("python").textContent = "";
  }
}

// The pictures to begin with that some model can paint, those of the first model first.
function examples(paths) {
  const kindOf = (path) => path.split("/").pop().split("-")[0];
  const rank = (path) => Object.keys(panel.models).findIndex((model) => model.startsWith(kindOf(path)));
  for (const path of paths.filter((one) => rank(one) >= 0).sort((a, b) => rank(a) - rank(b))) {
    const item = document.createElement("li"), button = document.createElement("button"), image = document.createElement("img");
    const kind = kindOf(path);
    image.src = `/assets/${path}`;
    image.alt = "";
    button.type = "button";
    button.setAttribute("aria-label", `Try ${path.split("/").pop().replace(/-|\.png/g, " ").trim()}`);
    button.append(image);
    button.addEventListener("click", async () => {
      const fitting = Object.values(panel.models).find((model) => model.name.startsWith(kind));
      if (fitting && !panel.model.name.startsWith(kind)) panel.restore({ model: fitting.name });
      await open(await server.blob(image.src), path.split("/").pop());
    });
    item.append(button);
    $("examples").append(item);
  }
}

async function start() {
  if (localStorage.theme) document.documentElement.dataset.theme = localStorage.theme;
  try {
    const table = await server.models();
    limits = table.limits;
    panel = new Panel(table, $("first"), $("rest"));
    examples(table.examples);
  } catch (error) {
    problem(error);
    return;
  }
  let waiting = null;
  panel.onchange = () => {
    remember();
    clearTimeout(waiting);
    waiting = setTimeout(showRecipe, 300);
  };
  listen();
  choose("brush");
  view.onchange();
  await restore();
  document.body.dataset.ready = "yes";
}

// For tests: what is on the page now.
window.lanpaint = { view, results, Mask };
start();
