"""The only room that knows the book: claims, figures, stored sweeps."""
