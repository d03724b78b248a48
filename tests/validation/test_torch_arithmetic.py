"""torch functions against the float64 functions, with running error bounds as tolerances."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from equikernel.errors import InputError
from equikernel.numerics.arithmetic import _BOUNDED, _Bounded
from equikernel.theory.activation import Activation, activation
from equikernel.theory.piecewise import PiecewiseProgram
from equikernel.theory.registry import names
from equikernel.validation.torch_arithmetic import TORCH, values_over

EXPRESSIONS = (
    "x*tanh(log(1+exp(x)))",
    "max(min(x,1),-2)*0.5",
    "sqrt(1+x**2)",
    "where(x<0, exp(x)-1, sin(x))",
    "abs(x)**1.5",
    "sign(x)*log(1+abs(x))",
    "exp(-x**2/2)*cos(3*x)",
    "sqrt(max(x,0))",
    "erfc(-x)*x",
    "log(cosh(x))+x",
    "where(x>1,log(x),x-1)",
    "sinh(x)/cosh(x)",
    "where(x<-1.1 or x>0.3, x, 0)",
    "max(x,0)**2.5",
    "cosh(x)-1",
    "atan(x)**3",
)
ALL = (*names(), *EXPRESSIONS)
# below this, results pass through numbers under the smallest normal one and relative accuracy has no meaning
TINY = 1e-300
EPS = 2.0**-52
# torch.func and gradcheck import, on first use, a part of torch that warns of another part of torch
torch_func = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")


pytestmark = pytest.mark.usefixtures("one_thread")


def grid(act: Activation) -> np.ndarray:
    points = np.array([float(b) for b in act.breakpoints])
    near = [points, np.nextafter(points, np.inf), np.nextafter(points, -np.inf)]
    return np.concatenate([np.linspace(-40.0, 40.0, 2001), [-800.0, 800.0, 1e-8, -1e-8, 1e-300, 0.0], *near])


def error_bound(program: PiecewiseProgram, x: np.ndarray) -> np.ndarray:
    """A running bound on the rounding errors of the program in float64, plus that of the reference."""
    breaks = np.array([float(b) for b in program.breakpoints])
    bound = np.full_like(x, TINY)
    edges = [-np.inf, *breaks, np.inf]
    for piece, lower, upper in zip(program.programs, edges, edges[1:], strict=False):
        inside = (x >= lower) & (x <= upper)  # at a breakpoint, either side or their mean
        with np.errstate(all="ignore"):
            run = piece.run(_BOUNDED, _Bounded(x[inside], 0.0))
        reference = 3e-14
        if any(i.op == "erfc" for i in piece.instructions):
            reference = reference + EPS * x[inside] ** 2  # SciPy's erfc rounds x^2 before it takes its exponential
        bound[inside] += run.error + reference * np.abs(run.value)
    return bound


def assert_agree(got: np.ndarray, want: np.ndarray, bound: np.ndarray) -> None:
    # where the program itself overflows or loses everything, no plain float64 evaluation can be asked to agree
    comparable = np.isfinite(want) & np.isfinite(bound)
    assert comparable.mean() > 0.99 or not np.isfinite(want).all()
    assert np.isfinite(got[comparable]).all()
    assert (np.abs(got[comparable] - want[comparable]) <= bound[comparable]).all()


@pytest.mark.parametrize("spec", ALL)
def test_values_and_gradients_agree_with_float64(spec):
    act = activation(spec)
    x = grid(act)
    t = torch.tensor(x, requires_grad=True)
    value = act.function("torch")(t)
    assert_agree(value.detach().numpy(), act(x), error_bound(act.program, x))
    (gradient,) = torch.autograd.grad(value.sum(), t)
    want = act.derivative("numpy")(x)
    assert_agree(gradient.numpy(), want, error_bound(act.derivative_program, x))
    direct = act.derivative("torch")(t.detach())
    assert torch.equal(torch.nan_to_num(direct), torch.nan_to_num(gradient))


@pytest.mark.parametrize("name", names())
def test_registry_to_a_few_ulps(name):
    act = activation(name)
    x = grid(act)
    got, want = act.function("torch")(torch.tensor(x)).numpy(), act(x)
    finite = np.isfinite(want)
    assert (np.abs(got[finite] - want[finite]) <= 4 * EPS * np.maximum(np.abs(want[finite]), 1.0)).all()
    assert np.isfinite(got[finite]).all()


@pytest.mark.parametrize("name", names())
def test_registry_gradients_are_finite_wherever_the_derivative_is(name):
    act = activation(name)
    x = np.concatenate([grid(act), [-1e4, 1e4]]) if name != "exp" else grid(act)
    t = torch.tensor(x, requires_grad=True)
    (gradient,) = torch.autograd.grad(act.function("torch")(t).sum(), t)
    assert np.isfinite(gradient.numpy()[np.isfinite(act.derivative("numpy")(x))]).all()


def test_a_branch_not_taken_spoils_neither_value_nor_gradient():
    # sqrt and its derivative are infinite or complex to the left, exp overflows to the right
    root, elu = activation("sqrt(max(x,0))").function("torch"), activation("elu").function("torch")
    x = torch.tensor([-4.0, -1e-30, 4.0, 800.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(root(x).sum(), x)
    assert gradient.tolist() == [0.0, 0.0, 0.25, 0.5 / np.sqrt(800.0)]
    (gradient,) = torch.autograd.grad(elu(x).sum(), x)
    assert gradient.tolist() == [np.exp(-4.0), 1.0, 1.0, 1.0]


def test_softplus_has_no_threshold():
    softplus = activation("softplus").function("torch")
    x = torch.tensor([-800.0, -30.0, 19.9, 20.1, 30.0, 800.0], dtype=torch.float64)
    expected = torch.clamp(x, min=0) + torch.log1p(torch.exp(-x.abs()))
    assert torch.equal(softplus(x), expected)
    assert softplus(x)[-1] == 800.0
    assert activation("log(1+exp(x))").function("torch")(x)[1] == pytest.approx(np.exp(-30.0), rel=1e-12)


@pytest.mark.parametrize("name", ["sign", "heaviside", "relu", "hard_shrink", "abs"])
def test_breakpoints_have_their_own_values_and_mean_derivatives(name):
    act = activation(name)
    points = [float(b) for b in act.breakpoints]
    t = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    value = act.function("torch")(t)
    assert value.tolist() == [act(b) for b in points]
    (gradient,) = torch.autograd.grad(value.sum(), t)
    assert gradient.tolist() == [act.derivative()(b) for b in points]


def test_points_next_to_a_breakpoint_are_decided_exactly():
    # -11/10 and 3/10 are rounded, up in one type and down in another; 1/4 is exact in all
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        for number in ("-1.1", "0.3", "0.25"):
            step = activation(f"where(x < {number}, 0, where(x > {number}, 2, 1))").function("torch")
            point = torch.tensor(float(number), dtype=dtype)
            want = 1 + (Fraction(point.item()) > Fraction(number)) - (Fraction(point.item()) < Fraction(number))
            assert step(point).item() == want
            above = point + torch.finfo(dtype).eps * (1 + abs(point))
            assert step(above).item() == 2
            assert step(2 * point - above).item() == 0


@torch_func
@pytest.mark.parametrize("spec", ["gelu", "mish", "x*tanh(x)**3", "log_cosh", "where(x<0, exp(x)-1, sin(x))"])
def test_first_and_second_derivatives_by_finite_differences(spec):
    function = activation(spec).function("torch")
    x = torch.tensor([-3.1, -0.4, 0.2, 1.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, x)


@torch_func
def test_torch_func_transforms():
    act = activation("silu")
    function, x = act.function("torch"), torch.linspace(-3, 3, 7, dtype=torch.float64)
    slope = act.derivative("torch")(x)
    torch.testing.assert_close(torch.vmap(torch.func.grad(function))(x), slope)
    torch.testing.assert_close(torch.func.jacrev(function)(x), torch.diag(slope))
    value, tangent = torch.func.jvp(function, (x,), (torch.full_like(x, 2.0),))
    torch.testing.assert_close(value, function(x))
    torch.testing.assert_close(tangent, 2.0 * slope)
    curvature = torch.vmap(torch.func.grad(torch.func.grad(function)))(x)
    # silu'' = s(x) s(-x) (2 + x (1 - 2 s(x)))
    s = torch.sigmoid(x)
    torch.testing.assert_close(curvature, s * (1 - s) * (2 + x * (1 - 2 * s)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("spec", ["relu", "gelu", "tanh", "hard_shrink", "softplus", "sign", "snake"])
def test_type_and_shape_are_kept(spec, dtype):
    act = activation(spec)
    function = act.function("torch")
    x = torch.linspace(-3, 3, 24, dtype=dtype).reshape(2, 3, 4).transpose(0, 2)
    y = function(x)
    assert (y.dtype, y.shape) == (dtype, x.shape)
    want = torch.from_numpy(act(x.double().numpy()))
    # each of at most twenty operations errs by at most an ulp of numbers below 4
    assert (y.double() - want).abs().max() <= 20 * 4 * torch.finfo(dtype).eps
    scalar = torch.tensor(0.5, dtype=dtype)
    assert (function(scalar).dtype, function(scalar).shape) == (dtype, ())
    assert function(torch.empty(0, dtype=dtype)).shape == (0,)


@pytest.mark.parametrize("name", ["relu", "hard_tanh", "relu6", "sign", "gelu", "identity"])
def test_nan_stays_nan(name):
    assert torch.isnan(activation(name).function("torch")(torch.tensor([float("nan")]))).all()


CLIPPED = ("relu", "hard_tanh", "relu6", "max(min(x,1),-2)*0.5", "max(min(2*x+0.3,1.1),-0.7)", "where(x<0.3,0.3,x)")
NOT_CLIPPED = ("abs", "leaky_relu", "elu", "min(x,0)", "max(-x,0)", "where(x<0,5,x)", "where(x<0,0,x+1)", "hard_shrink")


def piece_by_piece(function, x):
    """The definition: each piece on its side of the breakpoints, the values at those, and NaN for NaN."""
    first, *others = function._program.programs
    result = first.run(TORCH, x)
    for at, program in zip(function.rounded_breaks(x.dtype), others, strict=True):
        result = torch.where(at.left_of(x), result, program.run(TORCH, x))
        if at.value is not None:
            result = torch.where(x == at.point, at.value, result)
    return torch.where(torch.isnan(x), x, result) if others else result


def points_with_two_zeros(act, dtype):
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-320, 1e-45, 1e-7, 1.0, 1e30, 1e300]
    x = torch.tensor([*special, *(float(b) for b in act.breakpoints)], dtype=torch.float64).to(dtype)
    infinity = torch.tensor(np.inf, dtype=dtype)
    return torch.cat([x, -x, x.nextafter(infinity), x.nextafter(-infinity), torch.linspace(-9, 9, 257, dtype=dtype)])


def same_bits(a, b):
    return bool(((a == b) & (a.signbit() == b.signbit()) | a.isnan() & b.isnan()).all())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("spec", dict.fromkeys([*ALL, *CLIPPED, *NOT_CLIPPED]))
def test_short_cuts_change_no_bit(spec, dtype):
    act = activation(spec)
    x = points_with_two_zeros(act, dtype)
    for function in (act.function("torch"), act.derivative("torch")):
        kept, expected = x.clone(), piece_by_piece(function, x)
        assert same_bits(function(x), expected)
        assert same_bits(x, kept)
        assert same_bits(values_over(function, x.clone()), expected)


def test_clipped_lines_take_one_pass():
    for spec in CLIPPED:
        assert activation(spec).function("torch").plan(torch.float64).clip is not None
    for spec in NOT_CLIPPED:  # a zero's sign, a jump or a falling line stands against it
        assert activation(spec).function("torch").plan(torch.float64).clip is None


def test_values_over_takes_any_function():
    x = torch.linspace(-2, 2, 5)
    assert torch.equal(values_over(torch.tanh, x), torch.tanh(x))
    relu = activation("relu").function("torch")
    result = values_over(relu, x)
    assert result is x
    assert x.tolist() == [0.0, 0.0, 0.0, 1.0, 2.0]


def test_trains_inside_a_module():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(3, 5, dtype=torch.float64)
            self.phi = activation("identity").function("torch")

        def forward(self, x):
            return self.phi(self.linear(x)).sum()

    net = Net()
    x = torch.ones(2, 3, dtype=torch.float64)
    net(x).backward()
    assert torch.equal(net.linear.weight.grad, torch.full((5, 3), 2.0, dtype=torch.float64))


@pytest.mark.parametrize("bad", [torch.arange(3), torch.ones(2, dtype=torch.complex64), np.ones(3), 1.0])
def test_refuses_what_is_not_a_floating_tensor(bad):
    with pytest.raises(InputError, match="floating type; got"):
        activation("relu").function("torch")(bad)
