"""The papers' matrices by name, and one of our own, each with its source.

>>> M2
MatrixCompletion('1 2 ★; 3 4 ★; ★ ★ 5')
"""

from typing import Any

from mfbook.problems.checks import real_number
from mfbook.problems.completion import MatrixCompletion


def _read(text: str, name: str, **options: Any) -> MatrixCompletion:
    return MatrixCompletion.from_text(text, name=name, **options)


#: Disconnected (Bai et al. 2024, Eq. 4).
M1 = _read("1 2 ?; 3 ? ?; ? ? 5", "M1")
#: Disconnected with complete bipartite components (Bai et al. 2024, Eq. 4).
M2 = _read("1 2 ?; 3 4 ?; ? ? 5", "M2")
#: Connected (Bai et al. 2024, Eq. 4).
M3 = _read("1 2 ?; 3 4 ?; 6 ? 5", "M3")

#: How small must a start be? (Bai et al. 2024, Section B.4.)
M4 = _read("1 2; 3 ?", "M4")
#: How small, where an observed entry is large? (Bai et al. 2024, Section B.4.)
M5 = _read("1 2; 20 ?", "M5")

#: Rank 3 if and only if the missing entry is 1.2 (Bai et al. 2024, Figure 3 a).
connected_4x4 = _read("4 0.6 1.8 0.8; 6 0.9 2.7 ?; 8 2.2 2.6 1.6; 8 2.7 5.1 3.6", "connected 4×4")

#: Two complete bipartite components (Bai et al. 2024, Figure 4 a).
disconnected_3x3 = _read("1 ? 3; ? 5 ?; 3 ? 9", "disconnected 3×3")

#: Rank 1 if completed as i · j (Bai's talk, slide "The Generalization Mystery").
talk_3x3 = _read("1 2 3; ? 4 ?; ? ? 9", "talk 3×3")

#: Measurements that do not commute, one of them of a zero (Bai's talk, slide "Examples").
talk_observed_zero = _read("0 1; 2 ?", "observed zero")
#: Measurements that do not commute (Bai's talk, slide "Examples").
talk_not_commuting = _read("1 2; ? 3", "not commuting")

#: Rank 2 if and only if the missing entry is −3, and the flow from 10^-100 or less learns a large
#: positive number, the larger the smaller its start (new here, chapter "Minimum rank").
runaway_3x3 = _read("2 1 1; -1 -1 -1; 2 -3 ?", "runaway 3×3")


def nuclear_norm_counterexample(R: float) -> MatrixCompletion:
    """The 4×4 problem whose flow keeps rank 1 and not the smallest nuclear norm, for R > 1.

    (Li, Luo & Lyu 2021, Example 5.9 / Proposition B.2.) Raises ValueError for another R.

    >>> nuclear_norm_counterexample(100)
    MatrixCompletion('★ ★ 1 100; ★ ★ 100 ★; 1 100 ★ ★; 100 ★ ★ ★')
    """
    R = real_number("R", R, above=1, because="the example needs R to exceed 1")
    return _read(
        f"? ? 1 {R!r}; ? ? {R!r} ?; 1 {R!r} ? ?; {R!r} ? ? ?",
        f"nuclear-norm counterexample, R = {R:g}",
        loss="half",
    )
