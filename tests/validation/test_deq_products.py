"""Products with weights: the same numbers whichever library computes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equikernel.validation.deq import products
from equikernel.validation.deq.products import multiply

pytestmark = pytest.mark.usefixtures("one_thread")


def factors(draws, n, k, m, dtype):
    rng = np.random.default_rng(n + m)
    lead = () if draws is None else (draws,)
    return (torch.tensor(rng.standard_normal((*lead, *shape)), dtype=dtype) for shape in ((n, m), (k, m)))


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("n", "k", "m"), [(1, 4, 4), (40, 300, 300), (33, 300, 260), (8, 300, 300)])
@pytest.mark.parametrize("draws", [None, 1, 3])
def test_products_of_any_shape(draws, n, k, m, dtype, transposed, wide, monkeypatch):
    if wide and not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(products, "_has_wide_vectors", lambda: wide)
    z, weight = factors(draws, n, k, m, dtype)
    if transposed:
        weight = weight.mT.contiguous().mT
    expected = z.double() @ weight.double().mT
    # a sum of m products in any order, each rounded once, m additions
    bound = (m + 1) * torch.finfo(dtype).eps * (z.double().abs() @ weight.double().abs().mT)
    for out in (None, torch.empty(*z.shape[:-1], k, dtype=dtype)):
        got = multiply(z, weight, out)
        assert (got.shape, got.dtype) == (expected.shape, dtype)
        assert ((got - expected).abs() <= bound).all()


def test_networks_share_samples():
    z, weight = factors(None, 5, 12, 7, torch.float64)
    expected = torch.stack([z @ part.mT for part in weight.view(3, 4, 7)])
    assert (multiply(z, weight).view(5, 3, 4).transpose(0, 1) - expected).abs().max() <= 1e-14
