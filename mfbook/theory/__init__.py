"""Where the flow stops, how it leaves, where it ends, and what is said about a matrix."""
