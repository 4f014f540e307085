"""How W is built: products of factors, and where a flow starts."""

from mfbook.models.product import (
    factor_gradients,
    factors_of,
    one_run,
    product,
    small_init,
    two_factors,
)

__all__ = ["factor_gradients", "factors_of", "one_run", "product", "small_init", "two_factors"]
