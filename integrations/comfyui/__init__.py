"""ScaleCrafter for ComfyUI: larger pictures than a model was trained for, with no training.

https://arxiv.org/abs/2310.07702
"""

from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
