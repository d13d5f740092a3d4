"""Every way of making a large picture: a file each, and the steps that they are made of.

A method is one file with a `METHOD`: its name, help text, settings and function.  `request.methods` finds it.  The
files import torch inside of their functions only, so that a request can be checked and help be printed without it.
"""

from ..request.methods import Method, MethodSettings

__all__ = ["FIRST", "Method", "MethodSettings"]

FIRST = ("scalecrafter",)
"""The methods that lists begin with."""
