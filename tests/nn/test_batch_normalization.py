"""BatchNormLayer and batch_norm of both flavours."""
import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.init import Constant, Normal
from lasagne.layers import (
    Conv1DLayer, DenseLayer, InputLayer, LSTMLayer, dnn, get_all_layers,
    get_all_params, get_output)
from lasagne.nonlinearities import identity, tanh

import own_layers
import wnorm
from wnorm import nn
from wnorm.nn import weightnorm as paper

both = pytest.mark.parametrize('flavour', [nn, paper],
                               ids=['nn', 'weightnorm'])


def data(*shape):
    return np.random.RandomState(0).randn(*shape)


def dense(**kwargs):
    return DenseLayer(InputLayer((None, 5), T.matrix()), 4, **kwargs)


def randomize(net):
    random = np.random.RandomState(1)
    for param in get_all_params(net):
        param.set_value(random.uniform(.5, 2, param.get_value().shape).astype(
            param.dtype))


@both
@pytest.mark.parametrize('make, axis', [
    (dense, 1),
    (lambda: dnn.Conv2DDNNLayer(InputLayer((None, 2, 4, 4)), 3, 2), 1),
    (lambda: Conv1DLayer(InputLayer((None, 2, 6)), 3, 2), 1),
    (lambda: own_layers.DenseLayer(InputLayer((None, 3, 5)), 4, 2), 2)])
def test_output(flavour, make, axis, floatX):
    layer = make()
    l = flavour.batch_norm(layer, nonlinearity=tanh)
    randomize(l)
    x = data(6, *get_all_layers(l)[0].output_shape[1:]).astype(floatX)
    t = get_output(layer, x).eval().astype('float64')
    axes = tuple(i for i in range(t.ndim) if i != axis)
    b, g, mean, var = [p.get_value().astype('float64')
                       for p in l.get_params()]
    shape = [1] * t.ndim
    shape[axis] = -1

    def expected(m, v):
        return np.tanh((t - m.reshape(shape)) / np.sqrt(
            1e-6 + v.reshape(shape)) * g.reshape(shape) + b.reshape(shape))

    close = dict(rtol=1e-3, atol=1e-5) if floatX == 'float32' else dict(
        rtol=1e-9, atol=1e-12)
    assert not hasattr(l, 'bn_updates')
    out = get_output(l, x, deterministic=True).eval()
    assert not hasattr(l, 'bn_updates') and out.dtype == floatX
    np.testing.assert_allclose(out, expected(mean, var), **close)
    m, v = t.mean(axis=axes), t.var(axis=axes)
    step = theano.function([], get_output(l, x), updates=l.bn_updates)
    np.testing.assert_allclose(step(), expected(m, v), **close)
    np.testing.assert_allclose(l.avg_batch_mean.get_value(),
                               .9 * mean + .1 * m, **close)
    np.testing.assert_allclose(l.avg_batch_var.get_value(),
                               .9 * var + .1 * v * 6 / 5, **close)


@both
def test_without_b_or_g(flavour):
    l = flavour.batch_norm(dense(nonlinearity=None), b=None, g=None)
    assert l.b is l.g is None and l.nonlinearity is identity
    assert [p.name for p in get_all_params(l)] == [
        'W', 'avg_batch_mean', 'avg_batch_var']
    t = get_output(l.input_layer, data(6, 5)).eval()
    np.testing.assert_allclose(
        get_output(l, data(6, 5)).eval(),
        (t - t.mean(axis=0)) / np.sqrt(1e-6 + t.var(axis=0)))


@both
def test_batch_of_one_example(flavour):
    # 0 / 0 made the average NaN for ever
    l = flavour.batch_norm(dense())
    theano.function([], get_output(l, data(1, 5)), updates=l.bn_updates)()
    np.testing.assert_allclose(l.avg_batch_var.get_value(), .9)


@both
def test_wrapped_layer_without_bias(flavour):
    assert flavour.batch_norm(dense(b=None)).b.get_value().shape == (4,)


@both
def test_takes_over(flavour):
    layer = dense(nonlinearity=tanh)
    l = flavour.batch_norm(layer, g=Constant(3.), name='bn')
    assert type(l) is flavour.BatchNormLayer
    assert l.nonlinearity is tanh and layer.nonlinearity is identity
    assert layer.b is None and [p.name for p in get_all_params(l)] == [
        'W', 'bn.b', 'bn.g', 'bn.avg_batch_mean', 'bn.avg_batch_var']
    assert (l.g.get_value() == 3).all()
    g = theano.shared(np.ones(4))
    assert flavour.batch_norm(dense(), g=g).g is g
    twice = flavour.batch_norm(dense(), g=2 * g)
    assert g in twice.get_params()


@both
def test_of_features_on_another_axis(flavour):
    l = flavour.batch_norm(LSTMLayer(InputLayer((None, 7, 5)), 3))
    assert l.axes_to_sum == (0, 1)
    l = flavour.batch_norm(wnorm.weight_norm(own_layers.DenseLayer(
        InputLayer((None, 3, 5)), 4, 2)))
    assert l.axes_to_sum == (0, 1) and l.g.get_value().shape == (4,)
    layer = dense()
    layer.get_output_shape_for = lambda shape: (shape[0], None)
    assert flavour.batch_norm(layer).g.get_value().shape == (4,)
    l = flavour.BatchNormLayer((None, 5))
    assert l.g.get_value().shape == (5,)


@both
def test_on_top_of_weight_normalization(flavour):
    l = flavour.batch_norm(nn.weight_norm(dense(nonlinearity=tanh)))
    assert [p.name for p in get_all_params(l)] == [
        'W', 'g', 'b', 'g', 'avg_batch_mean', 'avg_batch_var']
    randomize(l)
    before = get_output(l, data(6, 5), deterministic=True).eval()
    report = wnorm.fold(l)
    assert [row.layer for row in report.folded] == [get_all_layers(l)[1]]
    np.testing.assert_allclose(
        get_output(l, data(6, 5), deterministic=True).eval(), before)


def test_fold_leaves_batch_normalization_as_it_is():
    for flavour in (nn, paper):
        l = flavour.batch_norm(dense())
        with pytest.raises(ValueError, match='nothing to fold'):
            wnorm.fold(l)
        assert len(get_all_params(l)) == 5


# --- W -----------------------------------------------------------------------

def test_weight_is_drawn_where_there_is_one():
    l = paper.batch_norm(dense(), W=np.ones((5, 4)))
    assert (l.input_layer.W.get_value() == 1).all()
    V = theano.shared(data(4, 5))
    layer = dense()
    layer.W = V.T
    paper.batch_norm(layer)
    assert (V.get_value() == data(4, 5)).all()
    paper.batch_norm(InputLayer((None, 5)))


# --- bad input ---------------------------------------------------------------

def refused(wrap, layer, error, match, **kwargs):
    attributes, tags = dict(vars(layer)), list(layer.params.items())
    random = lasagne.random.get_rng().get_state()[1].copy()
    with pytest.raises(error, match=match) as info:
        wrap(layer, **kwargs)
    assert type(layer).__name__ in str(info.value)
    assert vars(layer) == attributes and list(layer.params.items()) == tags
    assert (lasagne.random.get_rng().get_state()[1] == random).all()


@both
def test_bad_arguments(flavour):
    wrap = flavour.batch_norm
    refused(wrap, dense(), TypeError, "unknown keyword 'nonlinear'",
            nonlinear=None)
    refused(wrap, dense(), TypeError, 'nonlinearity must be',
            nonlinearity='tanh')
    refused(wrap, dense(), ValueError, 'g has shape', g=np.ones(3),
            b=Normal())
    refused(wrap, dense(), TypeError, 'b must be', b=0.)
    refused(wrap, InputLayer((None, None)), ValueError, 'not known')
    refused(wrap, InputLayer((5,)), ValueError, 'no axis 1')
    with pytest.raises(TypeError, match='takes a Lasagne layer'):
        wrap(3)
    if flavour is paper:
        refused(wrap, dense(), ValueError, 'W has shape', W=np.ones((4, 5)))
        refused(wrap, InputLayer((None, 5)), ValueError,
                'no weight W to draw', W=Normal())
    else:
        refused(wrap, dense(), TypeError, "unknown keyword 'W'", W=Normal())
