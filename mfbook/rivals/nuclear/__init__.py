"""The least nuclear norm of a matrix that fits, with a certificate that trusts no solver.

`minimum` reads the problem as an affine set (`data`), asks the solvers (`interior_point`,
`douglas_rachford`), moves what they say onto the data (`cone`, where W has to be positive
semidefinite; `face`, where the data leave it a face of the cone only), and lets `certificate`
measure how far from the minimum it can be.
"""

from mfbook.rivals.nuclear.certificate import Certified, dual_bound
from mfbook.rivals.nuclear.minimum import min_nuclear_norm

__all__ = ["Certified", "dual_bound", "min_nuclear_norm"]
