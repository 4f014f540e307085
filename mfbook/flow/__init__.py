"""How it moves: gradient flow at any scale, gradient descent, and an oracle in many digits."""

from mfbook.flow.run import gradient_flow

__all__ = ["gradient_flow"]
