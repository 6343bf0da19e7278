"""Running averages of batch normalization are those of all processes."""
import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import (
    DenseLayer, InputLayer, get_all_layers, get_all_params, get_output)
from lasagne.nonlinearities import tanh

import wnorm.nn
import wnorm.nn.weightnorm
from wnorm import distributed
from wnorm.distributed import reduction

from .nets import data, fresh, mean_only, means

RANK, SIZE = distributed.rank(), distributed.size()
WEIGHTS = [3, 1, 2, 4][:SIZE]
STEPS = 20


def wrapped(wrap):
    def make():
        l = wrap(DenseLayer(InputLayer((None, 5)), 4, nonlinearity=tanh))
        return DenseLayer(l, 3, nonlinearity=None)
    return make


#: Layers, what their averages are moved by, and whether they move by
#: themselves.
LAYERS = {
    'mean_only_batch_norm': (mean_only, .2, True),
    'nn.batch_norm': (wrapped(wnorm.nn.batch_norm), .1, False),
    'nn.weightnorm.batch_norm': (
        wrapped(wnorm.nn.weightnorm.batch_norm), .1, False),
    'nn.weightnorm.mean_only_bn': (
        wrapped(wnorm.nn.weightnorm.mean_only_bn), .1, False),
}


def lists_of(net):
    return [update for layer in get_all_layers(net)
            for update in getattr(layer, 'bn_updates', [])]


def averages_of(net):
    return [param for param in get_all_params(net)
            if param.name.split('.')[-1] in (
                'mean', 'inv_std', 'avg_batch_mean', 'avg_batch_var')]


def training(net, collected, weight=None, **kwargs):
    """A function; `collected` are the lists of updates, or not."""
    x, y = T.matrices('x', 'y')
    loss = T.mean(T.sqr(get_output(net, x) - y))
    params = get_all_params(net, trainable=True)
    grads = means(loss, params, weight=weight, **kwargs)
    updates = list(lasagne.updates.sgd(grads, params, .1).items())
    if collected:
        updates += lists_of(net)
    return theano.function([x, y], loss, updates=updates)


def batch_statistics(net):
    """Of the pre-activation of the layer that is normalized, by NumPy."""
    below = [layer for layer in get_all_layers(net)
             if isinstance(layer, DenseLayer)][0]
    x = T.matrix()
    t = theano.function([x], get_output(below, x))

    def statistics(batch):
        values = t(batch)
        n = len(values)
        return values.mean(0), values.var(0) * (n / max(n - 1., 1.))
    return statistics


@pytest.mark.parametrize('collected', [False, True])
@pytest.mark.parametrize('name', LAYERS)
def test_formula(name, collected):
    make, alpha, by_itself = LAYERS[name]
    net = fresh(make)
    train = training(net, collected, weight=T.constant(WEIGHTS[RANK]))
    statistics = batch_statistics(net)
    if not (by_itself or collected):
        x, y = data(net, 4, 1)[0]
        before = [param.get_value() for param in averages_of(net)]
        train(x, y)
        for param, value in zip(averages_of(net), before):
            assert (param.get_value() == value).all()
        return
    expected = [param.get_value() for param in averages_of(net)]
    for x, y in data(net, 5 * SIZE, STEPS):
        found = [statistics(x[rank::SIZE]) for rank in range(SIZE)]
        for number, value in enumerate(expected):
            mean = sum(weight * part[number] for weight, part in zip(
                WEIGHTS, found)) / sum(WEIGHTS)
            expected[number] = (1 - alpha) * value + alpha * mean
        train(x[RANK::SIZE], y[RANK::SIZE])
    assert len(expected) in (1, 2)
    for param, value in zip(averages_of(net), expected):
        np.testing.assert_allclose(param.get_value(), value, rtol=1e-9,
                                   atol=1e-12)
    distributed.check(net)


@pytest.mark.skipif(SIZE == 1, reason='one process cannot differ')
def test_both_ways_are_one_expression():
    net = fresh(mean_only)
    layer = get_all_layers(net)[2]
    x, y = T.matrices('x', 'y')
    loss = T.mean(T.sqr(get_output(net, x) - y))
    params = get_all_params(net, trainable=True)
    means(loss, params)
    (param, value), = layer.bn_updates
    assert param is layer.mean
    running, = [variable for variable in theano.gof.graph.inputs([loss])
                if getattr(variable, 'default_update', None) is not None]
    assert running.default_update is value
    # another loss of the same pass averages it too, but not the average
    means(2 * loss, params)
    (param, again), = layer.bn_updates
    assert running.default_update is again
    assert again.owner.inputs == value.owner.inputs


def reductions(function):
    return sum(map(reduction.is_mean, function.maker.fgraph.apply_nodes))


def test_two_functions():
    """Of two losses of one layer, compiled when both have their gradients;
    the second does not have the inputs of the first."""
    net = fresh(mean_only)
    x, y = T.matrices('x', 'y')
    output, params = get_output(net, x), get_all_params(net, trainable=True)
    losses = T.mean(T.sqr(output - y)), T.mean(T.sqr(output))
    first, second = [lasagne.updates.sgd(
        means(loss, params, weight=weight), params, .1)
        for loss, weight in zip(losses, [y.shape[0], None])]
    first = theano.function([x, y], updates=first)
    second = theano.function([x], updates=second)
    assert reductions(first) == reductions(second) == (SIZE > 1)
    measure = theano.function([x], losses[1])
    assert not reductions(measure)
    statistics = batch_statistics(net)
    average, = averages_of(net)
    for x, y in data(net, 5 * SIZE, 4):
        for train in first, second:
            expected = .8 * average.get_value() + .2 * np.mean(
                [statistics(x[rank::SIZE])[0] for rank in range(SIZE)], 0)
            train(*[x[RANK::SIZE], y[RANK::SIZE]][:1 + (train is first)])
            np.testing.assert_allclose(average.get_value(), expected)
            distributed.check(net)
    # this process alone; its average is its own until the next step
    if RANK == 0:
        measure(x)
    second(x[RANK::SIZE])
    distributed.check(net)


@pytest.mark.skipif(SIZE == 1, reason='one process has nothing to average')
def test_modes():
    # without the rewrite an average would stay this process's own
    mode = theano.Mode('py', optimizer=None)
    net = fresh(mean_only)
    x = T.matrix('x')
    loss, params = T.mean(T.sqr(get_output(net, x))), get_all_params(
        net, trainable=True)
    updates = lasagne.updates.sgd(means(loss, params), params, .1)
    train = theano.function([x], updates=updates, mode=mode)
    measure = theano.function([x], loss, mode=mode)
    batch, = data(net, 4, 1)[0][:1]
    measure(batch)  # of its own
    with pytest.raises(RuntimeError, match='running averages need'):
        train(batch)


@pytest.mark.parametrize('use', [True, False])
@pytest.mark.parametrize('update', [True, False])
@pytest.mark.parametrize('name', [
    'mean_only_batch_norm', 'nn.weightnorm.mean_only_bn'])
def test_keywords(name, use, update):
    # batch_norm_use_averages and batch_norm_update_averages
    net = fresh(LAYERS[name][0])
    layer = get_all_layers(net)[2]
    x = T.matrix('x')
    loss = T.mean(T.sqr(get_output(
        net, x, batch_norm_use_averages=use,
        batch_norm_update_averages=update)))
    params = get_all_params(net, trainable=True)
    updates = lasagne.updates.sgd(means(loss, params), params, .1)
    train = theano.function([x], updates=list(updates.items()) + [
        one for one in lists_of(net)])
    train(data(net, 4, 1, seed=RANK)[0][0])
    assert layer.mean.get_value().any() == update
    distributed.check(net)


def test_empty_batch():
    # its mean is NaN, and not read
    net = fresh(mean_only)
    x, y = T.matrices('x', 'y')
    loss = T.mean(T.sqr(get_output(net, x) - y))
    params = get_all_params(net, trainable=True)
    train = theano.function([x, y], updates=lasagne.updates.sgd(
        means(loss, params, weight=x.shape[0]), params, .1))
    for x, y in data(net, 4, 3):
        n = 0 if RANK == SIZE - 1 > 0 else 4
        train(x[:n], y[:n])
    assert all(np.isfinite(param.get_value()).all()
               for param in get_all_params(net))
    distributed.check(net)


def test_memory():
    # a running average does not keep the whole message
    net = fresh(mean_only)
    train = training(net, False)
    train(*data(net, 4, 1)[0])
    mean, = averages_of(net)
    assert mean.get_value(borrow=True).base is None


def test_random_streams_are_not_averages():
    net = lasagne.layers.dropout(fresh(mean_only))
    train = training(net, False)
    train(*data(net, 4, 1)[0])
    distributed.check(net)


@pytest.mark.skipif(not hasattr(lasagne.layers, 'BatchNormLayer'),
                    reason='the installed Lasagne lacks BatchNormLayer')
def test_lasagne_s_batch_normalization():
    net = fresh(wrapped(lasagne.layers.batch_norm))
    train = training(net, False)
    for x, y in data(net, 5 * SIZE, STEPS):
        train(x[RANK::SIZE], y[RANK::SIZE])
    averages = averages_of(net)
    assert [param.name.split('.')[-1] for param in averages] == [
        'mean', 'inv_std']
    assert averages[0].get_value().any()
    distributed.check(net)
