"""What every test relies on."""

import signal
from collections.abc import Iterator

import pytest

# A process started in the background may ignore Ctrl-C, and its children with it: tests that send it would hang.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def float64_text_encoders() -> Iterator[None]:
    """For pipelines in float64: the text encoders of transformers 4 make their masks in torch's default type."""
    import torch
    import transformers

    if int(transformers.__version__.split(".")[0]) >= 5:
        yield
        return
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
