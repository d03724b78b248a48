"""``equivalent_network``: a shallow explicit network with the kernels of a DEQ, or of a deeper explicit network."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from flint import arb

from equikernel.errors import AccuracyError, InputError
from equikernel.numerics.balls.context import bits_of_digits, precision
from equikernel.numerics.balls.functions import mpf_ball
from equikernel.numerics.designs.choice import depths_to_try, families_to_try, family_attempts
from equikernel.numerics.designs.design import Alternative, Design
from equikernel.numerics.designs.functionals import jumps
from equikernel.numerics.designs.problem import DesignProblem
from equikernel.numerics.designs.refine import refine
from equikernel.numerics.designs.refusals import Attempt, none_found
from equikernel.numerics.designs.search import Found
from equikernel.numerics.designs.sphere import SphereDesign, sphere_design
from equikernel.numerics.designs.targets import Target
from equikernel.numerics.moment_values import FLOAT64_DIGITS
from equikernel.theory.activation import activation
from equikernel.theory.families import Family
from equikernel.theory.families import family as family_of
from equikernel.theory.models import DEQ, ExplicitNetwork, Layer, exact_number

__all__ = ["attempt_design", "equivalent_network", "family_design", "finished_design", "network_of"]

FloatArray = npt.NDArray[np.float64]
TOLERANCE = 1e-13  # the largest relative residual of a design
MAX_DEPTH = 8
MAX_DIGITS = 300
_TRIED = 3  # solutions of a family, before the next one


def equivalent_network(
    source: DEQ | ExplicitNetwork,
    tau0: Any = None,
    match: str = "ck",
    depth: str | int = "auto",
    family: str | Family = "auto",
    *,
    data: str = "any",
    rates: str = "equal",
    parameters: str = "",
    tolerance: float | None = None,
    terms: int | None = None,
    digits: int = FLOAT64_DIGITS,
    certified: bool = False,
    seed: int = 0,
) -> Design | SphereDesign:
    """The explicit network of a family whose kernels have the coefficients of a DEQ's (theory, section 6; [Ling24]).

    For a DEQ, alpha1, alpha2, alpha3, gamma^2 of the CK or beta1, beta2, beta3, kappa^2 of the NTK (trained "aA"), or
    all eight; for a deeper explicit network its own: lossless compression ([Gu22]). Of several solutions, and of a
    continuum, the one is taken whose kernels are nearest beyond the coefficients: smallest differences of the terms of
    third order (``theory.next_order``), then the smallest Lipschitz constant.

    Accuracy: relative residual below 1e-13 (as a rule a few 1e-16) at 15 digits, 10^-digits above; the residual is
    computed from enclosures of the moments, except for families whose moments have no closed form.

    Args:
        source: the DEQ, or the explicit network to compress.
        tau0: standard deviation of the data; 1 by default, and a network's own.
        match: "ck", "ntk" or "both".
        depth: "auto", the least, or the number of hidden layers.
        family: "auto": the nearest of hard-tanh, leaky-relu, piecewise-linear, smooth and erf, or hermite-cubic where
            these have no solution; a name of ``FAMILIES``; or a formula with parameters (``theory.families.family``).
        data: "any", or "sphere": all data have squared norm tau0^2. With family "auto" that gives the network of one
            layer with *exactly* the DEQ's kernel there, a ``SphereDesign``; with a family, the coefficients without
            alpha2 (beta2), which plays no part, for which one layer suffices.
        tolerance: of the exact network on a sphere, see ``sphere_design``.
        terms: likewise.
        rates: "equal": all layers are trained alike; "free": the hidden layers' learning rates relative to the
            readout's are unknowns too. With these the NTK of a DEQ takes as a rule one layer; without, a DEQ that is
            not odd has as a rule no network with its NTK.
        parameters: signs of a formula's parameters, as in "c>0".
        digits: significant digits of the parameters, 1 to 300.
        certified: whether to prove that an exact solution lies next to the parameters (``Design.certificate``).
        seed: of the starting points.

    Raises:
        InputError: bad arguments; an activation or family that jumps, for the NTK.
        NoDesignError: there is no such network, proved or none found: the sentence says which.
        SolutionError: the DEQ itself has no stable fixed point.
        UncertifiedError: a certificate was asked for, and the DEQ's own coefficients could not be enclosed.
    """
    _require_digits(digits)
    if data == "sphere" and family == "auto" and isinstance(source, DEQ):
        if str(depth) not in ("auto", "1") or rates != "equal" or digits > FLOAT64_DIGITS:
            raise InputError("the exact network on a sphere has depth 1, equal rates and 15 digits: name a family too")
        radius2 = exact_number(1 if tau0 is None else tau0, "tau0", positive=True) ** 2
        return sphere_design(source, radius2, match, tolerance=tolerance, terms=terms)
    if tolerance is not None or terms is not None:
        raise InputError('tolerance and terms are of the exact network of a DEQ on a sphere: set data="sphere"')
    return family_design(
        source,
        tau0,
        match,
        depth,
        family,
        data=data,
        rates=rates,
        parameters=parameters,
        digits=digits,
        certified=certified,
        seed=seed,
    )


def family_design(
    source: DEQ | ExplicitNetwork,
    tau0: Any = None,
    match: str = "ck",
    depth: str | int = "auto",
    family: str | Family = "auto",
    *,
    data: str = "any",
    rates: str = "equal",
    parameters: str = "",
    digits: int = FLOAT64_DIGITS,
    certified: bool = False,
    seed: int = 0,
) -> Design:
    """The network of a family, also where ``equivalent_network`` takes the exact one on a sphere; the rest as there."""
    _require_digits(digits)
    attempts, target = attempt_design(
        source, tau0, match, depth, family, data=data, rates=rates, parameters=parameters, seed=seed
    )
    refused: AccuracyError | None = None
    for attempt in attempts:
        for found in attempt.solutions.found[:_TRIED]:
            try:
                return finished_design(attempt, target, found, digits=digits, certified=certified)
            except AccuracyError as error:  # near enough for the search, and no solution, or a singular one
                refused = refused or error
    raise refused or AssertionError("an attempt without a solution is an error")


def attempt_design(
    source: DEQ | ExplicitNetwork,
    tau0: Any,
    match: str,
    depth: str | int,
    family: str | Family,
    *,
    data: str = "any",
    rates: str = "equal",
    parameters: str = "",
    seed: int = 0,
) -> tuple[Iterator[Attempt], Target]:
    """The solutions that ``equivalent_network`` may take, best first; arguments and errors as there."""
    depths = _checked(depth, data, rates)
    target = Target.of(source, match, tau0, on_sphere=data == "sphere")
    free = rates == "free"
    if free and not target.ntk:
        raise InputError('rates="free" has no meaning for the conjugate kernel, which is not trained: match the NTK')
    given = None if family == "auto" else family_of(family, parameters)
    if given is not None and target.ntk:
        _require_slopes(given)
    asked = depths_to_try(depths, target, given, free=free)
    return _solved(target, asked, given, free=free, seed=seed), target


# -- arguments ---------------------------------------------------------------------------------------------------------


def _require_digits(digits: int) -> None:
    if digits not in range(1, MAX_DIGITS + 1):
        raise InputError(f"digits must be a whole number from 1 to {MAX_DIGITS}; got {digits!r}")


def _checked(depth: str | int, data: str, rates: str) -> tuple[int, ...]:
    if data not in ("any", "sphere"):
        raise InputError(f'data must be "any" or "sphere"; got {data!r}')
    if rates not in ("equal", "free"):
        raise InputError(f'rates must be "equal" or "free"; got {rates!r}')
    if depth == "auto":
        return ()
    if str(depth) not in map(str, range(1, MAX_DEPTH + 1)):
        raise InputError(f'depth must be "auto" or a whole number from 1 to {MAX_DEPTH}; got {depth!r}')
    return (int(depth),)


def _require_slopes(given: Family) -> None:
    """Refuse a family that jumps, which has no NTK."""
    if any(jumps(layer) for layer in given.layers):
        raise InputError(
            f"the family {given.name} jumps, so that E[phi'^2] is infinite and its networks have no neural tangent "
            "kernel: match the CK, or take a continuous family such as smooth"
        )


# -- search ------------------------------------------------------------------------------------------------------------


def _solved(target: Target, depths: Sequence[int], given: Family | None, *, free: bool, seed: int) -> Iterator[Attempt]:
    """The families with solutions: depth by depth, group by group, the nearest of a group first.

    Raises:
        NoDesignError: after the last, if there was none.
    """
    failed: list[Attempt] = []
    some = False
    for depth in depths:
        for group in families_to_try(target, given):
            for thorough in (False, True) if given is None else (True,):
                found = [
                    attempt
                    for each in group
                    for attempt in family_attempts(target, each, depth, free=free, seed=seed, thorough=thorough)
                ]
                solved = [a for a in found if a.solutions.found]
                failed += [a for a in found if thorough and a not in solved]
                some = some or bool(solved)
                yield from sorted(solved, key=lambda a: (round(_nearest(a).distance, 9), _nearest(a).lipschitz))
                if solved:
                    break
    if not some:
        raise none_found(target, failed, free=free, prove=given is not None)


def _nearest(attempt: Attempt) -> Found:
    return attempt.solutions.found[0]


# -- the design --------------------------------------------------------------------------------------------------------


def network_of(problem: DesignProblem, unknowns: FloatArray) -> ExplicitNetwork:
    """A solution of the search as a network, to float64 accuracy."""
    layers, rates = problem.parameters(unknowns[None])
    decimals = [repr(float(value)) for values in layers for value in values[0]]
    texts = _formulas(problem, decimals, [repr(float(tau)) for tau in problem.scales(unknowns)])
    free = tuple(float(rate) for rate in rates[0, :-1]) if problem.free_rates else ()
    return ExplicitNetwork(tuple(Layer(activation(text)) for text in texts), problem.tau0, free)


def finished_design(
    attempt: Attempt,
    target: Target,
    chosen: Found | None = None,
    *,
    digits: int = FLOAT64_DIGITS,
    certified: bool = False,
) -> Design:
    """A solution, by default the nearest, as a design: exact to the digits, and proved if asked."""
    if digits > FLOAT64_DIGITS and Fraction(repr(float(target.tau0))) != target.tau0:
        raise InputError(f"for more than 15 digits tau0 must be a decimal of at most 16 digits; got {target.tau0}")
    problem, solutions = attempt.problem, attempt.solutions
    best = solutions.found[0] if chosen is None else chosen
    with precision(2 * bits_of_digits(digits) + 60):
        if certified:
            balls = target.enclosures(digits + 15)
        elif digits <= FLOAT64_DIGITS:
            balls = {name: arb(value) for name, value in target.floats.items()}
        else:
            balls = {name: mpf_ball(value) for name, value in target.values(digits + 10).items()}
        refined = refine(problem, best.unknowns, balls, digits, certified=certified)
        achieved = {
            name: ball + refined.residuals[name] * arb(problem.target.units[name]) for name, ball in balls.items()
        }
    if refined.residual > (TOLERANCE if digits <= FLOAT64_DIGITS else 10.0**-digits):
        raise AccuracyError(
            f"the {attempt.family.name} design for {target.name} was found, but its equations could be solved to "
            f"{refined.residual:.2g} only (relative): take another family or depth, or ask for fewer digits"
        )
    params, rates = _named(problem, refined.decimals, digits)
    return Design(
        source=target.name,
        match=target.match,
        family=attempt.family.name,
        tau0=float(target.tau0),
        expressions=_formulas(problem, refined.decimals, refined.scales),
        params=params,
        rates=rates,
        target=_shown(balls, digits),
        achieved=_shown(achieved, digits),
        residual=refined.residual,
        digits=digits,
        on_sphere=target.on_sphere,
        distance=best.distance,
        lipschitz=best.lipschitz,
        alternatives=tuple(_alternative(problem, found) for found in solutions.found if found is not best),
        starts=solutions.starts,
        certificate=refined.certificate,
        status=f"solved; no certificate: {refined.reason}" if refined.reason else "solved",
    )


def _shown(balls: Mapping[str, arb], digits: int) -> dict[str, Any]:
    if digits <= FLOAT64_DIGITS:
        return {name: float(ball.mid()) for name, ball in balls.items()}
    return {name: ball.mid().str(digits, radius=False) for name, ball in balls.items()}


def _formulas(problem: DesignProblem, decimals: Sequence[str], scales: Sequence[str]) -> tuple[str, ...]:
    """The layers' formulas with the parameters, layer by layer, and the scales of the layers' inputs put in."""
    values = iter(decimals)
    pairs = zip(problem.layers, scales, strict=True)
    return tuple(layer.written(itertools.islice(values, len(layer.parameters)), tau) for layer, tau in pairs)


def _named(
    problem: DesignProblem, decimals: tuple[str, ...], digits: int
) -> tuple[tuple[tuple[tuple[str, float | str], ...], ...], tuple[float | str, ...]]:
    numbers: list[float | str] = [float(text) if digits <= FLOAT64_DIGITS else text for text in decimals]
    values = iter(numbers)
    params = tuple(tuple((str(p), next(values)) for p in layer.parameters) for layer in problem.layers)
    return params, tuple(values)


def _alternative(problem: DesignProblem, found: Found) -> Alternative:
    layers, _ = problem.parameters(found.unknowns[None])
    params = tuple(
        tuple(zip(map(str, layer.parameters), map(float, values[0]), strict=True))
        for layer, values in zip(problem.layers, layers, strict=True)
    )
    return Alternative(params, found.distance, found.lipschitz)
