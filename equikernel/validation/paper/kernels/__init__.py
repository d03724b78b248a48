"""Spectra of the kernels, and the rates at which the equivalents approach them."""
