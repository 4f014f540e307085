"""The smallest rank that fits: a witness from above, exclusions from below.

`smallest` asks the others, rank by rank: `rank_one` settles its rank exactly; `independence`,
`elimination` and `minors` exclude ranks; `witness` finds factors. All look at one `component`.
"""

from mfbook.rivals.minrank.smallest import NOT_PROVEN, MinRank, min_rank

__all__ = ["NOT_PROVEN", "MinRank", "min_rank"]
