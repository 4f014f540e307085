"""mfbook: what gradient flow chooses when it completes a matrix from almost nothing."""

from importlib import import_module
from types import ModuleType

from mfbook.book.claims import claim, ledger
from mfbook.book.numbers import below
from mfbook.book.stored import stored
from mfbook.book.sweeps import sweep
from mfbook.flow import gradient_flow
from mfbook.flow.balanced import end_to_end_flow
from mfbook.flow.descent import gradient_descent
from mfbook.flow.greedy_path import DeepLimit, GreedyPath
from mfbook.flow.limit import deep_limit
from mfbook.flow.taylor import taylor_flow
from mfbook.flow.trajectory import Phase, Trajectory
from mfbook.models import small_init
from mfbook.problems import (
    MatrixCompletion,
    MatrixSensing,
    SymmetricCompletion,
    SymmetricSensing,
    examples,
    populations,
)
from mfbook.problems.graph import (
    components,
    connectivity,
    entry_graph,
    observation_graph,
    sampling_patterns,
)
from mfbook.rivals.alternating import alternating_least_squares
from mfbook.rivals.deep_glrl import deep_glrl
from mfbook.rivals.glrl import glrl
from mfbook.rivals.minrank import MinRank, min_rank
from mfbook.rivals.nuclear import Certified, dual_bound, min_nuclear_norm
from mfbook.rivals.pursuit import geco, rank_one_matrix_pursuit
from mfbook.theory.landscape import (
    Escape,
    critical_point_kind,
    escape_direction,
    hessian,
    relative_gradient,
)
from mfbook.theory.limits import disconnected_limit
from mfbook.theory.manifold import InvariantManifold
from mfbook.theory.measures import (
    effective_rank,
    low_rankness,
    nuclear_norm,
    numerical_rank,
    reconstruction_error,
)

__all__ = [
    "Certified",
    "DeepLimit",
    "Escape",
    "GreedyPath",
    "InvariantManifold",
    "MatrixCompletion",
    "MatrixSensing",
    "MinRank",
    "Phase",
    "SymmetricCompletion",
    "SymmetricSensing",
    "Trajectory",
    "alternating_least_squares",
    "below",
    "claim",
    "components",
    "connectivity",
    "critical_point_kind",
    "deep_glrl",
    "deep_limit",
    "disconnected_limit",
    "dual_bound",
    "effective_rank",
    "end_to_end_flow",
    "entry_graph",
    "escape_direction",
    "examples",
    "geco",
    "glrl",
    "gradient_descent",
    "gradient_flow",
    "hessian",
    "ledger",
    "low_rankness",
    "min_nuclear_norm",
    "min_rank",
    "nuclear_norm",
    "numerical_rank",
    "observation_graph",
    "plots",
    "populations",
    "rank_one_matrix_pursuit",
    "reconstruction_error",
    "relative_gradient",
    "sampling_patterns",
    "small_init",
    "stored",
    "sweep",
    "taylor_flow",
    "widgets",
]


def __getattr__(name: str) -> ModuleType:
    """Load `mf.plots` and `mf.widgets` at their first use: matplotlib takes longer to import than
    all the rest, and few calls need explorers."""
    if name == "plots":
        return import_module("mfbook.book.plots")
    if name == "widgets":
        return import_module("mfbook.book.widgets")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
