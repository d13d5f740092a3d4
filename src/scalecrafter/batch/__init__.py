"""Many requests from a file, made into a folder: `scalecrafter batch`.

jobs.py       lines of JSONL, CSV or Parquet → settled requests
groups.py     requests with one batch key, to be made in one call
worker.py     a worker: it holds a pipeline, makes pictures and tries again after errors
running.py    a batch from its first line to its last, in this process
on_ray.py     the same work on the workers of a Ray cluster
folder.py     the folder of results          manifest.py   its rows          lock.py   one batch at a time
storage.py    folders and files, local or on any file system that fsspec knows
"""
