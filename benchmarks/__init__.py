"""Measures Mezzenger and its peers at the same work, in turns, in one run: ``python -m benchmarks --help``."""
