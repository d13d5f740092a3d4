"""Critters: a synthetic picture-book world with one animal per scene, drawn at any resolution."""
