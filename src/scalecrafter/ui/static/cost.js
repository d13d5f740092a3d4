// What a picture will take, told beside the button that makes it.
import * as api from "./api.js";
import { $ } from "./dom.js";
import { sources } from "./source.js";

const PAUSE = 700; // milliseconds without a change before the server is asked

/** Keep the line up to date: after changes of the form, and after a picture, which tells more. */
export function watchCost(form, jobs) {
  const line = $("cost");
  let timer = null;
  let last = "";
  const show = (text) => {
    line.textContent = text;
    line.hidden = !text;
  };
  const ask = async () => {
    if (!form.isComplete) return;
    const { prompt, n, seed, ...body } = await form.body({ isDraft: true }).catch(() => ({}));
    // What the prompt says costs nothing; whether an enlarged picture has one may.
    const draft = { ...body, prompt: form.tab === "enlarge" && !prompt ? "" : "a picture" };
    const asked = body.method ? JSON.stringify(draft) : "";
    if (asked === last) return;
    last = asked;
    if (!asked) return show("");
    const told = await api.estimate(draft).catch(() => null); // a line of help, no more
    if (asked === last) show(told ? `A picture takes ${told.text}.` : "");
  };
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(ask, PAUSE);
  };
  for (const event of ["change", "tab", "described"]) form.addEventListener(event, soon);
  sources.addEventListener("change", soon);
  jobs.addEventListener("done", () => {
    last = "";
    soon();
  });
  soon();
}
