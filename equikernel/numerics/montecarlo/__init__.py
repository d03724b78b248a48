"""Monte Carlo of E[phi(u) phi(v)] and E[phi'(u) phi'(v)]: checks that share nothing with the quadratures.

``sobol_duals`` averages over scrambled Sobol nets, replicated for error bars that can be relied on: the validator.
``independent_duals`` averages over independent normals: plain, slow to converge, and beyond suspicion.
``dual_moments_mc`` is the former for one pair.
"""

from equikernel.numerics.montecarlo.duals import dual_moments_mc, independent_duals, sobol_duals
from equikernel.numerics.montecarlo.estimates import MonteCarloDual, MonteCarloDuals

__all__ = ["MonteCarloDual", "MonteCarloDuals", "dual_moments_mc", "independent_duals", "sobol_duals"]
