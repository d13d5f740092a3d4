"""Many requests from a file, made in a folder: `scalecrafter batch`.

    jobs.py       lines of JSONL, CSV or Parquet → requests with nothing left open
    groups.py     requests of one shape, to be made in one call
    worker.py     a worker: a loaded pipeline, tries, and what came of each request
    running.py    all of it in order, in this process
    on_ray.py     the same work on the workers of a Ray cluster
    folder.py     the folder of results          manifest.py   its rows          lock.py   one batch at a time
    storage.py     folders and files, local or on any file system that fsspec knows

What a picture is made of is `generation`'s business; nothing here knows of the command line.
"""
