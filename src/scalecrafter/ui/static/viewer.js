// A picture to zoom into, and a second one beside a line to compare with: both lie on the same place.
import { h } from "./dom.js";

const [SMALLEST, LARGEST] = [0.02, 16];

export class Viewer {
  #scale = 1;
  #fit = 1;
  #x = 0;
  #y = 0;
  #size = { width: 1, height: 1 };
  #pointers = new Map();
  #image = h("img", { draggable: false });
  #other = h("img", { draggable: false });
  #clip = h("div", { className: "clip", hidden: true }, this.#other);
  #line = h("div", { className: "line", hidden: true });
  #left = h("span", { className: "side left", hidden: true });
  #right = h("span", { className: "side right", hidden: true });

  constructor() {
    this.divider = h("input", { type: "range", min: 0, max: 100, step: 0.5, value: 50, id: "divider", "aria-label": "Where the line between the two pictures is", hidden: true, oninput: () => this.#divide() });
    this.shown = h("output", { className: "scale" });
    this.pane = h("div", { className: "pane", tabIndex: 0, role: "group", "aria-label": "Picture to zoom into: plus, minus, 0 and 1 zoom, arrow keys move" },
      this.#image, this.#clip, this.#line, this.#left, this.#right);
    this.element = h("div", { className: "viewer" }, this.pane, this.divider);
    this.pane.addEventListener("keydown", (event) => this.#onKey(event));
    this.pane.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    this.pane.addEventListener("dblclick", (event) => this.zoom(this.#scale > this.#fit * 1.05 ? this.#fit : 1, event.clientX, event.clientY));
    this.pane.addEventListener("pointerdown", (event) => this.#onDown(event));
    this.pane.addEventListener("pointermove", (event) => this.#onMove(event));
    for (const end of ["pointerup", "pointercancel"]) this.pane.addEventListener(end, (event) => this.#pointers.delete(event.pointerId));
    new ResizeObserver(() => this.#resized()).observe(this.pane);
  }

  /** Show a picture of that size. `keepsPlace` leaves the zoom as it is, as for another one of the same kind. */
  show(url, alt, width, height) {
    const same = this.#size.width === width && this.#size.height === height;
    this.#size = { width, height };
    if (this.#image.getAttribute("src") !== url) this.#image.src = url;
    this.#image.alt = alt;
    if (!same) this.fit();
  }

  /** Lay another picture under the left side of a line; null: none. */
  compare(other) {
    for (const part of [this.#clip, this.#line, this.#left, this.#right, this.divider]) part.hidden = !other;
    if (!other) return this.#other.removeAttribute("src");
    if (this.#other.getAttribute("src") !== other.url) this.#other.src = other.url;
    this.#other.alt = other.alt;
    this.#left.textContent = other.left;
    this.#right.textContent = other.right;
    this.divider.value = 50;
    this.#divide();
  }

  fit() {
    this.#fit = Math.min(this.pane.clientWidth / this.#size.width, this.pane.clientHeight / this.#size.height) || 1;
    this.#scale = Math.min(this.#fit, LARGEST);
    this.#x = this.#y = 0;
    this.#place();
  }

  zoom(wanted, clientX, clientY) {
    const box = this.pane.getBoundingClientRect();
    const [px, py] = [(clientX ?? box.left + box.width / 2) - box.left - box.width / 2, (clientY ?? box.top + box.height / 2) - box.top - box.height / 2];
    const scale = Math.min(Math.max(wanted, Math.min(SMALLEST, this.#fit)), LARGEST);
    const grown = scale / this.#scale;
    this.#x = px - (px - this.#x) * grown;
    this.#y = py - (py - this.#y) * grown;
    this.#scale = scale;
    this.#place();
  }

  act(what) {
    const acts = { fit: () => this.fit(), one: () => this.zoom(1), in: () => this.zoom(this.#scale * 1.5), out: () => this.zoom(this.#scale / 1.5) };
    acts[what]();
  }

  #place() {
    const { clientWidth, clientHeight } = this.pane;
    const [width, height] = [this.#size.width * this.#scale, this.#size.height * this.#scale];
    const room = (inside, outside) => Math.max(0, (inside - outside) / 2);
    this.#x = Math.min(Math.max(this.#x, -room(width, clientWidth)), room(width, clientWidth));
    this.#y = Math.min(Math.max(this.#y, -room(height, clientHeight)), room(height, clientHeight));
    for (const image of [this.#image, this.#other]) {
      Object.assign(image.style, { width: `${width}px`, height: `${height}px`, left: `${(clientWidth - width) / 2 + this.#x}px`, top: `${(clientHeight - height) / 2 + this.#y}px` });
      image.classList.toggle("pixels", this.#scale >= 3);
    }
    this.pane.classList.toggle("zoomed", this.#scale > this.#fit * 1.01);
    this.shown.textContent = `${Math.round(this.#scale * 100)} %`;
  }

  #resized() {
    const wasFitted = Math.abs(this.#scale / this.#fit - 1) < 0.01;
    this.#fit = Math.min(this.pane.clientWidth / this.#size.width, this.pane.clientHeight / this.#size.height) || 1;
    if (wasFitted) this.#scale = Math.min(this.#fit, LARGEST);
    this.#place();
  }

  #divide() {
    const part = Number(this.divider.value);
    this.#clip.style.clipPath = `inset(0 ${100 - part}% 0 0)`;
    this.#line.style.left = `${part}%`;
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = { "+": "in", "=": "in", "-": "out", 0: "fit", 1: "one" }[event.key];
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (!act && !moves) return;
    event.preventDefault();
    if (act) return this.act(act);
    this.#x += moves[0];
    this.#y += moves[1];
    this.#place();
  }

  #onWheel(event) {
    if (!(event.ctrlKey || event.metaKey) && !matchMedia("(min-width: 1100px)").matches) return; // there the page scrolls
    event.preventDefault();
    this.zoom(this.#scale * Math.exp(-event.deltaY / 300), event.clientX, event.clientY);
  }

  #onDown(event) {
    if (event.button !== 0) return;
    const onLine = !this.#line.hidden && Math.abs(event.clientX - this.#line.getBoundingClientRect().left) < 24;
    this.#pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, onLine });
    this.pane.setPointerCapture(event.pointerId);
  }

  #onMove(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const now = { ...before, x: event.clientX, y: event.clientY };
    this.#pointers.set(event.pointerId, now);
    const box = this.pane.getBoundingClientRect();
    if (before.onLine) {
      this.divider.value = (100 * (now.x - box.left)) / box.width;
      this.#divide();
    } else if (this.#pointers.size === 2) {
      const other = [...this.#pointers].find(([id]) => id !== event.pointerId)[1];
      const apart = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
      this.zoom((this.#scale * apart(now)) / apart(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
    } else {
      this.#x += now.x - before.x;
      this.#y += now.y - before.y;
      this.#place();
    }
  }
}
