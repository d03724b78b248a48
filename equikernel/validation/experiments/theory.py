"""What theory says of one activation: moments, the solution, the designs, or the sentence why not."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from equikernel.errors import EquikernelError, NoDesignError
from equikernel.numerics.designs.design import Design
from equikernel.numerics.designs.equivalent import family_design
from equikernel.numerics.solve import COEFFICIENTS, Solution, solve
from equikernel.theory.models import DEQ
from equikernel.validation.curves import centred_curves, network_curves
from equikernel.validation.experiments.study import Quantity, Runner, describe_deq

__all__ = ["Theory", "TheoryConfig", "theory"]

_CHECK_DIGITS = 30
_SYMMETRIC_ACCURACY = 1e-12
_HALF_ULP = 2.0**-53


@dataclass(frozen=True)
class TheoryConfig:
    """One network; itself the unit of work. tau0 is a standard deviation, trained as in ``solve``."""

    deq: DEQ
    tau0: Fraction = Fraction(1)
    trained: str = "aA"

    def units(self) -> tuple[TheoryConfig, ...]:
        """One unit."""
        return (self,)

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return {"study": "theory", "deq": describe_deq(self.deq), "tau0": str(self.tau0), "trained": self.trained}

    def measure(self) -> dict[str, Any]:
        """The solution with uncertainties, the designs, and the curves to draw.

        Raises:
            SolutionError: not even the conjugate kernel has a solution.
        """
        ntk_failure = None
        try:
            solution, trained = solve(self.deq, self.tau0, trained=self.trained), self.trained
        except EquikernelError as error:
            if self.trained == "a":
                raise
            solution, trained, ntk_failure = solve(self.deq, self.tau0, trained="a"), "a", str(error)
        checked = None if self.deq.weights == "goe" else solve(self.deq, self.tau0, _CHECK_DIGITS, trained)
        designs = {"ck": self._design("ck")}
        if ntk_failure is None:
            designs["ntk"] = self._design("ntk")
        return {
            "activation": self.deq.activation.to_dict(),
            "solution": solution.to_dict(),
            "coefficients": {name: _quantity(solution, checked, name).to_dict() for name in COEFFICIENTS},
            "moments": _moments(solution),
            "ntk_failure": ntk_failure,
            "designs": {
                name: {"failure": found} if isinstance(found, str) else found.to_dict()
                for name, found in designs.items()
            },
            "curves": self._curves(solution, designs["ck"]),
        }

    def _design(self, match: str) -> Design | str:
        """The design; of the NTK with the layers' learning rates free if there is none with equal ones."""
        try:
            return family_design(self.deq, self.tau0, match)
        except EquikernelError as error:
            failure, retry = str(error), match == "ntk" and isinstance(error, NoDesignError)
        try:
            return family_design(self.deq, self.tau0, match, rates="free") if retry else failure
        except EquikernelError:
            return failure

    def _curves(self, solution: Solution, design: Design | str) -> dict[str, Any]:
        """The activation and the layers of its CK design, each centred, over +-3 standard deviations of its input."""
        found = centred_curves([("φ (DEQ)", self.deq.activation, float(solution.tau))])
        if isinstance(design, Design):
            found["curves"] += network_curves(design.network)["curves"]
        return found


def _quantity(solution: Solution, checked: Solution | None, name: str) -> Quantity:
    value = getattr(solution, name)
    if checked is None:
        return Quantity(
            float(value),
            _SYMMETRIC_ACCURACY * abs(float(value)),
            "float64; the uncertainty is the accuracy that is promised for GOE weights",
        )
    difference = abs(float(value - getattr(checked, name)))
    return Quantity(
        float(value),
        difference + _HALF_ULP * abs(float(value)),
        f"float64; the uncertainty is the difference from the same number to {_CHECK_DIGITS} digits, rounded up",
    )


def _moments(solution: Solution) -> dict[str, Any]:
    if solution.moments is None:  # GOE weights: their effective activations have no table of moments
        return {}
    return {
        name: Quantity(float(m.value), float(m.error), m.provenance).to_dict() for name, m in solution.moments.items()
    }


@dataclass(frozen=True)
class Theory:
    """The numbers of one activation, or the sentence why there are none.

    Attributes:
        config: as asked for.
        numbers: activation, solution, coefficients, moments, designs, curves, and the sentence ``ntk_failure`` if
            there is a conjugate kernel and no neural tangent kernel.
        failure: the sentence, or None.
    """

    config: TheoryConfig
    numbers: dict[str, Any] | None
    failure: str | None

    @property
    def kernels(self) -> tuple[str, ...]:
        """The kernels that exist: none, ("ck",) or ("ck", "ntk")."""
        if self.numbers is None:
            return ()
        return ("ck",) if self.numbers["ntk_failure"] else ("ck", "ntk")

    @property
    def trained(self) -> str:
        """The parameters trained in what follows: "a" where there is no NTK."""
        return self.config.trained if "ntk" in self.kernels else "a"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; the curves, which only a figure needs, are left out."""
        numbers = None if self.numbers is None else {k: v for k, v in self.numbers.items() if k != "curves"}
        return {"numbers": numbers, "failure": self.failure}


def theory(config: TheoryConfig, runner: Runner | None = None) -> Theory:
    """Moments, solution and designs of one network."""
    (outcome,) = (runner or Runner()).run(config.units())
    return Theory(config, outcome.numbers, outcome.failure)
