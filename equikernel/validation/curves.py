"""Activations as curves: centred, over three standard deviations of their inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from equikernel.numerics.designs.design import Design
from equikernel.numerics.designs.sphere import SphereDesign
from equikernel.numerics.moments import gaussian_moments
from equikernel.numerics.solve import solve
from equikernel.theory.activation import Activation
from equikernel.theory.models import DEQ, ExplicitNetwork
from equikernel.validation.figures import draw_curves, save_figure

__all__ = ["centred_curves", "network_curves", "plot_design"]

_REACH = 3.0


def centred_curves(functions: Sequence[tuple[str, Activation, float]]) -> dict[str, Any]:
    """(name, activation, standard deviation of its input) -> plain data for ``figures.draw_curves``."""
    standard = np.linspace(-_REACH, _REACH, 601)
    curves = []
    for name, function, tau in functions:
        centre = float(gaussian_moments(function, tau).mean.value)
        values = np.asarray(function(tau * standard)) - centre
        curves.append({"name": name, "tau": tau, "y": [float(y) for y in values]})
    return {"x": [float(x) for x in standard], "curves": curves}


def network_curves(network: ExplicitNetwork) -> dict[str, Any]:
    """The layers of an explicit network, each at the scale of its input."""
    functions, scale = [], network.tau0
    for k, layer in enumerate(network.layers, start=1):
        functions.append((f"σ{k} (design)", layer.activation, scale))
        scale = float(gaussian_moments(layer.activation, scale).V.value) ** 0.5
    return centred_curves(functions)


def plot_design(path: Path, source: DEQ | ExplicitNetwork, design: Design | SphereDesign) -> None:
    """Draw what is imitated and the layers of the design to a .png, .pdf or .svg file.

    Raises:
        InputError: another ending; a place that cannot be written to.
    """
    network = design.network
    curves = network_curves(network)
    if isinstance(source, DEQ):
        tau = float(solve(source, network.tau0, trained="a").tau)
        curves["curves"][:0] = centred_curves([("φ (DEQ)", source.activation, tau)])["curves"]
    save_figure(path, draw_curves, curves)
