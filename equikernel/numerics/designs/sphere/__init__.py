"""One hidden layer with exactly the kernel of a DEQ on a sphere."""

from equikernel.numerics.designs.sphere.design import SphereDesign, sphere_design

__all__ = ["SphereDesign", "sphere_design"]
