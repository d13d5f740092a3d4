"""Two of Gradio's components, kept from reading, fetching or copying files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from gradio import component_meta
from gradio.components.imageslider import SliderData
from gradio.data_classes import ImageData


@contextmanager
def _without_stubs() -> Iterator[None]:
    """Gradio writes a .pyi file beside the source of each new component; an installed package may not be written to."""
    writes = component_meta.create_or_modify_pyi
    component_meta.create_or_modify_pyi = lambda *_: None
    try:
        yield
    finally:
        component_meta.create_or_modify_pyi = writes


with _without_stubs():

    class DroppedFile(gr.File):
        """A dropped file, by the path that `uploads.Uploads` gave it; Gradio's reads it and makes temporary ones."""

        def get_block_name(self) -> str:
            """Which part of Gradio's page draws it."""
            return "file"

        async def async_move_resource_to_block_cache(self, url_or_file_path: Any) -> str:
            """The path as it is: there is no file."""
            return str(url_or_file_path)

        def preprocess(self, payload: Any) -> str | None:
            """The path alone."""
            return None if payload is None else str(payload.path)

    class ServedImageSlider(gr.ImageSlider):
        """Two pictures by addresses that this server serves; Gradio's would fetch them and keep copies."""

        def get_block_name(self) -> str:
            """Which part of Gradio's page draws it."""
            return "imageslider"

        def postprocess(self, value: Any) -> SliderData | None:
            """(left, right) as absolute addresses."""
            if value is None:
                return None
            left, right = (ImageData(path=address, url=address) for address in value)
            return SliderData(root=(left, right))
