"""What every process of Inferlane uses: settings, logs, the master process of a server, its HTTP front.

Imports nothing of the project. A new setting goes into :mod:`common.settings` and .env.example, nowhere else.
"""
