"""The papers' matrices by name, and one of our own, each with its source.

>>> M2
MatrixCompletion('1 2 ★; 3 4 ★; ★ ★ 5')
"""

from typing import Any

from mfbook.problems.checks import real_number
from mfbook.problems.completion import MatrixCompletion


def _read(text: str, name: str, **options: Any) -> MatrixCompletion:
    return MatrixCompletion.from_text(text, name=name, **options)


#: Bai et al. 2024, Eq. 4: disconnected, disconnected with complete bipartite components, connected.
M1 = _read("1 2 ?; 3 ? ?; ? ? 5", "M1")
M2 = _read("1 2 ?; 3 4 ?; ? ? 5", "M2")
M3 = _read("1 2 ?; 3 4 ?; 6 ? 5", "M3")

#: Bai et al. 2024, Section B.4: how small must an initialization be?
M4 = _read("1 2; 3 ?", "M4")
M5 = _read("1 2; 20 ?", "M5")

#: Bai et al. 2024, Figure 3 a: rank 3 if and only if the missing entry is 1.2.
connected_4x4 = _read("4 0.6 1.8 0.8; 6 0.9 2.7 ?; 8 2.2 2.6 1.6; 8 2.7 5.1 3.6", "connected 4×4")

#: Bai et al. 2024, Figure 4 a: two complete bipartite components.
disconnected_3x3 = _read("1 ? 3; ? 5 ?; 3 ? 9", "disconnected 3×3")

#: Bai's talk, slide "The Generalization Mystery": rank 1 if completed as i · j.
talk_3x3 = _read("1 2 3; ? 4 ?; ? ? 9", "talk 3×3")

#: Bai's talk, slide "Examples": measurements that do not commute.
talk_observed_zero = _read("0 1; 2 ?", "observed zero")
talk_not_commuting = _read("1 2; ? 3", "not commuting")

#: New here, chapter "Minimum rank": rank 2 if and only if the missing entry is −3, and the flow
#: from 10^-100 or less learns a large positive number, the larger the smaller its start.
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
