"""The exact kernels in scikit-learn: for Gaussian processes, and for whatever takes a precomputed kernel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from equikernel.errors import AccuracyError, InputError, SolutionError
from equikernel.numerics.data import data_matrix, mean_scale
from equikernel.numerics.kernels import implicit_ck, implicit_ntk
from equikernel.numerics.kernels.engine import Engine
from equikernel.theory.models import DEQ

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.gaussian_process.kernels import Hyperparameter, Kernel
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise InputError(
        "the estimators need scikit-learn 1.6 or later: install it with pip install 'equikernel[validation]'"
    ) from error

__all__ = ["DEQKernel", "DEQKernelTransformer"]

FloatArray = npt.NDArray[np.float64]
_Bounds = tuple[float, float] | str

_WIDEST_STEP = 2.0**-5  # in the logarithm of a parameter
_LEVELS = 10
_AGREEMENT = 1e-7  # of two rules of fourth order: what is extrapolated from them errs by far less


class DEQKernel(Kernel):  # type: ignore[misc]  # scikit-learn is untyped
    """The exact kernel of an infinitely wide DEQ, for Gaussian processes (theory, sections 3 and 4).

    k(x, y) = G(x, y) ("ck") or, for trained "aA", G/(1 - sigma_a2 G') ("ntk"), as ``implicit_kernels`` defines and
    computes them. The network is centred once, for samples of mean squared norm tau0^2, and not for the samples at
    hand: a kernel function may not depend on them.

    theta = (log sigma_a2, log sigma_b2), without those whose bounds are "fixed", which both are by default. The
    gradient in theta is a central difference, extrapolated to sixth order, with steps of 1/128 to 1/32 in the
    logarithm, halved until two rules of fourth order agree to 1e-7 and the kernel exists at every step. Its error is
    about 1e-9 of the largest entry of K or of dK/dtheta_k, whichever is larger; it takes six kernels a parameter.

    The kernel exists only while sigma_a2 E[phi'(u) phi'(v)] < 1. An optimiser that leaves that region is stopped by
    an error that names the parameters: there is no value to go on with. With an upper end of ``sigma_a2_bounds`` below
    1/sup phi'^2 it never does (1 for tanh and sine); for the ReLU, E[phi'^2] being 1/2, below 2 is enough.

    Args:
        activation: anything ``equikernel.activation`` takes, or a ``callable_activation``.
        sigma_a2: hidden variance.
        sigma_b2: input variance. For positively homogeneous activations (ReLU) it scales the kernel as a
            ``ConstantKernel`` would: free one of them, not both.
        which: "ntk" or "ck".
        trained: "a", "aA" or "aAB", for the NTK.
        tau0: standard deviation that fixes the centring constant E[phi(tau* xi)]; a number.
        sigma_a2_bounds: (lower, upper) for an optimiser, or "fixed".
        sigma_b2_bounds: likewise.

    Raises:
        InputError: bad parameters or data; what is raised, and by which call, as for ``implicit_kernels``.
        SolutionError: no kernel at these parameters.
    """

    def __init__(
        self,
        activation: Any = "relu",
        sigma_a2: float = 0.2,
        sigma_b2: float = 0.8,
        which: str = "ntk",
        trained: str = "aA",
        tau0: float = 1.0,
        sigma_a2_bounds: _Bounds = "fixed",
        sigma_b2_bounds: _Bounds = "fixed",
    ) -> None:
        self.activation = activation
        self.sigma_a2 = sigma_a2
        self.sigma_b2 = sigma_b2
        self.which = which
        self.trained = trained
        self.tau0 = tau0
        self.sigma_a2_bounds = sigma_a2_bounds
        self.sigma_b2_bounds = sigma_b2_bounds

    @property
    def hyperparameter_sigma_a2(self) -> Hyperparameter:
        """The hidden variance, as scikit-learn describes what may be optimised."""
        return Hyperparameter("sigma_a2", "numeric", self.sigma_a2_bounds)

    @property
    def hyperparameter_sigma_b2(self) -> Hyperparameter:
        """The input variance, likewise."""
        return Hyperparameter("sigma_b2", "numeric", self.sigma_b2_bounds)

    def __repr__(self) -> str:
        variances = (f"{name}={_short(getattr(self, name))}" for name in ("sigma_a2", "sigma_b2"))
        trained = f", trained={self.trained!r}" if self.which == "ntk" else ""
        return (
            f"DEQKernel({self.activation!r}, {', '.join(variances)}, which={self.which!r}{trained}, "
            f"tau0={_short(self.tau0)})"
        )

    def is_stationary(self) -> bool:
        """False: k(x, y) depends on more than x - y."""
        return False

    def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> Any:
        """k(X, Y), (n, m), or k(X, X), (n, n); with ``eval_gradient`` also dK/dtheta, (n, n, free parameters)."""
        if not eval_gradient:
            return self._matrix(X, Y)
        if Y is not None:
            raise InputError("the gradient is that of k(X, X): got another set Y; leave it out, or eval_gradient=False")
        K = self._matrix(X)
        free = [hyperparameter.name for hyperparameter in self.hyperparameters if not hyperparameter.fixed]
        gradient = np.empty((*K.shape, len(free)))
        for k, name in enumerate(free):
            gradient[..., k] = self._derivative(X, name, float(np.abs(K).max()))
        return K, gradient

    def diag(self, X: Any) -> FloatArray:
        """k(x_i, x_i), (n,): the diagonal of ``self(X)``, to the last bit, in time and memory linear in n."""
        deq = DEQ(self.activation, self.sigma_a2, self.sigma_b2)
        ck = _is_ck(self.which)
        with _named(deq):
            engine = Engine.of_deq(deq, _number(self.tau0), trained=self.trained, ck=ck, ntk=not ck)
            samples = engine.prepare(data_matrix(X))
            engine.require_stable(samples)
        diagonals = engine.diagonal(samples)
        return np.array(diagonals[0] if ck else diagonals[1])

    def _matrix(self, X: Any, Y: Any = None, **changed: float) -> FloatArray:
        """k(X, Y), with the variances ``changed``."""
        variances = {"sigma_a2": self.sigma_a2, "sigma_b2": self.sigma_b2} | changed
        deq = DEQ(self.activation, variances["sigma_a2"], variances["sigma_b2"])
        with _named(deq):
            return _exact_kernel(X, Y, deq, which=self.which, trained=self.trained, tau0=_number(self.tau0))

    def _derivative(self, X: Any, name: str, size: float) -> FloatArray:
        """dK/dlog(parameter), (n, n); see the class."""
        value = float(getattr(self, name))
        differences: list[FloatArray] = []
        last: SolutionError | None = None
        for step in _WIDEST_STEP * 0.5 ** np.arange(_LEVELS):
            try:
                above, below = (self._matrix(X, **{name: value * math.exp(t)}) for t in (step, -step))
            except SolutionError as error:  # too wide a step for where the kernel exists
                differences.clear()
                last = error
                continue
            differences.append((above - below) / (2.0 * step))
            if len(differences) < 3:
                continue
            coarse, fine = ((4.0 * b - a) / 3.0 for a, b in zip(differences[-3:-1], differences[-2:], strict=True))
            if np.abs(coarse - fine).max() <= _AGREEMENT * max(size, float(np.abs(fine).max())):
                return np.asarray(fine + (fine - coarse) / 15.0)
        raise AccuracyError(
            f"the derivative of {self} in log {name} could not be computed to 1e-7: the parameters are at the edge of "
            "where the kernel exists; lower the upper end of sigma_a2_bounds"
        ) from last


class DEQKernelTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Samples to their exact DEQ kernel with the training samples, for any estimator with ``kernel="precomputed"``.

    ``fit`` keeps the n_fit training samples, ``transform`` gives k(x_i, x_fit_j), (n, n_fit), and ``fit_transform`` the
    symmetric kernel of the training samples, (n_fit, n_fit), every pair solved once. In a ``Pipeline`` before
    ``KernelRidge``, ``SVC`` or ``KernelPCA`` the kernel's parameters can be searched like any others.

    Args:
        activation: anything ``equikernel.activation`` takes, or a ``callable_activation``.
        sigma_a2: hidden variance.
        sigma_b2: input variance.
        which: "ntk" or "ck".
        trained: "a", "aA" or "aAB", for the NTK.
        tau0: standard deviation that fixes the centring constant; None: sqrt(mean ||x||^2) of the training samples.
        threads: number of threads, all cores if None: 1 where a search runs several jobs.

    Attributes:
        X_fit_: the training samples, (n_fit, p).
        tau0_: the tau0 in use.
        n_features_in_: p.

    Raises:
        InputError: bad parameters or data; what is raised, and by which call, as for ``implicit_kernels``.
        SolutionError: no kernel at these parameters.
    """

    def __init__(
        self,
        activation: Any = "relu",
        sigma_a2: float = 0.2,
        sigma_b2: float = 0.8,
        which: str = "ntk",
        trained: str = "aA",
        tau0: float | None = None,
        threads: int | None = None,
    ) -> None:
        self.activation = activation
        self.sigma_a2 = sigma_a2
        self.sigma_b2 = sigma_b2
        self.which = which
        self.trained = trained
        self.tau0 = tau0
        self.threads = threads

    def fit(self, X: Any, y: Any = None) -> DEQKernelTransformer:
        """Keep a copy of the samples X, (n_fit, p), and their scale; y is not used."""
        self.X_fit_ = validate_data(self, X, dtype=np.float64, order="C", copy=True)
        self.tau0_ = mean_scale(self.X_fit_) if self.tau0 is None else self.tau0
        return self

    def transform(self, X: Any) -> FloatArray:
        """k(x_i, x_fit_j), (n, n_fit)."""
        check_is_fitted(self)
        return self._kernel(validate_data(self, X, dtype=np.float64, reset=False), self.X_fit_)

    def fit_transform(self, X: Any, y: Any = None) -> FloatArray:
        """``fit``, and the symmetric kernel of the training samples, (n_fit, n_fit)."""
        self.fit(X)
        return self._kernel(self.X_fit_, None)

    @property
    def _n_features_out(self) -> int:
        return len(self.X_fit_)

    def _kernel(self, X: FloatArray, Y: FloatArray | None) -> FloatArray:
        deq = DEQ(self.activation, self.sigma_a2, self.sigma_b2)
        return _exact_kernel(X, Y, deq, which=self.which, trained=self.trained, tau0=self.tau0_, threads=self.threads)


@contextmanager
def _named(deq: DEQ) -> Iterator[None]:
    """Errors that name the parameters at which they occurred: an optimiser chooses ones that nobody sees."""
    try:
        yield
    except SolutionError as error:
        raise type(error)(
            f"{error} (at sigma_a2 = {float(deq.sigma_a2):.6g}, sigma_b2 = {float(deq.sigma_b2):.6g}; if an optimiser "
            "went there, lower the upper end of sigma_a2_bounds)"
        ) from error


def _exact_kernel(
    X: Any, Y: Any, deq: DEQ, *, which: str, trained: str, tau0: Any, threads: int | None = None
) -> FloatArray:
    if _is_ck(which):
        return implicit_ck(X, deq, Y, tau0=tau0, threads=threads)
    return implicit_ntk(X, deq, Y, tau0=tau0, trained=trained, threads=threads)


def _is_ck(which: str) -> bool:
    if which not in ("ck", "ntk"):
        raise InputError(f'which must be "ck" or "ntk"; got {which!r}')
    return which == "ck"


def _number(tau0: Any) -> Any:
    if tau0 is None:
        raise InputError(
            "tau0 of a DEQKernel must be a number, got None: a kernel function cannot depend on the samples at hand; "
            "pass sqrt(mean ||x||^2) of the training samples"
        )
    return tau0


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
