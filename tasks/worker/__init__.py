"""One worker process: the atomic take, the pipeline, the Celery task, the lease, and the rescue of other workers.

A delivery comes in at :mod:`tasks.worker.channel`, runs in :mod:`tasks.worker.pipeline`, and ends in
``tasks/protocol/lua/commit.lua``. Chaos and tracing may change alone; lease and rescue only together.
"""
