"""Rigorous enclosures in ball arithmetic (python-flint): functions, growth, Gaussian moments."""
