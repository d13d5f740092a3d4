// Paint on a picture which part of it is drawn again: brush and eraser, undo and redo, or a mask from a file.
// Strokes are kept as lists of points in the picture's pixels, so that every step can be taken back.
import { h, tool, notify } from "./dom.js";

const MOST_PIXELS = 2048 * 2048;

export class MaskEditor {
  #canvas = h("canvas", { className: "mask", "aria-label": "Paint the part that is drawn again. Without a mouse or pen: upload a mask.", role: "img" });
  #cursor = h("div", { className: "brush" });
  #image = h("img", { alt: "", draggable: false });
  #strokes = [];
  #undone = [];
  #base = null;
  #stroke = null;
  #erasing = false;
  #brush = h("input", { type: "range", id: "brush", min: 1, max: 100, value: 20 });
  #source = null;

  constructor(changed) {
    this.changed = changed;
    this.#canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    this.#canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) this.#canvas.addEventListener(end, () => this.#end());
    this.#canvas.addEventListener("pointerleave", () => (this.#cursor.hidden = true));
    this.#cursor.hidden = true;
    this.eraser = h("button", { type: "button", "aria-pressed": "false", onclick: () => this.erase(!this.#erasing) }, "Eraser");
    this.undoButton = tool("undo", "Undo", () => this.undo());
    this.redoButton = tool("redo", "Redo", () => this.redo());
    const file = h("input", { type: "file", id: "mask-file", className: "hidden", accept: "image/*", onchange: ({ target }) => this.upload(target.files[0]) });
    this.bar = h("div", { className: "bar", role: "toolbar", "aria-label": "Painting" },
      h("label", { className: "slider" }, "Brush", this.#brush), this.eraser, this.undoButton, this.redoButton,
      h("button", { type: "button", onclick: () => this.invert() }, "Invert"),
      h("button", { type: "button", onclick: () => this.clear() }, "Clear"),
      file, h("label", { htmlFor: "mask-file", className: "button" }, "Upload a mask"));
    this.element = h("div", { className: "editor" }, h("div", { className: "canvas" }, this.#image, this.#canvas, this.#cursor));
    this.#draw();
  }

  /** The picture to paint on: { url, width, height }. Another one begins with an empty mask. */
  show(source) {
    if (source?.url === this.#source?.url) return;
    this.#source = source;
    this.#strokes = [];
    this.#undone = [];
    this.#base = null;
    if (!source) return;
    const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (source.width * source.height)));
    this.#canvas.width = Math.max(1, Math.round(source.width * scale));
    this.#canvas.height = Math.max(1, Math.round(source.height * scale));
    this.#image.src = source.url;
    this.element.style.setProperty("--ratio", `${source.width / source.height}`);
    this.#draw();
  }

  get isEmpty() {
    return !this.#base && this.#strokes.length === 0;
  }

  /** A PNG, white where it is drawn again. */
  blob() {
    const { width, height } = this.#canvas;
    const painted = this.#canvas.getContext("2d").getImageData(0, 0, width, height);
    for (let i = 0; i < painted.data.length; i += 4) {
      painted.data.fill(painted.data[i + 3] >= 128 ? 255 : 0, i, i + 3);
      painted.data[i + 3] = 255;
    }
    const canvas = h("canvas", { width, height });
    canvas.getContext("2d").putImageData(painted, 0, 0);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  /** Take the mask in a file, or one that came with a job: white (or transparent) is drawn again. */
  async upload(blob) {
    if (!blob || !this.#source) return;
    const image = await createImageBitmap(blob).catch(() => null);
    if (!image) return notify("The mask cannot be read: choose a PNG, JPEG or WebP.", { isError: true });
    const { width, height } = this.#canvas;
    const canvas = h("canvas", { width, height });
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0, width, height);
    const pixels = context.getImageData(0, 0, width, height);
    const transparent = pixels.data.some((value, i) => i % 4 === 3 && value < 128);
    const { red, green, blue } = INK;
    for (let i = 0; i < pixels.data.length; i += 4) {
      const on = transparent ? pixels.data[i + 3] < 128 : pixels.data[i] + pixels.data[i + 1] + pixels.data[i + 2] > 382;
      pixels.data.set(on ? [red, green, blue, 255] : [0, 0, 0, 0], i);
    }
    context.putImageData(pixels, 0, 0);
    this.#base = canvas;
    this.#strokes = [];
    this.#undone = [];
    this.#draw();
    this.changed();
  }

  erase(on) {
    this.#erasing = on;
    this.eraser.setAttribute("aria-pressed", String(on));
  }

  resize(by) {
    this.#brush.value = Number(this.#brush.value) + by;
  }

  undo() {
    if (this.#strokes.length) this.#undone.push(this.#strokes.pop());
    this.#draw();
    this.changed();
  }

  redo() {
    if (this.#undone.length) this.#strokes.push(this.#undone.pop());
    this.#draw();
    this.changed();
  }

  clear() {
    this.#add({ kind: "clear" });
  }

  invert() {
    this.#add({ kind: "invert" });
  }

  #add(stroke) {
    this.#strokes.push(stroke);
    this.#undone = [];
    this.#draw();
    this.changed();
  }

  #place(event) {
    const box = this.#canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * this.#canvas.width, ((event.clientY - box.top) / box.height) * this.#canvas.height];
  }

  /** The brush's width in the canvas's pixels: a part of the shorter side. */
  get #width() {
    return (Number(this.#brush.value) / 200) * Math.min(this.#canvas.width, this.#canvas.height);
  }

  #begin(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.#canvas.setPointerCapture(event.pointerId);
    this.#stroke = { kind: this.#erasing ? "erase" : "paint", width: this.#width, points: [this.#place(event)] };
    this.#draw();
  }

  #move(event) {
    const box = this.#canvas.getBoundingClientRect();
    const size = this.#width * (box.width / this.#canvas.width);
    this.#cursor.hidden = event.pointerType === "touch";
    Object.assign(this.#cursor.style, { width: `${size}px`, height: `${size}px`, left: `${event.clientX - box.left}px`, top: `${event.clientY - box.top}px` });
    if (!this.#stroke) return;
    for (const part of event.getCoalescedEvents?.() ?? [event]) this.#stroke.points.push(this.#place(part));
    this.#draw();
  }

  #end() {
    if (this.#stroke) {
      const stroke = this.#stroke;
      this.#stroke = null;
      this.#add(stroke);
    }
  }

  #draw() {
    const context = this.#canvas.getContext("2d");
    context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    if (this.#base) context.drawImage(this.#base, 0, 0);
    for (const stroke of [...this.#strokes, this.#stroke].filter(Boolean)) drawStroke(context, stroke);
    this.undoButton.disabled = !this.#strokes.length;
    this.redoButton.disabled = !this.#undone.length;
  }
}

const INK = { red: 255, green: 64, blue: 129 };
const COLOUR = `rgb(${INK.red} ${INK.green} ${INK.blue})`;

function drawStroke(context, stroke) {
  const { width, height } = context.canvas;
  context.save();
  context.strokeStyle = context.fillStyle = COLOUR;
  if (stroke.kind === "clear") context.clearRect(0, 0, width, height);
  else if (stroke.kind === "invert") {
    context.globalCompositeOperation = "xor";
    context.fillRect(0, 0, width, height);
  } else {
    if (stroke.kind === "erase") context.globalCompositeOperation = "destination-out";
    Object.assign(context, { lineWidth: stroke.width, lineCap: "round", lineJoin: "round" });
    context.beginPath();
    context.moveTo(...stroke.points[0]);
    for (const point of stroke.points) context.lineTo(...point);
    context.stroke();
  }
  context.restore();
}
