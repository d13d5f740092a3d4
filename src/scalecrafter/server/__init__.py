"""`scalecrafter serve`: pictures over HTTP, with OpenAI's Images API, from a queue on the disk.

    settings.py        the settings of a server              app.py          routes, guards, start and stop
    jobs.py            submit jobs and watch them: the interface that HTTP and the web page use
    store.py claims.py the jobs in SQLite, for clients and for workers (database.py, records.py)
    worker.py          the process that makes pictures       supervisor.py   starts and replaces such processes
    housekeeping.py    dead workers, old pictures, disk use  changes.py      wakes those who wait for a job
    conversions.py     pictures in other formats and sizes
    routes_*.py        HTTP; bodies.py, images_schema.py and answers.py hold requests and answers, failures.py errors
    guards.py          keys, other sites' pages, body size   metrics.py      figures for Prometheus
    page.py            what a page for browsers must offer   run.py          with uvicorn
    ray_serve.py       replicas under Ray Serve

The HTTP process does not load torch. Needs the extra `server`.
"""
