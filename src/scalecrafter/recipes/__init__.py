"""Recipes: the file format, their resolution against a model, the automatic choice, and how a plan is shown."""
