"""The guided tour behind ``python demo.py --quick`` and ``--menu``: a system to show, and scenes that show it.

``stage`` finds a running system or starts one that is gone afterwards; ``scenes`` and ``crash`` use it over HTTP as any
client does, and fail when it does not do what they say it does.
"""
