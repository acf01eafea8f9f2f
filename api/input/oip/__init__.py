"""Open Inference Protocol v2 (KServe, Triton) as bytes and tensors; :mod:`api.routes.v2` serves it.

Nothing here knows Flask or the queue.
"""
