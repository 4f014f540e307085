"""Gradient flow on factored matrices, right at any scale of the initialization.

`run` takes a problem apart into connected components (`field`) and puts the result together;
`drive` follows one component, with the time steps of `dense` (small problems) or `chebyshev`
(large ones) on the graded columns of `gauge`.
"""

from mfbook.flow.run import gradient_flow

__all__ = ["gradient_flow"]
