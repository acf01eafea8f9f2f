"""Batches: many images in one call, each a request of its own.

The items' order, names and rejections are kept here (:mod:`store`); their states are read from their requests.
"""
