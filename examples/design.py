"""Explicit networks with the kernels of a DEQ: the four numbers are equal, the exact kernels nearly; and a refusal.

Prints:

    CK of relu: leaky-relu, depth 2, residual below 1e-13
    CK of gelu: smooth, depth 2, residual below 1e-13
    CK of tanh by clipping: hard-tanh, depth 1, residual below 1e-13
    CK of gelu by a formula: a*x + b*gelu(x), depth 2, residual below 1e-13
    NTK of gelu with a learning rate: smooth, depth 1, rate 0.0232, residual below 1e-13
    CK of relu, p = 200: ||G - G_net|| / ||G|| = 7e-06
    CK of relu, p = 800: ||G - G_net|| / ||G|| = 3e-06
    CK of tanh by clipping, p = 200: ||G - G_net|| / ||G|| = 4e-03
    CK of tanh by clipping, p = 800: ||G - G_net|| / ||G|| = 1e-03
    CK of gelu by a formula, p = 200: ||G - G_net|| / ||G|| = 4e-04
    CK of gelu by a formula, p = 800: ||G - G_net|| / ||G|| = 3e-04
    NTK of gelu at equal rates: no network of depth 2 has the NTK coefficients of the DEQ with gelu
"""

from __future__ import annotations

import numpy as np

import equikernel as ek
from equikernel.errors import NoDesignError
from equikernel.numerics.designs.design import Design
from equikernel.validation.mixtures import mixture_family

DESIGNS = {
    "CK of relu": ("relu", {"match": "ck"}),
    "CK of gelu": ("gelu", {"match": "ck"}),
    "CK of tanh by clipping": ("tanh", {"match": "ck", "family": "hard-tanh"}),
    "CK of gelu by a formula": ("gelu", {"match": "ck", "family": "a*x + b*gelu(x)"}),
    "NTK of gelu with a learning rate": ("gelu", {"match": "ntk", "rates": "free"}),
}


def deq(name: str) -> ek.DEQ:
    """The DEQ of an activation at variances 1/5 and 4/5."""
    return ek.DEQ(name, sigma_a2="0.2", sigma_b2="0.8")


def describe(what: str, design: Design) -> None:
    """One line on a design."""
    rates = "".join(f"rate {rate:.4f}, " for rate in design.rates)
    below = "below" if design.residual <= 1e-13 else "above"
    print(f"{what}: {design.family}, depth {design.depth}, {rates}residual {below} 1e-13")


def main() -> None:
    """Designs, how near their kernels are, and one that does not exist."""
    designs = {what: ek.equivalent_network(deq(name), **options) for what, (name, options) in DESIGNS.items()}
    for what, design in designs.items():
        describe(what, design)

    # the four numbers are equal to rounding; the exact kernels of all orders are not
    for what in ("CK of relu", "CK of tanh by clipping", "CK of gelu by a formula"):
        network = designs[what].network
        for p in (200, 800):
            X = mixture_family("isotropic")(p).sample(p // 2, seed=0).X
            G = ek.implicit_ck(X, deq(DESIGNS[what][0]), tau0=1)
            distance = np.linalg.norm(G - ek.explicit_ck(X, network), 2) / np.linalg.norm(G, 2)
            print(f"{what}, p = {p}: ||G - G_net|| / ||G|| = {distance:.0e}")

    try:
        ek.equivalent_network(deq("gelu"), match="ntk")
    except NoDesignError as error:
        print(f"NTK of gelu at equal rates: {str(error).partition(',')[0]}")


if __name__ == "__main__":
    main()
