"""The HTML of a picture, while it is made and afterwards.

Every text from outside is escaped. Addresses are relative to the page's own.
"""

from __future__ import annotations

import base64
from html import escape

from ..generation.picture_files import slug
from ..server.failures import public
from ..server.records import CANCELLED, DONE, FAILED, QUEUED, QueuedPicture, ServerJob
from .following import JobsProgress

NOTHING_YET = '<p class="sc-note">Your picture appears here.</p>'


def progress(state: JobsProgress) -> str:
    """Position in the queue or step, a bar and the latest preview; at the end the result and the files."""
    if state.is_final or state.stopping:
        return _outcome(state)
    job = state.jobs[state.current]
    picture = job.pictures[0]
    part = f"{name(job)}: " if len(state.jobs) > 1 else ""
    text = part + _stage(state, job, picture)
    done, steps = picture.step, picture.steps
    if len(state.jobs) > 1 and steps:
        done, steps = done + state.current * steps, steps * len(state.jobs)
    bar = f'<progress aria-label="Progress" max="{steps or 1}" value="{done}"></progress>'
    shown = ""
    if state.preview is not None:
        data = base64.b64encode(state.preview).decode("ascii")
        alt = f"Preview of the picture at step {picture.step}"
        shown = f'<img class="sc-preview" alt="{alt}" src="data:image/jpeg;base64,{data}">'
    return f'<div class="sc-stage"><p role="status">{escape(text)}</p>{bar}{shown}</div>'


def name(job: ServerJob) -> str:
    """The method of a job, for captions."""
    method = job.request.method_label
    return {"scalecrafter": "ScaleCrafter", "direct": "Direct inference"}.get(method, method)


def address(picture: QueuedPicture) -> str:
    """Where the picture's file is: the one that the worker wrote."""
    return f"v1/files/{picture.id}.png"


def viewer(state: JobsProgress) -> str:
    """The picture to zoom into, with a button to see direct inference instead, if there is one."""
    done = [job for job in state.jobs if job.status == DONE]
    if not done:
        return ""
    picture = done[0].pictures[0]
    label = f"{name(done[0])}, {picture.width} by {picture.height} pixels"
    buttons = [
        ("fit", "Fit", "Fit the picture to the view"),
        ("out", "−", "Zoom out"),
        ("in", "+", "Zoom in"),
        ("one", "1:1", "Show each pixel as one"),
    ]
    row = "".join(
        f'<button type="button" data-zoom="{key}" aria-label="{help_text}" title="{help_text}">{text}</button>'
        for key, text, help_text in buttons
    )
    other = ""
    if len(done) > 1:
        row += '<button type="button" data-zoom="swap" aria-pressed="false">Show direct inference</button>'
        other = f' data-other="{address(done[1].pictures[0])}"'
    return (
        f'<div class="sc-viewer"><div class="sc-tools" role="toolbar" aria-label="Zoom">{row}'
        '<output class="sc-scale" aria-live="polite"></output></div>'
        f'<div class="sc-window" tabindex="0" role="group" aria-label="Picture to zoom into: plus, minus, 0 and 1 '
        f'zoom, arrow keys move"><img src="{address(picture)}" alt="{escape(label)}" width="{picture.width}" '
        f'height="{picture.height}" draggable="false"{other}></div></div>'
    )


def notice(text: str, is_error: bool = True) -> str:
    """A line of its own."""
    role, text = ("alert", public(text)) if is_error else ("status", text)
    return f'<p class="sc-note{" sc-error" if is_error else ""}" role="{role}">{escape(text)}</p>'


def _stage(state: JobsProgress, job: ServerJob, picture: QueuedPicture) -> str:
    if not state.working:
        return "waiting for a worker, which is still loading its model"
    if picture.status == QUEUED:
        if not job.ahead:
            return "next in the queue"
        return f"in the queue, behind {job.ahead} picture{'s' if job.ahead > 1 else ''}"
    if not picture.steps:
        return "begun"
    return f"step {picture.step} of {picture.steps}" if picture.step < picture.steps else "decoding the picture"


def _outcome(state: JobsProgress) -> str:
    if state.stopping and not state.is_final:
        return notice("The server is stopping. The picture is kept: open this page again once the server is back.")
    lines = [_end(job) for job in state.jobs]
    return f'<div class="sc-stage sc-done">{"".join(lines)}</div>'


def _end(job: ServerJob) -> str:
    picture = job.pictures[0]
    if job.status == FAILED and job.failure is not None:
        return notice(f"{name(job)}: {job.failure.message}")
    if job.status == CANCELLED:
        return notice(f"{name(job)}: cancelled", is_error=False)
    seconds = "" if picture.seconds is None else f", {picture.seconds:.1f} s"
    text = f"{name(job)}: {picture.width}×{picture.height}, seed {picture.seed}{seconds}"
    link = f'<a class="sc-download" href="{address(picture)}" download="{_file_name(job)}">Download PNG</a>'
    return f'<p role="status">{escape(text)} {link}</p>'


def _file_name(job: ServerJob) -> str:
    direct = "-direct" if job.request == job.request.directly() else ""
    return f"{slug(job.request.prompt)}-{job.pictures[0].seed}{direct}.png"
