// The form: its values for each tab, kept over a reload, and the request that they make.
import { $, h, keep, kept } from "./dom.js";
import { buildSettings } from "./settings.js";
import { DEFAULT_ENLARGEMENT, DEFAULT_SHAPE, ENLARGEMENTS, SHAPES, presetSize } from "./sizes.js";
import { asDataUrl, sources } from "./source.js";

export const TABS = ["create", "edit", "enlarge"];
const AUTOMATIC = "automatic";
const OWN_RECIPE = "own";
const OTHER = "";

/** What is wrong with the form, and the id of the field that is meant. */
export class FormError extends Error {
  constructor(message, field) {
    super(message);
    this.field = field;
  }
}

export class Form extends EventTarget {
  tab = "create";
  #values = kept("form", {});
  #settings = { values: () => ({}), fill: () => {} };
  #known = null;

  /** Fill the choices from the server's description, and the fields from what was kept. */
  start(description, mask) {
    this.mask = mask;
    this.describe(description);
    const { defaults, limits, methods, models } = description;
    this.methods = new Map(methods.map((method) => [method.name, method]));
    choices("model", models.map((model) => [model.name, model.name]));
    $("model-field").hidden = models.length < 2;
    choices("shape", [...Object.keys(SHAPES).map((name) => [name, name]), [OTHER, "My own"]]);
    choices("enlargement", [...Object.keys(ENLARGEMENTS).map((name) => [name, name]), [OTHER, "My own"]]);
    $("steps").max = limits.steps;
    $("n").max = limits.pictures;
    $("scale").max = defaults.largest_scale;
    this.first = { shape: DEFAULT_SHAPE, enlargement: DEFAULT_ENLARGEMENT, steps: defaults.steps, recipe: AUTOMATIC, n: 1, scale: defaults.scale, creativity: defaults.creativity, part: "whole", model: models[0].name };
    this.show(TABS.includes(this.#values.tab) ? this.#values.tab : "create");
    const form = $("form");
    form.addEventListener("input", (event) => this.#onInput(event));
    form.addEventListener("change", (event) => event.target.tagName === "SELECT" && this.#onInput(event));
    $("swap").addEventListener("click", () => {
      [$("width").value, $("height").value] = [$("height").value, $("width").value];
      this.#changed();
    });
    $("seed-any").addEventListener("click", () => {
      $("seed").value = "";
      this.#changed();
    });
    sources.addEventListener("change", () => this.#refresh());
  }

  /** A newer description: models tell their sizes when a worker has loaded them. */
  describe(description) {
    const before = JSON.stringify(this.#known?.models);
    this.#known = description;
    if (!this.methods || JSON.stringify(description.models) === before) return;
    this.#offer();
    if (this.tab === "create" && !$("width").value) this.#preset();
    this.#refresh();
    this.dispatchEvent(new Event("described"));
  }

  /** Offer what the model can do on this tab. */
  #offer() {
    const { methods: able, recipes, schedulers, name } = this.#model;
    const names = able[this.tab].length ? able[this.tab] : [...this.methods.keys()];
    const { defaults } = this.#known;
    const usual = this.tab === "enlarge" ? defaults.enlarging_method : defaults.method;
    const chosen = $("method").value;
    choices("method", names.map((one) => [one, this.methods.get(one).title]));
    if (!names.includes(chosen)) $("method").value = names.includes(usual) ? usual : names[0];
    choices("scheduler", [["", "the model's own"], ...schedulers.map((one) => [one, this.#known.schedulers[one]])]);
    choices("recipe", [[AUTOMATIC, "Automatic"], ...recipes.map((one) => [one, one]), [OWN_RECIPE, "My own, as TOML"]]);
    this.cannot = able[this.tab].length ? "" : `The model ${name} cannot start from a picture. Choose another one, or Create.`;
    if ($("method").value !== chosen) this.#buildSettings();
  }

  /** Whether all models have told their sizes; some do when they are first used. */
  get isComplete() {
    return this.#known.models.every((model) => model.facts);
  }

  get isReady() {
    return Boolean(this.#known.models[0].facts);
  }

  /** The name of the method that is the plain model. */
  get directMethod() {
    return this.#known.defaults.direct;
  }

  get method() {
    return this.methods.get($("method").value);
  }

  /** What has an effect with this method and model. */
  get #takes() {
    return this.method.takes.filter((name) => !this.#model.lacks.includes(name));
  }

  get #model() {
    return this.#known.models.find((model) => model.name === $("model").value) ?? this.#known.models[0];
  }

  get isPainted() {
    return this.tab === "edit" && this.#radio().value === "painted";
  }

  #radio = () => document.querySelector("input[name=part]:checked");

  #fields = () => [...$("form").elements].filter((field) => field.name && field.name !== "part");

  /** Go to another tab: its own prompt, method and size, and what all tabs share. */
  show(tab) {
    const { defaults } = this.#known;
    if (tab !== this.tab) document.querySelector(".fields").scrollTop = 0;
    this.tab = tab;
    document.body.dataset.tab = tab;
    $("panel").setAttribute("aria-labelledby", `tab-${tab}`);
    for (const one of TABS) {
      $(`tab-${one}`).setAttribute("aria-selected", String(one === tab));
      $(`tab-${one}`).tabIndex = one === tab ? 0 : -1;
    }
    choices("method", [...this.methods.keys()].map((name) => [name, name]));
    const own = { method: tab === "enlarge" ? defaults.enlarging_method : defaults.method, strength: defaults.strength };
    const values = { ...this.first, ...own, ...this.#values.shared, ...this.#values[tab] };
    setValue($("model"), values.model);
    if (!$("model").value) $("model").value = this.first.model;
    setValue($("method"), values.method);
    this.#offer();
    for (const field of this.#fields()) if (!["model", "method"].includes(field.name)) setValue(field, values[field.name]);
    for (const id of ["scheduler", "recipe"]) if ($(id).selectedIndex < 0) $(id).selectedIndex = 0;
    for (const radio of document.querySelectorAll("input[name=part]")) radio.checked = radio.value === values.part;
    sources.show(tab);
    this.#buildSettings();
    if (tab === "create" && !$("width").value) this.#preset();
    this.#refresh();
    this.#keep();
    this.dispatchEvent(new Event("tab"));
  }

  #buildSettings() {
    this.#settings = buildSettings($("method-settings"), this.method.title, this.method.settings, () => this.#changed());
    this.#settings.fill(this.#values.settings?.[this.method.name]);
  }

  /** The sides of the chosen shape and enlargement; they stay where either says that they do. */
  #preset() {
    if ($("shape").value === OTHER || $("enlargement").value === OTHER) return;
    const facts = this.#model.facts;
    const [width, height] = facts ? presetSize(facts, $("shape").value, $("enlargement").value, this.#known.limits.pixels) : ["", ""];
    $("width").value = width;
    $("height").value = height;
  }

  #onInput({ target }) {
    if (["shape", "enlargement"].includes(target.name) && target.value !== OTHER) {
      if ($("shape").value === OTHER) $("shape").value = DEFAULT_SHAPE;
      if ($("enlargement").value === OTHER) $("enlargement").value = DEFAULT_ENLARGEMENT;
    }
    if (["width", "height"].includes(target.name)) $("shape").value = $("enlargement").value = OTHER;
    if (["shape", "enlargement", "model"].includes(target.name) && this.tab === "create") this.#preset();
    if (target.name === "model") this.#offer();
    if (target.name === "method") {
      this.#buildSettings();
      $("strength").value = this.tab === "edit" ? this.#defaultStrength : this.method.strength;
    }
    if (target.name === "part") $("strength").value = this.#defaultStrength;
    this.#changed();
  }

  #changed() {
    this.#refresh();
    this.#keep();
    this.dispatchEvent(new Event("change"));
  }

  get #defaultStrength() {
    const { defaults } = this.#known;
    if (this.tab !== "edit") return this.method.strength;
    return this.isPainted ? defaults.masked_strength : defaults.strength;
  }

  #keep() {
    const [shared, own] = [{}, { part: this.#radio().value }];
    for (const field of this.#fields()) ("own" in field.dataset ? own : shared)[field.name] = valueOf(field);
    let settings = this.#values.settings ?? {};
    try {
      settings = { ...settings, [this.method.name]: this.#settings.values() };
    } catch {
      // half a number: what was kept before stays
    }
    this.#values = { ...this.#values, tab: this.tab, shared, [this.tab]: own, settings };
    keep("form", this.#values);
  }

  /** Show what matters for these values. */
  #refresh() {
    const { hint, settings } = this.method;
    const takes = this.#takes;
    $("method-hint").textContent = this.cannot || hint;
    for (const field of document.querySelectorAll("[data-takes]")) field.hidden = !takes.includes(field.dataset.takes);
    $("own-recipe-field").hidden = !takes.includes("recipe") || $("recipe").value !== OWN_RECIPE;
    for (const part of document.querySelectorAll("[data-for]")) part.hidden = !part.dataset.for.split(" ").includes(this.tab);
    $("strength-field").hidden = this.tab !== "edit" && (this.tab !== "create" || !takes.includes("strength") || Boolean(settings));
    $("compare-field").hidden = this.tab !== "create" || this.method.name === this.#known.defaults.direct;
    $("prompt").placeholder = { create: "a blue fox with a red scarf in the snow", edit: "", enlarge: "" }[this.tab];
    $("guidance").placeholder = `${this.#model.guidance}`;
    $("strength-shown").textContent = Number($("strength").value).toFixed(2);
    $("creativity-shown").textContent = Number($("creativity").value).toFixed(2);
    const scale = Number($("scale").value);
    const source = sources.of("enlarge");
    $("scale-shown").textContent = `${scale}×`;
    $("scale-hint").textContent = source?.width
      ? `${source.width} × ${source.height} becomes ${Math.round(source.width * scale)} × ${Math.round(source.height * scale)}.`
      : "Both sides become that many times as long.";
    const count = Math.max(1, Number($("n").value) || 1);
    const verb = { create: "Make", edit: "Make", enlarge: "Enlarge" }[this.tab];
    $("make").textContent = count > 1 ? `${verb} ${count} pictures` : this.tab === "enlarge" ? "Enlarge" : "Make picture";
  }

  /** The body of POST /v1/jobs for these values (`FormError`). A draft is one of POST /v1/estimate: the prompt may be
   *  missing, and pictures are not sent. */
  async body({ isDraft = false } = {}) {
    const prompt = $("prompt").value.trim();
    if (!prompt && !isDraft && this.tab !== "enlarge") throw new FormError("Write what the picture should show.", "prompt");
    if (this.cannot) throw new FormError(this.cannot, "model");
    const { name } = this.method;
    const takes = this.#takes;
    const body = { prompt, model: $("model").value, method: name, steps: whole("steps", "Steps"), n: whole("n", "Pictures") };
    if ($("negative").value.trim()) body.negative = $("negative").value.trim();
    if ($("guidance").value) body.guidance = Number($("guidance").value);
    if ($("seed").value.trim()) body.seed = whole("seed", "The seed");
    if ($("scheduler").value) body.scheduler = $("scheduler").value;
    if (takes.includes("recipe") && $("recipe").value !== AUTOMATIC) {
      body.recipe = $("recipe").value === OWN_RECIPE ? $("own_recipe").value : $("recipe").value;
      if (!body.recipe.includes("=") && $("recipe").value === OWN_RECIPE) throw new FormError("Write your recipe as TOML, or choose another.", "own_recipe");
    }
    if (takes.includes("freeu") && $("freeu").checked) body.freeu = true;
    const settings = this.#ownSettings();
    if (Object.keys(settings).length) body[name] = settings;
    if (this.tab === "enlarge") body.enlarge = { scale: Number($("scale").value), creativity: Number($("creativity").value) };
    else if ($("width").value.trim() || $("height").value.trim()) body.size = `${whole("width", "The width")}x${whole("height", "The height")}`;
    const strength = Number($("strength").value);
    const takesStrength = this.tab === "edit" || (this.tab === "create" && takes.includes("strength") && !(name in body));
    if (takesStrength && strength !== this.#defaultStrength) body.strength = strength;
    if (this.tab !== "create") await this.#addSource(body, isDraft);
    return body;
  }

  #ownSettings() {
    try {
      return this.#settings.values();
    } catch (error) {
      throw new FormError(error.message, "more");
    }
  }

  async #addSource(body, isDraft) {
    const source = sources.current;
    if (!source) throw new FormError(`Choose the picture to ${this.tab === "edit" ? "edit" : "enlarge"} first.`, "source-file");
    if (isDraft && source.width) body.image_size = `${source.width}x${source.height}`;
    else body.image = await asDataUrl(source.blob);
    if (!this.isPainted) return;
    if (isDraft) return void (body.mask = true);
    if (this.mask.isEmpty) throw new FormError("Paint the part that is drawn again, upload a mask, or choose “The whole picture”.", "mask-file");
    body.mask = await asDataUrl(await this.mask.blob());
  }

  /** The body of the same picture by the plain model. */
  directly(body) {
    const { direct } = this.#known.defaults;
    const left = Object.entries(body).filter(([name]) => !["recipe", "freeu", body.method, ...(body.image ? [] : ["strength"])].includes(name));
    return { ...Object.fromEntries(left), method: direct };
  }

  /** Put a request's values back. Returns notes on what the form cannot show. */
  restore(request, seed) {
    const notes = [];
    const tab = request.enlarge ? "enlarge" : request.image ? "edit" : "create";
    const { defaults, models } = this.#known;
    const method = this.methods.has(request.method) ? request.method : defaults.method;
    if (method !== request.method) notes.push(`the method ${request.method} is not here`);
    const isServed = models.some((model) => model.name === request.model);
    if (!isServed) notes.push(`the model ${request.model} is not served here`);
    if (request.controls?.length) notes.push("its control images are not shown on this page");
    const model = isServed ? request.model : this.first.model;
    const guidance = models.find((one) => one.name === model)?.guidance === request.guidance ? "" : request.guidance;
    const isShipped = models.find((one) => one.name === model)?.recipes.includes(request.recipe);
    const text = (value) => (value === null || value === undefined ? "" : String(value));
    this.#values = {
      ...this.#values,
      shared: {
        ...this.#values.shared, model, guidance, negative: text(request.negative), steps: request.steps, scheduler: text(request.scheduler),
        shape: OTHER, enlargement: OTHER, seed: text(seed ?? request.seed), freeu: Boolean(request.freeu), ...(request.enlarge ?? {}),
        recipe: isShipped ? request.recipe : request.recipe ? OWN_RECIPE : AUTOMATIC, own_recipe: isShipped ? "" : text(request.recipe),
      },
      [tab]: {
        ...this.#values[tab], prompt: text(request.prompt), method, part: request.mask ? "painted" : "whole",
        width: text(request.width), height: text(request.height),
        strength: request.strength ?? (tab === "create" ? this.methods.get(method).strength : request.mask ? defaults.masked_strength : defaults.strength),
      },
      settings: { ...this.#values.settings, [method]: request[method] ?? {} },
    };
    this.show(tab);
    document.querySelector(".fields").scrollTop = 0;
    this.dispatchEvent(new Event("change"));
    return notes;
  }

  setPrompt(tab, prompt) {
    this.#values[tab] = { ...this.#values[tab], prompt };
    if (tab === this.tab) $("prompt").value = prompt;
  }
}

function choices(id, pairs) {
  const select = $(id);
  const before = select.value;
  select.replaceChildren(...pairs.map(([value, text]) => h("option", { value }, text)));
  if (pairs.some(([value]) => value === before)) select.value = before;
}

function whole(id, name) {
  const text = $(id).value.trim();
  if (!/^\d{1,16}$/.test(text)) throw new FormError(`${name} must be a whole number.`, id);
  return Number(text);
}

const valueOf = (field) => (field.type === "checkbox" ? field.checked : field.value);

function setValue(field, value) {
  if (field.type === "checkbox") field.checked = Boolean(value);
  else field.value = value ?? "";
}
