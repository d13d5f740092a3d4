"""Quality, measured: pictures of several methods with the same prompts and seeds, and figures about them.

`scalecrafter eval` uses it. `settings` holds what to make, `runs` makes it, `store` keeps it. `inspection` finds the
metrics of one picture, `figures` turns those of many into numbers with intervals. `reporting` writes them as tables,
plots and contact sheets.
"""
