"""What is given: problems that know their data, and who is linked in them."""

from mfbook.problems.completion import MatrixCompletion
from mfbook.problems.sensing import MatrixSensing
from mfbook.problems.symmetric import SymmetricCompletion, SymmetricSensing

__all__ = ["MatrixCompletion", "MatrixSensing", "SymmetricCompletion", "SymmetricSensing"]
