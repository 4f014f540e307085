"""Gradient flow with three factors or more."""
