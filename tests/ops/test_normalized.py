"""The formula, for every layout, against NumPy."""
import numpy as np
import pytest
import theano
import theano.tensor as T
from theano.gradient import verify_grad

import wnorm
from wnorm.ops import normalized

#: shape of V, layout, the axes that the norm sums
SHAPES = [
    ((5, 4), wnorm.Layout(1), 0),
    ((4, 5), wnorm.Layout(0), 1),
    ((3, 2, 4), wnorm.Layout(0), (1, 2)),
    ((3, 2, 2, 3), wnorm.Layout(0), (1, 2, 3)),
    ((3, 2, 2, 3), wnorm.Layout(1), (0, 2, 3)),
    ((3, 2, 2, 2, 2), wnorm.Layout(-5), (1, 2, 3, 4)),
    ((3, 2, 2, 2, 3, 2), wnorm.Layout(0, (-2, -1)), (1, 2, 3)),
    ((3, 2, 2, 3, 2), wnorm.Layout(0, (3, 4)), (1, 2)),
    ((2, 3, 2, 3, 2), wnorm.Layout(1, (3,)), (0, 2, 4)),
    ((4,), wnorm.Layout(0), ()),
]
each_shape = pytest.mark.parametrize('shape, layout, axes', SHAPES)


def reference(V, g, layout, axes, eps):
    W = V / np.sqrt(eps + np.sum(V ** 2, axis=axes, keepdims=True))
    if g is None:
        return W
    return W * g.reshape([-1 if i == layout.filter_axis % V.ndim else 1
                          for i in range(V.ndim)])


@each_shape
@pytest.mark.parametrize('eps', [1e-6, 0., 0.1])
def test_value(shape, layout, axes, eps, floatX):
    rng = np.random.RandomState(1)
    V = rng.randn(*shape).astype(floatX)
    g = rng.randn(shape[layout.filter_axis]).astype(floatX)  # negative too
    for gain in (g, None):
        W = normalized(T.as_tensor_variable(V),
                       None if gain is None else T.as_tensor_variable(gain),
                       layout, eps).eval()
        assert W.dtype == floatX
        np.testing.assert_allclose(
            W, reference(V.astype('float64'), gain, layout, axes, eps),
            rtol=1e-12 if floatX == 'float64' else 1e-5)


@each_shape
@pytest.mark.parametrize('eps', [1e-6, 0.])
def test_gradient(shape, layout, axes, eps):
    rng = np.random.RandomState(2)
    V, g = rng.randn(*shape), rng.randn(shape[layout.filter_axis])
    verify_grad(lambda V, g: normalized(V, g, layout, eps), [V, g], rng=rng)
    verify_grad(lambda V: normalized(V, None, layout, eps), [V], rng=rng)


def test_float16():
    # accumulated in more: squares of these entries are infinite in float16
    rng = np.random.RandomState(5)
    V = (rng.randn(20, 3) * 1000).astype('float16')
    g = rng.randn(3).astype('float16')
    dW = rng.randn(20, 3).astype('float16')
    Vs, gs = theano.shared(V), theano.shared(g)
    W = normalized(Vs, gs, wnorm.Layout(1))
    dV, dg = T.grad(T.sum(W.astype('float32') * dW.astype('float32')),
                    [Vs, gs])
    V, g, dW = [a.astype('float64') for a in (V, g, dW)]
    inverse = 1 / np.sqrt(1e-6 + np.sum(V ** 2, axis=0))
    along = np.sum(dW * V * inverse, axis=0)
    for got, want in ((W, V * g * inverse), (dg, along),
                      (dV, g * inverse * (dW - V * inverse * along))):
        got = got.eval()
        assert got.dtype == 'float16'
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=2. ** -24)


@pytest.mark.parametrize('filters', [1, 3, 5])
def test_gain_of_a_wrong_shape_is_refused(filters):
    # https://github.com/pytorch/pytorch/issues/81195
    W = normalized(theano.shared(np.ones((2, 4))),
                   theano.shared(np.ones(filters)), wnorm.Layout(1))
    with pytest.raises(ValueError, match='the weight has 4 norms along axis '
                       '1, the gain %d entries' % filters):
        W.eval()


def test_gain_of_another_precision():
    V, g = np.ones((2, 4), 'float32'), np.ones(4)
    for kinds in ((V, g), (V, g.astype('float16'))):
        assert normalized(*map(theano.shared, kinds),
                          wnorm.Layout(1)).eval().dtype == 'float32'


def test_second_gradient():
    rng = np.random.RandomState(3)

    def gradient(V, g):
        cost = T.sum(T.sqr(normalized(V, g, wnorm.Layout(1), 0.) - 1.))
        return T.concatenate([d.flatten() for d in T.grad(cost, [V, g])])

    verify_grad(gradient, [rng.randn(4, 3), rng.randn(3)], rng=rng)


def test_zero_filter(floatX):
    # no NaN from a row of zeros: https://github.com/pytorch/pytorch/issues/19126
    V = np.ones((4, 2), floatX)
    V[:, 1] = 0
    Vs, gs = theano.shared(V), theano.shared(np.array([2, 3], floatX))
    for eps in (1e-6, 0.):
        W = normalized(Vs, gs, wnorm.Layout(1), eps)
        values = [W] + T.grad(T.sum(W * np.arange(8).reshape(4, 2).astype(
            floatX)), [Vs, gs])
        W, dV, dg = [value.eval() for value in values]
        assert np.isfinite(dV).all() and np.isfinite(dg).all()
        assert (W[:, 1] == 0).all() and dg[1] == 0
        if eps == 0:
            assert (dV[:, 1] == 0).all()
            np.testing.assert_allclose(W[:, 0], 1., rtol=1e-6)


@pytest.mark.parametrize('size', [1e-30, 1e30])
def test_exact_for_any_scale_of_V(size, floatX):
    # the squares of these entries are 0 or infinity in float32
    V = (size * np.array([[3., 1.], [4., 1.]])).astype(floatX)
    Vs = theano.shared(V)
    W = normalized(Vs, None, wnorm.Layout(1), 0.)
    np.testing.assert_allclose(W.eval()[:, 0], [.6, .8], rtol=1e-6)
    dV = T.grad(W[0, 0], Vs).eval()
    # d (v0 / |v|) / dv = (v1^2, -v0 v1) / |v|^3
    np.testing.assert_allclose(dV[:, 0] * size, [16 / 125., -12 / 125.],
                               rtol=1e-5)


def test_eps_keeps_the_precision_of_V():
    # of a float32 weight in a float64 session
    V = theano.shared(np.ones((2, 2), 'float32'))
    for eps in (1e-6, 0.):
        assert normalized(V, None, wnorm.Layout(1), eps).dtype == 'float32'


@each_shape
def test_agrees_with_torch(shape, layout, axes, torch):
    if layout.position_axes:
        pytest.skip('torch has one norm per filter, not per position')
    rng = np.random.RandomState(4)
    V, g = rng.randn(*shape), rng.randn(shape[layout.filter_axis])
    linear = torch.nn.Module()
    linear.weight = torch.nn.Parameter(torch.tensor(V))
    torch.nn.utils.parametrizations.weight_norm(
        linear, dim=layout.filter_axis % V.ndim)
    gain, direction = (linear.parametrizations.weight.original0,
                       linear.parametrizations.weight.original1)
    with torch.no_grad():
        gain.copy_(torch.tensor(g.reshape(gain.shape)))
    factor = rng.randn(*shape)
    (linear.weight * torch.tensor(factor)).sum().backward()
    Vs, gs = theano.shared(V), theano.shared(g)
    W = normalized(Vs, gs, layout, 0.)
    dV, dg = T.grad(T.sum(W * factor), [Vs, gs])
    for ours, theirs in ((W, linear.weight.detach()), (dV, direction.grad),
                         (dg, gain.grad.flatten())):
        np.testing.assert_allclose(ours.eval(), theirs.numpy(), rtol=1e-10,
                                   atol=1e-12)
