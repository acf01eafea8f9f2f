"""Operators' orders: pause, resume, purge, drain, restart, inject a fault; requeue or delete a dead letter.

Orders are keys in Redis that workers read with every renewal of their lease. A new order is a method here and a case
in :mod:`tasks.worker.process`.
"""
