"""What comes from outside is looked at here: arrays, numbers, switches, generators, problems.

Each function returns its argument in the one form that the package computes with, or raises a
TypeError (another kind of thing) or ValueError (a value out of range) that names the requirement,
what was seen and the cure.
"""

from __future__ import annotations

from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mfbook.problems.protocols import ASKED

#: a NumPy generator, which is drawn on, or a seed for a new one
Rng = np.random.Generator | int | list[int]


def real_array(
    name: str,
    value: object,
    ndim: int | None = None,
    *,
    finite: bool = False,
    unknown: bool = False,
) -> np.ndarray:
    """Return `value` as a float64 copy, or say what keeps it from being a real array.

    `finite` also asks for finite entries. With `unknown`, entries that say that they are not known
    (masked, None, pandas' NA) become NaN; without it they are refused, as nothing would be left of
    them in an array of numbers. Booleans count as 0 and 1.

    >>> real_array("W", [[1, True], [2, 0.5]]).tolist()
    [[1.0, 1.0], [2.0, 0.5]]
    """
    array = _plain_array(name, value, unknown)
    kind = array.dtype.kind
    if kind == "O":
        array = _numbers_of(name, array, unknown)
    elif kind == "c":
        raise TypeError(
            f"{name} must be real, but holds complex numbers: the flows here live on real "
            "matrices; pass the real part if the imaginary part is zero"
        )
    elif kind in "US":
        raise TypeError(
            f"{name} must be an array of real numbers, but holds text such as "
            f"{str(array.ravel()[0])!r}; convert it with astype(float), or read a problem with "
            "MatrixCompletion.from_text"
        )
    elif kind in "mM":
        raise TypeError(
            f"{name} must be an array of real numbers, but holds dates or times "
            f"({array.dtype}); divide by a unit of time first"
        )
    elif kind not in "biuf":
        raise TypeError(
            f"{name} must be an array of real numbers, but has dtype {array.dtype}; take one field"
        )
    with np.errstate(over="ignore"):  # what is too large becomes inf, and is looked at as such
        array = np.array(array, dtype=np.float64)
    if ndim is not None and array.ndim != ndim:
        raise ValueError(
            f"{name} must have {ndim} dimensions, but has shape {array.shape}; reshape it"
        )
    if finite:
        require_finite(name, array)
    return array


def matrices(name: str, value: ArrayLike) -> np.ndarray:
    """Return `value`, a matrix or a stack of them, as a float64 copy with finite entries."""
    array = real_array(name, value)
    if array.ndim < 2:
        raise ValueError(
            f"{name} must be a matrix, or have matrices in its last two axes, but has shape "
            f"{array.shape}; reshape it"
        )
    require_finite(name, array)
    return array


def _plain_array(name: str, value: Any, unknown: bool) -> np.ndarray:
    """`value` as a NumPy array of any dtype; masked entries are refused or None."""
    if value is None:
        raise TypeError(f"{name} must be an array of real numbers, but is None; give one")
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise TypeError(
            f"{name} must be a full array, but is a sparse {type(value).__name__}, whose missing "
            "entries may mean zero or unknown; write toarray() for zeros, or "
            "MatrixCompletion.from_triplets(rows, cols, values) for observed entries"
        )
    if isinstance(value, np.ma.MaskedArray):
        return _unmasked(name, value, unknown)
    if isinstance(value, (list, tuple)) and any(map(_holds_masked, value)):
        return _unmasked(name, np.ma.array([np.ma.asarray(row) for row in value]), unknown)
    try:
        return np.asarray(value)
    except Exception as error:  # torch raises RuntimeError, ragged lists ValueError
        if getattr(value, "requires_grad", False) or "requires grad" in str(error):
            raise TypeError(
                f"{name} must be an array of real numbers, but is a tensor that requires grad, "
                "and no gradient flows through here; pass tensor.detach().cpu().numpy()"
            ) from error
        raise TypeError(
            f"{name} must be an array, all rows of one length, but "
            f"{type(value).__name__} does not make one: {error}"
        ) from error


def _holds_masked(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_masked, value))
    return isinstance(value, np.ma.MaskedArray)


def _unmasked(name: str, value: np.ma.MaskedArray, unknown: bool) -> np.ndarray:
    hidden = np.ma.getmaskarray(value)
    if not hidden.any():
        return np.asarray(value.data)
    if not unknown:
        place = tuple(int(i) for i in np.argwhere(hidden)[0])
        raise ValueError(
            f"{name} must hold a number everywhere, but is a masked array whose entry at {place} "
            "is masked, and its mask would be lost; MatrixCompletion.from_array reads masked "
            "entries as unobserved, and filled(x) puts a number there"
        )
    array = value.data.astype(object)
    array[hidden] = None
    return array


def _numbers_of(name: str, array: np.ndarray, unknown: bool) -> np.ndarray:
    """The numbers of an array of Python objects, one by one."""
    found = np.empty(array.shape)
    for place, entry in np.ndenumerate(array):
        if unknown and (entry is None or entry is np.ma.masked or type(entry).__name__ == "NAType"):
            found[place] = np.nan
        elif isinstance(entry, (Real, Decimal, np.bool_)):
            try:
                found[place] = float(entry)
            except OverflowError:
                found[place] = -np.inf if entry < 0 else np.inf
        else:
            where = f" at {place}" if place else ""
            raise TypeError(
                f"{name} must be an array of real numbers, but holds {_shown(entry)} of type "
                f"{type(entry).__name__}{where}; write a number there"
                + (", or NaN for an entry that is not known" if unknown else "")
            )
    return found


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def require_finite(name: str, array: np.ndarray, where: np.ndarray | None = None) -> None:
    """Raise where `array` is not finite, or not on the observed entries, those in `where`."""
    bad = ~np.isfinite(array) if where is None else where & ~np.isfinite(array)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name} must be finite, but the entry at {place} is {array[place]}; "
            + ("correct it" if where is None else "mark it as unobserved or correct it")
        )


def observed_mask(mask: ArrayLike) -> np.ndarray:
    """Return `mask` as a read-only two-dimensional boolean array, or say what is wrong with it."""
    if mask is None:
        raise TypeError(
            "mask must be a boolean array, but is None; pass one that is True where an entry is "
            "observed, np.ones(shape, dtype=bool) for all of them"
        )
    if isinstance(mask, np.ma.MaskedArray) and np.ma.getmaskarray(mask).any():
        raise ValueError(
            "mask must be True or False everywhere, but is a masked array with masked entries; "
            "mask.filled(False) counts those as not observed"
        )
    array = np.array(_plain_array("mask", mask, unknown=False))
    if array.dtype != np.bool_:
        raise TypeError(
            f"mask must be boolean, but has dtype {array.dtype}; write mask != 0 or mask == 1, "
            "whichever you mean"
        )
    if array.ndim != 2:
        raise ValueError(f"mask must have 2 dimensions, but has shape {array.shape}; reshape it")
    array.setflags(write=False)
    return array


def index_array(name: str, value: ArrayLike) -> np.ndarray:
    """Return `value` as a vector of non-negative integers."""
    array = real_array(name, value, ndim=1, finite=True)
    if np.asarray(value).dtype.kind == "b":
        raise TypeError(f"{name} must hold integers, but holds booleans; write np.flatnonzero")
    bad = (array != np.floor(array)) | (array < 0)
    if bad.any():
        place = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"{name} must hold integers from 0 on, but number {place} is {array[place]:g}"
        )
    return array.astype(np.int64)


def real_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    infinite: bool = False,
    because: str = "",
) -> float:
    """Return `value` as a float > `above`, ≥ `least` and ≤ `most`; finite unless `infinite`.

    NumPy's scalars and arrays without axes count as numbers, booleans do not.

    >>> real_number("tol", np.float32(0.5), above=0)
    0.5
    """
    given = _number("a real number", name, value)
    try:
        number = float(given)
    except OverflowError:  # an integer or a fraction beyond 10^308
        number = np.inf if given > 0 else -np.inf
        infinite = False
    ask = ""
    if least is not None and not number >= least:
        finite = "" if infinite or np.isfinite(number) else "finite and "
        ask = "not be negative" if least == 0 else f"be {finite}at least {least:g}"
    if most is not None and not number <= most:
        ask = ask or f"be at most {most:g}"
    if above is not None and not number > above:
        ask = "be positive" if above == 0 else f"be above {above:g}"
    if not ask and not (np.isfinite(number) or (infinite and not np.isnan(number))):
        ask = "be a number" if infinite else "be finite"
    if ask:
        seen = _shown(given) if isinstance(given, Integral) else given
        raise ValueError(f"{name} must {ask}, but is {seen}" + (because and f": {because}"))
    return number


def whole_number(
    name: str,
    value: object,
    *,
    least: int | None = None,
    most: int | None = None,
    because: str = "",
) -> int:
    """Return `value` as an integer from `least` to `most`; 1e5 counts as one, True does not.

    >>> whole_number("max_steps", 1e5), whole_number("depth", np.int64(2), least=1)
    (100000, 2)
    """
    given = _number("an integer", name, value)
    if not isinstance(given, Integral) and not (np.isfinite(given) and given == int(given)):
        raise TypeError(f"{name} must be an integer, but is {given}" + (because and f": {because}"))
    number = int(given)
    if (least is not None and number < least) or (most is not None and number > most):
        if most is None:
            ask = "not be negative" if least == 0 else f"be at least {least}"
        else:
            ask = f"be between {least} and {most}" if least is not None else f"be at most {most}"
        raise ValueError(f"{name} must {ask}, but is {number}" + (because and f": {because}"))
    return number


def _number(kind: str, name: str, value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(
            f"{name} must be {kind}, but is {_shown(value)} of type {type(value).__name__}"
        )
    return value


def flag(name: str, value: object) -> bool:
    """Return `value` as True or False; nothing else is taken for one of them."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(
            f"{name} must be True or False, but is {_shown(value)} of type {type(value).__name__}"
        )
    return bool(value)


def shape_of(value: Any) -> tuple[int, int]:
    """Return `value` as (m, n) with m, n ≥ 1."""
    try:
        m, n = value
    except (TypeError, ValueError):
        raise TypeError(
            f"shape must be a pair (m, n) of rows and columns, but is {_shown(value)}"
        ) from None
    return (
        whole_number("the number of rows", m, least=1),
        whole_number("the number of columns", n, least=1),
    )


def generator(rng: Any) -> np.random.Generator:
    """A NumPy Generator: `rng` itself, or one seeded by an integer or a sequence of integers."""
    known = np.random.Generator, np.random.BitGenerator, np.random.SeedSequence
    if isinstance(rng, known):
        return np.random.default_rng(rng)
    seeds = list(rng) if isinstance(rng, (list, tuple, np.ndarray)) and np.ndim(rng) else [rng]
    for seed in seeds or [None]:
        if isinstance(seed, bool | np.bool_) or not isinstance(seed, Integral):
            raise TypeError(
                f"rng must be a numpy Generator or an integer seed, so that runs repeat, but is "
                f"{_shown(rng)}; write np.random.default_rng(0) or 0"
            )
        if seed < 0:
            raise ValueError(f"rng must be a seed ≥ 0, but is {_shown(rng)}")
    return np.random.default_rng(rng)


def require_problem(problem: Any, *, entries: str = "") -> None:
    """Refuse what is no problem; `entries` says why only observed entries will do, if so.

    A problem is what has all that `protocols` says engines ask, of whatever class; a completion
    also has the `mask` and `values` of its entries.
    """
    if isinstance(problem, type):
        raise TypeError(
            f"problem must be a problem, but is the class {problem.__name__} itself; make one, "
            "for example MatrixCompletion(values, mask)"
        )
    # The class first: to ask the problem itself would compute its properties.
    if all(hasattr(type(problem), word) or hasattr(problem, word) for word in ASKED):
        if entries and not problem.observes_entries:
            raise TypeError(
                f"problem must be a MatrixCompletion, but is a {type(problem).__name__}: {entries}"
            )
        return
    wanted = "a MatrixCompletion" if entries else "a MatrixCompletion or a MatrixSensing"
    if problem is None:
        seen, cure = "None", "build one from your data"
    elif isinstance(problem, str):
        seen, cure = f"the text {_shown(problem)}", "write MatrixCompletion.from_text(text)"
    elif hasattr(problem, "__array__") or isinstance(problem, (list, tuple)):
        seen = f"a {type(problem).__name__}"
        cure = "MatrixCompletion.from_array(values) makes one, NaN for what is not known"
    else:
        seen, cure = f"a {type(problem).__name__}", "build one from your data"
    raise TypeError(f"problem must be {wanted}, but is {seen}; {cure}")
