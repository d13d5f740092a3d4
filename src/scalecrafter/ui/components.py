"""Two of Gradio's components, kept from fetching or copying files."""

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
        """A file that came with the page's own upload; Gradio's would fetch one from an address, too."""

        def get_block_name(self) -> str:
            """Which part of Gradio's page draws it."""
            return "file"

        async def async_move_resource_to_block_cache(self, url_or_file_path: Any) -> str | None:
            """The file's place (`gr.Error` for an address)."""
            if "://" in str(url_or_file_path):
                raise gr.Error("give a file, not an address")
            place: str | None = await super().async_move_resource_to_block_cache(url_or_file_path)
            return place

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
