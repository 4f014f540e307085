"""Felt layers that move: an exponential Rosenbrock step with the exact Jacobian."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from mfbook.flow.deep import kernel
from mfbook.flow.deep.data import Data
from mfbook.flow.deep.layers import Layers, State, flat, middle, unflat
from mfbook.flow.deep.march import Felt, Measured, carried_along, measured, mended
from mfbook.flow.deep.part import Part
from mfbook.flow.deep.passengers import Flow, Passenger, coupling, damping, exponents


class Active:
    """The felt layers, exactly linearised; passengers and levels are carried along."""

    def __init__(
        self, data: Data, state: State, conserved: np.ndarray, allowed: np.ndarray | None
    ) -> None:
        self.data, self.state, self.length = data, state, 0.0
        self.part = data.part(state.present)
        self.z, dims, offsets = flat(state.felt)
        self.felt = Felt(
            terms=self.part.terms,
            dims=dims,
            offsets=offsets,
            conserved=conserved,
            allowed=np.ones(len(self.z)) if allowed is None else allowed,
            reference=data.scale ** (1 / len(state.felt)) if data.scale > 0 else 0.0,
            curvature=data.curvature,
            others=self.part.loss_of_others,
        )

    def after(self, state: State, z: np.ndarray) -> Active:
        """The same layers at z, which a state has."""
        new = object.__new__(Active)
        new.data, new.state, new.length, new.part = self.data, state, 0.0, self.part
        new.z, new.felt = z, self.felt
        return new

    @cached_property
    def now(self) -> Measured:
        return measured(self.felt, self.z)

    @cached_property
    def eigen(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        felt = self.felt
        return kernel.linearised(
            felt.terms, self.z, felt.dims, felt.offsets, self.now.G, felt.allowed
        )

    def at(self, local: float) -> State:
        felt, now = self.felt, self.now
        path, _ = kernel.active_step(
            felt.terms, self.z, felt.dims, felt.offsets, now.F, *self.eigen, local, now.weights
        )
        return self.assembled(mended(felt, path), local)

    def assembled(self, path: np.ndarray, h: float) -> State:
        """The state after a step of length h, of which z is known at its end and two nodes."""
        state = self.state
        nodes = [unflat(z, self.felt.dims, self.felt.offsets) for z in path]
        passengers = state.passengers
        if passengers:
            early, late = (flows_of(self.data, self.part, passengers, node) for node in nodes[1:])
            flows = [exponents(a, b, h) for a, b in zip(early, late, strict=True)]
            passengers = tuple(p.after(f) for p, f in zip(passengers, flows, strict=True))
        levels = state.levels
        if levels:
            route = [state.felt, nodes[1], nodes[2], nodes[0]]
            left = np.array([node[0] for node in route])
            right = np.array([node[-1].T for node in route])
            rows, cols = self.part.rows, self.part.cols
            levels = tuple(
                replace(
                    level,
                    layers=(
                        carried_along(level.layers[0], rows, left),
                        *level.layers[1:-1],
                        carried_along(level.layers[-1].T, cols, right).T,
                    ),
                )
                for level in levels
            )
        return replace(state, felt=nodes[0], passengers=passengers, levels=levels)

    def local_of(self, dt: float) -> float:
        return dt

    def log_dt(self, local: float) -> float:
        return float(np.log(local)) if local > 0 else -np.inf


def flows_of(data: Data, part: Part, passengers: tuple[Passenger, ...], felt: Layers) -> list[Flow]:
    """The linear flows that felt layers mean for passengers."""
    K = middle(felt)
    E, flows = coupling(K), []
    for passenger in passengers:
        rows, cols = data.kin(passenger.pairs.block)
        A, B = felt[0][np.isin(part.rows, rows)], felt[-1][:, np.isin(part.cols, cols)]
        flows.append((E, damping(K, A, B, 2 * part.terms.weight)))
    return flows
