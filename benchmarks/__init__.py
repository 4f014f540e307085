"""Measurements of the flow engine: `python -m benchmarks`."""
