"""Long computations whose results are stored; each says how it came about."""
