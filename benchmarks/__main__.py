"""Make the tables: `python -m benchmarks [TABLE ...]`.

The tables are scales, solvers, hundred, growth, phases, movielens, nuclear and rivals, and for
three factors and more depth, deepscales, deephundred and deepmovielens. Without arguments all are
made, five to fifteen minutes on one core. OMP_NUM_THREADS chooses the cores, where it is set. They
are printed, written to results.md, and their counts compared with those of the last commit.
"""

import sys

from benchmarks import depth, results, shallow
from benchmarks.nuclear import nuclear
from benchmarks.rivals import rivals
from benchmarks.solvers import solvers
from mfbook.flow.engines import compile_all

MADE = (
    *(shallow.scales, solvers, shallow.hundred, shallow.growth, shallow.phases),
    *(shallow.movielens, nuclear, rivals),
)
TABLES = {f.__name__: f for f in MADE} | depth.TABLES

if __name__ == "__main__":
    wanted = sys.argv[1:] or list(TABLES)
    if not set(wanted) <= set(TABLES):
        sys.exit(f"no such table; there are: {', '.join(TABLES)}")
    compile_all()  # else the first row would tell how long that takes
    made = [TABLES[name]() for name in wanted]
    results.write(made)
    print(f"\n{results.compare(made)}")
