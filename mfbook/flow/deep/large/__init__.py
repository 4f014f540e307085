"""Three large factors or more, followed by products of layers alone."""
