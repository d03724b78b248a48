"""Networks that are trained with penalties: a readout alone, or all weights by gradient descent with momentum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import ConvergenceError
from equikernel.validation.experiments.study import limited_threads
from equikernel.validation.paper.lazy.linearised import KernelModel
from equikernel.validation.paper.lazy.problem import Contestant, LazyData, TwoClasses, described_run, limit_model

if TYPE_CHECKING:
    from equikernel.validation.paper.lazy.descent import Trainee

__all__ = ["PenaltyUnit", "ReadoutUnit", "heavy_ball"]

Array = NDArray[np.float64]
_ACCURACY = 1e-5  # of the minimum, in the linearised network
_MARGIN = 1.1
_AT_REST = 1e-3  # of labels ±1: a last step that changes outputs by no more
_LONGEST = 3  # times the steps of a linearised network


@dataclass(frozen=True)
class ReadoutUnit:
    """One network whose readout alone is trained, with every penalty.

    Attributes:
        contestant: which. reference: the DEQ.
        data: split in two. width: m. seed: of the weights.
        fractions: penalties, as parts of the largest eigenvalue of the exact kernel of the DEQ (naive: its own).
        threads: of the linear algebra.
    """

    contestant: Contestant
    reference: Contestant
    data: LazyData
    width: int
    seed: int
    fractions: tuple[float, ...]
    threads: int = 1

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return {
            "study": "ridge, readout",
            **described_run(self.contestant, self.reference, self.data, self.width, self.seed),
            "fractions": list(self.fractions),
        }

    def measure(self) -> dict[str, Any]:
        """A run for every penalty: test errors of the network and of the predictions, and their differences.

        Raises:
            EquikernelError: the kernel or the network does not exist, or a state does not converge.
        """
        with limited_threads(self.threads, torch_too=True):
            samples = self.data.load()
            own = _conjugate(_trainee(self), samples.n)
            limit, reference = limit_model(self.contestant, self.data), limit_model(self.reference, self.data)
            zero, y = np.zeros(len(samples.X)), samples.train_labels
            runs = []
            for fraction in self.fractions:
                penalty = fraction * _scale(self).largest
                f = own.ridge(zero, y, penalty)
                predictions = {"limit": limit.ridge(zero, y, penalty), "deq": reference.ridge(zero, y, penalty)}
                runs.append({"way": "readout", "fraction": fraction, **_compared(samples, f, predictions)})
            return {"runs": runs}


@dataclass(frozen=True)
class PenaltyUnit:
    """One network trained with one penalty, by gradient descent with momentum.

    Attributes:
        fraction: the penalty, as in ``ReadoutUnit``, of the NTK's largest eigenvalue.
        towards_zero: plain weight decay, instead of a penalty on the distance from the initial weights.
        The others as in ``ReadoutUnit``.
    """

    contestant: Contestant
    reference: Contestant
    data: LazyData
    width: int
    seed: int
    fraction: float
    towards_zero: bool
    threads: int = 1

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return {
            "study": "ridge, trained",
            **described_run(self.contestant, self.reference, self.data, self.width, self.seed),
            "fraction": self.fraction,
            "towards_zero": self.towards_zero,
        }

    def measure(self) -> dict[str, Any]:
        """A run: test errors of the network and of the predictions, their differences, and how training ended.

        ``change`` is the largest change of an output in the last step (a network with kinks never quite comes to
        rest), ``kept`` the norm of the trained hidden weights after training relative to that before.

        Raises:
            EquikernelError: the kernel or the network does not exist, a state does not converge, training diverges.
        """
        with limited_threads(self.threads, torch_too=True):
            return {"runs": [self._measure()]}

    def _measure(self) -> dict[str, Any]:
        samples, network = self.data.load(), _trainee(self)
        limit, reference = limit_model(self.contestant, self.data), limit_model(self.reference, self.data)
        own, f0, y = KernelModel(network.tangent_kernel()[:, : samples.n]), network.outputs(), samples.train_labels
        penalty = self.fraction * _scale(self).largest
        predictions = {
            "limit": limit.ridge(f0, y, penalty),
            "own": own.ridge(f0, y, penalty),
            "deq": reference.ridge(f0, y, penalty),
        }
        largest = max(own.largest, limit.largest)
        if self.towards_zero:
            predictions["linearised"] = own.decay(f0, network.drift(), y, penalty)
            forgotten = _forgotten(self)
            predictions["forgotten"] = forgotten.ridge(np.zeros(len(f0)), y, penalty)
            # where training goes the curvature may be larger than where it begins
            largest = max(largest, forgotten.largest)
        rate, momentum, steps = heavy_ball(largest, penalty)
        steps, change = self._train(network, y, rate, momentum, steps, penalty)
        return {
            "way": "zero" if self.towards_zero else "initial",
            "fraction": self.fraction,
            "steps": steps,
            "change": change,
            "kept": network.kept(),
            **_compared(samples, network.outputs(), predictions),
        }

    def _train(
        self, network: Trainee, y: Array, rate: float, momentum: float, steps: int, penalty: float
    ) -> tuple[int, float]:
        """At least ``steps`` steps, and more while outputs still move; the number of steps and the last change."""
        path = network.descent(y, rate, penalty=penalty, towards_zero=self.towards_zero, momentum=momentum)
        before, bound = next(path), 1e3 * math.sqrt(len(y))
        t, change = 0, math.inf
        while t < steps or (change > _AT_REST and t < _LONGEST * steps):
            t, f = t + 1, next(path)
            if not np.linalg.norm(f) < bound:
                raise ConvergenceError(
                    f"training the {self.contestant.name} network of width {self.width} with penalty {penalty:.3g} "
                    f"diverged at step {t} of {steps}: take a larger penalty or a larger width"
                )
            change, before = float(np.abs(f - before).max()), f
        return t, change


def heavy_ball(largest: float, penalty: float) -> tuple[float, float, int]:
    """Step, momentum and number of steps of gradient descent for a quadratic function, after [Polyak64].

    Formula, for eigenvalues from mu = penalty to L = penalty + 1.1 largest: step 1/L, momentum r^2 with
    r = 1 - sqrt(mu/L); the error falls as t r^t, to 1e-5 of the first after log(1e-5)/log(r) steps and a quarter more
    for the factor t. Steps of Polyak's own size, almost 4/L, would be twice as fast; these leave the curvature room to
    grow fourfold in training before they overshoot.

    Args:
        largest: eigenvalue of the kernel.
        penalty: lambda, positive.
    """
    highest = penalty + _MARGIN * largest
    ratio = 1.0 - math.sqrt(penalty / highest)
    return 1.0 / highest, ratio**2, math.ceil(1.25 * math.log(_ACCURACY) / math.log(ratio))


def _trainee(unit: ReadoutUnit | PenaltyUnit) -> Trainee:
    from equikernel.validation.paper.lazy.descent import Trainee

    samples = unit.data.load()
    return Trainee(unit.contestant, unit.width, samples.X, samples.n, samples.tau0, unit.seed)


def _conjugate(network: Trainee, n: int) -> KernelModel:
    """The network's CK."""
    features = network.features()
    return KernelModel(features @ features[:n].T)


def _forgotten(unit: PenaltyUnit) -> KernelModel:
    """The CK of the same network without its hidden weights, as far as they are trained."""
    network = _trainee(unit)
    network.forget_hidden()
    return _conjugate(network, unit.data.train)


def _scale(unit: ReadoutUnit | PenaltyUnit) -> KernelModel:
    """The kernel by whose largest eigenvalue penalties are measured: equal penalties for the DEQ and its equivalent."""
    return limit_model(unit.contestant if unit.contestant.name == "naive" else unit.reference, unit.data)


def _compared(samples: TwoClasses, f: Array, predictions: dict[str, Array]) -> dict[str, Any]:
    """Test errors, and differences as root mean squares over the test samples (labels are +-1)."""
    n = samples.n

    def scores(values: Array) -> dict[str, float]:
        test = values[n:]
        return {
            "mse": float(np.mean((test - samples.test_labels) ** 2)),
            "accuracy": float(np.mean(np.where(test >= 0, 1.0, -1.0) == samples.test_labels)),
        }

    return {
        **scores(f),
        "predictions": {
            name: {**scores(g), "difference": float(np.sqrt(np.mean((f[n:] - g[n:]) ** 2)))}
            for name, g in predictions.items()
        },
    }
