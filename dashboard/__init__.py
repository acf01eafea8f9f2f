"""The dashboard of Inferlane: ``python -m dashboard``.

A Dash page and a few small routes behind it. It speaks HTTP to the API and to nothing else, decides nothing about
requests, and keeps nothing that would be missed after a restart.
"""
