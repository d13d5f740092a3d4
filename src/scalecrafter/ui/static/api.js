// The server's HTTP API. The id that this browser made up for itself says which jobs are its own.
import { keep, kept } from "./dom.js";

function ownId() {
  let id = kept("client", null);
  if (typeof id !== "string" || id.length !== 32) {
    id = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    keep("client", id);
  }
  return id;
}
const CLIENT = ownId();

/** What the server refused, in words; `param` is the field that is meant. Status 0: it does not answer. */
export class ApiError extends Error {
  constructor(status, { message = `The server answered ${status}.`, param = null, code = null } = {}) {
    super(sentence(message));
    Object.assign(this, { status, param, code });
  }
}

function sentence(message) {
  const text = message.replace(/^request: /, "").trim();
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");
}

export async function call(path, { method = "GET", json = undefined, keepalive = false } = {}) {
  const headers = { "X-Client-Id": CLIENT };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: json === undefined ? undefined : JSON.stringify(json), keepalive });
  } catch {
    throw new ApiError(0, { message: "The server does not answer. Is it still running?" });
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new ApiError(answer.status, content.error);
  return content;
}

export const form = () => call("page/form");
export const plan = (json) => call("page/plan", { method: "POST", json });
export const estimate = (json) => call("v1/estimate", { method: "POST", json });
export const submit = (json) => call("v1/jobs", { method: "POST", json });
export const job = (id) => call(`v1/jobs/${id}`);
export const newest = (limit, after) => call(`v1/jobs?limit=${limit}${after ? `&after=${after}` : ""}`);
export const cancel = (id) => call(`v1/jobs/${id}`, { method: "DELETE" });
export const removePicture = (id, index) => call(`v1/jobs/${id}/pictures/${index}`, { method: "DELETE", keepalive: true });
export const removeJob = (id) => call(`v1/jobs/${id}/pictures`, { method: "DELETE", keepalive: true });

export const fileUrl = (picture, ending = "png", side = null) => `v1/files/${picture.id}.${ending}${side ? `?side=${side}` : ""}`;
export const inputUrl = (id, field) => `v1/jobs/${id}/inputs/${field}`;
export const previewUrl = (id, picture) => `v1/jobs/${id}/pictures/${picture.index}/preview?number=${picture.preview}`;

export async function blobOf(url) {
  const answer = await fetch(url).catch(() => null);
  if (!answer?.ok) throw new ApiError(answer?.status ?? 0, { message: "That picture is no longer on the server." });
  return answer.blob();
}
