"""Benchmarks: ``make benchmark`` runs :mod:`bench.run`."""
