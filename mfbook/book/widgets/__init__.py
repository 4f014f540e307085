"""What a reader can touch."""
