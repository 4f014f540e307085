"""How W is built: products of factors, and where a flow starts."""

from mfbook.models.model import Model, model_of
from mfbook.models.product import (
    factor_gradients,
    factors_of,
    one_run,
    product,
    require_layers,
    two_factors,
)
from mfbook.models.starts import small_init

__all__ = [
    "Model",
    "factor_gradients",
    "factors_of",
    "model_of",
    "one_run",
    "product",
    "require_layers",
    "small_init",
    "two_factors",
]
