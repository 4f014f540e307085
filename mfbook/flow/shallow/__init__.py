"""Two factors: one component of a problem, followed on graded columns.

`drive` follows a component, with the time steps of `dense` (small problems) or `chebyshev` (large
ones) on the columns of `gauge`; `field` is the component as the flow sees it.
"""
