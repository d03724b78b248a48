"""Three families of weights before training: what the theory says of a new activation, and what one network does.

Prints:

    z = phi(W z) + x, phi = tanh(x) + x*exp(-x**2)/4, x ~ N(0, 1), sigma = .7
    iid          |z|^2/N = 1.410, N Var = 2.28, radius of J .591, stable up to sigma = 2.01
    orthogonal   |z|^2/N = 1.410, N Var = 2.20, radius of J .591, stable up to sigma = 2.01
    goe          |z|^2/N = 2.061, N Var = 2.18, radius of J .938, stable up to sigma = 1.06
    one goe network with N = 800: |z|^2/N within three standard deviations: True
    kernels of DEQs with goe weights differ from iid ones by more than 5 %: True
"""

from __future__ import annotations

import math

import numpy as np

import equikernel as ek
from equikernel.numerics.initialisation import InputLaw, critical_sigma, mean_field

ACT, SIGMA, N = "tanh(x) + x*exp(-x**2)/4", 0.7, 800


def main() -> None:
    """The theory, then one network."""
    phi = ek.activation(ACT)
    law = InputLaw.gaussian()
    print(f"z = phi(W z) + x, phi = {ACT}, x ~ N(0, 1), sigma = .7")
    for family in ("iid", "orthogonal", "goe"):
        found = mean_field(phi, family, SIGMA, law)
        critical = critical_sigma(phi, family, law).sigma
        print(
            f"{family:12s} |z|^2/N = {found.mean_square:.3f}, N Var = {found.length_noise:.2f}, "
            f"radius of J {found.radius:.3f}, stable up to sigma = {critical:.2f}".replace(" 0.", " .")
        )

    rng = np.random.default_rng(0)
    A = rng.standard_normal((N, N))
    W, x = (A + A.T) * SIGMA / math.sqrt(2 * N), rng.standard_normal(N)
    z = x
    for _ in range(400):
        z = phi(W @ z) + x
    found = mean_field(phi, "goe", SIGMA, InputLaw.sample(x))  # at fixed x, as N Var is
    near = abs(z @ z / N - found.mean_square) < 3 * math.sqrt(found.length_noise / N)
    print(f"one goe network with N = {N}: |z|^2/N within three standard deviations: {near}")

    X = ek.load_dataset("digits", n=100).X
    iid, goe = (ek.implicit_ck(X, ek.DEQ(phi, "0.2", "0.8", weights=family)) for family in ("iid", "goe"))
    apart = np.linalg.norm(goe - iid, 2) > 0.05 * np.linalg.norm(iid, 2)
    print(f"kernels of DEQs with goe weights differ from iid ones by more than 5 %: {apart}")


if __name__ == "__main__":
    main()
