"""What comes from outside is looked at here: arrays, masks, and numbers that must be finite."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def real_array(name: str, value: ArrayLike, ndim: int | None = None) -> np.ndarray:
    """Return `value` as a float64 copy, or say what keeps it from being a real array."""
    if np.iscomplexobj(value):
        raise TypeError(
            f"{name} must be real, but holds complex numbers: the flows here live on real "
            "matrices; pass the real part if the imaginary part is zero"
        )
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of real numbers: {error}") from error
    if ndim is not None and array.ndim != ndim:
        raise ValueError(
            f"{name} must have {ndim} dimensions, but has shape {array.shape}; reshape it"
        )
    return array


def require_finite(name: str, array: np.ndarray, where: np.ndarray | None = None) -> None:
    bad = ~np.isfinite(array) if where is None else where & ~np.isfinite(array)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name} must be finite, but the entry at {place} is {array[place]}; "
            "mark it as unobserved or correct it"
        )


def observed_mask(mask: ArrayLike) -> np.ndarray:
    """Return `mask` as a read-only two-dimensional boolean array, or say what is wrong with it."""
    array = np.array(mask)
    if array.dtype != np.bool_:
        raise TypeError(
            f"mask must be boolean, but has dtype {array.dtype}; write mask != 0 or mask == 1, "
            "whichever you mean"
        )
    if array.ndim != 2:
        raise ValueError(f"mask must have 2 dimensions, but has shape {array.shape}")
    array.setflags(write=False)
    return array
