"""Gradient descent with a constant step: the papers' literal procedure, many runs at once."""

from mfbook.flow.descent.loop import gradient_descent

__all__ = ["gradient_descent"]
