"""The page at `/`: pictures in a browser, from the same requests and the same workers as everywhere else.

    page.py         serves the files of `static/`, the form's description and plans
    description.py  what the form must know: models, methods and their settings, limits
    static/         the page itself: HTML, CSS and ES modules, as they are; nothing is built and nothing is fetched

What the page shows of jobs and pictures it gets from the server's own API.
"""
