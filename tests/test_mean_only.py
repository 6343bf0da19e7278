"""MeanOnlyBatchNormLayer and mean_only_batch_norm."""
import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.init import Constant
from lasagne.layers import (
    DenseLayer, InputLayer, dnn, get_all_params, get_output)
from lasagne.nonlinearities import identity, rectify, tanh

import wnorm
from layouts import every_layout
from test_layers import randomize, state, tolerance
from wnorm import MeanOnlyBatchNormLayer, mean_only_batch_norm


def rng():
    return np.random.RandomState(0)


def dense(**kwargs):
    return DenseLayer(InputLayer((None, 5), T.matrix('x')), 4, **kwargs)


def linear(case, l, data):
    """t, by the layer itself, and how a vector per filter aligns with it."""
    x = l.input_layer.input_layer.input_var
    t = theano.function([x], get_output(l.input_layer))(data)
    shape = [1] * t.ndim
    shape[case.unit_axis] = -1
    return t.astype('float64'), lambda vector: np.reshape(vector, shape)


def run(l, data, **kwargs):
    x = l.input_layer.input_layer.input_var
    return theano.function([x], get_output(l, **kwargs))(data)


# --- the contract ------------------------------------------------------------

@every_layout
@pytest.mark.parametrize('weight_norm', [True, False])
def test_output(case, weight_norm, floatX):
    l = mean_only_batch_norm(case.layer(nonlinearity=tanh),
                             weight_norm=weight_norm)
    randomize(l)
    data = case.data(rng())
    t, align = linear(case, l, data)
    function = np.tanh if case.name != 'embedding' else (lambda x: x)
    mean = t.mean(axis=case.sum_axes(t.ndim))
    running, b = l.mean.get_value(), align(l.b.get_value())
    close = dict(atol=20 * tolerance(floatX))
    out = run(l, data)
    assert out.dtype == floatX
    np.testing.assert_allclose(out, function(t - align(mean) + b), **close)
    # by default its function has updated the running mean
    np.testing.assert_allclose(l.mean.get_value(), .9 * running + .1 * mean,
                               **close)
    running = l.mean.get_value()
    np.testing.assert_allclose(
        run(l, data, deterministic=True),
        function(t - align(running) + b), **close)
    assert (l.mean.get_value() == running).all()


@every_layout
def test_weight(case):
    plain = case.layer()
    V = plain.W
    l = mean_only_batch_norm(plain, g='norm', train_g=True)
    assert plain.W_param is V and isinstance(
        l, wnorm.WeightNormLayer)
    np.testing.assert_allclose(plain.W.eval(), V.get_value(), rtol=1e-12)
    plain = case.layer()
    V = plain.W
    l = mean_only_batch_norm(plain, weight_norm=False)
    assert plain.W is V and l.g is l.g_param is l.gain is None
    assert not hasattr(plain, 'W_param')
    assert not hasattr(plain, 'normalized_params')


def test_parameters():
    l = mean_only_batch_norm(dense(nonlinearity=tanh), train_g=True,
                             mean=Constant(3.), alpha=.5, name='fc')
    plain = l.input_layer
    assert l.nonlinearity is tanh and plain.nonlinearity is identity
    assert get_all_params(l) == [plain.W_param, l.b, l.g, l.mean]
    assert [p.name for p in l.get_params()] == ['fc.b', 'fc.g', 'fc.mean']
    assert l.params[l.mean] == {'batch_norm_stat'}
    assert l.params[l.b] == l.params[l.g] == {'trainable'}
    assert (l.mean.get_value() == 3).all() and l.alpha == .5
    assert isinstance(l, MeanOnlyBatchNormLayer)
    l = mean_only_batch_norm(dense(), weight_norm=False)
    assert get_all_params(l) == [l.input_layer.W, l.b, l.mean]
    shared = theano.shared(np.zeros(4))
    assert mean_only_batch_norm(dense(), mean=shared).mean is shared


@pytest.mark.parametrize('case', ['given', 'default', 'both', 'neither'])
def test_running_mean(case):
    l = mean_only_batch_norm(dense(), alpha=.25)
    randomize(l)
    assert not hasattr(l, 'bn_updates')
    x = l.input_layer.input_layer.input_var
    out = get_output(l, batch_norm_update_averages=dict(
        neither=False, given=True).get(case))
    if case == 'neither':
        assert not hasattr(l, 'bn_updates')
    else:
        assert [param for param, _ in l.bn_updates] == [l.mean]
    updates = l.bn_updates if case in ('given', 'both') else []
    step = theano.function([x], out, updates=updates,
                           no_default_updates=case == 'given')
    expected = l.mean.get_value()
    for data in rng().randn(3, 8, 5):
        t = data.dot(l.input_layer.W.eval())
        np.testing.assert_allclose(step(data), np.maximum(
            t - t.mean(axis=0) + l.b.get_value(), 0), atol=1e-12)
        if case != 'neither':
            expected = .75 * expected + .25 * t.mean(axis=0)
        np.testing.assert_allclose(l.mean.get_value(), expected)


@pytest.mark.slow
@pytest.mark.compiled
def test_running_mean_in_c():
    # where updates are computed in place
    l = mean_only_batch_norm(dense())
    x = l.input_layer.input_layer.input_var
    step = theano.function([x], get_output(l), updates=l.bn_updates,
                           mode='FAST_RUN')
    expected = 0.
    for data in rng().randn(3, 8, 5).astype(theano.config.floatX):
        t = data.dot(l.input_layer.W.eval())
        np.testing.assert_allclose(step(data), np.maximum(
            t - t.mean(axis=0), 0), atol=1e-12)
        expected = .9 * expected + .1 * t.mean(axis=0)
        np.testing.assert_allclose(l.mean.get_value(), expected)


def test_running_mean_that_is_an_expression():
    l = mean_only_batch_norm(dense(), mean=2 * theano.shared(np.ones(4)))
    data = rng().randn(8, 5)
    t = data.dot(l.input_layer.W.eval())
    np.testing.assert_allclose(run(l, data), np.maximum(
        t - t.mean(axis=0), 0), atol=1e-12)
    assert not hasattr(l, 'bn_updates')
    np.testing.assert_allclose(run(l, data, deterministic=True),
                               np.maximum(t - 2, 0))


def test_keywords_of_lasagne_s_batch_norm():
    l = mean_only_batch_norm(dense())
    randomize(l)
    data = rng().randn(8, 5)
    t = data.dot(l.input_layer.W.eval()) + l.b.get_value()
    mean = l.mean.get_value()
    np.testing.assert_allclose(
        run(l, data, batch_norm_use_averages=True,
            batch_norm_update_averages=False), np.maximum(t - mean, 0))
    assert (l.mean.get_value() == mean).all()
    np.testing.assert_allclose(
        run(l, data, deterministic=True, batch_norm_use_averages=False),
        np.maximum(t - data.dot(l.input_layer.W.eval()).mean(axis=0), 0))
    assert (l.mean.get_value() == mean).all()
    run(l, data, deterministic=True, batch_norm_update_averages=True)
    assert (l.mean.get_value() != mean).all()


def test_gradients():
    # a shift of all examples changes nothing: no gradient of a bias below
    l = mean_only_batch_norm(dense(nonlinearity=tanh), train_g=True)
    data = T.constant(rng().randn(8, 5))
    shift = theano.shared(rng().randn(4))
    plain = l.input_layer
    t = T.dot(data, plain.W) + shift
    cost = T.sum(T.sqr(l.get_output_for(t)))
    dV, dg, db, none = T.grad(cost, [plain.W_param, l.g, l.b, shift])
    np.testing.assert_allclose(none.eval(), 0, atol=1e-12)
    V, g, b = [p.get_value() for p in (plain.W_param, l.g, l.b)]

    def of(V, g, b):
        t = data.eval().dot(V / np.sqrt(1e-6 + np.sum(V ** 2, axis=0)) * g)
        return np.sum(np.tanh(t - t.mean(axis=0) + b) ** 2)

    for got, values in ((dV, V), (dg, g), (db, b)):
        numeric = np.zeros_like(values)
        for index in np.ndindex(values.shape):
            ends = []
            for step in (1e-6, -1e-6):
                kept = values[index]
                values[index] += step
                ends.append(of(V, g, b))
                values[index] = kept
            numeric[index] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(got.eval(), numeric, atol=1e-7)


# --- initialization ----------------------------------------------------------

@every_layout
def test_initialization(case, floatX):
    l = mean_only_batch_norm(case.layer(nonlinearity=tanh), init_stdv=.5)
    randomize(l)
    data = case.data(rng())
    t, align = linear(case, l, data)
    axes = case.sum_axes(t.ndim)
    scale = .5 / t.std(axis=axes)
    x = l.input_layer.input_layer.input_var
    out = get_output(l, init=True)
    assert [param for param, _ in l.init_updates] == [l.g]
    g, b, mean = [p.get_value() for p in (l.g, l.b, l.mean)]
    init = theano.function([x], out, updates=l.init_updates)
    close = dict(rtol=100 * tolerance(floatX), atol=100 * tolerance(floatX))
    function = np.tanh if case.name != 'embedding' else (lambda x: x)
    expected = function((t - align(t.mean(axis=axes))) * align(scale) +
                        align(b))
    np.testing.assert_allclose(init(data), expected, **close)
    np.testing.assert_allclose(l.g.get_value(), g * scale, **close)
    assert (l.b.get_value() == b).all() and (l.mean.get_value() == mean).all()
    # what it computes on that batch afterwards
    np.testing.assert_allclose(run(l, data), expected, **close)


def test_initialization_without_g():
    for options in (dict(weight_norm=False), dict(g=None)):
        l = mean_only_batch_norm(dense(), **options)
        randomize(l)
        data = rng().randn(8, 5)
        x = l.input_layer.input_layer.input_var
        out = theano.function([x], get_output(l, init=True))(data)
        assert l.init_updates == []
        np.testing.assert_allclose(out, run(l, data))


def test_initialize_a_network():
    l = InputLayer((None, 1, 6, 6))
    l = mean_only_batch_norm(dnn.Conv2DDNNLayer(l, 4, 3), init_stdv=.5)
    l = mean_only_batch_norm(DenseLayer(l, 6), weight_norm=False)
    l = wnorm.weight_norm(DenseLayer(l, 3, nonlinearity=None))
    data = rng().randn(50, 1, 6, 6)
    conv, plain, last = [layer for layer in lasagne.layers.get_all_layers(l)
                         if isinstance(layer, wnorm.WeightNormLayer)]
    report = wnorm.initialize(l, data)
    assert [row.layer for row in report] == [conv, plain, last]
    np.testing.assert_allclose(report[0].std_after, .5)
    below = get_output(conv, data, batch_norm_update_averages=False)
    np.testing.assert_allclose(report[1].std_after, below.eval().reshape(
        50, -1).dot(plain.input_layer.W.get_value()).std(axis=0))
    # of the pre-activation, from which a batch's mean is gone
    for row in report[:2]:
        np.testing.assert_allclose(row.mean_before, 0, atol=1e-10)
        np.testing.assert_allclose(row.mean_after, 0, atol=1e-10)
    out = get_output(l, data, batch_norm_update_averages=False).eval()
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(out.std(axis=0), 1, rtol=1e-10)


# --- bad input ---------------------------------------------------------------

def refused(error, match, **kwargs):
    layer = dense(name='fc')
    before, values = state(layer)
    random = lasagne.random.get_rng().get_state()[1].copy()
    with pytest.raises(error, match=match) as info:
        mean_only_batch_norm(layer, **kwargs)
    assert "DenseLayer 'fc'" in str(info.value)
    after, _ = state(layer)
    assert after == before and layer.nonlinearity is rectify
    assert (lasagne.random.get_rng().get_state()[1] == random).all()


def test_bad_arguments():
    for alpha in (-.1, 1.1, None, '1', float('nan')):
        refused(ValueError, 'alpha', alpha=alpha, b=lasagne.init.Normal())
    refused(TypeError, 'mean must be', mean=None)
    refused(TypeError, 'mean must be', mean=0.)
    refused(ValueError, 'mean has shape', mean=np.zeros(3),
            b=lasagne.init.Normal())
    refused(TypeError, 'weight_norm=True', weight_norm=False, g=Constant(1.))
    refused(TypeError, 'weight_norm=True', weight_norm=False,
            W=lasagne.init.Normal())
    refused(TypeError, 'weight_norm=True', weight_norm=False, train_g=True)
    refused(TypeError, "unknown keyword 'alfa'. Did you mean 'alpha'", alfa=.2)


def test_twice():
    l = mean_only_batch_norm(dense())
    for layer in (l, l.input_layer):
        with pytest.raises(ValueError, match='already'):
            mean_only_batch_norm(layer)


def test_repr():
    l = mean_only_batch_norm(dense(), weight_norm=False, alpha=.5)
    assert repr(l) == ('MeanOnlyBatchNormLayer(DenseLayer (None, 4), '
                       'nonlinearity=rectify, weight_norm=False, alpha=0.5)')
    l = mean_only_batch_norm(dense(), g='exp')
    assert repr(l) == ("MeanOnlyBatchNormLayer(DenseLayer (None, 4), "
                       "g='exp', nonlinearity=rectify)")
