"""Explicit networks with the kernels of a DEQ: families, solvers, certificates, and how equivalent they are."""
