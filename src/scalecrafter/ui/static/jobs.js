// The jobs of this browser: the latest state of each, newest first. "change" is dispatched when something changed,
// "done" with a job whose pictures are all made, "failed" with one that ended otherwise.
import * as api from "./api.js";

const PAGE = 30;
const [BUSY, QUIET] = [600, 20000];
const FINAL = new Set(["done", "failed", "cancelled"]);

export const isFinal = (job) => FINAL.has(job.status);
export const keyOf = (job, picture) => `${job.id}/${picture.index}`;

class Jobs extends EventTarget {
  #jobs = new Map();
  #hidden = new Set();
  #times = new Map();
  #timer = null;
  #refreshing = null;
  #channel = "BroadcastChannel" in self ? new BroadcastChannel("scalecrafter") : null;
  hasMore = false;
  loaded = false;
  problem = null;

  constructor() {
    super();
    this.#channel?.addEventListener("message", () => this.refresh());
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
  }

  get all() {
    return [...this.#jobs.values()];
  }

  get unfinished() {
    return this.all.filter((job) => !isFinal(job)).reverse();
  }

  /** Finished pictures, newest first. */
  get pictures() {
    return this.all.flatMap((job) =>
      job.pictures
        .filter((picture) => picture.status === "done" && !this.#hidden.has(keyOf(job, picture)))
        .map((picture) => ({ job, picture, key: keyOf(job, picture) }))
    );
  }

  get failed() {
    return this.all.filter((job) => job.status === "failed" && !this.#hidden.has(job.id));
  }

  get = (id) => this.#jobs.get(id);

  /** Ask for the newest jobs; again soon while something is being made. */
  refresh() {
    this.#refreshing ??= this.#refresh().finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  async #refresh() {
    clearTimeout(this.#timer);
    try {
      const active = this.all.findLastIndex((job) => !isFinal(job)) + 1;
      const limit = this.loaded ? Math.min(Math.max(active, 5), 100) : PAGE;
      const page = await api.newest(limit);
      if (!this.loaded) this.hasMore = page.has_more;
      this.#take(page);
      this.loaded = true;
      this.problem = null;
    } catch (error) {
      this.problem = error.message;
    }
    this.dispatchEvent(new Event("change"));
    const pause = this.unfinished.length || this.problem ? BUSY : QUIET;
    this.#timer = setTimeout(() => this.refresh(), document.hidden ? 2 * pause : pause);
  }

  #take(page) {
    const got = new Map(page.data.map((job) => [job.id, job]));
    const oldest = page.data.at(-1)?.created ?? 0;
    const events = [];
    for (const job of page.data) {
      const before = this.#jobs.get(job.id);
      this.#clock(job);
      if (before && !isFinal(before) && isFinal(job)) events.push(new CustomEvent(job.status === "done" ? "done" : "failed", { detail: job }));
    }
    // What is missing from a page that should have it was removed elsewhere.
    const others = this.all.filter((job) => !got.has(job.id) && page.has_more && job.created <= oldest);
    this.#jobs = new Map([...page.data, ...others].map((job) => [job.id, job]));
    for (const event of events) this.dispatchEvent(event);
  }

  /** Remember when which step was seen, for the time left. */
  #clock(job) {
    for (const picture of job.pictures) {
      const key = keyOf(job, picture);
      if (picture.status !== "running" || !picture.steps) this.#times.delete(key);
      else if (!this.#times.has(key)) this.#times.set(key, { step: picture.step, since: performance.now() });
    }
  }

  /** Seconds until a running job is made, or null while that is not known. */
  secondsLeft(job) {
    const running = job.pictures.find((picture) => picture.status === "running");
    const seen = running && this.#times.get(keyOf(job, running));
    const steps = seen ? running.step - seen.step : 0;
    if (steps < 2) return null;
    const each = (performance.now() - seen.since) / 1000 / steps;
    const waiting = job.pictures.filter((picture) => picture.status === "queued").length;
    return each * (running.steps - running.step + waiting * running.steps);
  }

  async more() {
    const last = this.all.at(-1);
    if (!last) return;
    const page = await api.newest(PAGE, last.id);
    this.hasMore = page.has_more;
    for (const job of page.data) this.#jobs.set(job.id, job);
    this.dispatchEvent(new Event("change"));
  }

  async submit(body) {
    const job = await api.submit(body);
    await this.#refreshing; // one that began before knows nothing of it
    this.#jobs = new Map([[job.id, job], ...this.#jobs]);
    this.#channel?.postMessage("submitted");
    this.dispatchEvent(new Event("change"));
    this.refresh();
    return job;
  }

  async cancel(id) {
    const job = await api.cancel(id);
    const before = this.#jobs.get(id);
    this.#jobs.set(id, job);
    if (before && !isFinal(before)) this.dispatchEvent(new CustomEvent("failed", { detail: job }));
    this.#channel?.postMessage("cancelled");
    this.dispatchEvent(new Event("change"));
    this.refresh();
  }

  /** Take a picture out of sight; `remove` or `show` must follow. */
  hide(key) {
    this.#hidden.add(key);
    this.dispatchEvent(new Event("change"));
  }

  show(key) {
    this.#hidden.delete(key);
    this.dispatchEvent(new Event("change"));
  }

  /** Remove a picture from the server, or a failed job. */
  async remove(key) {
    const [id, index] = key.split("/");
    try {
      await (index === undefined ? api.removeJob(id) : api.removePicture(id, Number(index)));
      await this.#refreshing;
      const job = this.#jobs.get(id);
      const left = index === undefined ? [] : (job?.pictures ?? []).filter((picture) => picture.index !== Number(index));
      if (left.length) this.#jobs.set(id, { ...job, pictures: left });
      else this.#jobs.delete(id);
    } finally {
      this.show(key);
      this.#channel?.postMessage("removed");
    }
  }
}

export const jobs = new Jobs();
