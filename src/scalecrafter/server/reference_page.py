"""`/docs`: the OpenAPI description as a page to read. It needs no script and nothing from other sites."""

from __future__ import annotations

import json
from html import escape
from typing import Any

PATHS = ("/docs", "/openapi.json")
"""The description, for browsers and for programs."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { margin: 0 auto; max-width: 60rem; padding: 1rem }
h2 { border-top: 1px solid #8886; margin-top: 2.5rem; padding-top: 1rem; font-size: 1.15rem; overflow-wrap: anywhere }
code, pre { font: .9em/1.45 ui-monospace, monospace }
pre { background: #8882; border-radius: .4rem; overflow-x: auto; padding: .7rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid #8884; padding: .3rem .6rem .3rem 0; text-align: left; vertical-align: top }
td:first-child { white-space: nowrap }
nav ul { columns: 20rem; list-style: none; padding: 0 }
"""
_EXAMPLES: dict[str, Any] = {"prompt": "a blue fox in the snow", "size": "512x512"}


def reference_page(description: dict[str, Any], base: str) -> str:
    """The page.

    Args:
        description: of the API, as OpenAPI 3.1 has it.
        base: the server's address as the client knows it; it ends in a slash.
    """
    operations = [
        (method.upper(), path, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    links = "".join(
        f'<li><a href="#{_anchor(method, path)}"><code>{method} {escape(path)}</code></a></li>'
        for method, path, _ in operations
    )
    sections = "".join(_section(method, path, operation, base) for method, path, operation in operations)
    title = escape(description["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: the API</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
        f"<main><h1>{title} {escape(description['info']['version'])}: the API</h1>"
        "<p>For programs: <a href='openapi.json'><code>openapi.json</code></a>. Where the server has API keys, a "
        "request carries one: <code>Authorization: Bearer KEY</code>. Errors are "
        '<code>{"error": {"message", "type", "param", "code"}}</code>.</p>'
        f'<nav aria-label="Operations"><ul>{links}</ul></nav>{sections}</main></body></html>'
    )


def _section(method: str, path: str, operation: dict[str, Any], base: str) -> str:
    body, kind = _body(operation)
    rows = [
        (one["name"], one["schema"], one.get("required", False), f"in the {one['in']}")
        for one in operation.get("parameters", ())
    ]
    required = set(body.get("required", ()))
    rows += [(name, schema, name in required, "") for name, schema in body.get("properties", {}).items()]
    answers = ", ".join(
        f"<code>{escape(status)}</code> {escape(answer['description'])}"
        for status, answer in operation["responses"].items()
    )
    table = "".join(_row(*row) for row in rows)
    if table:
        heads = "".join(f'<th scope="col">{head}</th>' for head in ("parameter", "values", "meaning"))
        table = f'<div class="scroll" tabindex="0"><table><tr>{heads}</tr>{table}</table></div>'
    return (
        f'<section><h2 id="{_anchor(method, path)}"><code>{method} {escape(path)}</code></h2>'
        f"<p>{escape(operation.get('description', operation['summary']))}</p>"
        f"<pre tabindex='0'>{escape(_curl(method, path, kind, body, base))}</pre>{table}"
        f"<p>Answers: {answers}.</p></section>"
    )


def _row(name: str, schema: dict[str, Any], required: bool, where: str) -> str:
    meaning = "; ".join(filter(None, (schema.get("description", ""), "required" if required else "", where)))
    return f"<tr><td><code>{escape(name)}</code></td><td>{escape(_values(schema))}</td><td>{escape(meaning)}</td></tr>"


def _values(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join("null" if value is None else str(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_values(one) for one in schema["anyOf"])
    limits = [f"{sign} {schema[key]:g}" for key, sign in _LIMITS.items() if key in schema]
    default = [f"default {json.dumps(schema['default'])}"] if schema.get("default") is not None else []
    kind = "file" if schema.get("format") == "binary" else str(schema.get("type", "any"))
    return ", ".join([kind, *limits, *default])


_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _body(operation: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The schema of an operation's body and its content type; empty without a body."""
    content = operation.get("requestBody", {}).get("content", {})
    return next(((one["schema"], kind) for kind, one in content.items()), ({}, ""))


def _curl(method: str, path: str, kind: str, body: dict[str, Any], base: str) -> str:
    """The operation at the command line."""
    url = base + "/".join(
        f"${part.strip('{}').upper()}" if part.startswith("{") else part for part in path.lstrip("/").split("/")
    )
    start = f"curl -s {url}" if method in ("GET", "POST") else f"curl -s -X {method} {url}"
    names = [name for name in body.get("properties", {}) if name in (*body.get("required", ()), "size")]
    if kind == "application/json":
        example = {name: _EXAMPLES[name] for name in names if name in _EXAMPLES}
        return f"{start} -H 'Content-Type: application/json' -d '{json.dumps(example)}'"
    if kind:
        files = {"image": "@photo.jpg", "mask": "@mask.png"}
        return start + "".join(f" -F {name}='{files.get(name) or _EXAMPLES[name]}'" for name in names if name != "size")
    return start


def _anchor(method: str, path: str) -> str:
    return escape(f"{method}-{path.strip('/').replace('/', '-')}".lower().replace("{", "").replace("}", ""))
