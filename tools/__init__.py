"""Executing, building and checking the book."""
