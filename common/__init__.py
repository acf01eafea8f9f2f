"""Shared by all processes: settings, logs, the HTTP server and its front.

Imports nothing of the project. A new setting goes into :mod:`common.settings` and .env.example, nowhere else.
"""
