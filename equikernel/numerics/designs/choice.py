"""What to try for a target: depths, families, what its symmetries leave out of them, and in what order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from equikernel.numerics.designs.exclusion.shapes import is_even
from equikernel.numerics.designs.functionals import reflection
from equikernel.numerics.designs.problem import DesignProblem
from equikernel.numerics.designs.refusals import Attempt, impossible_depths, impossible_design, loses_networks
from equikernel.numerics.designs.search import search
from equikernel.numerics.designs.targets import Target
from equikernel.theory.families import FAMILIES, Family, LayerFamily

__all__ = ["depths_to_try", "families_to_try", "family_attempts", "problems", "wider_problems"]

_FORCED = 1e-10  # relative: ratios of coefficients that agree to it count as equal, to be confirmed by the solution
# in this order, the nearest of a group is taken: polynomials last, whose slopes have no bound
_GROUPS = (("hard-tanh", "leaky-relu", "piecewise-linear", "smooth", "erf"), ("hermite-cubic",))
_ODD, _NOT_ODD = ("hard-tanh", "erf"), ("leaky-relu",)


def depths_to_try(asked: tuple[int, ...], target: Target, given: Family | None, *, free: bool) -> tuple[int, ...]:
    """The depths worth trying, least first.

    Raises:
        NoDesignError: all of them are proved impossible, whatever the activations.
    """
    depths = asked or _depths(target, given, free=free)
    # of the CK, what one layer forces is all there is to know beforehand
    doubtful = target.ntk or (1 in asked and not (target.on_sphere or one_layer_is_possible(target, free=free)))
    impossible = impossible_depths(target, free=free) if doubtful else {}
    possible = tuple(depth for depth in depths if depth not in impossible)
    if not possible:
        raise impossible_design(target, {depth: impossible[depth] for depth in depths}, free=free)
    return possible


def _depths(target: Target, given: Family | None, *, free: bool) -> tuple[int, ...]:
    """The depths worth trying, least first."""
    if given is not None and given.depth:
        return (given.depth,)
    return (1, 2) if target.on_sphere or target.is_odd or one_layer_is_possible(target, free=free) else (2,)


def is_quadratic(target: Target) -> bool:
    """Whether nothing is left for terms of degree 3 and above: there the other families have double roots."""
    tau02, c = float(target.tau0) ** 2, target.floats
    linear, square, diagonal = ("alpha1", "alpha3", "gamma2") if "gamma2" in c else ("beta1", "beta3", "kappa2")
    return abs(c[diagonal] - c[linear] * tau02 - c[square] * tau02**2) <= _FORCED * c[diagonal]


def one_layer_is_possible(target: Target, *, free: bool) -> bool:
    """Whether the coefficients satisfy what one layer forces on them.

    CK: alpha3 = 2 alpha2. NTK with learning rate eta: beta2 = d2^2/4 and beta3 = (1/2 + eta) d2^2, eta = 1 or free.
    """
    c = target.floats
    if "alpha2" in c and abs(c["alpha3"] - 2.0 * c["alpha2"]) > _FORCED * c["alpha3"]:
        return False
    if "beta2" in c:
        eta = (c["beta3"] / c["beta2"] - 2.0) / 4.0 if c["beta2"] else -1.0
        return eta >= -_FORCED if free else abs(eta - 1.0) <= _FORCED
    return True


def families_to_try(target: Target, given: Family | None) -> list[list[Family]]:
    """Groups of families: of the first group with a solution the nearest is taken."""
    if given is not None:
        return [[given]]
    unsuitable = _NOT_ODD if target.is_odd else _ODD
    groups = [[FAMILIES[name] for name in group if name not in unsuitable] for group in _GROUPS]
    return [[FAMILIES["quadratic"]], *groups] if is_quadratic(target) else groups


def family_attempts(
    target: Target, family: Family, depth: int, *, free: bool, seed: int, thorough: bool
) -> Iterator[Attempt]:
    """All variants of a family: by symmetry, and where these have no solution those in which moments cancel."""
    for variants in (problems, wider_problems):
        some = False
        for problem in variants(target, family, depth, free=free):
            attempt = Attempt(family, problem, search(problem, seed, thorough=thorough))
            some = some or bool(attempt.solutions.found)
            yield attempt
        if some:
            return


def problems(target: Target, given: Family, depth: int, *, free: bool) -> Iterator[DesignProblem]:
    """The equations of a family, with what symmetry makes zero left out: there they would have double roots.

    alpha3 = 0 makes every layer odd. alpha1 = 0, which is a product over the layers, makes d1 = 0 in one of them: it is
    even, or if it has no even part by which it could be replaced, d1 = 0 is one more equation.
    """
    layers = _suited(target, given.at_depth(depth))
    if not _has_flat_layer(target, layers):
        yield DesignProblem(target, layers, free)
        return
    for k, layer in enumerate(layers):
        even = _restricted(layer, even=False)
        if even is None:
            yield DesignProblem(target, layers, free, (("d1", k),))
        else:
            yield DesignProblem(target, (*layers[:k], even, *layers[k + 1 :]), free)


def wider_problems(target: Target, given: Family, depth: int, *, free: bool) -> Iterator[DesignProblem]:
    """The networks that ``problems`` leaves out: of several odd functions d1 may cancel, of several even ones d2.

    All functions are in these, with the equation that the moment vanishes.
    """
    whole = given.at_depth(depth)
    suited = _suited(target, whole)
    lost = [loses_networks(given, *pair) for pair in zip(whole, suited, strict=True)]
    layers = tuple(a if loses else b for loses, a, b in zip(lost, whole, suited, strict=True))
    straight = tuple(("d2", k) for k, loses in enumerate(lost) if loses)
    if not _has_flat_layer(target, layers):
        if straight:
            yield DesignProblem(target, layers, free, straight)
        return
    for k, layer in enumerate(layers):
        even = _restricted(layer, even=False)
        if straight or (even is not None and loses_networks(given, layer, even)):
            yield DesignProblem(target, layers, free, (("d1", k), *straight))


def _has_flat_layer(target: Target, layers: tuple[LayerFamily, ...]) -> bool:
    """Whether alpha1 (beta1) is zero, so that a layer has d1 = 0, and none has it already as an even function."""
    linear = "alpha1" if "alpha1" in target.floats else "beta1"
    return target.vanishes(linear) and not any(is_even(layer) for layer in layers)


def _suited(target: Target, layers: tuple[LayerFamily, ...]) -> tuple[LayerFamily, ...]:
    """The layers without their even functions, if the target is odd."""
    return tuple(_restricted(layer, even=True) or layer for layer in layers) if target.is_odd else layers


def _restricted(layer: LayerFamily, *, even: bool) -> LayerFamily | None:
    """The family without its even (or odd) functions; None if it is not a sum of odd and even ones, or none is left."""
    M = reflection(layer)
    if M is None or np.count_nonzero(M - np.diag(np.diag(M))):
        return None
    names = frozenset(str(p) for p, sign in zip(layer.parameters, np.diag(M), strict=True) if (sign > 0) == even)
    return layer.without(names) if 0 < len(names) < len(layer.parameters) else layer if not names else None
