// Controls for a method's own settings, from the JSON schema of its class: nothing here knows a method.
import { h } from "./dom.js";

/** A schema without references, and whether it may be null. */
function plain(schema, definitions) {
  if (schema.$ref) return plain({ ...definitions[schema.$ref.split("/").at(-1)], ...schema, $ref: undefined }, definitions);
  const kinds = schema.anyOf ?? schema.oneOf;
  if (!kinds) return { schema, optional: schema.default === null };
  const others = kinds.filter((kind) => kind.type !== "null");
  const { schema: inner } = plain(others[0], definitions);
  return { schema: { ...inner, ...schema, anyOf: undefined, oneOf: undefined }, optional: others.length < kinds.length };
}

const words = (name) => name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");
const shown = (value) => (Array.isArray(value) ? value.join(", ") : value === null || value === undefined ? "" : String(value));

function control(id, schema, optional) {
  if (schema.enum || schema.const !== undefined) {
    const values = schema.enum ?? [schema.const];
    const options = values.map((value) => h("option", { value: String(value) }, String(value)));
    return h("select", { id }, ...(optional ? [h("option", { value: "" }, "the method's own")] : []), ...options);
  }
  if (schema.type === "boolean") return h("input", { id, type: "checkbox" });
  if (schema.type === "number" || schema.type === "integer") {
    const step = schema.type === "integer" ? 1 : "any";
    return h("input", { id, type: "number", step, min: schema.minimum ?? schema.exclusiveMinimum, max: schema.maximum ?? schema.exclusiveMaximum });
  }
  return h("input", { id, type: "text", autocomplete: "off", spellcheck: false });
}

/** What a control says, as JSON; undefined where it is empty. Throws Error with words for what cannot be read. */
function read(input, schema, title) {
  if (input.type === "checkbox") return input.checked;
  const text = input.value.trim();
  if (!text) return undefined;
  const number = (part) => {
    const value = Number(part);
    if (!part.trim() || Number.isNaN(value)) throw new Error(`${title}: ${part.trim() || "nothing"} is no number.`);
    return value;
  };
  if (schema.type === "number" || schema.type === "integer") return number(text);
  if (schema.type === "array") {
    const items = schema.items ?? {};
    const parts = text.split(",").map((part) => part.trim());
    return items.type === "string" ? parts : parts.map(number);
  }
  if (schema.type === "string" || schema.enum) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/**
 * The controls of a schema's properties, inside `place`.
 * Returns { values(), fill(values) }: values() has only those that differ from the defaults.
 */
export function buildSettings(place, title, schema, changed) {
  place.replaceChildren();
  const fields = Object.entries(schema?.properties ?? {}).map(([name, given]) => {
    const { schema: kind, optional } = plain(given, schema.$defs ?? {});
    const id = `setting-${name}`;
    const input = control(id, kind, optional);
    input.addEventListener("change", changed);
    const label = words(name);
    const hint = kind.description && h("p", { className: "hint", id: `${id}-hint` }, kind.description.replace(/\s+/g, " ").split(/(?<=\.) /)[0]);
    if (hint) input.setAttribute("aria-describedby", hint.id);
    if (kind.default === null || kind.default === undefined) input.placeholder = "the method's own";
    const row = input.type === "checkbox"
      ? h("div", { className: "field" }, h("label", { className: "check" }, input, label), hint)
      : h("div", { className: "field" }, h("label", { htmlFor: id }, label), input, hint);
    return { name, kind, input, label, row };
  });
  if (fields.length) place.append(h("fieldset", {}, h("legend", {}, `Settings of ${title}`), ...fields.map((field) => field.row)));
  const fill = (values = {}) => {
    for (const { name, kind, input } of fields) {
      const value = name in values ? values[name] : kind.default;
      if (input.type === "checkbox") input.checked = Boolean(value);
      else input.value = shown(value);
    }
  };
  const values = () => {
    const found = {};
    for (const { name, kind, input, label } of fields) {
      const value = read(input, kind, label);
      if (value !== undefined && shown(value) !== shown(kind.default)) found[name] = value;
    }
    return found;
  };
  fill();
  return { values, fill };
}
