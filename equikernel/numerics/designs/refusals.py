"""Why there is no design: what is proved impossible, and what was only not found."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

from flint import arb

from equikernel.errors import InputError, NoDesignError, UncertifiedError
from equikernel.numerics.designs.depth import minimal_depth
from equikernel.numerics.designs.exclusion import prove_infeasible
from equikernel.numerics.designs.problem import DesignProblem
from equikernel.numerics.designs.search import Solutions
from equikernel.numerics.designs.targets import Target
from equikernel.theory.families import FAMILIES, Family, LayerFamily
from equikernel.theory.models import DEQ

__all__ = ["Attempt", "impossible_depths", "impossible_design", "loses_networks", "none_found"]

_MOST_DEPTH = 8
_PROOF_DIGITS = 20


@dataclass(frozen=True)
class Attempt:
    """A family at a depth with what was found for it."""

    family: Family
    problem: DesignProblem
    solutions: Solutions


def impossible_depths(target: Target, *, free: bool) -> dict[int, str]:
    """Depths proved impossible for a DEQ's coefficients, with the reason; of another network's nothing is known."""
    if not isinstance(target.source, DEQ):
        return {}
    data = "sphere" if target.on_sphere else "any"
    try:
        verdict = minimal_depth(target.source, target.tau0, target.match, data, rates="free" if free else "equal")
    except (UncertifiedError, InputError):  # a plain function: nothing can be proved
        return {}
    if verdict.exists is False:
        return dict.fromkeys(range(1, _MOST_DEPTH + 1), verdict.reason)
    return dict(verdict.impossible)


def impossible_design(target: Target, reasons: Mapping[int, str], *, free: bool) -> NoDesignError:
    """The error for depths that are all proved impossible."""
    depths = " or ".join(map(str, reasons))
    why = "; ".join(dict.fromkeys(reasons.values()))
    what = f"no network of depth {depths} has {_what(target)}, whatever its activations"
    return NoDesignError(f"{what}: {why}{_remedy(target, free)}")


def none_found(target: Target, attempts: list[Attempt], *, free: bool, prove: bool) -> NoDesignError:
    """The error for a search without a solution: proved impossible where that can be, else what was tried."""
    if not attempts:
        return NoDesignError(f"no family has a network with {_what(target)}: none has functions of the parity needed")
    tried_depths = sorted({a.problem.depth for a in attempts})
    if target.match == "ck" and not prove:
        reasons = impossible_depths(target, free=free)
        if set(tried_depths) <= set(reasons):
            return impossible_design(target, {depth: reasons[depth] for depth in tried_depths}, free=free)
    proved, missed = [], []
    for (name, depth), group in itertools.groupby(attempts, key=lambda a: (a.family.name, a.problem.depth)):
        tried = list(group)
        proof = _proof(target, tried) if prove else ""
        if proof:
            proved.append(f"proved: {proof}")
        else:
            missed.append(f"{name} of depth {depth}{_few(tried)}: none found from {_tried(tried)}")
    parts = [*proved, f"no network with {_what(target)} was found ({'; '.join(missed)})"] if missed else proved
    return NoDesignError(f"{'; '.join(parts)}{_remedy(target, free)}")


def _few(attempts: list[Attempt]) -> str:
    problem = max((a.problem for a in attempts), key=lambda p: p.unknowns - p.equations)
    if problem.unknowns >= problem.equations:
        return ""
    return f" ({problem.unknowns} parameters for {problem.equations} equations)"


def _tried(attempts: list[Attempt]) -> str:
    best = min(a.solutions.residual for a in attempts)
    return f"{sum(a.solutions.starts for a in attempts)} starts, the nearest misses by {best:.2g} (relative)"


def _proof(target: Target, attempts: list[Attempt]) -> str:
    """The statements that exclude every variant of a family, or nothing."""
    try:
        balls = target.enclosures(_PROOF_DIGITS)
    except (UncertifiedError, InputError):
        return ""
    excluded = _to_exclude(target, attempts, balls)
    proofs = [prove_infeasible(problem, balls) for problem in excluded]
    # where the hidden scale is not pinned, boxes say nothing of the other scales
    free = any(not all(problem.gauged) for problem in excluded)
    if free and any(p is not None and p.method != "parity" for p in proofs):
        return ""
    return "; ".join(dict.fromkeys(p.statement for p in proofs if p is not None)) if all(proofs) else ""


def _to_exclude(target: Target, attempts: list[Attempt], balls: Mapping[str, arb]) -> list[DesignProblem]:
    """What holds every network of the family: the variants by symmetry, or all functions where these may lose some."""
    first = attempts[0].problem
    whole = attempts[0].family.at_depth(first.depth)
    pairs = [pair for a in attempts for pair in zip(whole, a.problem.layers, strict=True)]
    loses = any(loses_networks(attempts[0].family, *pair) for pair in pairs)
    # a coefficient that is zero to float64 alone may be had by functions of tiny weight
    doubtful = any(target.vanishes(name) and balls[name] != 0 for name in target.fields)
    layers = [whole] if loses or doubtful else dict.fromkeys(a.problem.layers for a in attempts)
    return [replace(first, layers=each, cancelled=()) for each in layers]


def loses_networks(family: Family, whole: LayerFamily, kept: LayerFamily) -> bool:
    """Whether the functions left out of a layer by symmetry may lose solutions: several may cancel in d1 or d2."""
    return len(whole.parameters) - len(kept.parameters) > (1 if family.name in FAMILIES else 0)


def _what(target: Target) -> str:
    return f"the {'CK and NTK' if target.match == 'both' else target.match.upper()} coefficients of {target.name}"


def _remedy(target: Target, free: bool) -> str:
    if target.match == "ntk" and not free:
        return '; set rates="free": with learning rates of their own one or two layers are enough'
    if target.match == "both":
        return '; set rates="free"' if target.is_odd and not free else '; match="ck" or match="ntk" alone has networks'
    return "; take a family with more parameters, such as hermite-cubic, or another depth"
