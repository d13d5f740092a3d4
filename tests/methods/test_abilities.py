"""Which methods a model can be asked for, before it is asked."""

from __future__ import annotations

from typing import Any

import pytest

from scalecrafter.errors import ModelError
from scalecrafter.models.denoisers import kind_of, lacks_of, read_model
from scalecrafter.models.tasks import image_to_image
from scalecrafter.request.methods import METHODS, methods_for
from scalecrafter.server.models import facts_of
from tests.support.tiny_models import tiny_sd_pipeline
from tests.support.whole_transformers import WHOLE


@pytest.mark.parametrize("make", WHOLE.values(), ids=WHOLE)
def test_a_family_starts_from_pictures_where_diffusers_has_a_pipeline_that_does(make: Any) -> None:
    pipe = make()
    if "image-to-image" in lacks_of(read_model(pipe)):
        with pytest.raises(ModelError, match="no pipeline of the kind of"):
            image_to_image(pipe)
    else:
        assert image_to_image(pipe) is not pipe


def test_what_can_be_asked_of_each_kind_of_model() -> None:
    unet, flux, sana = (facts_of(read_model(make())) for make in (tiny_sd_pipeline, WHOLE["flux"], WHOLE["sana"]))
    assert set(unet.methods_for("create")) == METHODS.keys() - {"hiflow"}
    assert set(flux.methods_for("create")) == METHODS.keys() - {"hidiffusion"}
    assert {"cascade", "scalecrafter"} <= set(flux.methods_for("enlarge"))
    assert "cascade" not in flux.methods_for("edit")  # it starts from no picture of its reader
    assert sana.methods_for("edit") == ()
    assert sana.methods_for("enlarge") == ("upscale",)
    assert not {"cascade", "fast", "hires-fix", "hiflow", "attention-scaling"} & set(sana.methods_for("create"))
    assert methods_for("create", kind_of(read_model(tiny_sd_pipeline()))) == unet.methods_for("create")
