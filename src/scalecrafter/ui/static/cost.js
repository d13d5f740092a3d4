// What a picture will take, told beside the button that makes it.
import * as api from "./api.js";
import { $ } from "./dom.js";

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
    const asked = form.tab === "create" && body.method ? JSON.stringify(body) : "";
    if (asked === last) return;
    last = asked;
    if (!asked) return show("");
    const told = await api.estimate({ ...body, prompt: "a picture" }).catch(() => null); // a line of help, no more
    if (asked === last) show(told ? `A picture takes ${told.text}.` : "");
  };
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(ask, PAUSE);
  };
  for (const event of ["change", "tab", "described"]) form.addEventListener(event, soon);
  jobs.addEventListener("done", () => {
    last = "";
    soon();
  });
  soon();
}
