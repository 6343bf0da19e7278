"""Small networks, their data, and training them."""
from collections import OrderedDict

import lasagne
import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import (
    Conv2DLayer, DenseLayer, InputLayer, RecurrentLayer, SliceLayer,
    get_all_params, get_output)
from lasagne.nonlinearities import tanh

from wnorm import distributed, mean_only_batch_norm, weight_norm

RULES = OrderedDict([
    ('sgd', lambda grads, params: lasagne.updates.sgd(grads, params, .1)),
    ('momentum', lambda grads, params: lasagne.updates.momentum(
        grads, params, .05, .9)),
    ('adam', lambda grads, params: lasagne.updates.adam(
        grads, params, .01)),
])


def dense(**kwargs):
    l = InputLayer((None, 5))
    l = weight_norm(DenseLayer(l, 4, nonlinearity=tanh, name='fc1'),
                    train_g=True, **kwargs)
    return weight_norm(DenseLayer(l, 3, nonlinearity=None, name='fc2'),
                       train_g=True, **kwargs)


def convolutional():
    l = InputLayer((None, 1, 4, 4))
    l = weight_norm(Conv2DLayer(l, 2, (3, 3), nonlinearity=tanh),
                    train_g=True)
    return weight_norm(DenseLayer(l, 3, nonlinearity=None), train_g=True)


def recurrent():
    l = InputLayer((None, 3, 2))
    l = weight_norm(RecurrentLayer(l, 3, nonlinearity=tanh), train_g=True)
    l = SliceLayer(l, -1, axis=1)
    return weight_norm(DenseLayer(l, 3, nonlinearity=None), train_g=True)


def mean_only():
    l = mean_only_batch_norm(DenseLayer(InputLayer((None, 5)), 4), alpha=.2)
    return weight_norm(DenseLayer(l, 3, nonlinearity=None))


NETS = OrderedDict([('dense', dense), ('convolutional', convolutional),
                    ('recurrent', recurrent)])


def fresh(make, seed=42):
    """A network, with the same parameters in all processes."""
    lasagne.random.set_rng(np.random.RandomState(seed))
    return make()


def data(net, n, steps, seed=0):
    """Batches of inputs and targets, the same in all processes."""
    rng = np.random.RandomState(seed)
    shape = lasagne.layers.get_all_layers(net)[0].output_shape
    return [(rng.normal(size=(n,) + shape[1:]).astype(theano.config.floatX),
             rng.normal(size=(n, 3)).astype(theano.config.floatX))
            for _ in range(steps)]


def loss_of(net):
    """Inputs, targets, and the mean squared error."""
    x = lasagne.layers.get_all_layers(net)[0].input_var.type('x')
    y = T.matrix('y')
    return x, y, T.mean(T.sqr(get_output(net, x) - y))


def params_of(net):
    return get_all_params(net, trainable=True)


def values_of(net):
    return [param.get_value() for param in get_all_params(net)]


def means(loss, params, **kwargs):
    """``distributed.grads`` with a shorter limit, and without files."""
    return distributed.grads(loss, params, **dict(
        dict(timeout=60, log=None), **kwargs))


def largest_difference(net, other):
    """Between the parameters of two networks."""
    return max(np.max(abs(one - two)) for one, two in zip(
        values_of(net), values_of(other)))


def everybody(thing):
    """What each process gives."""
    return distributed.world().exchange(thing)


def bits(net_or_arrays):
    """All processes', to the last bit."""
    arrays = (net_or_arrays if isinstance(net_or_arrays, list) else
              values_of(net_or_arrays))
    return everybody([np.asarray(array).tobytes() for array in arrays])


def all_equal(things):
    return all(thing == things[0] for thing in things)
