"""Benchmarks of the package, compared with bounds and with alternatives: ``make bench``."""
