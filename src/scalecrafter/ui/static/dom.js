// Elements, notices, and small things that every module needs.

export const $ = (id) => document.getElementById(id);

/** A new element. Properties that begin with "on" are listeners; null and false are left out. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && name !== "list" && !name.startsWith("aria")) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button with an icon; its words are there for everyone, or where the space is small as a name alone. */
export function tool(name, text, act, properties = {}) {
  return h("button", { type: "button", title: text, "aria-label": text, onclick: act, ...properties }, icon(name), h("span", {}, text));
}

/** Tell screen readers something that others see. */
export function announce(text) {
  $("announcer").textContent = text;
}

/** A notice that goes by itself. With `action` it has a button; `ended` is called when it goes unused. */
export function notify(text, { action = null, act = () => {}, ended = () => {}, seconds = 6, isError = false } = {}) {
  let timer = null;
  const close = (used) => {
    clearTimeout(timer);
    notice.remove();
    if (!used) ended();
  };
  const notice = h("div", { className: isError ? "notice error" : "notice" }, h("span", {}, text));
  if (action) notice.append(h("button", { type: "button", onclick: () => (close(true), act()) }, action));
  notice.append(h("button", { type: "button", "aria-label": "Close this notice", onclick: () => close(false) }, "×"));
  timer = setTimeout(() => close(false), 1000 * seconds);
  $("notices").append(notice);
  return () => close(false);
}

export function kept(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`scalecrafter.${name}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function keep(name, value) {
  try {
    localStorage.setItem(`scalecrafter.${name}`, JSON.stringify(value));
  } catch {
    // a browser that keeps nothing
  }
}

export const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export const isPhone = () => matchMedia("(max-width: 699px)").matches;

/** On a phone one part of the page is shown at a time. */
export function showView(name) {
  document.body.dataset.view = name;
  for (const button of document.querySelectorAll("#views button")) {
    if (button.dataset.view === name) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
}
