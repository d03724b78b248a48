"""equikernel.theory, what is true: SymPy expressions and formulas. No arrays, no files."""
