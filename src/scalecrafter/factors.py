"""What a dilation factor is: apart from the tensors, so that recipes can be read without torch."""

from __future__ import annotations

Factors = tuple[float, float]
"""Dilation factors (vertical, horizontal)."""
