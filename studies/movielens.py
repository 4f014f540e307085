"""MovieLens 100K: fetched once, checked, and kept out of the repository.

    python -m studies.movielens [FILE]

100,000 ratings of 1,682 films by 943 people (Harper & Konstan 2015). The data may be used for
research with a citation, and may not be passed on, so neither they nor anything from which a rating
could be read is committed: `_build/data` is ignored by git. They are fetched from GroupLens, or, if
that fails, out of a package of PyPI that carries them; whichever it was, the table must have the
same hash. FILE is a copy that you have already: `u.data`, or `ml-100k.zip`.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "_build" / "data" / "movielens-100k.npz"
OFFICIAL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
MEMBER = "ml-100k/u.data"
PACKAGE = "recbole==1.2.1"
PACKAGED = "recbole/dataset_example/ml-100k/ml-100k.inter"
SHAPE, COUNT = (943, 1682), 100_000
# Of the bytes "user item rating\n" of all ratings, by user and then by film.
SHA256 = "c1d6030da2e1cd4f9a5a06fe7dcc5261a1540621887adb3d0cfd3012d75750df"
SECONDS = 60


class DataMissing(RuntimeError):
    """The data are not here; the message says how to get them."""


@dataclass(frozen=True, eq=False)
class Ratings:
    """Who rated what how: users and films count from 0, ratings are 1, …, 5."""

    users: np.ndarray
    films: np.ndarray
    ratings: np.ndarray


def parse(text: str) -> Ratings:
    """The table in lines of `user item rating timestamp`, below a line of names or not."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if lines and ":" in lines[0][0]:
        lines = lines[1:]
    table = np.array([[int(float(word)) for word in line[:3]] for line in lines])
    if table.shape != (COUNT, 3):
        raise ValueError(f"expected {COUNT:,} lines of user, item, rating; found {table.shape}")
    users, films, ratings = table[np.lexsort((table[:, 1], table[:, 0]))].T
    return Ratings(users - 1, films - 1, ratings)


def fingerprint(data: Ratings) -> str:
    """The SHA-256 of the ratings, which does not depend on the file that they came in."""
    rows = zip(data.users + 1, data.films + 1, data.ratings, strict=True)
    return hashlib.sha256("".join(f"{u} {i} {r}\n" for u, i, r in rows).encode()).hexdigest()


def checked(data: Ratings) -> Ratings:
    found = fingerprint(data)
    if found != SHA256:
        raise ValueError(f"the ratings are not those of MovieLens 100K: SHA-256 {found[:16]}…")
    return data


def from_grouplens() -> str:
    with urllib.request.urlopen(OFFICIAL, timeout=SECONDS) as answer:
        return member(answer.read(), MEMBER)


def from_package() -> str:
    """Out of a wheel that pip downloads and does not install."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", folder, PACKAGE],
            check=True,
            capture_output=True,
            text=True,
            timeout=5 * SECONDS,
        )
        [wheel] = Path(folder).glob("*.whl")
        return member(wheel.read_bytes(), PACKAGED)


def member(archive: bytes, name: str) -> str:
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return file.read(name).decode()


def from_file(path: Path) -> str:
    content = path.read_bytes()
    return member(content, MEMBER) if zipfile.is_zipfile(path) else content.decode()


SOURCES: dict[str, Callable[[], str]] = {OFFICIAL: from_grouplens, PACKAGE: from_package}


def fetch(sources: dict[str, Callable[[], str]] | None = None, cache: Path = CACHE) -> Ratings:
    """The ratings from the first source that has them, kept in the cache."""
    failures = []
    for name, read in (SOURCES if sources is None else sources).items():
        try:
            data = checked(parse(read()))
        # Whatever goes wrong with one source, the next may do.
        except Exception as error:
            reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
            failures.append(f"  {name}: {type(error).__name__}: {' '.join(reason)}")
            continue
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(cache, users=data.users, films=data.films, ratings=data.ratings)
        return data
    raise DataMissing(
        "MovieLens 100K could not be fetched:\n"
        + "\n".join(failures)
        + f"\nDownload {OFFICIAL} by hand and run `python -m studies.movielens ml-100k.zip`."
    )


def load(cache: Path = CACHE) -> Ratings:
    """The ratings in the cache; DataMissing where there are none."""
    if not cache.exists():
        raise DataMissing("MovieLens 100K is not here: run `python -m studies.movielens`")
    with np.load(cache) as stored:
        data = Ratings(stored["users"], stored["films"], stored["ratings"])
    return checked(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, help="u.data, or ml-100k.zip")
    file = parser.parse_args().file
    try:
        fetch({str(file): lambda: from_file(file)} if file else None)
    except DataMissing as error:
        sys.exit(str(error))
    print(f"{COUNT:,} ratings in {CACHE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
