// The middle of the page: the chosen picture, one that is being made, or the picture to paint on.
import { fileUrl, inputUrl, previewUrl } from "./api.js";
import { $, announce, duration, h, icon, keep, kept, notify, plural, showView, tool } from "./dom.js";
import { isFinal, jobs, keyOf } from "./jobs.js";
import { Viewer } from "./viewer.js";

const FORMATS = { png: "PNG", jpg: "JPEG", webp: "WebP" };

export class Stage extends EventTarget {
  #viewer = new Viewer();
  #form;
  #mask;
  #compared = null;
  #drawn = "";
  #deleting = new Map();
  /** "picture" with a key, "job" with an id, or "source". */
  #shown = { kind: "none" };
  #before = null;
  #followsAll = true;

  constructor(form, mask) {
    super();
    this.#form = form;
    this.#mask = mask;
    jobs.addEventListener("change", () => this.draw());
    jobs.addEventListener("done", ({ detail }) => this.#onEnd(detail));
    jobs.addEventListener("failed", ({ detail }) => this.#onEnd(detail));
    addEventListener("pagehide", () => this.#deleting.forEach((close) => close()));
  }

  get selected() {
    return this.#shown.kind === "picture" ? this.#shown.key : null;
  }

  get isPicking() {
    return !$("picking").hidden;
  }

  get #job() {
    const job = this.#shown.kind === "job" ? jobs.get(this.#shown.id) : null;
    return job && !isFinal(job) ? job : null;
  }

  /** The chosen picture with its job, or undefined. */
  get item() {
    return jobs.pictures.find(({ key }) => key === this.selected);
  }

  /** Show a picture that somebody chose: new ones do not take its place. */
  choose(key) {
    this.#followsAll = false;
    this.select(key);
  }

  select(key, compared = null) {
    this.#shown = { kind: "picture", key };
    this.#compared = compared;
    keep("selected", key);
    this.draw();
    this.dispatchEvent(new Event("select"));
  }

  /** Show a job while it is made, and then its picture. What was shown comes back if it is cancelled. */
  follow(id) {
    this.#before = this.selected ?? this.#before;
    this.#shown = { kind: "job", id };
    this.draw();
    this.dispatchEvent(new Event("select"));
  }

  /** A job was submitted: show it, unless another one is watched, and each new picture until somebody chooses one. */
  expect(id) {
    if (!this.#job) this.follow(id);
    this.#followsAll = true;
  }

  showSource() {
    this.#shown = { kind: "source" };
    this.draw();
    this.dispatchEvent(new Event("select"));
  }

  /** After a reload: what is being made, or the picture that was chosen. */
  start() {
    const running = jobs.unfinished[0];
    const chosen = jobs.pictures.find(({ key }) => key === kept("selected", null)) ?? jobs.pictures[0];
    this.#before = chosen?.key ?? null;
    if (running) this.follow(running.id);
    else if (chosen) this.select(chosen.key);
    else this.draw();
  }

  /** Choose a picture to compare with instead of one to look at. */
  pick(key) {
    this.picking(false);
    if (key !== this.selected) this.#compare({ key });
  }

  picking(on) {
    $("picking").hidden = !on;
    document.body.toggleAttribute("data-picking", on);
    if (on) showView("gallery");
  }

  #onEnd(job) {
    const isShown = this.#shown.kind === "job" && this.#shown.id === job.id;
    const first = job.pictures.find((picture) => picture.status === "done");
    if (!isShown && (!first || !this.#followsAll || this.#job)) return;
    if (first) this.#selectNew(job, first);
    else if (this.#before) this.select(this.#before);
    else this.#shown = { kind: "none" };
    this.draw();
  }

  #selectNew(job, picture) {
    const pair = job.request.method === this.#form.directMethod && this.#plain({ job, picture });
    if (pair) this.select(pair.key, { value: "plain", key: keyOf(job, picture) });
    else this.select(keyOf(job, picture));
  }

  draw() {
    const { kind } = this.#shown;
    if (kind === "picture" && this.item) this.#drawPicture(this.item);
    else if (this.#job) this.#drawJob(this.#job);
    else if (kind === "source" && this.#form.isPainted) this.#drawSource();
    else this.#drawNothing();
  }

  /** Replace what is in the middle, unless it is there already. */
  #fill(name, ...parts) {
    if (this.#drawn === name) return false;
    this.#drawn = name;
    const [bar, body, foot] = ["stage-bar", "stage-body", "stage-foot"].map($);
    bar.replaceChildren(...(parts[0] ?? []));
    bar.hidden = !parts[0]?.length;
    body.replaceChildren(...parts[1]);
    foot.replaceChildren(...(parts[2] ?? []));
    return true;
  }

  #drawNothing() {
    const text = jobs.loaded ? "Your picture appears here. Write a prompt and press Enter." : "Loading …";
    this.#fill(`none ${text}`, [], [h("p", { className: "empty" }, text)]);
  }

  #drawSource() {
    this.#fill("source", [this.#mask.bar], [this.#mask.element], [h("p", { className: "hint" }, "What you paint is drawn again; the rest stays as it is.")]);
  }

  #drawJob(job) {
    const picture = job.pictures.find((one) => one.status === "running") ?? job.pictures[0];
    const id = `job ${job.id}`;
    if (this.#fill(id, [], [h("div", { className: "making" }, h("img", { id: "making", alt: "", hidden: true }), h("progress", { id: "making-bar", "aria-label": "Progress" }), h("p", { id: "making-text" }))],
      [h("button", { type: "button", onclick: () => this.dispatchEvent(new CustomEvent("cancel", { detail: job.id })) }, "Cancel this one")])) announce(progressText(job));
    const shown = picture.status === "running" && picture.preview > 0;
    const isBegun = $("making").dataset.shown === `${picture.index}` || shown;
    if (shown) loadPreview($("making"), previewUrl(job.id, picture));
    else if (job.request.image && !isBegun) loadPreview($("making"), inputUrl(job.id, "image"));
    $("making").classList.toggle("start", !isBegun);
    if (shown) $("making").dataset.shown = picture.index;
    $("making").alt = isBegun ? `Preview of the picture at step ${picture.step}` : job.request.image ? "The picture that it starts from" : "";
    progressOf($("making-bar"), job);
    $("making-text").textContent = progressText(job);
  }

  #drawPicture({ job, picture, key }) {
    const compared = this.#other();
    const options = this.#comparable({ job, picture });
    const name = `picture ${key} ${options.map((one) => one.value).join()} ${JSON.stringify(this.#compared)}`;
    const { prompt } = job.request;
    const alt = prompt || "Enlarged picture";
    if (this.#fill(name, this.#tools({ job, picture, key }, options), [this.#viewer.element], this.#facts(job, picture))) {
      this.#viewer.show(fileUrl(picture), alt, picture.width, picture.height);
      this.#viewer.compare(compared);
    }
  }

  #facts(job, picture) {
    const { request } = job;
    const facts = [`${picture.width} × ${picture.height}`, this.#form.methods.get(request.method)?.title ?? request.method, `seed ${picture.seed}`, plural(request.steps, "step"), picture.seconds ? duration(picture.seconds) : null, ...(picture.notes ?? [])];
    const wish = (request.prompt || "No prompt") + (request.negative ? ` (not: ${request.negative})` : "");
    return [h("p", { className: "prompt" }, wish), h("p", { className: "hint" }, facts.filter(Boolean).join(" · "))];
  }

  #tools(item, options) {
    const zooms = [["fit", "Fit", "Fit the picture to the view"], ["out", "−", "Zoom out"], ["in", "+", "Zoom in"], ["one", "1:1", "Show each pixel as one"]];
    const format = h("select", { "aria-label": "File format of the download", onchange: ({ target }) => {
      keep("format", target.value);
      this.#drawn = "";
      this.draw();
      document.querySelector("#stage-bar select").focus();
    } }, ...Object.entries(FORMATS).map(([value, text]) => h("option", { value, selected: value === kept("format", "png") }, text)));
    const ending = kept("format", "png");
    const name = `${slug(item.job.request.prompt)}-${item.picture.seed}.${ending}`;
    const download = h("a", { className: "button", id: "download", href: fileUrl(item.picture, ending), download: name, title: "Download" }, icon("download"), h("span", {}, "Download"));
    const choose = h("select", { id: "compare-with", "aria-label": "Compare with", onchange: ({ target }) => options.find((one) => one.value === target.value)?.act() },
      ...options.map(({ value, text }) => h("option", { value, selected: value === (this.#compared?.value ?? (this.#compared ? "picked" : "")) }, text)));
    const ask = (what) => () => this.dispatchEvent(new CustomEvent(what, { detail: item }));
    return [
      h("div", { className: "group" }, ...zooms.map(([what, text, label]) => h("button", { type: "button", className: what === "in" || what === "out" ? "fine" : "", "aria-label": label, title: label, onclick: () => this.#viewer.act(what) }, text)),
        tool("full", "Full screen", () => this.#fullScreen(), { className: "bare" }), this.#viewer.shown),
      h("div", { className: "group" }, choose),
      h("div", { className: "group" }, tool("enlarge", "Enlarge", ask("enlarge")), tool("edit", "Edit", ask("edit")), tool("restore", "Use settings", ask("restore")),
        h("span", { className: "joined" }, download, format), tool("delete", "Delete", () => this.remove(item.key))),
    ];
  }

  #fullScreen() {
    const { element } = this.#viewer;
    if (document.fullscreenElement) document.exitFullscreen();
    else element.requestFullscreen?.().catch(() => notify("This browser allows no full screen here."));
    this.#viewer.pane.focus();
  }

  /** What a picture can be compared with. */
  #comparable({ job, picture }) {
    const found = [{ value: "", text: this.#compared ? "End comparing" : "Compare …", act: () => this.#compare(null) }];
    if (job.request.image) found.push({ value: "source", text: "with its original", act: () => this.#compare({ value: "source", source: job.id }) });
    const plain = this.#plain({ job, picture });
    if (plain) found.push({ value: "plain", text: "with the plain model", act: () => this.#compare({ value: "plain", key: plain.key }) });
    if (jobs.pictures.length > 1) found.push({ value: "picked", text: "with another picture …", act: () => this.picking(true) });
    return found;
  }

  /** The same picture by the plain model, or the other way round. */
  #plain({ job, picture }) {
    const direct = this.#form.directMethod;
    const same = (other) => ["prompt", "negative", "model", "steps", "guidance", "image", "width", "height"].every((name) => other[name] === job.request[name]);
    return jobs.pictures.find((other) => other.picture.seed === picture.seed && other.job.id !== job.id && same(other.job.request)
      && (other.job.request.method === direct) !== (job.request.method === direct));
  }

  #compare(what) {
    this.#compared = what;
    this.draw();
    showView("picture");
    if (what) this.#viewer.divider.focus();
  }

  #other() {
    const title = (job) => job.request.enlarge ? "Enlarged" : this.#form.methods.get(job.request.method)?.title ?? job.request.method;
    const right = this.item ? title(this.item.job) : "";
    if (this.#compared?.source) return { url: inputUrl(this.#compared.source, "image"), alt: "The original", left: "Original", right };
    const item = this.#compared && jobs.pictures.find(({ key }) => key === this.#compared.key);
    return item ? { url: fileUrl(item.picture), alt: item.job.request.prompt, left: title(item.job), right } : null;
  }

  /** Delete a picture, unless that is taken back within some seconds. */
  remove(key) {
    const all = jobs.pictures;
    const place = all.findIndex((one) => one.key === key);
    const next = all[place + 1] ?? all[place - 1];
    jobs.hide(key);
    if (this.selected === key) {
      if (next) this.select(next.key);
      else this.#shown = { kind: "none" };
    }
    this.draw();
    const end = () => {
      this.#deleting.delete(key);
      jobs.remove(key).catch((error) => notify(error.message, { isError: true }));
    };
    const undo = () => {
      this.#deleting.delete(key);
      jobs.show(key);
      this.select(key);
    };
    this.#deleting.set(key, notify("The picture is deleted.", { action: "Undo", act: undo, ended: end }));
  }
}

/** Words on where a job is. */
export function progressText(job) {
  const running = job.pictures.find((picture) => picture.status === "running");
  const count = job.pictures.length;
  const made = job.pictures.filter((picture) => picture.status === "done").length;
  const which = count > 1 ? `Picture ${Math.min(made + 1, count)} of ${count}: ` : "";
  if (!running) return job.ahead ? `${plural(job.ahead, "picture")} before it` : made ? `${which}next` : "Next in the queue";
  if (!running.steps) return `${which}starting`.replace(/^s/, "S");
  if (running.step >= running.steps) return `${which}finishing`.replace(/^f/, "F");
  const left = jobs.secondsLeft(job);
  return `${which}step ${running.step} of ${running.steps}${left === null ? "" : `, about ${duration(left)} left`}`.replace(/^s/, "S");
}

/** Fill a progress element: all pictures of the job together. */
export function progressOf(bar, job) {
  const parts = job.pictures.map((picture) => (picture.status === "done" ? 1 : picture.status === "running" && picture.steps ? picture.step / picture.steps : 0));
  bar.max = 1;
  bar.value = parts.reduce((sum, part) => sum + part, 0) / parts.length;
}

/** Show a preview once it has arrived; until then what was there stays. */
export function loadPreview(image, url) {
  if (image.dataset.asked === url) return;
  image.dataset.asked = url;
  const next = new Image();
  next.addEventListener("load", () => {
    if (!image.isConnected || image.dataset.asked !== url) return;
    image.src = next.src;
    image.hidden = false;
  });
  next.src = url;
}

function slug(prompt) {
  const words = (prompt ?? "").normalize("NFKD").toLowerCase().match(/[a-z0-9]+/g) ?? [];
  return words.join("-").slice(0, 48).replace(/-$/, "") || "picture";
}
