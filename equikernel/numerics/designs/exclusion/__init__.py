"""Proofs that a family has no network with given coefficients."""

from equikernel.numerics.designs.exclusion.proofs import BOXES, Exclusion, prove_infeasible

__all__ = ["BOXES", "Exclusion", "prove_infeasible"]
