"""The page at `/`: pictures in a browser, made by the same workers from the same requests as everywhere else.

    form.py      controls ↔ Request                 sizes.py     shapes and enlargements → width and height
    making.py    handing in, watching, cancelling    showing.py   progress, facts and the viewer as HTML
    layout.py    the Gradio page and its events      site.py      its place in the server: what it may and may not do
    planner.py   plans as pictures, from a process of their own, since the server knows nothing of torch

It stands on `server.jobs.Jobs`.  Needs the extra `ui`; only layout.py and site.py import Gradio.
"""
