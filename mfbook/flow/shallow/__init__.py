"""Two factors: the parts of a problem, followed on graded columns.

`composite` holds all parts in the caller's hidden basis and units, `drive` follows one, with the
time steps of `dense` (small problems) or `large` on the columns of `gauge`; `field` is the part as
the flow sees it, `sectors` its coordinates where it has symmetries.
"""
