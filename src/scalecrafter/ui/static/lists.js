// The queue and the gallery.
import { fileUrl, previewUrl } from "./api.js";
import { $, h, isPhone, plural, showView } from "./dom.js";
import { jobs } from "./jobs.js";
import { loadPreview, progressOf, progressText } from "./stage.js";

const SIDE = 320;
/** Hours that are as good as for ever. */
const LONG = 24 * 300;

/** Bring the children of a list in line with items: made once by key, updated each time, in order. */
function align(list, items, keyOf, make, update) {
  const old = new Map([...list.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, place) => {
    const key = keyOf(item);
    let child = old.get(key);
    old.delete(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    update?.(child, item);
    if (list.children[place] !== child) list.insertBefore(child, list.children[place] ?? null);
  });
  for (const child of old.values()) child.remove();
}

const nameOf = (job) => job.request.prompt || "enlarged picture";

export class Queue {
  constructor(stage) {
    this.stage = stage;
    jobs.addEventListener("change", () => this.draw());
    stage.addEventListener("cancel", ({ detail }) => this.cancel(detail));
    $("cancel-all").addEventListener("click", () => this.#cancelAll());
  }

  async cancel(id) {
    await jobs.cancel(id);
  }

  /** The last first: otherwise the next one would begin meanwhile. */
  async #cancelAll() {
    for (const job of jobs.unfinished.reverse()) await this.cancel(job.id);
    $("prompt").focus();
  }

  draw() {
    const shown = [...jobs.unfinished, ...jobs.failed];
    align($("queue-list"), shown, (job) => `${job.id} ${job.status === "failed"}`, (job) => (job.status === "failed" ? this.#failed(job) : this.#waiting(job)), (row, job) => job.status === "failed" || this.#update(row, job));
    $("queue-empty").hidden = shown.length > 0;
    $("cancel-all").hidden = jobs.unfinished.length < 2;
    $("queue-title").textContent = jobs.unfinished.length ? `Queue (${jobs.unfinished.length})` : "Queue";
    const first = jobs.unfinished[0];
    const bar = $("views-progress");
    bar.hidden = !first;
    if (first) bar.style.width = `${100 * partOf(first)}%`;
    document.title = first ? `${Math.round(100 * partOf(first))} % · ScaleCrafter` : "ScaleCrafter";
  }

  #waiting(job) {
    const name = nameOf(job);
    const open = h("button", { type: "button", className: "job", onclick: () => {
      this.stage.follow(job.id);
      if (isPhone()) showView("picture");
    } }, h("img", { alt: "", hidden: true }), h("span", { className: "name" }, name), h("span", { className: "state" }));
    const cancel = h("button", { type: "button", className: "cancel", "aria-label": `Cancel: ${name}`, title: "Cancel", onclick: () => this.cancel(job.id) }, "Cancel");
    return h("li", {}, open, h("progress", { "aria-label": `Progress of ${name}` }), cancel);
  }

  #update(row, job) {
    row.querySelector(".state").textContent = progressText(job);
    progressOf(row.querySelector("progress"), job);
    const running = job.pictures.find((picture) => picture.status === "running" && picture.preview > 0);
    if (running) loadPreview(row.querySelector("img"), previewUrl(job.id, running));
  }

  #failed(job) {
    const message = job.error?.message ?? "It failed.";
    return h("li", { className: "failed" }, h("p", {}, h("strong", {}, nameOf(job)), h("br"), message),
      h("button", { type: "button", "aria-label": `Remove: ${nameOf(job)}`, onclick: () => jobs.remove(job.id) }, "Remove"));
  }
}

const partOf = (job) => {
  const bar = document.createElement("progress");
  progressOf(bar, job);
  return bar.value;
};

export class Gallery {
  constructor(stage) {
    this.stage = stage;
    jobs.addEventListener("change", () => this.draw());
    stage.addEventListener("select", () => this.draw());
    $("gallery-list").addEventListener("keydown", (event) => this.#onKey(event));
    $("gallery-more").addEventListener("click", () => jobs.more());
    $("picking-end").addEventListener("click", () => stage.picking(false));
  }

  draw() {
    const items = jobs.pictures;
    const chosen = this.stage.selected ?? items[0]?.key;
    align($("gallery-list"), items, (item) => item.key, (item) => this.#make(item), (row, { key }) => {
      const button = row.firstChild;
      button.tabIndex = key === chosen ? 0 : -1;
      if (key === this.stage.selected) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    });
    $("gallery-more").hidden = !jobs.hasMore;
    $("views-count").textContent = items.length ? `(${items.length}${jobs.hasMore ? "+" : ""})` : "";
    const hours = this.keepHours;
    const kept = hours > LONG ? "until you delete them" : `for ${hours >= 48 ? plural(Math.round(hours / 24), "day") : plural(hours, "hour")}`;
    $("gallery-note").textContent = items.length
      ? `Pictures stay on the server ${kept}.`
      : jobs.loaded ? "No pictures yet. Those that you make in this browser stay here." : "";
  }

  #make({ job, picture, key }) {
    const text = `${nameOf(job)}, seed ${picture.seed}`;
    const image = h("img", { src: fileUrl(picture, "webp", SIDE), alt: text, loading: "lazy", width: picture.width, height: picture.height, draggable: false });
    const badge = picture.width >= 1024 || picture.height >= 1024 ? h("span", { className: "badge", "aria-hidden": "true" }, `${picture.width}×${picture.height}`) : null;
    return h("li", {}, h("button", { type: "button", title: text, onclick: () => this.#choose(key) }, image, badge));
  }

  #choose(key) {
    if (this.stage.isPicking) this.stage.pick(key);
    else this.stage.choose(key);
    showView("picture");
  }

  #onKey(event) {
    const rows = [...$("gallery-list").children];
    const place = rows.findIndex((row) => row.contains(document.activeElement));
    if (place < 0) return;
    if (event.key === "Delete") {
      event.preventDefault();
      this.stage.remove(rows[place].dataset.key);
      $("gallery-list").children[Math.min(place, rows.length - 2)]?.firstChild.focus();
      return;
    }
    const columns = Math.max(1, rows.findIndex((row, index) => index > 0 && row.offsetTop > rows[0].offsetTop));
    const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -place, End: rows.length - 1 - place }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    const next = rows[Math.min(Math.max(place + move, 0), rows.length - 1)];
    if (!this.stage.isPicking) this.stage.choose(next.dataset.key);
    next.firstChild.focus();
  }
}

