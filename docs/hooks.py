"""What mkdocs does beside Markdown: equations become MathML, and tables are read from the package itself.

Equations are written as GitHub shows them too, `$…$` and `$$…$$`.  MathML needs no script and no font of another site.
A page says `<!-- methods -->`, `<!-- recipes -->` or `<!-- commands -->` where such a table belongs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape, unescape
from typing import Any

from latex2mathml.converter import convert

_EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    for name, write in {"methods": _methods, "recipes": _recipes, "commands": _commands}.items():
        if f"<!-- {name} -->" in markdown:
            markdown = markdown.replace(f"<!-- {name} -->", "\n".join(write()))
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    return _EQUATION.sub(lambda found: _mathml(found[1] == "div", unescape(found[2])), html)


def _mathml(alone: bool, latex: str) -> str:
    mathml = convert(latex.strip(), display="block" if alone else "inline")
    return f'<div class="equation">{mathml}</div>' if alone else mathml


def _methods() -> Iterator[str]:
    from scalecrafter.request.methods import METHODS

    yield from ("| name | what it does | source | what has an effect |", "|---|---|---|---|")
    for method in METHODS.values():
        own = [f"`{name}`" for name in (method.settings.model_fields if method.settings else ())]
        effects = [*sorted(method.takes), *([f"own settings: {', '.join(own)}"] if own else [])]
        yield f"| `{method.name}` | {method.summary} | {method.source} | {', '.join(effects) or '–'} |"


def _recipes() -> Iterator[str]:
    from typer.testing import CliRunner

    from scalecrafter.cli import app

    yield from ("| name | family | size | what it does |", "|---|---|---|---|")
    for line in CliRunner().invoke(app, ["recipes", "list"], catch_exceptions=False).stdout.splitlines():
        name, rest = line.split(maxsplit=1)
        family, size, what = rest.split("; ", 2)
        yield f"| `{name}` | {family} | {size} | {what} |"


def _commands() -> Iterator[str]:
    import typer.main

    from scalecrafter.cli import app

    yield from _command("scalecrafter", typer.main.get_command(app))


def _command(path: str, command: Any) -> Iterator[str]:
    children = getattr(command, "commands", {})
    if not children:
        yield from (f"## `{path}`", "", _sentence(command.help), "", "| option | meaning | default |", "|---|---|---|")
        for parameter in command.params:
            if parameter.name != "help":
                yield f"| {_names(parameter)} | {_sentence(getattr(parameter, 'help', ''))} | {_default(parameter)} |"
        yield ""
    for name, child in children.items():
        yield from _command(f"{path} {name}", child)


def _names(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    if not parameter.opts[0].startswith("-"):
        names = [(parameter.metavar or parameter.name).strip("[]{}").upper()]
    return ", ".join(f"`{name}`" for name in names)


def _default(parameter: Any) -> str:
    shown = getattr(parameter, "show_default", None)
    value = shown if isinstance(shown, str) else parameter.default
    if value is None or isinstance(value, bool) or callable(value) or value == () or "UNSET" in repr(value).upper():
        return "required" if parameter.required else ""
    return str(value)


def _sentence(text: str | None) -> str:
    return escape(" ".join((text or "").split()), quote=False).replace("|", "\\|")
