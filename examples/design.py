"""Explicit networks with the kernels of a DEQ, and a refusal where a family has none.

Prints:

    tanh: hard-tanh, depth 1, residual below 1e-12
    relu: leaky-relu, depth 2, residual below 1e-12
    tanh, p = 200: ||G - G_net|| / ||G|| = 4e-03
    tanh, p = 800: ||G - G_net|| / ||G|| = 1e-03
    relu, p = 200: ||G - G_net|| / ||G|| = 7e-06
    relu, p = 800: ||G - G_net|| / ||G|| = 3e-06
    gelu: no leaky-relu network of depth 2 has the CK coefficients of the DEQ with gelu
"""

from __future__ import annotations

import numpy as np

import equikernel as ek
from equikernel.errors import NoDesignError
from equikernel.validation.mixtures import mixture_family


def main() -> None:
    """The designs of the paper: one hard-tanh layer for odd activations, two leaky-ReLU layers for ReLU."""
    for name in ("tanh", "relu"):
        design = ek.equivalent_network(ek.DEQ(name, sigma_a2="0.2", sigma_b2="0.8"), match="ck")
        below = "below" if design.residual <= 1e-12 else "above"
        print(f"{name}: {design.family}, depth {design.depth}, residual {below} 1e-12")

    # the coefficients are equal to rounding; the exact kernels of all orders are not
    for name in ("tanh", "relu"):
        deq = ek.DEQ(name, sigma_a2="0.2", sigma_b2="0.8")
        network = ek.equivalent_network(deq, match="ck").network
        for p in (200, 800):
            X = mixture_family("isotropic")(p).sample(p // 2, seed=0).X
            G = ek.implicit_ck(X, deq, tau0=1)
            distance = np.linalg.norm(G - ek.explicit_ck(X, network), 2) / np.linalg.norm(G, 2)
            print(f"{name}, p = {p}: ||G - G_net|| / ||G|| = {distance:.0e}")

    try:
        ek.equivalent_network(ek.DEQ("gelu", sigma_a2="0.2", sigma_b2="0.8"))
    except NoDesignError as error:
        print(f"gelu: {str(error).partition(':')[0]}")


if __name__ == "__main__":
    main()
