"""Deep equilibrium networks of finite width: fixed-point solvers, weight families, and a module to train.

- ``options``: how a fixed point is solved, checked; needs no torch.
- ``maps``, ``accelerators``, ``fixed_point``: z = f(z) by plain iteration, Anderson's or Broyden's method.
- ``weights``: i.i.d., orthogonal and symmetric hidden weights.
- ``ensembles``: many networks at once, within a memory budget.
- ``implicit``, ``module``: gradients by the implicit function theorem, and ``DEQModule``.
"""
