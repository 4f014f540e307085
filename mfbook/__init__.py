"""mfbook: what gradient flow chooses when it completes a matrix from almost nothing."""
