// The annotation page: shows one photo after the other, and sends every mark to the server as it is made.
"use strict";

const HANDLE = 10; // CSS pixels about a corner in which a drag moves that corner
const AHEAD = 3; // photos fetched before they are asked for
const UNREADABLE = 422; // HTTP status of a photo that cannot be read
const COLOURS = { box: "#3ddc84", suggestion: "#ffc93c" };

const at = (id) => document.getElementById(id);
const canvas = at("canvas");
const loaded = new Map(); // photo number -> promise of {picture, width, height}
let photos = [];
let current = 0;
let shown = null; // the photo on the canvas, null while it loads
let drag = null; // {fixed: [x, y], moving: [x, y]} in pixels of the photo
let queue = Promise.resolve();

async function call(path, wish) {
  const options = wish === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(wish),
  };
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    throw new Error(say("stopped"));
  }
  if (!reply.ok) {
    const { error } = await reply.json();
    throw new Error(reply.status === UNREADABLE ? say("unreadable").replace("{}", error) : error);
  }
  return reply;
}

// One thing after the other, so that no key overtakes the saving of the one before.
function enqueue(action) {
  queue = queue.then(action).then(() => { at("alert").hidden = true; }, (error) => {
    at("alert").textContent = error.message;
    at("alert").hidden = false;
  });
}

function load(number) {
  if (!loaded.has(number)) loaded.set(number, fetchPhoto(number));
  return loaded.get(number);
}

async function fetchPhoto(number) {
  const reply = await call(`photo/${number}`);
  const size = ["Photo-Width", "Photo-Height"].map((name) => Number(reply.headers.get(name)));
  return { picture: await createImageBitmap(await reply.blob()), width: size[0], height: size[1] };
}

function prefetch() {
  for (let number = current + 1; number <= current + AHEAD && number < photos.length; number += 1) {
    load(number).catch(() => {}); // told when the photo is shown
  }
  for (const number of [...loaded.keys()]) {
    if (Math.abs(number - current) > AHEAD) loaded.delete(number);
  }
}

async function goTo(number) {
  current = number;
  shown = null;
  drag = null;
  draw();
  try {
    shown = await load(current);
    at("message").textContent = "";
  } catch (error) {
    loaded.delete(current);
    at("message").textContent = error.message;
  }
  draw();
  prefetch();
}

async function mark(wish, number = current) {
  photos[number] = await (await call(`mark/${number}`, wish)).json();
  draw();
}

const isOpen = (photo) => !photo.box && !photo.no_face;

function openAfter(number) {
  const order = [...photos.slice(number + 1), ...photos.slice(0, number + 1)];
  return order.find(isOpen);
}

const actions = {
  next: () => goTo(Math.min(current + 1, photos.length - 1)),
  back: () => goTo(Math.max(current - 1, 0)),
  accept: async () => {
    const photo = photos[current];
    if (!photo.box && !(photo.suggestion && shown)) return;
    // A box drawn by hand is better than the suggestion it hides.
    if (!photo.box) await mark({ suggestion: true });
    await actions.next();
  },
  "no-face": async () => {
    await mark({ no_face: true });
    await actions.next();
  },
  clear: () => mark({}),
  undo: async () => {
    const photo = await (await call("undo", {})).json();
    photos[photo.number] = photo;
    await goTo(photo.number);
  },
  open: async () => {
    const photo = openAfter(current);
    if (photo) await goTo(photo.number);
  },
  finish: async () => {
    await call("finish", {});
    photos = []; // keys do nothing from here on
    canvas.hidden = true;
    at("message").textContent = say("finished");
    for (const button of document.querySelectorAll("button")) button.disabled = true;
  },
};

const KEYS = {
  Enter: "next", " ": "next", ArrowRight: "next", ArrowLeft: "back", Backspace: "back",
  a: "accept", n: "no-face", d: "clear", Delete: "clear", u: "undo", j: "open",
};

// Canvas and pointer

const boxOf = ({ fixed, moving }) => [
  Math.min(fixed[0], moving[0]), Math.min(fixed[1], moving[1]),
  Math.max(fixed[0], moving[0]), Math.max(fixed[1], moving[1]),
];

const scale = () => canvas.getBoundingClientRect().width / shown.width; // CSS pixels per photo pixel

function pointIn(event) {
  const frame = canvas.getBoundingClientRect();
  const place = [(event.clientX - frame.left) / scale(), (event.clientY - frame.top) / scale()];
  return [Math.min(Math.max(place[0], 0), shown.width), Math.min(Math.max(place[1], 0), shown.height)];
}

function fit() {
  const room = at("stage");
  const style = getComputedStyle(room);
  const across = room.clientWidth - parseFloat(style.paddingLeft) * 2;
  const down = room.clientHeight - parseFloat(style.paddingTop) * 2;
  const factor = Math.min(across / shown.width, down / shown.height);
  canvas.style.width = `${Math.max(1, shown.width * factor)}px`;
  canvas.style.height = `${Math.max(1, shown.height * factor)}px`;
  const density = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(shown.width * factor * density));
  canvas.height = Math.max(1, Math.round(shown.height * factor * density));
}

function draw() {
  describe();
  canvas.hidden = !shown;
  if (!shown) return;
  fit();
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(shown.picture, 0, 0, canvas.width, canvas.height);
  const photo = photos[current];
  const box = drag ? boxOf(drag) : photo.box;
  if (photo.no_face && !drag) {
    context.fillStyle = "rgb(0 0 0 / 55%)";
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  if (!box && photo.suggestion && !photo.no_face) outline(context, photo.suggestion, COLOURS.suggestion, true);
  if (box) outline(context, box, COLOURS.box, false);
}

function outline(context, box, colour, isDashed) {
  const factor = canvas.width / shown.width;
  const [x1, y1, x2, y2] = box.map((edge) => edge * factor);
  const width = 2 * (window.devicePixelRatio || 1);
  for (const [style, thickness] of [["rgb(0 0 0 / 60%)", 2 * width], [colour, width]]) {
    context.strokeStyle = style;
    context.lineWidth = thickness;
    context.setLineDash(isDashed ? [4 * width, 3 * width] : []);
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  if (isDashed) return;
  context.fillStyle = colour;
  for (const [x, y] of [[x1, y1], [x2, y1], [x1, y2], [x2, y2]]) {
    context.fillRect(x - 2 * width, y - 2 * width, 4 * width, 4 * width);
  }
}

function describe() {
  const photo = photos[current];
  const done = photos.filter((one) => !isOpen(one)).length;
  at("counter").textContent = `${current + 1} / ${photos.length}`;
  at("name").textContent = [photo.image_id, say(photo.status), say(photo.reason)].filter(Boolean).join("  ·  ");
  const mark = photo.box ? "box" : photo.no_face ? "no face" : photo.suggestion ? "suggestion" : "no box";
  at("mark").textContent = say(mark);
  at("mark").className = mark;
  at("progress").value = done;
  at("progress").max = photos.length;
  at("left").textContent = done === photos.length ? say("all marked") : say("left").replace("{}", photos.length - done);
  at("accept").disabled = !photo.suggestion || Boolean(photo.box);
  at("clear").disabled = isOpen(photo);
  at("back").disabled = current === 0;
  at("open").disabled = done === photos.length;
}

function cornerAt(event) {
  const box = photos[current].box;
  if (!box) return null;
  const frame = canvas.getBoundingClientRect();
  const isNear = (x, y) => Math.hypot(event.clientX - frame.left - x * scale(), event.clientY - frame.top - y * scale())
    <= HANDLE;
  const corners = [[0, 1, 2, 3], [2, 1, 0, 3], [0, 3, 2, 1], [2, 3, 0, 1]];
  const found = corners.find(([x, y]) => isNear(box[x], box[y]));
  return found && { fixed: [box[found[2]], box[found[3]]], moving: [box[found[0]], box[found[1]]] };
}

canvas.addEventListener("pointerdown", (event) => {
  if (!shown || event.button !== 0) return;
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  drag = cornerAt(event) || { fixed: pointIn(event), moving: pointIn(event) };
});

canvas.addEventListener("pointermove", (event) => {
  if (!shown) return;
  canvas.style.cursor = cornerAt(event) ? "move" : "crosshair";
  if (!drag) return;
  drag.moving = pointIn(event);
  draw();
});

canvas.addEventListener("pointerup", (event) => {
  if (!drag) return;
  const box = boxOf({ ...drag, moving: pointIn(event) });
  const number = current; // the queue may move on before it comes to this box
  drag = null;
  draw();
  // A click without a drag is no box.
  if ((box[2] - box[0]) * scale() >= 4 && (box[3] - box[1]) * scale() >= 4) enqueue(() => mark({ box }, number));
});

canvas.addEventListener("pointercancel", () => {
  drag = null;
  draw();
});

document.addEventListener("keydown", (event) => {
  const isUndo = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
  const name = isUndo ? "undo" : KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!name || event.altKey || event.repeat || (!isUndo && (event.ctrlKey || event.metaKey)) || !photos.length) return;
  event.preventDefault();
  enqueue(actions[name]);
});

for (const name of Object.keys(actions)) {
  at(name).addEventListener("click", () => {
    at(name).blur();
    enqueue(actions[name]);
  });
}

at("language").addEventListener("click", () => {
  at("language").blur();
  switchLanguage();
  if (photos.length) describe();
});

new ResizeObserver(() => photos.length && draw()).observe(at("stage"));

enqueue(async () => {
  photos = (await (await call("photos")).json()).photos;
  await goTo((photos.find(isOpen) || photos[0]).number);
});
