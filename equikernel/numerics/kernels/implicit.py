"""The exact infinite-width kernels of DEQs and explicit networks on data, for any activation (theory, sections 3-5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from equikernel.errors import InputError
from equikernel.numerics.data import data_matrix, mean_scale
from equikernel.numerics.kernels.block import Block, compute_block
from equikernel.numerics.kernels.engine import Engine, Prepared
from equikernel.numerics.kernels.lazy import LazyKernels, lazy_kernels
from equikernel.numerics.kernels.sources import is_dask
from equikernel.numerics.kernels.tile import TileReport, pair_counts
from equikernel.numerics.memory import require_memory
from equikernel.theory.models import DEQ, ExplicitNetwork

__all__ = [
    "ExplicitKernels",
    "ImplicitKernels",
    "explicit_ck",
    "explicit_kernels",
    "explicit_ntk",
    "implicit_ck",
    "implicit_kernels",
    "implicit_ntk",
]

FloatArray = npt.NDArray[np.float64]
_ROW_BYTES = 8 * 400  # of tables a sample, roughly


@dataclass(frozen=True)
class ImplicitKernels:
    """Exact kernels of a DEQ on n samples, or of n samples against m others.

    Attributes:
        ck: conjugate kernel G, (n, n) or (n, m).
        ntk: neural tangent kernel K, or None when it was not asked for.
        variances: q_i = Lambda_ii of the n samples, (n,).
        column_variances: those of the m others, (m,); the same as ``variances`` when there are none.
        tau: the standard deviation tau* at which the network is centred.
        contraction: max_i sigma_a2 E[phi'(sqrt(q_i) xi)^2] over all samples; below 1 every pair's equation is a
            contraction. inf when phi jumps.
        tiles: for every tile of up to 256 x 256 pairs the methods used, the most terms of its series and a bound of
            the error they make.
    """

    ck: FloatArray
    ntk: FloatArray | None
    variances: FloatArray
    column_variances: FloatArray
    tau: float
    contraction: float
    tiles: tuple[TileReport, ...]

    @property
    def methods(self) -> dict[str, int]:
        """Number of pairs by method: "series", "closed form", "long series", "quadrature", "identical"."""
        return pair_counts(self.tiles)

    @property
    def error_bound(self) -> float:
        """The largest error that the methods make in any G_ij, relative to sqrt(G_ii G_jj); rounding comes on top."""
        return max(tile.error_bound for tile in self.tiles)


@dataclass(frozen=True)
class ExplicitKernels:
    """Exact kernels of an explicit network: ck (n, n) or (n, m), ntk or None, and the tiles' reports."""

    ck: FloatArray
    ntk: FloatArray | None
    tiles: tuple[TileReport, ...]


def implicit_kernels(
    X: Any,
    deq: DEQ,
    Y: Any = None,
    *,
    tau0: Any = None,
    trained: str = "aA",
    ntk: bool = True,
    out: tuple[FloatArray | None, FloatArray | None] | None = None,
    threads: int | None = None,
) -> ImplicitKernels:
    """Exact implicit CK and NTK of any activation on data (theory, sections 3 and 4).

    G_ij = E[phi_c(u) phi_c(v)], (u, v) ~ N(0, [[q_i, L_ij], [L_ij, q_j]]), L_ij = sigma_a2 G_ij + sigma_b2 <x_i, y_j>;
    K_ij = G_ij/(1 - sigma_a2 G'_ij) for trained "aA". Identical samples (and opposite ones, for odd phi) have exactly
    the kernel of a sample with itself. Everything is computed in float64, float32 data included.
    Accuracy: about 1e-14 (G) and 1e-13 (K) of the kernel's scale, kinks and nearly equal samples included.

    Args:
        X: data, (n, p), samples in rows. A dask array goes to ``lazy_kernels``, ``implicit_ck`` or ``implicit_ntk``.
        deq: the network; its activation may be a ``callable_activation``.
        Y: other samples, (m, p): the kernels of X against Y, (n, m). None: of X with itself, every pair solved once.
        tau0: standard deviation that fixes the centring constant E[phi(tau* xi)]; None means sqrt(mean ||x_i||^2) of X:
            put the training samples first, or give the number.
        trained: "a", "aA" or "aAB".
        ntk: False computes the conjugate kernel alone.
        out: arrays (n, m) of float64 to write CK and NTK to; None (for both, or one of the two): new ones.
        threads: number of threads, by default all cores; the result is the same to the last bit for every number.

    Raises:
        DataError: unusable data.
        InputError: bad arguments; an activation with jumps when the NTK needs E[phi'^2].
        MemoryLimitError: the kernels do not fit into memory: names the bytes and the call to use instead.
        NoFixedPointError: a sample (named) for which no variance solves the diagonal equation.
        UnstableError: a pair or sample (named) at which sigma_a2 E[phi' phi'] >= 1.
        ConvergenceError: a pair (named) that did not settle.
    """
    _refuse_dask(X, Y)
    X, Y = _two_sets(X, Y)
    engine = Engine.of_deq(deq, mean_scale(X) if tau0 is None else tau0, trained=trained, ntk=ntk)
    rows, columns, block = _compute(engine, X, Y, out or (None, None), threads)
    if block.ck is None:
        raise AssertionError("the engine computes the CK unless told otherwise")
    energies = np.concatenate([side.layers[0].slope_energy for side in (rows, columns)])
    return ImplicitKernels(
        ck=block.ck,
        ntk=block.ntk,
        variances=rows.layers[0].variances,
        column_variances=columns.layers[0].variances,
        tau=engine.tau,
        contraction=float(deq.sigma_a2) * float(energies.max()),
        tiles=block.tiles,
    )


def implicit_ck(
    X: Any,
    deq: DEQ,
    Y: Any = None,
    *,
    tau0: Any = None,
    out: FloatArray | None = None,
    threads: int | None = None,
) -> FloatArray:
    """The exact implicit conjugate kernel, (n, n) or (n, m); see ``implicit_kernels``; dask: ``lazy_kernels``."""
    if is_dask(X) or is_dask(Y):
        return _only(_lazily(X, deq, Y, "ck", out, tau0=tau0, threads=threads).ck)
    return implicit_kernels(X, deq, Y, tau0=tau0, ntk=False, out=(out, None), threads=threads).ck


def implicit_ntk(
    X: Any,
    deq: DEQ,
    Y: Any = None,
    *,
    trained: str = "aA",
    tau0: Any = None,
    out: FloatArray | None = None,
    threads: int | None = None,
) -> FloatArray:
    """The exact implicit neural tangent kernel, (n, n) or (n, m); see ``implicit_kernels``; dask: ``lazy_kernels``."""
    if is_dask(X) or is_dask(Y):
        return _only(_lazily(X, deq, Y, "ntk", out, tau0=tau0, trained=trained, threads=threads).ntk)
    X, Y = _two_sets(X, Y)
    engine = Engine.of_deq(deq, mean_scale(X) if tau0 is None else tau0, trained=trained, ck=False)
    return _only(_compute(engine, X, Y, (None, out), threads)[2].ntk)


def explicit_kernels(
    X: Any,
    net: ExplicitNetwork,
    Y: Any = None,
    *,
    ntk: bool = True,
    out: tuple[FloatArray | None, FloatArray | None] | None = None,
    threads: int | None = None,
) -> ExplicitKernels:
    """Exact CK and NTK of an explicit network (theory, section 5).

    Sigma_l = E[sigma_l(u) sigma_l(v)] under Sigma_(l-1), Theta_l = Sigma_l + Theta_(l-1) * E[sigma_l' sigma_l']
    (elementwise), Sigma_0 = Theta_0 = X Y^T; sigma_l is centred at tau_(l-1), tau_0 = net.tau0. Every layer trained,
    readout included; with ``net.rates`` the gradients of each hidden layer's weights are weighed by its learning rate.
    Arguments and accuracy as of ``implicit_kernels``.

    Raises:
        DataError: unusable data.
        InputError: bad arguments; a layer with jumps when the NTK is asked for.
        MemoryLimitError: the kernels do not fit into memory.
    """
    _refuse_dask(X, Y)
    X, Y = _two_sets(X, Y)
    block = _compute(Engine.of_explicit(net, ntk=ntk), X, Y, out or (None, None), threads)[2]
    return ExplicitKernels(_only(block.ck), block.ntk, block.tiles)


def explicit_ck(
    X: Any, net: ExplicitNetwork, Y: Any = None, *, out: FloatArray | None = None, threads: int | None = None
) -> FloatArray:
    """The exact conjugate kernel of an explicit network, (n, n) or (n, m); see ``explicit_kernels``."""
    if is_dask(X) or is_dask(Y):
        return _only(_lazily(X, net, Y, "ck", out, threads=threads).ck)
    return explicit_kernels(X, net, Y, ntk=False, out=(out, None), threads=threads).ck


def explicit_ntk(
    X: Any, net: ExplicitNetwork, Y: Any = None, *, out: FloatArray | None = None, threads: int | None = None
) -> FloatArray:
    """The exact neural tangent kernel of an explicit network, (n, n) or (n, m); see ``explicit_kernels``."""
    if is_dask(X) or is_dask(Y):
        return _only(_lazily(X, net, Y, "ntk", out, threads=threads).ntk)
    X, Y = _two_sets(X, Y)
    return _only(_compute(Engine.of_explicit(net, ck=False), X, Y, (None, out), threads)[2].ntk)


def _lazily(X: Any, model: DEQ | ExplicitNetwork, Y: Any, which: str, out: Any, **options: Any) -> LazyKernels:
    """Kernels of dask arrays are dask arrays: nothing is computed here."""
    if out is not None:
        raise InputError("out has no meaning for a dask array: store the result with dask.array.store")
    return lazy_kernels(X, model, Y, which=which, **options)


def _refuse_dask(X: Any, Y: Any) -> None:
    if is_dask(X) or is_dask(Y):
        raise InputError(
            "got a dask array: use lazy_kernels, whose kernels are dask arrays, or implicit_ck and implicit_ntk"
        )


def _two_sets(X: Any, Y: Any) -> tuple[FloatArray, FloatArray | None]:
    return data_matrix(X), None if Y is None else data_matrix(Y, "Y")


def _only(kernel: FloatArray | None) -> FloatArray:
    if kernel is None:
        raise AssertionError("the engine computes what it is asked for")
    return kernel


def _compute(
    engine: Engine,
    X: FloatArray,
    Y: FloatArray | None,
    out: tuple[FloatArray | None, FloatArray | None],
    threads: int | None,
) -> tuple[Prepared, Prepared, Block]:
    """Prepare the samples, solve every pair, and give identical samples identical rows and columns."""
    shape = (len(X), len(X if Y is None else Y))
    for given, name in zip(out, ("CK", "NTK"), strict=True):
        _require_target(given, name, shape)
    missing = sum(wanted and given is None for wanted, given in zip((engine.ck, engine.ntk), out, strict=True))
    needed = 8 * shape[0] * shape[1] * missing + _ROW_BYTES * sum(shape)
    require_memory(needed, f"kernels of {shape[0]} x {shape[1]} samples", "use stream_kernels, which writes to disk")
    rows = engine.prepare(X)
    columns = rows if Y is None else engine.prepare(Y)
    block = compute_block(engine, rows, None if Y is None else columns, out=out, threads=threads)
    for kernel in (block.ck, block.ntk):
        if kernel is not None:
            _share(kernel, rows)
            _share(kernel.T, columns)
    return rows, columns, block


def _require_target(given: Any, name: str, shape: tuple[int, int]) -> None:
    """An array to write to must be a writable float64 array of the kernel's shape."""
    if given is None:
        return
    is_array = isinstance(given, np.ndarray)
    if not is_array or given.shape != shape or given.dtype != np.float64:
        found = f"{given.dtype} {given.shape}" if is_array else type(given).__name__
        raise InputError(f"out for the {name} must be a float64 array of shape {shape}; got {found}")
    if not given.flags.writeable:
        raise InputError(f"out for the {name} must be writable; got a read-only array: copy it first")


def _share(kernel: FloatArray, samples: Prepared) -> None:
    """Identical samples have identical rows, to the last bit: a product of matrices rounds them differently."""
    _, first, inverse = np.unique(samples.keys, return_index=True, return_inverse=True)
    original = first[inverse]
    for copy in np.flatnonzero(original != np.arange(len(original))):
        k = original[copy]
        sign = samples.signs[k] * samples.signs[copy]
        if (samples.X[copy] == sign * samples.X[k]).all():
            np.multiply(kernel[k], sign, out=kernel[copy])
