"""Quality, measured: pictures of several methods with the same prompts and seeds, and the figures made of them.

`scalecrafter eval` is the door.  `settings` says what to make, `runs` makes it and `store` keeps it, `inspection` says
what one picture shows, `figures` turns pictures into numbers with intervals, `reporting` writes them as tables, plots
and contact sheets.
"""
