"""What all tables are printed with."""

import time


def timed(function):
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def row(*cells):
    print("  ".join(f"{cell:>14}" for cell in cells), flush=True)
