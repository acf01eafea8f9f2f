"""What an operator orders: pause, resume, purge, drain, restart, cause a fault; requeue or delete a dead letter.

Orders are keys in Redis that workers read with every renewal of their lease. Another order is a method here and a case
in :mod:`tasks.worker.lease`.
"""
