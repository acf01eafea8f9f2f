"""Reads the system: workers, lanes, statistics, searches, health. Nothing here writes to Redis.

Everything here may change without reading anything else; the API, the dashboard and the client show its answers.
"""
