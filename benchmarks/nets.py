"""The nets that are measured, and the sides of each.

The sides of a net differ in how its weights come about, in nothing else:

plain          the net as Lasagne makes it
plain again    the same, built and compiled anew: the A/A control
formula        the weight as the textbook writes it, in Theano's operations
wnorm          wnorm.weight_norm around each layer, the last included
same epilogue  plain; but the rewrites that wnorm brings along, which compute
               an optimizer's updates in the product that makes the gradient,
               are told to treat plain weights too
folded         wnorm, and then wnorm.fold
"""
import re
from collections import OrderedDict, namedtuple

import lasagne
import numpy as np
import theano
import theano.tensor as T
import wnorm
from lasagne.layers import (
    DenseLayer, InputLayer, LSTMLayer, SliceLayer, dnn, get_all_params,
    get_output)
from lasagne.nonlinearities import softmax

# else Theano goes on without a rewrite that fails
theano.config.on_opt_error = 'raise'

SIDES = ['plain', 'plain again', 'formula', 'wnorm', 'same epilogue']
FOLDED = 'folded'
PASSES = ['train SGD', 'train Adam', 'inference']
CLASSES = 10
RATE = 1e-6  # so that the weights stay where they are
STEPS = 50  # of the recurrent net
IMAGE = 16  # rows and columns, of the convolutional one


class Net(namedtuple('Net', 'kind size batch dtype')):
    """Written as 'dense 512 b128', or 'dense 512 b128 float64'."""

    def __new__(cls, kind, size, batch, dtype='float32'):
        return super(Net, cls).__new__(cls, kind, size, batch, dtype)

    def __str__(self):
        name = '%s %d b%d' % self[:3]
        return name if self.dtype == 'float32' else name + ' ' + self.dtype

    @classmethod
    def parse(cls, text):
        found = re.match(r'(dense|conv|lstm) (\d+) b(\d+)(?: (float\d\d))?$',
                         text)
        if not found:
            raise ValueError("%r is no net: write such as 'dense 512 b128', "
                             "or 'lstm 64 b8 float64'" % text)
        kind, size, batch, dtype = found.groups('float32')
        return cls(kind, int(size), int(batch), dtype)

    @property
    def shape(self):
        """Of one batch."""
        return {'dense': (self.batch, self.size),
                'conv': (self.batch, self.size, IMAGE, IMAGE),
                'lstm': (self.batch, STEPS, self.size)}[self.kind]

    @property
    def weight_bytes(self):
        """Of a hidden layer's weight."""
        return (self.size ** 2 * (9 if self.kind == 'conv' else 1) *
                np.dtype(self.dtype).itemsize)

    def data(self):
        """One batch and its classes, random."""
        random = np.random.RandomState(1)
        return (random.randn(*self.shape).astype(self.dtype),
                random.randint(CLASSES, size=self.batch).astype('int32'))


# --- normalization ----------------------------------------------------------

def textbook(V):
    """The weight as in improved-gan's ``nn.py``."""
    axes, pattern, filters = ((0, ['x', 0], 1) if V.ndim == 2 else
                              ((1, 2, 3), [0, 'x', 'x', 'x'], 0))
    return V * (gain(V, filters) / T.sqrt(1e-6 + T.sum(
        T.sqr(V), axis=axes))).dimshuffle(*pattern)


def gain(V, filters=1):
    shape = V.get_value(borrow=True).shape
    return theano.shared(np.ones(shape[filters], V.dtype))


def formula(layer):
    layer.W = textbook(layer.W)  # V remains the parameter
    return layer


def formula_recurrent(layer):
    """Each matrix by itself."""
    for name in sorted(vars(layer)):
        if name.startswith(('W_in_to_', 'W_hid_to_')):
            setattr(layer, name, textbook(getattr(layer, name)))
    return layer


def wnorm_recurrent(layer):
    return wnorm.weight_norm(layer, g=wnorm.Gain(1.))


def identity(layer):
    return layer


# --- nets -------------------------------------------------------------------

def build(net, side):
    """The output layer; the same initial values on all sides."""
    if side not in SIDES + [FOLDED]:
        raise ValueError('%r is no side: take some of %s' % (
            side, ', '.join(SIDES + [FOLDED])))
    if side == FOLDED:
        layer = build(net, 'wnorm')
        wnorm.fold(layer)
        return layer
    theano.config.floatX = net.dtype
    lasagne.random.set_rng(np.random.RandomState(1))
    norm = {'formula': formula, 'wnorm': wnorm.weight_norm}.get(side, identity)
    layer = InputLayer((None,) + net.shape[1:])
    if net.kind == 'lstm':
        recurrent = {'formula': formula_recurrent,
                     'wnorm': wnorm_recurrent}.get(side, identity)
        layer = recurrent(LSTMLayer(layer, net.size))
        layer = SliceLayer(layer, -1, axis=1)
    elif net.kind == 'conv':
        for _ in range(4):
            layer = norm(dnn.Conv2DDNNLayer(layer, net.size, 3, pad='same'))
    else:
        for _ in range(2):
            layer = norm(DenseLayer(layer, net.size))
    return norm(DenseLayer(layer, CLASSES, nonlinearity=softmax))


def adamax(loss, params, rate, beta1=.9, beta2=.999, epsilon=1e-8):
    """Lasagne master's; 0.1 has none."""
    updates = OrderedDict()
    t_prev = theano.shared(lasagne.utils.floatX(0))
    t = updates[t_prev] = t_prev + 1
    for param, gradient in zip(params, T.grad(loss, params)):
        m_prev, u_prev = [theano.shared(np.zeros_like(param.get_value()))
                          for _ in range(2)]
        m = updates[m_prev] = beta1 * m_prev + (1 - beta1) * gradient
        u = updates[u_prev] = T.maximum(beta2 * u_prev, abs(gradient))
        updates[param] = param - rate / (1 - beta1 ** t) * m / (u + epsilon)
    return updates


def constrained_sgd(loss, params, rate):
    return lasagne.updates.sgd(lasagne.updates.total_norm_constraint(
        T.grad(loss, params), 1.), params, rate)


OPTIMIZERS = {
    'SGD': lasagne.updates.sgd,
    'Adam': lasagne.updates.adam,
    'momentum': lasagne.updates.momentum,
    'Nesterov': lasagne.updates.nesterov_momentum,
    'RMSprop': lasagne.updates.rmsprop,
    'Adamax': adamax,
    'total_norm_constraint': constrained_sgd,
}


def compiled(net, side, what):
    """A Theano function of a batch and its classes.

    Parameters
    ----------
    net : Net
    side : str
        Of SIDES.
    what : str
        'inference', or 'train ' and the name of an optimizer.
    """
    layer = build(net, side)
    mode = None
    if side == 'same epilogue':
        mode = theano.compile.get_default_mode().including('wnorm_everywhere')
    x = T.TensorType(net.dtype, (False,) * len(net.shape))('x')
    y = T.ivector('y')
    if what == 'inference':
        return theano.function([x], get_output(layer, x, deterministic=True),
                               mode=mode)
    loss = lasagne.objectives.categorical_crossentropy(
        get_output(layer, x), y).mean()
    optimizer = OPTIMIZERS[what[len('train '):]]
    params = get_all_params(layer, trainable=True)
    return theano.function([x, y], loss, mode=mode,
                           updates=optimizer(loss, params, RATE))


def call(net, side, what):
    """One step, as a function without arguments."""
    function, (x, y) = compiled(net, side, what), net.data()
    if what == 'inference':
        return lambda: function(x)
    return lambda: function(x, y)


def cases(options, main, quick, passes=PASSES):
    """What a program measures: the nets and passes that are asked for.

    `main` are the program's nets, `quick` those of ``--quick``, as text.
    """
    chosen = []
    for name in options.nets or (quick if options.quick else main):
        chosen += [net for net in main if net.startswith(name)] or [name]
    return [(Net.parse(net), what) for net in chosen
            for what in options.passes or passes]
