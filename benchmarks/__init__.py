"""Measurements of the flow engine: `python -m benchmarks`."""

import os

# With more threads a product is summed in another order, and a method that is sensitive to it
# takes other steps. This must stand before NumPy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
