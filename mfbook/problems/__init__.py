"""What is given: problems that know their data, and who is linked in them."""

from mfbook.problems.completion import MatrixCompletion
from mfbook.problems.sensing import MatrixSensing

__all__ = ["MatrixCompletion", "MatrixSensing"]
