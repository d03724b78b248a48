"""equikernel.numerics, how it is evaluated: quadrature, fixed points, coefficients, exact kernels, designs."""
