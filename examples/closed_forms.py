"""Closed forms of a new activation with a parameter, and what the kernel equations become with them.

Prints:

    V  = tau**2*(-a**2 + pi*a**2 + 2*a - 1 + pi)/(2*pi)
    d1 = (a + 1)/2
    d2 = -sqrt(2)*(a - 1)/(2*sqrt(pi)*tau)
    for large tau, V/tau^2 tends to the same number: True
    dual activation of relu: sqrt(q_i)*sqrt(q_j)*(rho*(pi - acos(rho)) + sqrt(1 - rho**2))/(2*pi)
    silu: no closed form, since 1/(1 + exp(-x)) is a quotient: True
"""

from __future__ import annotations

import sympy as sp

import equikernel as ek
from equikernel.errors import NoClosedFormError
from equikernel.theory.closed_forms import TAU


def main() -> None:
    """Leaky ReLU with an open slope; then one that closes in two variables, and one that does not."""
    a = sp.Symbol("a", real=True)
    forms = ek.verified_closed_forms("leaky_relu(x, a)", {"a": a}).forms
    print(f"V  = {forms.V}")
    print(f"d1 = {forms.d1}")
    print(f"d2 = {forms.d2}")
    ratio = sp.cancel(forms.V / TAU**2)
    print(f"for large tau, V/tau^2 tends to the same number: {not ratio.has(TAU)}")
    print(f"dual activation of relu: {ek.dual_activation('relu').expression}")
    try:
        ek.closed_form_moments("silu")
    except NoClosedFormError as error:
        print(f"silu: no closed form, since 1/(1 + exp(-x)) is a quotient: {'quotient' in str(error)}")


if __name__ == "__main__":
    main()
