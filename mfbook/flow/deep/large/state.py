"""A state of N large layers: those that W feels, quiet ones, and what turns one into the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from mfbook.flow.deep import kernel
from mfbook.flow.deep.large.field import joined
from mfbook.flow.deep.large.orbit import FEW, Frame
from mfbook.flow.deep.large.quiet import reflect, span
from mfbook.flow.deep.layers import Layers, turned, unflat
from mfbook.flow.shallow.gauge import EPS, LOOSE

# What is conserved is restored for wide layers by so many sweeps, or until it is this exact: each
# costs as much as a slope. Interfaces side by side undo a half of what was done to each. With the
# best overrelaxation for N − 1 of them a sweep leaves 0.07 for three layers, 0.17 for four.
SWEEPS, CONSERVED = 2, 1e-8


@dataclass(frozen=True)
class State:
    """Felt layers, quiet ones exp(ell) · V, and the hidden bases, felt columns first.

    `route` are the first and the last felt layers since the quiet ones were last carried along.
    """

    felt: Layers
    quiet: Layers
    ell: float
    bases: Layers
    route: tuple[tuple[np.ndarray, np.ndarray], ...] = ()

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(layer.shape[1] for layer in self.felt[:-1])

    @property
    def quiet_widths(self) -> tuple[int, ...]:
        return tuple(layer.shape[1] for layer in self.quiet[:-1])

    @property
    def waits(self) -> bool:
        """Whether there is a quiet column at every interface."""
        return 0 not in self.quiet_widths


def first_column(layers: Layers) -> Layers:
    """The first hidden column at every interface, with what leads from each to the next."""
    last = len(layers) - 1
    return tuple(
        V[: None if j == 0 else 1, : None if j == last else 1] for j, V in enumerate(layers)
    )


def with_column(state: State, column: Layers) -> State:
    """The first quiet column replaced by a felt one."""
    last = len(column) - 1
    felt, quiet = [], []
    for j, (F, c, V) in enumerate(zip(state.felt, column, state.quiet, strict=True)):
        if j == 0:
            felt.append(np.concatenate([F, c], axis=1))
        elif j == last:
            felt.append(np.concatenate([F, c], axis=0))
        else:
            felt.append(np.block([[F, np.zeros((len(F), 1))], [np.zeros((1, F.shape[1])), c]]))
        quiet.append(V[0 if j == 0 else 1 :, 0 if j == last else 1 :])
    return of_size_one(replace(state, felt=tuple(felt), quiet=tuple(quiet)))


def all_felt(state: State) -> State:
    """The quiet layers join the felt ones, with nothing that leads from these to those."""
    size, last = np.exp(state.ell), len(state.felt) - 1
    felt = []
    for j, (F, V) in enumerate(zip(state.felt, state.quiet, strict=True)):
        if j == 0:
            felt.append(np.concatenate([F, size * V], axis=1))
        elif j == last:
            felt.append(np.concatenate([F, size * V], axis=0))
        else:
            right = np.zeros((len(F), V.shape[1]))
            below = np.zeros((len(V), F.shape[1]))
            felt.append(np.block([[F, right], [below, size * V]]))
    quiet = tuple(V[len(V) * (j > 0) :, (V.shape[1] if j < last else 0) :]
                  for j, V in enumerate(state.quiet))  # fmt: skip
    return replace(state, felt=tuple(map(np.ascontiguousarray, felt)), quiet=quiet, ell=-np.inf)


def parted(state: State, r: int) -> State:
    """All felt columns but the r largest of every interface become quiet."""
    last = len(state.felt) - 1
    felt, quiet = [], []
    for j, W in enumerate(state.felt):
        row, col = (0 if j == 0 else r), (0 if j == last else r)
        felt.append(np.ascontiguousarray(W[: None if j == 0 else r, : None if j == last else r]))
        quiet.append(np.ascontiguousarray(W[row:, col:]))
    return of_size_one(replace(state, felt=tuple(felt), quiet=tuple(quiet), ell=0.0, route=()))


def of_size_one(state: State) -> State:
    """The state with the size of its quiet layers in `ell`."""
    size = max((float(np.linalg.norm(V)) for V in state.quiet), default=0.0)
    if size == 0.0 or not state.waits:
        return state
    quiet = tuple(np.ascontiguousarray(V / size) for V in state.quiet)
    return replace(state, quiet=quiet, ell=state.ell + float(np.log(size)))


def stood(state: State) -> State:
    """The state with a quiet column that stands out in the first place, and of size one."""
    layers, r = list(state.quiet), state.widths
    bases = list(state.bases)
    tails = [basis[:, w:] for basis, w in zip(bases, r, strict=True)]
    before = list(tails)
    reflect(layers, tails)
    for j, (tail, w) in enumerate(zip(tails, r, strict=True)):
        if tail is not before[j]:
            bases[j] = np.concatenate([bases[j][:, :w], tail], axis=1)
    return of_size_one(replace(state, quiet=tuple(layers), bases=tuple(bases)))


def turned_felt(state: State, loose: float = LOOSE) -> State:
    """The state with its felt columns made orthogonal where they lean."""
    if max(state.widths, default=0) <= FEW:
        felt, rotations = turned(state.felt, loose)
    else:
        felt, rotations = _turned_wide(state.felt, loose)
    if all(Q is None for Q in rotations):
        return state
    bases = tuple(
        basis if Q is None else np.concatenate([basis[:, : len(Q)] @ Q, basis[:, len(Q) :]], axis=1)
        for basis, Q in zip(state.bases, rotations, strict=True)
    )
    return replace(state, felt=felt, bases=bases)


def _turned_wide(layers: Layers, loose: float) -> tuple[Layers, list[np.ndarray | None]]:
    """As `layers.turned`, by eigenvectors of Gram matrices.

    They tell columns apart that are larger than 1e-8 of the largest, as felt ones are.
    """
    out = list(layers)
    rotations: list[np.ndarray | None] = []
    for j in range(len(layers) - 1):
        gram = out[j].T @ out[j] + out[j + 1] @ out[j + 1].T
        sizes = np.sqrt(np.diag(gram))
        scale = np.where(sizes > 0, sizes, 1.0)
        cosines = np.abs(gram / np.outer(scale, scale))
        np.fill_diagonal(cosines, 0.0)
        falling = bool(np.all(sizes[1:] <= 2 * sizes[:-1]))
        if falling and cosines.max(initial=0.0) <= loose:
            rotations.append(None)
            continue
        Q = np.ascontiguousarray(np.linalg.eigh(gram)[1][:, ::-1])
        out[j], out[j + 1] = out[j] @ Q, Q.T @ out[j + 1]
        rotations.append(Q)
    return tuple(map(np.ascontiguousarray, out)), rotations


def carried(state: State) -> State:
    """The quiet layers carried in parallel along the felt ones' column spaces."""
    if len(state.route) < 2 or not state.waits:
        return replace(state, route=())
    first, last = state.quiet[0].copy(), state.quiet[-1].T.copy()
    for k, layer in ((0, first), (1, last)):
        spaces = [span(ends[k] if k == 0 else ends[k].T) for ends in state.route]
        for low, high in pairwise(spaces):
            if low.shape[1] == high.shape[1]:
                _turn(layer, low, high)
    quiet = (first, *state.quiet[1:-1], np.ascontiguousarray(last.T))
    return replace(state, quiet=quiet, route=())


def _turn(layer: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """Apply, in place, the rotation that turns principal vectors of two spaces into each other."""
    x, cosines, yt = np.linalg.svd(low.T @ high)
    u, v = low @ x, high @ yt.T
    rest = v - u * cosines
    sines = np.linalg.norm(rest, axis=0)
    turning = sines > 1e-15
    u, c, s = u[:, turning], cosines[turning, None], sines[turning]
    w, s = rest[:, turning] / s, s[:, None]
    along, across = u.T @ layer, w.T @ layer
    layer += u @ ((c - 1) * along - s * across) + w @ ((c - 1) * across + s * along)


def dependent(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether hidden columns between two layers are linearly dependent, to half the digits."""
    gram = before.T @ before + after @ after.T
    values = np.linalg.eigvalsh(gram)
    return bool(values[0] <= 1e-14 * values[-1])


def rebalanced(z: np.ndarray, frame: Frame, targets: list[np.ndarray]) -> np.ndarray:
    """The layers near z that have W_jᵀW_j − W_{j+1}W_{j+1}ᵀ as it was at the start."""
    if int(max(frame.dims[1:-1])) <= FEW:
        flat_targets = np.concatenate([target.ravel() for target in targets])
        found = kernel.rebalanced(z, frame.dims, frame.offsets, flat_targets)
        return found if np.all(np.isfinite(found)) else z
    layers = [layer.copy() for layer in unflat(z, frame.dims, frame.offsets)]
    before = np.inf
    relaxation = 2 / (1 + np.sin(np.pi / len(layers)))
    for _ in range(SWEEPS):
        worst = 0.0
        for j, target in enumerate(targets):
            first, second = layers[j].T @ layers[j], layers[j + 1] @ layers[j + 1].T
            wrong = first - second - target
            sizes = np.diag(first) + np.diag(second)
            both = sizes[:, None] + sizes[None, :]
            turn = np.where(both > EPS * sizes.max(initial=0.0), -wrong, 0.0)
            turn /= np.where(both > 0, both, 1.0)
            worst = max(worst, float(np.abs(turn).max()))
            turn *= relaxation
            layers[j] = layers[j] + layers[j] @ turn
            layers[j + 1] = layers[j + 1] - turn @ layers[j + 1]
        if not worst <= 2 * before:
            return z
        if worst < CONSERVED:
            break
        before = min(before, worst)
    return joined(tuple(layers))
