// Puts the parts of the page together.
import * as api from "./api.js";
import { watchCost } from "./cost.js";
import { $, announce, isPhone, keep, kept, notify, showView } from "./dom.js";
import { Form, FormError, TABS } from "./form.js";
import { jobs } from "./jobs.js";
import { Gallery, Queue } from "./lists.js";
import { MaskEditor } from "./mask.js";
import { requestIn } from "./restoring.js";
import { sources } from "./source.js";
import { Stage } from "./stage.js";

const form = new Form();
const mask = new MaskEditor(() => {});
const stage = new Stage(form, mask);
const queue = new Queue(stage);
const gallery = new Gallery(stage);

/** Say what is wrong beside the button, and go to the field that is meant. */
function showProblem(error) {
  for (const field of document.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  $("problem").textContent = error?.message ?? "";
  if (!error) return;
  if (!(error instanceof FormError) && !(error instanceof api.ApiError)) throw error;
  const names = { size: "width", image: "source-file", mask: "mask-file", scale: "scale" };
  const field = $(error.field ?? names[error.param] ?? error.param ?? "");
  if (!field?.closest("form")) return;
  field.setAttribute("aria-invalid", "true");
  const details = field.closest("details");
  if (details) details.open = true;
  field.focus();
}

let sent = Promise.resolve();
/** Every press of Make is a job: one after the other, each with the settings of its own moment. */
function make() {
  const body = form.body();
  body.catch(() => {}); // its turn comes below
  const wantsPlain = form.tab === "create" && $("compare").checked && !$("compare-field").hidden;
  sent = sent.then(() => send(body, wantsPlain));
}

async function send(written, wantsPlain) {
  try {
    showProblem(null);
    const body = await written;
    if (wantsPlain && body.seed === undefined) body.seed = crypto.getRandomValues(new Uint32Array(1))[0];
    const job = await jobs.submit(body);
    if (wantsPlain) await jobs.submit(form.directly(body));
    stage.expect(job.id);
    announce(job.ahead ? `In the queue, ${job.ahead} before it` : "Your picture is being made");
    if (isPhone()) showView("picture");
  } catch (error) {
    showProblem(error);
  }
}

/** Back to the settings of a picture, with what it started from. */
async function restore({ job, picture }) {
  const { request } = job;
  const notes = form.restore(request, picture.seed);
  try {
    if (request.image) await sources.useUrl(api.inputUrl(job.id, "image"), "original.png", form.tab);
    if (request.mask) {
      mask.show(sources.current);
      await mask.upload(await api.blobOf(api.inputUrl(job.id, "mask")));
    }
  } catch (error) {
    notes.push(error.message);
  }
  notify(["The settings of this picture are back", ...notes].join("; ") + ".");
  if (isPhone()) showView("settings");
}

async function restoreFile(file) {
  try {
    const request = await requestIn(file);
    const notes = form.restore(request);
    if (request.image) notes.push("choose the picture that it started from once more");
    notify([`The settings of ${file.name} are back`, ...notes].join("; ") + ".");
  } catch (error) {
    notify(error.message, { isError: true, seconds: 12 });
  }
}

/** Take a picture of the gallery to Edit or Enlarge. */
async function takeTo(tab, { job, picture }) {
  form.show(tab);
  form.setPrompt(tab, job.request.prompt);
  try {
    await sources.useUrl(api.fileUrl(picture), `picture-${picture.seed}.png`, tab);
  } catch (error) {
    showProblem(error);
  }
  if (isPhone()) showView("settings");
  $("make").focus();
}

function startTabs() {
  $("tabs").addEventListener("click", ({ target }) => TABS.includes(target.id.slice(4)) && form.show(target.id.slice(4)));
  $("tabs").addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    form.show(TABS[(TABS.indexOf(form.tab) + move + TABS.length) % TABS.length]);
    $(`tab-${form.tab}`).focus();
  });
  for (const button of document.querySelectorAll("#views button")) button.addEventListener("click", () => showView(button.dataset.view));
}

function startDropping() {
  const isFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragover", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    document.body.toggleAttribute("data-dropping", true);
  });
  addEventListener("dragleave", (event) => event.relatedTarget || document.body.removeAttribute("data-dropping"));
  addEventListener("drop", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    document.body.removeAttribute("data-dropping");
    const [file] = event.dataTransfer.files;
    if (file) sources.tab ? sources.use(file, file.name) : restoreFile(file);
  });
  $("restore-file").addEventListener("change", ({ target }) => {
    if (target.files[0]) restoreFile(target.files[0]);
    target.value = "";
  });
}

function startTheme() {
  const themes = { auto: "as the system", dark: "dark", light: "light" };
  const apply = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    $("theme").title = `Colours: ${themes[theme]}`;
    $("theme").setAttribute("aria-label", $("theme").title);
    keep("theme", theme);
    return theme;
  };
  let theme = apply(kept("theme", "auto"));
  $("theme").addEventListener("click", () => {
    const names = Object.keys(themes);
    theme = apply(names[(names.indexOf(theme) + 1) % names.length]);
    announce($("theme").title);
  });
}

async function showPlan() {
  $("plan-body").textContent = "Drawing the plan. The first one takes some seconds …";
  $("plan").showModal();
  try {
    const body = await form.body().catch(() => ({}));
    const { image, mask: painted, n, seed, enlarge, ...rest } = body;
    const { svg } = await api.plan({ method: $("method").value, model: $("model").value, ...rest, prompt: rest.prompt || "plan" });
    const drawn = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
    $("plan-body").replaceChildren(drawn);
  } catch (error) {
    $("plan-body").textContent = error.message;
  }
}

/** Whether the server answers and has its model. Models tell their sizes once a worker has loaded them. */
async function watchServer() {
  while (!form.isComplete) {
    try {
      form.describe(await api.form());
      $("server-state").textContent = form.isReady ? "" : "The model is being loaded …";
    } catch {
      $("server-state").textContent = "";
    }
    await new Promise((done) => setTimeout(done, form.isReady ? 15000 : 1500));
  }
}

function startKeys() {
  const isMake = (event) => event.key === "Enter" && !event.isComposing && (event.ctrlKey || event.metaKey || (event.target.id === "prompt" && !event.shiftKey));
  document.addEventListener("keydown", (event) => {
    if (isMake(event)) {
      event.preventDefault();
      make();
    } else if (event.key === "Escape" && stage.isPicking) stage.picking(false);
    else if (document.contains(mask.element) && !/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) {
      if (event.key === "[" || event.key === "]") mask.resize(event.key === "]" ? 5 : -5);
      if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        event.shiftKey ? mask.redo() : mask.undo();
      }
    }
  });
}

function followTab() {
  const source = sources.of("edit");
  mask.show(source?.width ? source : null);
  $("paint-open").hidden = !form.isPainted || !source?.width;
  if (form.isPainted && source?.width) stage.showSource();
  else if (stage.selected === null) stage.start();
}

async function start() {
  startTheme();
  startTabs();
  startKeys();
  startDropping();
  const description = await api.form().catch((error) => {
    notify(error.message, { isError: true, seconds: 3600 });
    throw error;
  });
  gallery.keepHours = description.keep_hours;
  await sources.start();
  form.start(description, mask);
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    make();
  });
  $("plan-open").addEventListener("click", showPlan);
  $("help-open").addEventListener("click", () => $("help").showModal());
  form.addEventListener("tab", followTab);
  form.addEventListener("change", () => showProblem(null));
  for (const radio of document.querySelectorAll("input[name=part]")) radio.addEventListener("change", followTab);
  sources.addEventListener("change", followTab);
  $("paint-open").addEventListener("click", () => {
    stage.showSource();
    if (isPhone()) showView("picture");
  });
  stage.addEventListener("restore", ({ detail }) => restore(detail));
  for (const tab of ["edit", "enlarge"]) stage.addEventListener(tab, ({ detail }) => takeTo(tab, detail));
  jobs.addEventListener("done", ({ detail }) => announce(`Finished: ${detail.request.prompt || "the enlarged picture"}`));
  jobs.addEventListener("failed", ({ detail }) => {
    if (detail.status === "cancelled") announce("Cancelled");
    else notify(detail.error?.message ?? "A picture failed.", { isError: true, seconds: 15 });
  });
  jobs.addEventListener("change", () => {
    const state = $("server-state");
    if (jobs.problem) state.textContent = state.dataset.problem = jobs.problem;
    else if (state.textContent === state.dataset.problem) state.textContent = "";
  });
  queue.draw();
  await jobs.refresh();
  stage.start();
  followTab();
  document.body.dataset.ready = "true";
  watchServer();
  watchCost(form, jobs);
}

start();
