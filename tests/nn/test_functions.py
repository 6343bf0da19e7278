"""Nonlinearities, losses and updates against NumPy."""
import numpy as np
import pytest
import theano
import theano.tensor as T

from wnorm import nn
from wnorm.nn import weightnorm as paper


def close(found, expected, floatX):
    assert found.dtype == floatX
    np.testing.assert_allclose(
        found, expected, rtol=1e-5 if floatX == 'float32' else 1e-12,
        atol=1e-6 if floatX == 'float32' else 1e-12)


def rows(floatX, *shape):
    return np.random.RandomState(0).randn(*shape).astype(floatX)


@pytest.mark.parametrize('flavour, slope', [(nn, .2), (paper, .1)])
def test_rectifiers(flavour, slope, floatX):
    x = np.array([-2., 0., 3.], floatX)
    y = theano.shared(x)
    close(flavour.lrelu(y).eval(), [-2 * slope, 0, 3], floatX)
    close(flavour.lrelu(y, a=.5).eval(), [-1, 0, 3], floatX)
    close(flavour.relu(y).eval(), [0, 0, 3], floatX)


def test_centered_softplus(floatX):
    x = np.array([-800., -2., 0., 3., 800.], floatX)
    close(nn.centered_softplus(theano.shared(x)).eval(),
          np.logaddexp(0, x.astype('float64')) - np.log(2), floatX)


@pytest.mark.parametrize('shape, axis', [
    ((4, 3), 1), ((4, 3), 0), ((4, 3, 2), 1), ((4, 3, 2), -1),
    ((4, 3, 2), (0, 2)), ((4, 3), None), ((4,), 0)])
def test_log_sum_exp(shape, axis, floatX):
    x = 5 * rows(floatX, *shape)
    close(nn.log_sum_exp(theano.shared(x), axis=axis).eval(),
          np.log(np.sum(np.exp(x.astype('float64')), axis=axis)), floatX)


def test_log_sum_exp_of_any_size(floatX):
    x = np.array([[1e4, 1e4], [-1e4, -1e4 + 1], [-np.inf, 3],
                  [-np.inf, -np.inf], [np.inf, 0]], floatX)
    close(nn.log_sum_exp(theano.shared(x)).eval(), [
        1e4 + np.log(2), -1e4 + np.log(1 + np.e), 3, -np.inf, np.inf], floatX)


def test_gradient_of_log_sum_exp():
    x = theano.shared(np.array([[1., 2., 2.], [-500., 500., 0.]]))
    softmax = np.exp(x.get_value() - x.get_value().max(axis=1)[:, None])
    np.testing.assert_allclose(
        T.grad(T.sum(nn.log_sum_exp(x)), x).eval(),
        softmax / softmax.sum(axis=1)[:, None], atol=1e-15)


# --- softmax_loss ------------------------------------------------------------

def test_softmax_loss(floatX):
    x = 5 * rows(floatX, 4, 3)
    p = np.exp(x.astype('float64'))
    p /= p.sum(axis=1, keepdims=True)
    labels = np.array([2, 0, 1, 1])
    expected = -np.mean(np.log(p[range(4), labels]))
    for given in (labels, labels.astype('uint8'), theano.shared(labels),
                  np.eye(3, dtype=floatX)[labels]):
        close(paper.softmax_loss(given, theano.shared(x)).eval(), expected,
              floatX)
    soft = np.full((4, 3), 1 / 3., floatX)
    close(paper.softmax_loss(soft, theano.shared(x)).eval(),
          -np.mean(np.sum(np.log(p), axis=1) / 3), floatX)


def test_softmax_loss_of_any_size():
    x = theano.shared(np.array([[1e4, 0.], [0., 1e4]]))
    loss = paper.softmax_loss(np.array([0, 0]), x)
    assert loss.eval() == 5e3
    np.testing.assert_allclose(T.grad(loss, x).eval(), [[0, 0], [-.5, .5]])


@pytest.mark.parametrize('labels', [
    np.ones(4), np.ones(4, bool), np.ones((4, 3, 1)), np.array(1)])
def test_softmax_loss_of_no_labels(labels):
    with pytest.raises(TypeError, match='vector of integer labels'):
        paper.softmax_loss(labels, T.matrix())


# --- updates -----------------------------------------------------------------

def adam(p, gradient, steps, lr, mom1, mom2):
    v = m = np.zeros_like(p)
    for t in range(1, steps + 1):
        g = gradient(p)
        v = mom1 * v + (1 - mom1) * g
        m = mom2 * m + (1 - mom2) * g ** 2
        p = p - lr * (v / (1 - mom1 ** t)) / np.sqrt(
            m / (1 - mom2 ** t) + 1e-8)
    return p


def adamax(p, gradient, steps, lr, mom1, mom2):
    v = m = np.zeros_like(p)
    for t in range(steps):
        g = gradient(p)
        v = mom1 * v + (1 - mom1) * g
        m = np.maximum(mom2 * m, abs(g))
        p = p - lr * v / (m + 1e-6)
    return p


def gradient(p):
    return 4 * p ** 3


@pytest.mark.parametrize('options', [
    {}, dict(lr=.1, mom1=.5), dict(lr=.1, mom1=0, mom2=.9)])
@pytest.mark.parametrize('function, formula', [
    (nn.adam_updates, adam), (paper.adamax_updates, adamax)])
def test_updates(function, formula, options, floatX):
    start = np.array([[1., -2., 1e-4, 0.]], floatX)
    p = theano.shared(start, broadcastable=(True, False))
    updates = function([p], T.sum(p ** 4), **options)
    step = theano.function([], updates=updates)
    for _ in range(20):
        step()
    given = dict(dict(lr=.001, mom1=.9, mom2=.999), **options)
    close(p.get_value(), formula(start.astype('float64'), gradient, 20,
                                 **given), floatX)


def test_order_of_updates():
    params = [theano.shared(np.ones(3)), theano.shared(1.)]
    cost = T.sum(params[0] * params[1])
    for function, options, places in [
            (nn.adam_updates, {}, (2, 5, 7)),
            (paper.adamax_updates, {}, (2, 5, 6)),
            (paper.adamax_updates, dict(mom1=0.), (1, 3, 4))]:
        updates = function(params, cost, **options)
        first, second, number = places
        assert isinstance(updates, list) and len(updates) == number
        assert updates[first][0] is params[0]
        assert updates[second][0] is params[1]


@pytest.mark.parametrize('function', [nn.adam_updates, paper.adamax_updates])
def test_symbolic_options_and_parameters_of_another_type(function):
    # float32 parameters where floatX is float64
    p = theano.shared(np.ones(3, 'float32'))
    lr, mom1 = T.scalars(2)
    step = theano.function([lr, mom1], updates=function(
        [p], T.sum(p ** 2), lr=lr, mom1=mom1))
    step(.5, .9)
    scale = .5 if function is nn.adam_updates else .05
    np.testing.assert_allclose(p.get_value(), 1 - scale, rtol=1e-5)
