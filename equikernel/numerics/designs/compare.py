"""How equivalent an equivalent network is: exact kernels on data, beside the DEQ's and what theory promises."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from equikernel.errors import DataError, EquikernelError, InputError
from equikernel.numerics.data import data_matrix, mean_scale, row_norms
from equikernel.numerics.designs.design import Design
from equikernel.numerics.designs.equivalent import family_design
from equikernel.numerics.designs.sphere import SphereDesign
from equikernel.numerics.equivalents import equivalent_ck, equivalent_ntk
from equikernel.numerics.kernels import explicit_kernels, implicit_kernels
from equikernel.numerics.norms import operator_norm
from equikernel.theory.families import FAMILIES
from equikernel.theory.models import DEQ, ExplicitNetwork

__all__ = ["FamilyRow", "KernelMismatch", "compare_families", "kernel_mismatch", "require_scale"]

FloatArray = npt.NDArray[np.float64]
_SCALE = 0.05  # relative: how far the mean of ||x||^2 may be from tau0^2


@dataclass(frozen=True)
class KernelMismatch:
    """Relative distances in operator norm, ||G_DEQ - G||/||G_DEQ||, on one data set.

    Attributes:
        ck: of the network's conjugate kernel.
        ntk: of the network's neural tangent kernel; None where the DEQ or the network has none.
        promised_ck: of the high-dimensional equivalent, which network and DEQ share when their coefficients agree: what
            the asymptotic theory itself misses on these data.
        promised_ntk: the same for the NTK.
        samples: n.
        features: p.
    """

    ck: float
    ntk: float | None
    promised_ck: float
    promised_ntk: float | None
    samples: int
    features: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class FamilyRow:
    """One family in a comparison: its design and its mismatch, or the sentence why there is none."""

    family: str
    design: Design | None
    mismatch: KernelMismatch | None
    failure: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        design = self.design
        return {
            "family": self.family,
            "depth": None if design is None else design.depth,
            "residual": None if design is None else design.residual,
            "distance": None if design is None else design.distance,
            "lipschitz": None if design is None else design.lipschitz,
            "mismatch": None if self.mismatch is None else self.mismatch.to_dict(),
            "failure": self.failure,
        }


def require_scale(X: FloatArray, tau0: float, *, on_sphere: bool = False) -> None:
    """Refuse data that a design was not made for.

    Raises:
        DataError: the mean of ||x||^2 is more than 5 % from tau0^2, or norms vary where they must not.
    """
    norms = row_norms(X)
    mean = float(norms.mean())
    if abs(mean / tau0**2 - 1.0) > _SCALE:
        raise DataError(
            f"the mean of ||x||^2 is {mean:.6g}, and the design is for tau0^2 = {tau0**2:.6g}: scale the data, or make "
            f"the design with tau0={mean_scale(X):.6g}"
        )
    if on_sphere and float(np.abs(norms / tau0**2 - 1.0).max()) > 1e-6:
        raise DataError(
            f"the design is for data of constant norm {tau0:.6g}; here ||x|| goes from {norms.min() ** 0.5:.6g} to "
            f'{norms.max() ** 0.5:.6g}: normalise the samples, or make a design with data="any"'
        )


def kernel_mismatch(
    deq: DEQ,
    network: Design | SphereDesign | ExplicitNetwork,
    X: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    ntk: bool = True,
    threads: int | None = None,
) -> KernelMismatch:
    """||G_DEQ - G_net||/||G_DEQ|| on data, and the same for the NTK (trained "aA"), from the exact kernels.

    Args:
        deq: the DEQ; it is centred at the network's tau0.
        network: a design, or any explicit network.
        X: (n, p), samples in rows.
        labels: classes for the promised equivalents; without them the label-free ones are taken.
        ntk: whether the NTK is compared too.
        threads: of the kernels.

    Raises:
        DataError: unusable data, or data of another scale than the network's tau0 (by more than 5 % in ||x||^2).
        InputError, SolutionError: as ``implicit_kernels``.
    """
    matrix = data_matrix(X)
    net = network if isinstance(network, ExplicitNetwork) else network.network
    on_sphere = isinstance(network, SphereDesign) or (isinstance(network, Design) and network.on_sphere)
    require_scale(matrix, net.tau0, on_sphere=on_sphere)
    ntk = ntk and all(a.has_square_integrable_derivative for a in _activations(deq, net))
    of_deq = implicit_kernels(matrix, deq, tau0=net.tau0, ntk=ntk, threads=threads)
    of_net = explicit_kernels(matrix, net, ntk=ntk, threads=threads)
    promised_ck = equivalent_ck(matrix, deq, labels, tau0=net.tau0)
    values: list[float | None] = [_relative(of_deq.ck, of_net.ck), None, _relative(of_deq.ck, promised_ck), None]
    if of_deq.ntk is not None and of_net.ntk is not None:
        values[1] = _relative(of_deq.ntk, of_net.ntk)
        values[3] = _relative(of_deq.ntk, equivalent_ntk(matrix, deq, labels, tau0=net.tau0))
    return KernelMismatch(*values, *matrix.shape)  # type: ignore[arg-type]  # the CK's are never None


def _activations(deq: DEQ, net: ExplicitNetwork) -> list[Any]:
    return [deq.activation, *(layer.activation for layer in net.layers)]


def _relative(kernel: FloatArray, other: FloatArray) -> float:
    return operator_norm(kernel - other) / operator_norm(kernel)


def compare_families(
    deq: DEQ,
    X: ArrayLike | None = None,
    *,
    families: Iterable[str] = tuple(FAMILIES),
    tau0: Any = None,
    match: str = "ck",
    depth: str | int = "auto",
    rates: str = "equal",
    labels: ArrayLike | None = None,
) -> list[FamilyRow]:
    """The design of every family, nearest on the data first (without data: by ``Design.distance``).

    Args:
        deq: the DEQ.
        X: data, (n, p); None: the designs alone.
        families: names of ``FAMILIES`` or formulas.
        tau0: standard deviation of the data; by default that of X, or 1.
        match: "ck", "ntk" or "both".
        depth: as in ``equivalent_network``.
        rates: likewise.
        labels: as in ``kernel_mismatch``.

    Raises:
        InputError: bad arguments. That a family has no design is a row with the reason.
    """
    matrix = None if X is None else data_matrix(X)
    if tau0 is None and matrix is not None:
        tau0 = mean_scale(matrix)
    rows = []
    for name in families:
        try:
            design = family_design(deq, tau0, match, depth, name, rates=rates)
        except InputError:
            raise
        except EquikernelError as error:
            rows.append(FamilyRow(name, None, None, str(error)))
            continue
        mismatch = None if matrix is None else kernel_mismatch(deq, design, matrix, labels=labels)
        rows.append(FamilyRow(name, design, mismatch))
    return sorted(rows, key=_order)


def _order(row: FamilyRow) -> tuple[bool, float]:
    if row.design is None:
        return True, 0.0
    if row.mismatch is None:
        return False, row.design.distance
    ck, ntk = row.mismatch.ck, row.mismatch.ntk
    return False, ck if row.design.match == "ck" or ntk is None else ntk if row.design.match == "ntk" else max(ck, ntk)
