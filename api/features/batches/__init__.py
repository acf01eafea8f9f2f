"""Batches: many images in one call, one request each.

The items' order, names and rejections are kept here (:mod:`store`); their states are read from their requests.
"""
