"""The page at `/`: pictures in a browser, from the same requests and the same workers as everywhere else.

    form.py       controls ↔ Request                  sizes.py       shapes and enlargements → width and height
    following.py  submit, watch and cancel jobs       rendering.py   progress, results and the viewer as HTML
    layout.py     the Gradio page and its events      mounting.py    the page inside the server: paths and headers
    planner.py    plans as pictures, drawn by another process, because the server does not load torch

It uses `server.jobs.Jobs`. It needs the extra `ui`.
"""
