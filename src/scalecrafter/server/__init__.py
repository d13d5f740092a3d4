"""`scalecrafter serve`: pictures over HTTP, as OpenAI's Images API has them, from a queue that survives a crash.

    settings.py        what a server is message                 app.py          routes, guards, beginning and end
    jobs.py            asking for pictures and watching them: the interface that HTTP and the web page stand on
    store.py claims.py the jobs in SQLite, from the clients' and from the workers' side (database.py, records.py)
    worker.py          the process that makes pictures       supervisor.py   starts and replaces such processes
    housekeeping.py    dead workers, old pictures, disk use  changes.py      wakes who waits for a job
    routes_*.py        HTTP; bodies.py, images_schema.py and answers.py hold what goes in and out, failures.py errors
    guards.py          keys, other sites' pages, body size   metrics.py      figures for Prometheus
    run.py             with uvicorn                          ray_serve.py    replicas under Ray Serve

The HTTP process knows nothing of torch.  Needs the extra `server`.
"""
