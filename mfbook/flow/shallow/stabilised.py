"""Explicit methods of order four whose steps may be long where modes decay fast.

s stages are stable for h ρ ≤ 0.34 s², ρ the spectral radius of a Jacobian with real negative
eigenvalues, and of order four for nonlinear fields: Abdulle's idea (ROCK4, SIAM J. Sci. Comput. 23,
2002). s − 4 Euler steps take the real zeros of a polynomial that is close to the best, and four
more stages make the whole a method of order four. Between what accuracy bounds (`explicit`) and
thousands of times 1/ρ they cost the fewest slopes. `tools/stabilised.py` has made the coefficients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg.blas import daxpy


class Coefficients(NamedTuple):
    """The longest h ρ, Euler steps, the last four stages and weights, and those of the estimate."""

    reach: float
    euler: list[float]
    last: list[float]
    estimate: list[float]


METHODS = (
    Coefficients(
        9.677,
        [0.10407024103150231, 0.13294196887090778],
        [
            0.6765863892221736,
            -0.057163927724926296,
            -0.2268246974329057,
            0.5061734404251964,
            -0.21611340916184577,
            0.5378119277102548,
            0.44923210890490667,
            0.6573585974833773,
            -0.13043597065121712,
            -0.21316694563947786,
        ],
        [
            0.010965114792913589,
            -0.37052565839263707,
            0.23104436064558076,
            -0.034239307059112635,
            0.13898124883611584,
            -0.03335262387118561,
            0.057126865048325294,
        ],
    ),
    Coefficients(
        19.34,
        [0.051277225788175375, 0.0566218028923667, 0.07032321045543369, 0.1047223263967796],
        [
            -0.17013144248028134,
            0.7916789711802754,
            -0.446645421975615,
            0.38057842974289097,
            -0.19147852878496455,
            0.3134775895974834,
            0.492683101907888,
            -0.19684397593545175,
            -0.14456166318721417,
            0.5657779716820222,
        ],
        [
            -0.001968897351011167,
            0.06246304812152013,
            0.1017500372859907,
            -0.22632012734765944,
            0.8310145515881457,
            -0.42679352436222995,
            -0.6020211068956622,
            0.20817740710575725,
            0.05369861185514966,
        ],
    ),
    Coefficients(
        47,
        [
            0.020947410345586844,
            0.02175365231050209,
            0.02350285972885522,
            0.026521285443593473,
            0.0314866016470742,
            0.03984586436762117,
            0.055183489392564566,
            0.08968266741951653,
        ],
        [
            0.09264088176329628,
            -3.514994749881328,
            4.209705514745988,
            -3.807406311026432,
            4.52463162137937,
            -0.011583948262823707,
            -0.38919362232626925,
            0.7916833691465835,
            2.769298627211322,
            -2.4807122046869505,
        ],
        [
            -0.00044947428123174785,
            0.016911319148883185,
            0.15930612280051423,
            0.10804226655861274,
            -1.0,
            -0.6979578822438287,
            1.0,
            1.0,
            0.31921142835872945,
            -1.0,
            1.0,
            -0.9479276313190865,
            0.042863850977408406,
        ],
    ),
    Coefficients(
        109.3,
        [
            0.00898244737810795,
            0.009126174307813675,
            0.009422931457014007,
            0.009893571462838915,
            0.010572167338593053,
            0.01151355204390134,
            0.012803307663145103,
            0.014574975781320864,
            0.017049106456606473,
            0.020605050800481067,
            0.025947966240600525,
            0.03452608235902229,
            0.04987031600184415,
            0.08394466043615186,
        ],
        [
            0.08069774698347622,
            -3.5616710266845826,
            4.241918764638835,
            -3.860923481501698,
            4.564443964537089,
            -0.012068847410381708,
            -0.42001485469673977,
            0.8047548360966948,
            2.799898626185657,
            -2.503470917313053,
        ],
        [
            -0.00024525872566178076,
            0.04772043521593678,
            -0.3295895956100742,
            1.0,
            0.3699856810123882,
            -1.0,
            -1.0,
            -1.0,
            -0.6512211282295597,
            1.0,
            1.0,
            1.0,
            1.0,
            -1.0,
            -0.02240044070443478,
            -0.5055663416192376,
            1.0,
            -0.9529844142879382,
            0.04430106294858279,
        ],
    ),
)


def tableau(euler: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The coefficients of a method in Butcher's form."""
    m = len(euler)
    A = np.zeros((m + 4, m + 4))
    for i in range(m + 4):
        A[i, : min(i, m)] = euler[: min(i, m)]
    A[m + 1, m], A[m + 2, m : m + 2], A[m + 3, m : m + 3] = last[0], last[1:3], last[3:6]
    return A, np.concatenate([euler, last[6:]])


def order_conditions(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """What is zero where a method is of order four."""
    c = A.sum(axis=1)
    found = [b.sum(), b @ c, b @ c**2, b @ A @ c, b @ c**3, (b * c) @ A @ c, b @ A @ c**2,
             b @ A @ A @ c]  # fmt: skip
    return np.array(found) - 1 / np.array([1, 2, 3, 6, 4, 8, 12, 24])


def method_for(reach: float) -> int:
    """The first of the methods that is stable so far; the last where none is."""
    found = [k for k, method in enumerate(METHODS) if method.reach >= reach]
    return found[0] if found else len(METHODS) - 1


def stabilised(
    F: Callable[[np.ndarray], np.ndarray],
    Y: np.ndarray,
    F_at_Y: np.ndarray,
    h: float,
    method: Coefficients,
) -> tuple[np.ndarray, np.ndarray]:
    """Y after time h, and an estimate of its error."""
    now, gap = Y.copy(), np.zeros_like(Y)
    slope = F_at_Y
    for k, tau in enumerate(method.euler):
        slope = slope if k == 0 else F(now)
        daxpy(slope, now, a=h * tau)
        daxpy(slope, gap, a=h * method.estimate[k])
    slopes: list[np.ndarray] = []
    last, m = method.last, len(method.euler)
    for row in ((), last[:1], last[1:3], last[3:6], last[6:]):
        place = now.copy()
        for factor, one in zip(row, slopes, strict=True):
            daxpy(one, place, a=h * factor)
        slopes.append(F(place))
        daxpy(slopes[-1], gap, a=h * method.estimate[m + len(slopes) - 1])
    return place, gap
