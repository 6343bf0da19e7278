"""Deconv2DLayer, GaussianNoiseLayer, GlobalAvgLayer."""
import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import DenseLayer, InputLayer, get_output
from theano.gradient import verify_grad
from theano.sandbox.rng_mrg import MRG_RandomStreams

import wnorm
from wnorm import nn
from wnorm.nn import weightnorm as paper

# --- Deconv2DLayer -----------------------------------------------------------

def reference(x, W, target, stride):
    """Scatter each input value, times the filter, into the output."""
    n, channels, rows, columns = x.shape
    fr, fc = W.shape[2:]
    out = np.zeros((n,) + tuple(target[1:]))
    for i in range(rows):
        for j in range(columns):
            for u in range(fr):
                for v in range(fc):
                    # half padding: the centre of the filter meets the grid;
                    # the gradient of a convolution has its filter flipped
                    r = i * stride[0] + fr // 2 - u
                    c = j * stride[1] + fc // 2 - v
                    if 0 <= r < target[2] and 0 <= c < target[3]:
                        out[:, :, r, c] += x[:, :, i, j].dot(W[:, :, u, v])
    return out


@pytest.mark.parametrize('filter_size, stride, target', [
    ((3, 3), (2, 2), (2, 4, 6, 6)), ((5, 3), (2, 1), (2, 4, 6, 3)),
    (3, 1, (2, 4, 3, 3))])
def test_deconv(filter_size, stride, target, floatX):
    rng = np.random.RandomState(0)
    x = rng.randn(2, 3, 3, 3).astype(floatX)
    l = nn.Deconv2DLayer(InputLayer((2, 3, 3, 3)), target, filter_size,
                         stride, nonlinearity=None)
    assert l.output_shape == target
    l.b.set_value(rng.randn(4).astype(floatX))
    out = get_output(l, x).eval()
    assert out.dtype == floatX and out.shape == target
    np.testing.assert_allclose(
        out, reference(x, l.W.get_value(), target, l.stride) +
        l.b.get_value()[:, None, None], rtol=1e-4, atol=1e-5)


def test_deconv_parameters():
    l = nn.Deconv2DLayer(InputLayer((2, 3, 3, 3)), (2, 4, 6, 6), (3, 3))
    assert [p.name for p in l.get_params()] == ['W', 'b']
    assert l.get_params(trainable=True, regularizable=True) == [l.W, l.b]
    assert l.W.get_value().shape == (3, 4, 3, 3)
    assert l.nonlinearity is nn.relu


def test_deconv_without_bias():
    l = nn.Deconv2DLayer(InputLayer((2, 3, 3, 3)), (2, 4, 6, 6), (3, 3),
                         b=None, nonlinearity=lasagne.nonlinearities.tanh)
    assert l.b is None and [p.name for p in l.get_params()] == ['W']
    x = np.random.RandomState(0).randn(2, 3, 3, 3)
    np.testing.assert_allclose(get_output(l, x).eval(), np.tanh(reference(
        x, l.W.get_value(), l.target_shape, (2, 2))))


def test_deconv_gradient():
    rng = np.random.RandomState(0)
    l = nn.Deconv2DLayer(InputLayer((2, 3, 3, 3)), (2, 4, 6, 6), (3, 3),
                         nonlinearity=None)

    def output(x, W):
        return theano.clone(get_output(l, x), replace={l.W: W})
    verify_grad(output, [rng.randn(2, 3, 3, 3), l.W.get_value()], rng=rng)


@pytest.mark.parametrize('target, match', [
    ((2, 4, 8, 6), 'stride'), ((2, 4, 6, 9), 'stride'),
    ((2, 4, 6), '4 dimensions')])
def test_deconv_of_a_shape_that_does_not_fit(target, match):
    l = InputLayer((2, 3, 3, 3), name='noise')
    before = lasagne.random.get_rng().get_state()[1].copy()
    with pytest.raises(ValueError, match=match) as info:
        nn.Deconv2DLayer(l, target, 3)
    assert "InputLayer 'noise' (2, 3, 3, 3)" in str(info.value)
    assert (lasagne.random.get_rng().get_state()[1] == before).all()
    with pytest.raises(ValueError, match='4 dimensions'):
        nn.Deconv2DLayer(InputLayer((2, 3)), (2, 4, 6, 6), 3)


def test_deconv_of_unknown_sizes():
    l = nn.Deconv2DLayer(InputLayer((None, 3, None, None)), (2, 4, 6, 6), 3)
    assert get_output(l, np.ones((2, 3, 3, 3))).eval().shape == (2, 4, 6, 6)


def test_deconv_folded():
    l = nn.weight_norm(nn.Deconv2DLayer(InputLayer((2, 3, 3, 3)),
                                        (2, 4, 6, 6), 3, nonlinearity=T.tanh))
    random = np.random.RandomState(0)
    for p in l.g, l.b:
        p.set_value(random.randn(4))
    x = random.randn(2, 3, 3, 3)
    before = get_output(l, x).eval()
    assert len(wnorm.fold(l).folded) == 1
    assert [p.name for p in lasagne.layers.get_all_params(l)] == ['W', 'b']
    np.testing.assert_allclose(get_output(l, x).eval(), before)


# --- GaussianNoiseLayer ------------------------------------------------------

def noise(sigma=.5, seed=7):
    lasagne.random.set_rng(np.random.RandomState(seed))
    return nn.GaussianNoiseLayer(InputLayer((4, 5)), sigma)


def test_noise(floatX):
    x = np.ones((4, 5), floatX)
    out = get_output(noise(), x).eval()
    seed = np.random.RandomState(7).randint(1, 2147462579)
    drawn = MRG_RandomStreams(seed).normal((4, 5)).eval()
    assert out.dtype == floatX
    np.testing.assert_allclose(out, x + .5 * drawn, rtol=1e-6)


def test_no_noise():
    x = T.matrix()
    assert get_output(noise(), x, deterministic=True) is x
    assert get_output(noise(sigma=0), x) is x


def test_last_noise():
    l = noise()
    with pytest.raises(ValueError, match='GaussianNoiseLayer .*no last noise'):
        get_output(l, T.matrix(), use_last_noise=True)
    x, y = T.matrices(2)
    first = get_output(l, x)
    again = get_output(l, y, use_last_noise=True)
    other = get_output(l, y)
    a, b, c = theano.function([x, y], [first, again, other])(
        np.zeros((4, 5)), np.ones((4, 5)))
    np.testing.assert_allclose(b, a + 1)
    assert abs(c - b).min() > 0


# --- GlobalAvgLayer ----------------------------------------------------------

@pytest.mark.parametrize('shape', [(4, 3, 5), (4, 3, 2, 5), (4, 3, 2, 2, 2)])
def test_global_average(shape, floatX):
    x = np.random.RandomState(0).randn(*shape).astype(floatX)
    l = paper.GlobalAvgLayer(InputLayer(shape))
    out = get_output(l, x).eval()
    assert l.output_shape == out.shape == (4, 3) and out.dtype == floatX
    np.testing.assert_allclose(out, x.reshape(4, 3, -1).mean(axis=2),
                               rtol=1e-5, atol=1e-6)


def test_global_average_of_no_positions():
    with pytest.raises(ValueError, match=r"DenseLayer 'fc' \(4, 3\).*no pos"):
        paper.GlobalAvgLayer(DenseLayer(InputLayer((4, 2)), 3, name='fc'))
