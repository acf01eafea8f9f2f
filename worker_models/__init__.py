"""Inference: models, their weights, image decoding, runtimes and the batcher.

Nothing in this package knows a queue, a broker or a web framework; ``tasks`` decides when and where a model runs.
Start reading at :mod:`worker_models.registry`, then :mod:`worker_models.model`.
"""
