// The picture that Edit and Enlarge start from: chosen, dropped, pasted, or taken from the gallery. One for each of the
// two; they are kept over a reload where the browser has a cache for this site.
import { blobOf } from "./api.js";
import { $, announce } from "./dom.js";

const TABS = ["edit", "enlarge"];

class Sources extends EventTarget {
  #kept = new Map();
  tab = null;

  /** The picture of the present tab, or null: { blob, url, name, width, height }; a size of 0 is not known. */
  get current() {
    return this.#kept.get(this.tab) ?? null;
  }

  of = (tab) => this.#kept.get(tab) ?? null;

  async start() {
    for (const tab of TABS) {
      const blob = await cached(tab);
      if (blob) await this.use(blob.blob, blob.name, tab, false);
    }
    $("source-file").addEventListener("change", ({ target }) => {
      if (target.files[0]) this.use(target.files[0], target.files[0].name);
      target.value = "";
    });
    $("source-remove").addEventListener("click", () => this.clear());
    document.addEventListener("paste", (event) => {
      const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
      if (file && this.tab) this.use(file, file.name);
    });
  }

  /** Show those of a tab; null for a tab that starts from none. */
  show(tab) {
    this.tab = TABS.includes(tab) ? tab : null;
    this.#draw();
  }

  async use(blob, name, tab = this.tab, isNew = true) {
    const old = this.#kept.get(tab);
    if (old) URL.revokeObjectURL(old.url);
    const url = URL.createObjectURL(blob);
    const { width, height } = await sizeOf(url);
    this.#kept.set(tab, { blob, url, name, width, height });
    if (isNew) await cache(tab, blob, name);
    if (tab === this.tab) this.#draw();
    if (isNew) announce(`The picture to start from is ${name}`);
    this.dispatchEvent(new CustomEvent("change", { detail: { tab, isNew } }));
  }

  async useUrl(url, name, tab) {
    await this.use(await blobOf(url), name, tab);
  }

  clear(tab = this.tab) {
    const old = this.#kept.get(tab);
    if (old) URL.revokeObjectURL(old.url);
    this.#kept.delete(tab);
    cache(tab, null);
    this.#draw();
    this.dispatchEvent(new CustomEvent("change", { detail: { tab, isNew: true } }));
  }

  #draw() {
    const picture = this.current;
    const image = $("source-picture");
    image.hidden = !picture || !picture.width;
    image.alt = picture ? `The picture to start from: ${picture.name}` : "";
    if (picture) image.src = picture.url;
    else image.removeAttribute("src");
    $("source-remove").hidden = !picture;
    $("source-text").textContent = picture
      ? `${picture.name}${picture.width ? `, ${picture.width} × ${picture.height}` : " (this browser cannot show it, the server may read it)"}`
      : "Drop a picture here, paste it, or choose one.";
  }
}

/** As a data URL, which the API takes. */
export function asDataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(new Error("The file cannot be read. Choose it again.")));
    reader.readAsDataURL(blob);
  });
}

async function sizeOf(url) {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
    return { width: image.naturalWidth, height: image.naturalHeight };
  } catch {
    return { width: 0, height: 0 };
  }
}

const cachePath = (tab) => `/page/source/${tab}`;

async function cache(tab, blob, name = "") {
  try {
    const cache = await caches.open("scalecrafter");
    if (!blob) await cache.delete(cachePath(tab));
    else await cache.put(cachePath(tab), new Response(blob, { headers: { "X-Name": encodeURIComponent(name) } }));
  } catch {
    // no cache here, as over plain HTTP on a network
  }
}

async function cached(tab) {
  try {
    const found = await (await caches.open("scalecrafter")).match(cachePath(tab));
    return found ? { blob: await found.blob(), name: decodeURIComponent(found.headers.get("X-Name") ?? "picture") } : null;
  } catch {
    return null;
  }
}

export const sources = new Sources();
