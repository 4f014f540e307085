"""Numbers of so many digits, as the stored results have them."""


def rounded(x: float, digits: int = 4) -> float:
    return float(f"{x:.{digits}g}")
