"""The Gradio page: its controls, and what happens when they are used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import fields
from importlib import resources
from typing import Any

import gradio as gr

from ..errors import ScaleCrafterError
from ..request.methods import DEFAULT_METHOD, METHODS
from ..request.request import default_guidance
from ..request.schedulers import SCHEDULERS
from ..server.jobs import Jobs
from ..server.records import DONE
from ..server.store import QueueFullError, UnknownJobError
from . import rendering
from .components import DroppedFile, ServedImageSlider
from .following import MOST_JOBS, JobsProgress, cancel, follow, submit
from .form import MODELS_OWN, OWN, SMALLEST_STRENGTH, PageForm, default_strength, recipe_choices, restored
from .planner import Planner
from .sizes import DEFAULT_ENLARGEMENT, DEFAULT_SHAPE, ENLARGEMENTS, SHAPES, preset_size
from .uploads import Uploads

REFUSALS = (ScaleCrafterError, QueueFullError, UnknownJobError)
"""The errors of `Jobs` that users see."""
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
"""Of every event: it is no part of an API of Gradio's, and only the server's queue makes it wait."""
_CONTROLS = tuple(one.name for one in fields(PageForm))


def theme() -> gr.themes.Base:
    """A plain theme with the fonts of the reader's system: nothing is loaded from other sites."""
    return gr.themes.Base(
        primary_hue="indigo",
        neutral_hue="slate",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
    )


def style() -> str:
    """The page's CSS."""
    return resources.files(__package__).joinpath("page.css").read_text("utf-8")


def script() -> str:
    """The page's JavaScript."""
    return resources.files(__package__).joinpath("page.js").read_text("utf-8")


class PageLayout:
    """The page of one server, as Gradio's blocks."""

    def __init__(self, jobs: Jobs, uploads: Uploads) -> None:
        self._jobs, self._uploads = jobs, uploads
        self.planner = Planner()
        self.blocks = gr.Blocks(title="ScaleCrafter", analytics_enabled=False)
        with self.blocks:
            gr.Markdown(
                "# ScaleCrafter\nLarge pictures from models that were trained on small ones.", elem_classes="sc-title"
            )
            with gr.Row():
                with gr.Column(scale=2, min_width=300):
                    self._make_controls()
                with gr.Column(scale=3, min_width=300):
                    self._make_results()
            self._connect()

    def check(self, function: int, values: list[Any]) -> None:
        """Raise ValueError unless the function of that index takes these values.

        Gradio would find out as well, and print a traceback for each number that is out of its range.
        """
        if function not in self.blocks.fns or len(values) != len(self.blocks.fns[function].inputs):
            raise ValueError("no function of the page takes these values: load the page again")
        for control, value in zip(self.blocks.fns[function].inputs, values, strict=True):
            if isinstance(value, list) and not isinstance(control, gr.BrowserState):
                raise ValueError(f"{control.label}: a list")
            if not control.stateful and not isinstance(value, dict):
                try:
                    control.preprocess(value)
                except Exception as error:
                    raise ValueError(f"{control.label}: {str(error)[:200]}") from None

    def _make_controls(self) -> None:
        limits, models = self._jobs.settings.limits, list(self._jobs.settings.models)
        made: dict[str, Any] = {}
        made["prompt"] = gr.Textbox(
            label="Prompt",
            info="What the picture shows. Enter makes it.",
            max_lines=1,
            autofocus=True,
            elem_id="prompt",
        )
        with gr.Row():
            self._make = gr.Button("Make picture", variant="primary", elem_id="make", min_width=120)
            self._cancel = gr.Button("Cancel", elem_id="cancel", interactive=False, min_width=80)
        self._compare = gr.Checkbox(
            True, label="Compare with direct inference", info="Makes a second picture, with the same seed.",
            elem_id="compare-too",
        )  # fmt: skip
        made["model"] = gr.Dropdown(models, value=models[0], label="Model", elem_id="model")
        number: dict[str, Any] = {
            "min_width": 90,
            "max_lines": 1,
            "html_attributes": gr.InputHTMLAttributes(enterkeyhint="done"),
        }
        with gr.Row():
            self._shape = gr.Dropdown(list(SHAPES), value=DEFAULT_SHAPE, label="Shape", min_width=160)
            self._enlargement = gr.Dropdown(
                list(ENLARGEMENTS), value=DEFAULT_ENLARGEMENT, label="Enlargement", min_width=160
            )
        with gr.Row():
            made["width"] = gr.Textbox(label="Width", elem_id="width", **number)
            made["height"] = gr.Textbox(label="Height", elem_id="height", **number)
            made["seed"] = gr.Textbox(label="Seed", elem_id="seed", placeholder="any", **number)
        made["method"] = gr.Dropdown(
            list(METHODS), value=DEFAULT_METHOD, label="Method", info=METHODS[DEFAULT_METHOD].summary
        )
        with gr.Accordion("More settings", open=False):
            made["recipe"] = gr.Dropdown(recipe_choices(), value=PageForm().recipe, label="Recipe")
            made["own_recipe"] = gr.Textbox(label="My recipe (TOML)", lines=6, visible=False)
            made["strength"] = gr.Slider(
                SMALLEST_STRENGTH, 1, PageForm().strength, step=0.01, label="Strength",
                info="How much the enlarged picture changes.", visible=False,
            )  # fmt: skip
            made["freeu"] = gr.Checkbox(False, label="FreeU", info="Stronger shapes, calmer texture.")
            made["negative"] = gr.Textbox(label="Negative prompt", info="What the picture should not show.")
            made["steps"] = gr.Slider(1, limits.steps, min(25, limits.steps), step=1, label="Steps", elem_id="steps")
            made["guidance"] = gr.Slider(
                0, 20, default_guidance(models[0]), step=0.5, label="Guidance",
                info="How closely the prompt is kept to.", elem_id="guidance",
            )  # fmt: skip
            made["scheduler"] = gr.Dropdown([MODELS_OWN, *SCHEDULERS], value=MODELS_OWN, label="Scheduler")
        self._file = DroppedFile(
            label="Restore the settings of a picture", file_types=[".png"], height=150,
            elem_id="restore",
        )  # fmt: skip
        self._restored = gr.HTML()
        made["settings"] = gr.State({})
        self._controls = {name: made[name] for name in _CONTROLS}

    def _make_results(self) -> None:
        self._stage = gr.HTML(rendering.NOTHING_YET, elem_id="stage")
        self._slider = ServedImageSlider(
            label="Direct inference | this method: drag the handle", visible=False, elem_id="compare", max_height=640,
            buttons=["fullscreen"],
        )  # fmt: skip
        self._divider = gr.Slider(0, 100, 50, step=1, label="Where the handle is", visible=False, elem_id="divider")
        self._viewer = gr.HTML(elem_id="viewer")
        with gr.Accordion("The plan: what happens to which layer, and when", open=False):
            self._draw = gr.Button("Draw the plan of these settings", elem_id="draw")
            self._plan = gr.HTML(elem_id="plan")
        self._remembered = gr.BrowserState([], storage_key="scalecrafter-jobs")
        self._facts_timer = gr.Timer(2.0)

    def _connect(self) -> None:
        controls = list(self._controls.values())
        shown = [self._remembered, self._stage, self._slider, self._divider, self._viewer, self._cancel]
        inputs = [*controls, self._compare]
        gr.on([self._make.click, self._controls["prompt"].submit], self._on_make, inputs, shown, **_QUIET)
        self._cancel.click(self._on_cancel, [self._remembered], None, **_QUIET)
        self.blocks.load(self._on_return, [self._remembered], shown, **_QUIET)

        size = [self._controls["width"], self._controls["height"]]
        presets = [self._controls["model"], self._shape, self._enlargement]
        for control in presets:
            control.input(self._on_preset, presets, size, **_QUIET)
        self._controls["model"].input(default_guidance, self._controls["model"], self._controls["guidance"], **_QUIET)
        self._facts_timer.tick(self._on_tick, [*presets, *size], [*size, self._facts_timer], **_QUIET)

        changing = ("recipe", "own_recipe", "strength", "freeu")
        method = self._controls["method"]
        settings = [self._controls[name] for name in changing]
        method.input(self._on_method, [method, self._controls["recipe"]], [method, *settings], **_QUIET)
        self._controls["recipe"].input(
            lambda recipe: gr.update(visible=recipe == OWN), self._controls["recipe"], self._controls["own_recipe"],
            **_QUIET,
        )  # fmt: skip
        self._file.upload(self._on_restore, [self._file, *controls], [self._file, *controls, self._restored], **_QUIET)
        self._draw.click(self._on_draw, controls, self._plan, **{**_QUIET, "show_progress": "minimal"})
        self._divider.input(
            None, self._divider, self._slider, js="(position) => ({__type__: 'update', slider_position: position})",
            **{**_QUIET},
        )  # fmt: skip

    def _form(self, values: tuple[Any, ...]) -> PageForm:
        """A control that was never opened may send None; then it has its first value."""
        sent = dict(zip(_CONTROLS, values, strict=True))
        return PageForm(**{name: value for name, value in sent.items() if value is not None})

    async def _on_make(self, request: gr.Request, *values: Any) -> AsyncIterator[list[Any]]:
        *sent, compare = values
        try:
            ids = await submit(self._jobs, self._form(tuple(sent)).request(), compare)
        except REFUSALS as error:
            yield [gr.skip(), rendering.notice(str(error)), *[gr.skip()] * 3, gr.update(interactive=False)]
            return
        async for state in follow(self._jobs, ids):
            yield self._show(state, request)

    async def _on_return(self, request: gr.Request, remembered: Any) -> AsyncIterator[list[Any]]:
        """Show the jobs of this browser again after the page was reloaded."""
        yield [gr.skip()] * 6  # without any, Gradio would empty the outputs
        try:
            async for state in follow(self._jobs, _ids(remembered)):
                yield self._show(state, request)
        except UnknownJobError:
            yield [[], *[gr.skip()] * 5]

    async def _on_cancel(self, remembered: Any) -> None:
        await cancel(self._jobs, _ids(remembered))

    def _show(self, state: JobsProgress, request: gr.Request) -> list[Any]:
        """The values of all outputs."""
        compared = len(state.jobs) == MOST_JOBS and all(job.status == DONE for job in state.jobs)
        slider: Any = gr.update(visible=False)
        if compared:
            base = self._base(request)
            ours, direct = (base + rendering.address(job.pictures[0]) for job in state.jobs)
            label = f"Direct inference | {rendering.name(state.jobs[0])}: drag the handle"
            slider = gr.update(value=(direct, ours), visible=True, label=label, slider_position=50)
        return [
            state.ids,
            rendering.progress(state),
            slider,
            gr.update(visible=compared, value=50),
            rendering.viewer(state),
            gr.update(interactive=not state.is_final),
        ]

    @staticmethod
    def _base(request: gr.Request) -> str:
        """The page's own address, as the browser has it."""
        url: Any = request.request.url if request.request is not None else None
        return f"{url.scheme}://{url.netloc}/" if url else ""

    async def _on_preset(self, model: str, shape: str, enlargement: str) -> list[Any]:
        size = await self._preset(model, shape, enlargement)
        return ["", ""] if size is None else [str(side) for side in size]

    async def _on_tick(self, model: str, shape: str, enlargement: str, *size: Any) -> list[Any]:
        """Fill in the model's sizes as soon as they are known, unless the reader has done so."""
        found = await self._preset(model, shape, enlargement)
        if found is None:
            return [gr.skip(), gr.skip(), gr.skip()]
        return [*([gr.skip(), gr.skip()] if any(size) else map(str, found)), gr.Timer(active=False)]

    async def _preset(self, model: str, shape: str, enlargement: str) -> tuple[int, int] | None:
        facts = await asyncio.to_thread(self._jobs.store.facts, model)
        return None if facts is None else preset_size(facts, shape, enlargement, self._jobs.settings.limits.pixels)

    def _on_method(self, method: str, recipe: str) -> list[Any]:
        takes = METHODS[method].takes
        return [
            gr.update(info=METHODS[method].summary),
            gr.update(visible="recipe" in takes),
            gr.update(visible="recipe" in takes and recipe == OWN),
            gr.update(visible="strength" in takes, value=default_strength(method)),
            gr.update(visible="freeu" in takes),
        ]

    async def _on_restore(self, path: str, *values: Any) -> list[Any]:
        try:
            name, request = self._uploads.take(path)
            found = restored(request, self._jobs.settings.models, self._form(values).model)
        except ScaleCrafterError as error:
            return [None, *[gr.skip()] * len(_CONTROLS), rendering.notice(str(error))]
        new: dict[str, Any] = {name: gr.update(value=getattr(found.form, name)) for name in _CONTROLS}
        shown = self._on_method(found.form.method, found.form.recipe)
        for control, change in zip(("method", "recipe", "own_recipe", "strength", "freeu"), shown, strict=True):
            new[control] = {**change, **new[control]}
        new["settings"] = found.form.settings
        message = "; ".join([f"The settings of {name} are back", *found.notes])
        return [None, *new.values(), rendering.notice(f"{message}.", is_error=False)]

    async def _on_draw(self, *values: Any) -> str:
        try:
            request = self._form(values).request() if values[0].strip() else self._form(("plan", *values[1:])).request()
            self._jobs.check_model(request.model)
            self._jobs.settings.limits.check(request)
            where = self._jobs.settings.models[request.model]
            svg = await self.planner.picture(request.changed(model=where))
        except REFUSALS as error:
            return rendering.notice(str(error))
        return f'<div class="sc-plan" tabindex="0" role="group" aria-label="Plan">{svg}</div>'


def _ids(remembered: Any) -> list[str]:
    """The jobs that a browser remembers; it may send anything."""
    return [one for one in remembered if isinstance(one, str)][:MOST_JOBS] if isinstance(remembered, list) else []
