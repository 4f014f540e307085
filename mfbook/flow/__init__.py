"""Gradient flow on factored matrices, right at any scale of the initialization."""
