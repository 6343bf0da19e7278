"""Small nets of normalized weights, and functions that are compared.

Each net can be built with the Ops, on which the rewrites work, or with the
textbook formula written out. Nothing here is compiled: Theano's rewrites for
speed run, what they leave is computed in Python.
"""
from collections import OrderedDict, namedtuple

import lasagne
import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import (Conv2DLayer, DenseLayer, InputLayer, NINLayer,
                            get_all_params, get_output)
from lasagne.random import get_rng

from wnorm import weight_norm
from wnorm.ops.epilogue import ProductEpilogue
from wnorm.ops.weight import (FactoredGradient, FilterScale, NormalizedWeight,
                              NormalizedWeightGrad)

#: inputs: variables; shapes: theirs; params: shared variables to train.
Net = namedtuple('Net', 'inputs shapes cost params')


def python(*excluding):
    """A mode: all of Theano's rewrites but some, without compiling."""
    return theano.Mode('py', 'fast_run').excluding(
        *theano.config.optimizer_excluding.split(':') + list(excluding))


# --- the two ways to write a weight ------------------------------------------

def by_op(V, g, axes, eps=1e-6):
    """The effective weight, of a gain with the dimensions of V."""
    return NormalizedWeight(axes, eps)(V, g)


def by_formula(V, g, axes, eps=1e-6):
    """The same of Theano's own operations."""
    return V * (g / T.sqrt(np.asarray(eps, V.dtype) + T.sum(
        T.sqr(V), axis=axes, keepdims=True)))


def wrap(layer, weight, **kwargs):
    """`layer`, weight-normalized, with a `weight` as above and random g, b."""
    layer = weight_norm(layer, **kwargs)
    for param in (layer.g, layer.b):
        if param is not None and hasattr(param, 'set_value'):
            param.set_value(random(*param.get_value().shape) + .5)
    below = layer.input_layer
    V = below.W_param
    filter_axis = 0 if V.ndim == 4 else 1
    axes = tuple(axis for axis in range(V.ndim) if axis != filter_axis)
    g = layer.g
    if g is None:
        g = T.constant(np.ones((1,) * V.ndim, V.dtype))
    else:
        g = g.dimshuffle(*[0 if axis == filter_axis else 'x'
                           for axis in range(V.ndim)])
    below.W = weight(V, g, axes, layer.eps)
    return layer


def random(*shape):
    return get_rng().uniform(-1, 1, shape).astype(theano.config.floatX)


def shared(*shape, **kwargs):
    return theano.shared(random(*shape), **kwargs)


# --- nets --------------------------------------------------------------------

#: By name: functions of a way to write a weight.
NETS = {}


def net(function):
    NETS[function.__name__.replace('_', ' ')] = function
    return function


def mlp(weight, first=InputLayer, shape=(None, 5), **kwargs):
    """Two layers."""
    layer = first(shape, T.matrix('x'))
    hidden = wrap(DenseLayer(layer, 4, nonlinearity=T.tanh), weight,
                  **dict(dict(train_g=True), **kwargs))
    output = wrap(DenseLayer(hidden, 3, nonlinearity=T.tanh), weight,
                  **dict(dict(train_g=True), **kwargs))
    return layer, hidden, output


def squares(outputs):
    """A cost of no symmetry."""
    target = np.arange(1, 4, dtype=theano.config.floatX) / 4
    return T.mean(T.sqr(outputs - target))


def trained(layers, cost=None, inputs=None, shapes=((6, 5),)):
    return Net(inputs or [layers[0].input_var], shapes,
               squares(get_output(layers[-1])) if cost is None else cost,
               get_all_params(layers[-1], trainable=True))


@net
def dense(weight):
    return trained(mlp(weight))


@net
def fixed_gain(weight):
    return trained(mlp(weight, train_g=False))


@net
def no_gain(weight):
    return trained(mlp(weight, g=None))


@net
def no_bias(weight):
    return trained(mlp(weight, b=None))


@net
def no_eps(weight):
    return trained(mlp(weight, eps=0.))


@net
def two_applications(weight):
    """A discriminator, of true samples and of others."""
    layers = mlp(weight)
    other = T.matrix('other')
    cost = squares(get_output(layers[-1])) + 2 * T.mean(T.sqr(
        get_output(layers[-1], other) + 1))
    return trained(layers, cost, [layers[0].input_var, other],
                   [(6, 5), (3, 5)])


@net
def two_networks(weight):
    """A generator and a discriminator, trained together."""
    first, second = mlp(weight), mlp(weight)
    sample = T.concatenate([get_output(first[-1])] * 2, axis=1)[:, :5]
    cost = squares(get_output(second[-1], sample)) + squares(
        get_output(second[-1]))
    return Net([first[0].input_var, second[0].input_var], [(6, 5), (4, 5)],
               cost, get_all_params([first[-1], second[-1]], trainable=True))


@net
def row_of_input(weight):
    """One sample, known to be one."""
    layer = InputLayer((1, 5), T.row('x'))
    hidden = wrap(DenseLayer(layer, 4, nonlinearity=T.tanh), weight,
                  train_g=True)
    return trained((layer, hidden, wrap(DenseLayer(
        hidden, 3, nonlinearity=T.tanh), weight, train_g=True)),
        shapes=[(1, 5)])


@net
def one_unit(weight):
    layer = InputLayer((None, 5), T.matrix('x'))
    # Lasagne's own V may be known to have one column
    unit = wrap(DenseLayer(layer, 1, W=shared(5, 1), nonlinearity=T.tanh),
                weight, train_g=True)
    return trained((layer, unit), T.mean(T.sqr(get_output(unit) - .5)))


@net
def one_input(weight):
    # without the eps, W does not depend on the size of V
    layer = InputLayer((None, 1), T.matrix('x'))
    return trained((layer, wrap(DenseLayer(
        layer, 3, W=shared(1, 3), nonlinearity=T.tanh), weight, train_g=True,
        eps=.1)), shapes=[(6, 1)])


@net
def one_unit_by_type(weight):
    """V is known to have one column."""
    V, x = shared(5, 1, broadcastable=(False, True)), T.matrix('x')
    g = shared(1, 1, broadcastable=(True, True))
    return Net([x], [(6, 5)], T.mean(T.sqr(T.tanh(T.dot(
        x, weight(V, g, (0,)))) - .5)), [V, g])


@net
def linear_layer(weight):
    """Between two others, without a bias: Theano transposes its product."""
    layer, hidden, output = mlp(weight)
    middle = wrap(DenseLayer(hidden, 4, nonlinearity=None), weight, b=None,
                  train_g=True)
    last = wrap(DenseLayer(middle, 3, nonlinearity=T.tanh), weight,
                train_g=True)
    return trained((layer, hidden, middle, last))


@net
def tied_direction(weight):
    """The decoder's V is the transpose of the encoder's, its g its own."""
    layer = InputLayer((None, 5), T.matrix('x'))
    encoder = wrap(DenseLayer(layer, 4, nonlinearity=T.tanh), weight,
                   train_g=True)
    gain = shared(5)
    decoded = T.tanh(T.dot(get_output(encoder), weight(
        encoder.input_layer.W_param.T, gain.dimshuffle('x', 0), (0,))))
    cost = T.mean(T.sqr(decoded - layer.input_var))
    return Net([layer.input_var], [(6, 5)], cost, get_all_params(
        encoder, trainable=True) + [gain])


@net
def tied_weight(weight):
    """The decoder's W is the transpose of the encoder's."""
    layer = InputLayer((None, 5), T.matrix('x'))
    encoder = wrap(DenseLayer(layer, 4, nonlinearity=T.tanh), weight,
                   train_g=True)
    decoded = T.tanh(T.dot(get_output(encoder), encoder.input_layer.W.T))
    return trained((layer, encoder),
                   T.mean(T.sqr(decoded - layer.input_var)))


@net
def tied_weight_without_nonlinearity(weight):
    """One product is the factor of the next."""
    layer = InputLayer((None, 5), T.matrix('x'))
    encoder = wrap(DenseLayer(layer, 4, nonlinearity=None), weight,
                   train_g=True, b=None)
    decoded = T.dot(get_output(encoder), encoder.input_layer.W.T)
    return trained((layer, encoder),
                   T.mean(T.sqr(decoded - layer.input_var)))


@net
def recurrence(weight):
    """The same square weight three times in turn, with V its own gain."""
    V, g, x = shared(5, 5), shared(1, 5, broadcastable=(True, False)), (
        T.matrix('x'))
    W = weight(V, g, (0,))
    h = x
    for _ in range(3):
        h = T.tanh(T.dot(h, W) + x)
    return Net([x], [(6, 5)], T.mean(T.sqr(h - .5)), [V, g])


@net
def recurrence_without_nonlinearity(weight):
    V, g, x = shared(5, 5), shared(1, 5, broadcastable=(True, False)), (
        T.matrix('x'))
    W = weight(V, g, (0,))
    return Net([x], [(6, 5)], T.mean(T.sqr(
        T.dot(T.dot(T.dot(x, W), W), W) - .5)), [V, g])


@net
def input_of_the_gradient(weight):
    """An input that depends on the sum of what is the gradient."""
    V, M, x, c = shared(5, 4), shared(4, 5), T.matrix('x'), T.matrix('c')
    g = shared(1, 4, broadcastable=(True, False))
    x_of_c = x + T.dot(T.sum(c, axis=0), M)
    cost = T.sum(T.dot(x_of_c, weight(V, g, (0,))) * c)
    return Net([x, c], [(6, 5), (6, 4)], cost, [V, g])


@net
def filters_are_rows(weight):
    """A layer that multiplies by the transpose of its weight."""
    V, U, x = shared(4, 5), shared(3, 4), T.matrix('x')
    g, h = [shared(n, 1, broadcastable=(False, True)) for n in (4, 3)]
    b = shared(3)
    hidden = T.tanh(T.dot(x, weight(V, g, (1,)).T))
    return Net([x], [(6, 5)], squares(
        T.tanh(T.dot(hidden, weight(U, h, (1,)).T) + b)), [V, U, g, h, b])


@net
def one_gain_for_all(weight):
    V, x = shared(5, 3), T.matrix('x')
    g = shared(1, 1, broadcastable=(True, True))
    return Net([x], [(6, 5)],
               squares(T.tanh(T.dot(x, weight(V, g, (0,))))), [V, g])


@net
def shared_direction(weight):
    """Two layers of one V, each with its own gain."""
    layer = InputLayer((None, 5), T.matrix('x'))
    first = wrap(DenseLayer(layer, 5, nonlinearity=T.tanh), weight,
                 train_g=True)
    second = wrap(DenseLayer(first, 5, W=first.input_layer.W_param,
                             nonlinearity=T.tanh), weight, train_g=True)
    return trained((layer, first, second),
                   T.mean(T.sqr(get_output(second) - .3)))


@net
def shared_weight(weight):
    """Two layers of one V and one gain."""
    layer = InputLayer((None, 5), T.matrix('x'))
    first = wrap(DenseLayer(layer, 5, nonlinearity=T.tanh), weight,
                 train_g=True)
    second = wrap(DenseLayer(first, 5, W=first.input_layer.W_param,
                             nonlinearity=T.tanh), weight, g=first.g,
                  train_g=True)
    return trained((layer, first, second),
                   T.mean(T.sqr(get_output(second) - .3)))


@net
def weight_in_the_cost(weight):
    layers = mlp(weight)
    penalty = sum(T.sum(T.sqr(layer.input_layer.W)) for layer in layers[1:])
    return trained(layers, squares(get_output(layers[-1])) + .01 * penalty)


@net
def nin(weight):
    layer = InputLayer((None, 2, 3, 2), T.tensor4('x'))
    layer2 = wrap(NINLayer(layer, 3, nonlinearity=T.tanh), weight,
                  train_g=True)
    return trained((layer, layer2), T.mean(T.sqr(get_output(layer2) - .5)),
                   shapes=[(4, 2, 3, 2)])


@net
def convolution(weight):
    layer = InputLayer((None, 2, 4, 3), T.tensor4('x'))
    layer2 = wrap(Conv2DLayer(layer, 3, 2, nonlinearity=T.tanh), weight,
                  train_g=True)
    return trained((layer, layer2), T.mean(T.sqr(get_output(layer2) - .5)),
                   shapes=[(3, 2, 4, 3)])


# --- functions ---------------------------------------------------------------

class Training(object):
    """A net, built anew, and the function that takes one step.

    Parameters
    ----------
    build : function
        One of the above.
    rule : function of a :class:`Net`
        That returns its updates.
    weight : function
        `by_op` or `by_formula`.
    mode : :class:`theano.Mode`, or None
        None for little rewriting, in Python.
    dtype : str
        The precision.
    """

    def __init__(self, build, rule, weight=by_op, mode=None,
                 dtype='float64'):
        before = theano.config.floatX, get_rng()
        theano.config.floatX = dtype
        lasagne.random.set_rng(np.random.RandomState(7))
        try:
            self.net = build(weight)
            updates = rule(self.net)
        finally:
            theano.config.floatX = before[0]
            lasagne.random.set_rng(before[1])
        self.state = list(updates)
        self.dtype = dtype
        self.function = theano.function(self.net.inputs, self.net.cost,
                                        updates=updates, mode=mode)

    def step(self, seed):
        """One step; the cost."""
        rng = np.random.RandomState(seed)
        return self.function(*[rng.uniform(-1, 1, shape).astype(self.dtype)
                               for shape in self.net.shapes])

    def values(self):
        return [v.get_value() for v in self.state]

    def start_from(self, other):
        """Set all that is updated to what it is there."""
        for mine, theirs in zip(self.state, other.state):
            mine.set_value(theirs.get_value().astype(mine.dtype))


def check(training, reference, tolerance, steps=5, same_state=True):
    """Whether both take the same steps.

    From the same state each, or each from where its own led.
    """
    for seed in range(steps):
        if same_state or not seed:
            training.start_from(reference)
        costs = training.step(seed), reference.step(seed)
        np.testing.assert_allclose(*costs, rtol=tolerance, atol=tolerance)
        if same_state or seed == steps - 1:
            same(training.values(), reference.values(), tolerance)


def same(values, wanted, tolerance):
    """Whether arrays agree, relative to the size of each as a whole."""
    assert len(values) == len(wanted)
    for got, want in zip(values, wanted):
        assert got.shape == want.shape and np.isfinite(want).all()
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance *
                                   np.max(abs(want), initial=0))


def gradient_descent(net):
    return lasagne.updates.sgd(net.cost, net.params, .1)


def gradients(net):
    """The gradients, as the updates of variables for them."""
    return OrderedDict(
        (theano.shared(np.zeros_like(param.get_value()),
                       broadcastable=param.broadcastable), gradient)
        for param, gradient in zip(net.params, T.grad(net.cost, net.params)))


# --- their graphs ------------------------------------------------------------

OPS = (NormalizedWeight, NormalizedWeightGrad, FilterScale, FactoredGradient,
       ProductEpilogue)


def nodes(function, *ops):
    """The nodes of the graph of a function with such an Op."""
    return [node for node in function.maker.fgraph.toposort()
            if isinstance(node.op, ops)]


def counts(function):
    """How many nodes there are of each of wnorm's Ops."""
    found = [type(node.op) for node in nodes(function, *OPS)]
    return {op.__name__: found.count(op) for op in OPS if op in found}


def printed(function):
    """The graph as text, for comparison."""
    return theano.printing.debugprint(function, file='str')
