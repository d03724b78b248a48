"""How many layers an explicit network with the kernel coefficients of a DEQ needs: proofs, over all activations."""

from equikernel.numerics.designs.depth.verdict import DepthRow, DepthVerdict, depth_table, minimal_depth

__all__ = ["DepthRow", "DepthVerdict", "depth_table", "minimal_depth"]
