from __future__ import annotations

import importlib
import pickle
import sys
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from equikernel.errors import AccuracyError, InputError, SolutionError
from equikernel.numerics.kernels import implicit_ck, implicit_ntk
from equikernel.theory.activation import activation
from equikernel.theory.models import DEQ
from equikernel.validation.estimators import DEQKernel, DEQKernelTransformer

ENGINE = 1e-12  # far above what the engine errs by, far below what a wrong parameter does
GRADIENT = 1e-9  # as the docstring of DEQKernel says


def samples(n: int = 12, p: int = 5, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((n, p)) / np.sqrt(p)


# -- the kernel --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("which", "trained"), [("ck", "aA"), ("ntk", "a"), ("ntk", "aA"), ("ntk", "aAB")])
def test_of_a_linear_network(which: str, trained: str) -> None:
    # phi(x) = x: G = sigma_b2 s/(1 - sigma_a2), and A and B bring factors of 1/(1 - sigma_a2)
    X, Y, a, b = samples(), samples(7, seed=1), 0.3, 0.6
    factor = {"a": b, "aA": b / (1 - a), "aAB": b / (1 - a) + b}[trained] / (1 - a) if which == "ntk" else b / (1 - a)
    kernel = DEQKernel("x", a, b, which=which, trained=trained)
    for K, exact in ((kernel(X), X @ X.T), (kernel(X, Y), X @ Y.T), (kernel.diag(X), (X**2).sum(1))):
        np.testing.assert_allclose(K, factor * exact, rtol=0, atol=ENGINE)


def test_is_centred_for_tau0_whatever_the_samples() -> None:
    X = samples()
    kernel = DEQKernel("gelu", tau0=0.7)
    np.testing.assert_array_equal(kernel(X), implicit_ntk(X, DEQ("gelu"), tau0=0.7))
    np.testing.assert_allclose(kernel(X[:4], X[4:]), kernel(X)[:4, 4:], rtol=0, atol=ENGINE)
    with pytest.raises(InputError, match="tau0 of a DEQKernel must be a number"):
        DEQKernel(tau0=None)(X)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kernel",
    [
        *(DEQKernel(name, which="ntk", trained=trained) for name, trained in product(("relu", "tanh"), ("aA", "aAB"))),
        *(DEQKernel(name, which="ck") for name in ("relu", "gelu", "sign")),
        DEQKernel("sign", trained="a"),
    ],
    ids=repr,
)
def test_diag_is_the_diagonal(kernel: DEQKernel) -> None:
    X = samples(300)
    X[3], X[4], X[5] = X[2], -X[2], 0.0
    np.testing.assert_array_equal(kernel.diag(X), np.diag(kernel(X)))


def test_hyperparameters() -> None:
    kernel = DEQKernel("tanh", 0.25, 0.5, sigma_a2_bounds=(1e-2, 0.9))
    np.testing.assert_array_equal(kernel.theta, np.log([0.25]))
    np.testing.assert_array_equal(kernel.bounds, np.log([[1e-2, 0.9]]))
    both = clone(kernel).set_params(sigma_b2_bounds=(0.1, 10.0))
    np.testing.assert_array_equal(both.theta, np.log([0.25, 0.5]))
    moved = both.clone_with_theta(np.log([0.4, 2.0]))
    assert (moved.sigma_a2, moved.sigma_b2) == (pytest.approx(0.4, rel=1e-15), pytest.approx(2.0, rel=1e-15))
    assert both.sigma_a2 == 0.25
    assert DEQKernel().n_dims == 0
    assert not DEQKernel().is_stationary()


def test_parameters() -> None:
    kernel = DEQKernel("gelu", 0.1, 0.7, which="ck", tau0=2.0)
    parameters = kernel.get_params()
    assert DEQKernel(**parameters) == kernel == clone(kernel) == pickle.loads(pickle.dumps(kernel))  # noqa: S301
    assert kernel != DEQKernel("gelu", 0.1, 0.7, which="ck")
    assert clone(kernel).set_params(tau0=1.0) == DEQKernel("gelu", 0.1, 0.7, which="ck")
    assert repr(kernel) == "DEQKernel('gelu', sigma_a2=0.1, sigma_b2=0.7, which='ck', tau0=2)"
    assert repr(DEQKernel()) == "DEQKernel('relu', sigma_a2=0.2, sigma_b2=0.8, which='ntk', trained='aA', tau0=1)"
    given = clone(DEQKernel(activation("x*tanh(x)")))
    assert given == DEQKernel(activation("x*tanh(x)"))


def free(name: str, a: float = 0.2, b: float = 0.8, **options: Any) -> DEQKernel:
    return DEQKernel(name, a, b, sigma_a2_bounds=(1e-3, 2.0), sigma_b2_bounds=(1e-3, 1e3), **options)


def scale(*arrays: Any) -> float:
    return max(float(np.abs(array).max()) for array in arrays)


@pytest.mark.parametrize("a", [1e-3, 0.2, 0.9, 0.97])
def test_gradient_of_a_linear_network(a: float) -> None:
    # K = sigma_b2 s/(1 - sigma_a2)^2; at 0.97 the widest step leads out of where it exists
    K, gradient = free("x", a)(samples(4), eval_gradient=True)
    for k, exact in enumerate((2 * a / (1 - a) * K, K)):
        assert scale(gradient[..., k] - exact) <= GRADIENT * scale(K, exact)


@pytest.mark.parametrize("which", ["ck", "ntk"])
def test_gradient_of_a_homogeneous_network(which: str) -> None:
    # scaling sigma_b2 scales everything
    K, gradient = free("relu", 0.4, which=which)(samples(), eval_gradient=True)
    assert scale(gradient[..., 1] - K) <= GRADIENT * scale(K)


@pytest.mark.parametrize(("name", "which"), [("tanh", "ck"), ("tanh", "ntk"), ("gelu", "ntk"), ("relu", "ntk")])
def test_gradient_agrees_with_differences_at_other_steps(name: str, which: str) -> None:
    X, kernel = samples(), free(name, 0.3, which=which)
    K, gradient = kernel(X, eval_gradient=True)
    assert gradient.shape == (12, 12, 2)
    step = 0.004  # five points: off by step^4/30 of the fifth derivative (1e-11) and 1.5 eps/step of what K errs by
    for k, unit in enumerate(np.eye(2)):
        at = {m: kernel.clone_with_theta(kernel.theta + m * step * unit)(X) for m in (-2, -1, 1, 2)}
        difference = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * step)
        assert scale(gradient[..., k] - difference) <= 2 * GRADIENT * scale(K, difference)
        assert np.array_equal(gradient[..., k], gradient[..., k].T)


def test_gradient_of_what_is_free_alone() -> None:
    X = samples()
    assert DEQKernel()(X, eval_gradient=True)[1].shape == (12, 12, 0)
    gradient = free("tanh")(X, eval_gradient=True)[1]
    one = DEQKernel("tanh", sigma_b2_bounds=(0.1, 10.0))(X, eval_gradient=True)[1]
    np.testing.assert_array_equal(one, gradient[..., 1:])
    with pytest.raises(InputError, match="got another set Y"):
        DEQKernel()(X, X, eval_gradient=True)


def test_composes() -> None:
    X, kernel = samples(), free("tanh")
    K, own = kernel(X, eval_gradient=True)
    composed = ConstantKernel(2.0) * kernel + WhiteKernel(0.5)
    total, gradient = composed(X, eval_gradient=True)
    identity = np.eye(len(X))
    np.testing.assert_allclose(total, 2 * K + 0.5 * identity, rtol=1e-15)
    np.testing.assert_allclose(composed.diag(X), np.diag(total), rtol=1e-15)
    expected = np.dstack([2 * K, 2 * own, 0.5 * identity])
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-15 * scale(expected) * 4)


def test_a_gaussian_process_finds_the_parameters() -> None:
    truth = DEQKernel("tanh", 0.5, 2.0, which="ck", sigma_a2_bounds=(0.05, 0.95), sigma_b2_bounds=(0.1, 20.0))
    X, noise, draws = samples(30, 3), 1e-2, 300
    covariance, gradient = truth(X, eval_gradient=True)
    covariance += noise * np.eye(len(X))
    y = np.linalg.cholesky(covariance) @ np.random.default_rng(1).standard_normal((len(X), draws))
    start = clone(truth).set_params(sigma_a2=0.3, sigma_b2=1.0)
    model = GaussianProcessRegressor(start + WhiteKernel(noise, "fixed"), alpha=1e-12).fit(X, y)
    assert model.log_marginal_likelihood_value_ >= model.log_marginal_likelihood(truth.theta)
    # the estimate is normal around the truth, its inverse covariance the information matrix
    solved = [np.linalg.solve(covariance, gradient[..., k]) for k in range(2)]
    information = [[0.5 * draws * np.vdot(left.T, right) for left in solved] for right in solved]
    off = model.kernel_.theta - truth.theta
    assert off @ np.array(information) @ off <= chi2.isf(1e-4, 2)
    mean, std = model.predict(X[:3], return_std=True)
    assert mean.shape == std.shape == (3, draws)


@pytest.mark.parametrize("evaluate", [lambda k, X: k(X), lambda k, X: k.diag(X)], ids=["call", "diag"])
def test_says_where_there_is_no_kernel(evaluate: Any) -> None:
    with pytest.raises(SolutionError, match=r">= 1 for sample 0.*at sigma_a2 = 1, sigma_b2 = 0.8.*sigma_a2_bounds"):
        evaluate(DEQKernel("tanh(3*x)", 1.0), samples())


def test_says_where_there_is_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equikernel.validation.estimators._LEVELS", 3)  # so that 1/128 is the narrowest step
    with pytest.raises(AccuracyError, match="in log sigma_a2 could not be computed"):
        free("x", 0.97)(samples(4), eval_gradient=True)


def test_an_optimiser_that_leaves_the_region_is_stopped() -> None:
    X = samples(4)
    y = 100 * np.random.default_rng(0).standard_normal(4)  # more than a kernel of moderate size explains
    model = GaussianProcessRegressor(DEQKernel("x", sigma_a2_bounds=(1e-3, 10.0)), alpha=1.0)
    with pytest.raises(SolutionError, match="lower the upper end of sigma_a2_bounds"):
        model.fit(X, y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"which": "nngp"}, "which must be"),
        ({"trained": "B"}, "trained must be"),
        ({"sigma_a2": -1.0}, "sigma_a2 must be"),
        ({"tau0": 0.0}, "tau0 must be"),
        ({"activation": "nonsense(x)"}, "nonsense"),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], message: str) -> None:
    X = samples()
    for use in (
        DEQKernel(**parameters),
        DEQKernel(**parameters).diag,
        DEQKernelTransformer(**parameters).fit_transform,
    ):
        with pytest.raises(InputError, match=message):
            use(X)


def test_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "equikernel.validation.estimators")
    with pytest.raises(InputError, match="need scikit-learn"):
        importlib.import_module("equikernel.validation.estimators")


# -- the transformer ---------------------------------------------------------------------------------------------------


@parametrize_with_checks([DEQKernelTransformer(), DEQKernelTransformer(which="ck", threads=1)])
def test_is_an_estimator(estimator: Any, check: Any) -> None:
    check(estimator)


def test_transforms_to_the_kernel_with_the_training_samples() -> None:
    X, new = samples(), 3.0 * samples(7, seed=1)
    scale_of_x = float(np.sqrt((X**2).sum(axis=1).mean()))
    transformer = DEQKernelTransformer("gelu", 0.3, 0.7, trained="aAB")
    own = transformer.fit_transform(X)
    deq = DEQ("gelu", 0.3, 0.7)
    assert transformer.tau0_ == pytest.approx(scale_of_x, rel=1e-15)
    np.testing.assert_array_equal(own, own.T)
    np.testing.assert_array_equal(own, implicit_ntk(X, deq, trained="aAB"))
    np.testing.assert_allclose(transformer.transform(X), own, rtol=0, atol=ENGINE)
    exact = implicit_ntk(np.vstack([X, new]), deq, tau0=scale_of_x, trained="aAB")[12:, :12]
    np.testing.assert_allclose(transformer.transform(new), exact, rtol=0, atol=ENGINE)


def test_which_and_tau0() -> None:
    X = samples()
    found = DEQKernelTransformer("relu", which="ck", tau0=0.5).fit(X)
    assert found.tau0_ == 0.5
    np.testing.assert_array_equal(found.fit_transform(X), implicit_ck(X, DEQ("relu"), tau0=0.5))


@pytest.mark.parametrize(("which", "trained"), [("ck", "aA"), ("ntk", "aA"), ("ntk", "aAB")])
def test_scaling_the_samples_is_scaling_sigma_b2(which: str, trained: str) -> None:
    X = samples()
    K = DEQKernelTransformer("tanh", 0.3, 0.8, which=which, trained=trained).fit_transform(X)
    other = DEQKernelTransformer("tanh", 0.3, 0.05, which=which, trained=trained).fit_transform(4.0 * X)
    np.testing.assert_allclose(other, K, rtol=0, atol=ENGINE)


def test_keeps_its_own_samples() -> None:
    X = samples()
    transformer = DEQKernelTransformer().fit(X)
    before = transformer.transform(X[:3].copy())
    new = X[:3].copy()
    X[:] = 0.0
    np.testing.assert_array_equal(transformer.transform(new), before)


def test_types_threads_and_names() -> None:
    X = samples().astype(np.float32)
    K = DEQKernelTransformer().fit_transform(X)
    assert K.dtype == np.float64
    np.testing.assert_array_equal(K, DEQKernelTransformer(threads=1).fit_transform(X.astype(np.float64)))
    transformer = DEQKernelTransformer().fit(X)
    assert transformer.get_feature_names_out().tolist() == [f"deqkerneltransformer{i}" for i in range(12)]
    frame = DEQKernelTransformer().set_output(transform="pandas").fit_transform(X)
    np.testing.assert_array_equal(frame.to_numpy(), K)


def test_no_scale_in_zero_samples() -> None:
    with pytest.raises(InputError, match="every sample is zero"):
        DEQKernelTransformer().fit(np.zeros((3, 2)))


def test_grid_search_over_a_pipeline() -> None:
    # the same by hand: kernels of all samples, rows and columns of the folds cut out
    X, ridge, folds = samples(40), 0.1, KFold(4)
    y = np.sin(3 * X[:, 0]) + X[:, 1]
    grid = {"deqkerneltransformer__activation": ["relu", "tanh"], "deqkerneltransformer__sigma_a2": [0.1, 0.6]}
    pipeline = make_pipeline(DEQKernelTransformer(threads=1), KernelRidge(alpha=ridge, kernel="precomputed"))
    search = GridSearchCV(pipeline, grid, cv=folds, scoring="neg_mean_squared_error", error_score="raise").fit(X, y)
    for parameters, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        deq = DEQ(*parameters.values(), "0.8")
        errors = []
        for train, test in folds.split(X):
            tau0 = np.sqrt((X[train] ** 2).sum(axis=1).mean())
            K = implicit_ntk(X, deq, tau0=tau0)
            dual = np.linalg.solve(K[np.ix_(train, train)] + ridge * np.eye(len(train)), y[train])
            errors.append(np.mean((K[np.ix_(test, train)] @ dual - y[test]) ** 2))
        assert score == pytest.approx(-np.mean(errors), rel=1e-10)  # condition number below 100/ridge


def test_support_vectors_in_a_pipeline() -> None:
    X, y = make_blobs(90, 4, centers=3, cluster_std=0.5, random_state=0)
    pipeline = make_pipeline(DEQKernelTransformer(), SVC(kernel="precomputed"))
    by_hand = implicit_ntk(X[:60], DEQ("relu")), implicit_ntk(X[60:], DEQ("relu"), X[:60])
    labels = pipeline.fit(X[:60], y[:60]).predict(X[60:])
    np.testing.assert_array_equal(labels, SVC(kernel="precomputed").fit(by_hand[0], y[:60]).predict(by_hand[1]))
    assert np.array_equal(labels, y[60:])
