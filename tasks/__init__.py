"""When and where a request runs: lanes, the request record, the broker transport, the worker, and the producer.

This package never serves HTTP and never looks inside an image; ``worker_models`` infers, ``api`` speaks to people.
"""
