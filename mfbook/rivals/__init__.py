"""Other answers to the same question: nuclear norm, smallest rank, greedy paths."""
