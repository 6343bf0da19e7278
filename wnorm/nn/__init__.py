"""The names of the ``nn.py`` that Lasagne users copied from improved-gan.

A project that has such a file replaces its content by one line,
``from wnorm.nn import *``.
"""
import warnings

import lasagne
import theano.tensor as T
from lasagne.layers import Layer
from lasagne.nonlinearities import identity
from lasagne.utils import as_tuple

from .. import filters, layers
from ..layers import WeightNormLayer, relu
from ..naming import describe

__all__ = ['Deconv2DLayer', 'WeightNormLayer', 'lrelu', 'relu', 'weight_norm']


def lrelu(x, a=0.2):
    """max(x, a x)"""
    return T.maximum(x, a * x)


#: The original's rule: dimensions of W, axis of its filters.
_ORIGINAL_RULE = {2: 1, 4: 0}


class GuessedWeightNormLayer(WeightNormLayer):
    """A :class:`wnorm.WeightNormLayer` on a layer of an unknown class."""

    @staticmethod
    def find_layout(incoming):
        return filters.Layout(_ORIGINAL_RULE[incoming.W.ndim])


def weight_norm(layer, **kwargs):
    """:func:`wnorm.weight_norm`, which guesses for unknown classes.

    For a layer class that :mod:`wnorm.filters` does not know it falls back,
    with a warning, on the rule of the copied file: filters on axis 1 of a
    weight of two dimensions, on axis 0 of one of four.
    """
    axis = _ORIGINAL_RULE.get(getattr(getattr(layer, 'W', None), 'ndim', None))
    if axis is None or filters.find(layer) is not None:
        return layers.wrap(WeightNormLayer, layer, kwargs)
    name = type(layer).__name__
    warnings.warn('%s: filters taken to be on axis %d of W, as in the '
                  'original nn.py. Tell it once: wnorm.register(%s, W=%d)'
                  % (describe(layer), axis, name, axis), stacklevel=2)
    return layers.wrap(GuessedWeightNormLayer, layer, kwargs)


class Deconv2DLayer(Layer):
    """
    wnorm.nn.Deconv2DLayer(incoming, target_shape, filter_size, stride=(2, 2),
    W=lasagne.init.Normal(0.05), b=lasagne.init.Constant(0.),
    nonlinearity=relu, **kwargs)

    Transposed 2D convolution to a given output shape.

    The gradient, with respect to its input, of a convolution with 'half'
    padding and flipped filters.

    Parameters
    ----------
    incoming : a :class:`lasagne.layers.Layer` instance or a tuple
        The layer feeding into this layer, or the expected input shape.

    target_shape : tuple
        The shape of the output: (batch size, filters, rows, columns).

    filter_size : int or iterable of int
        The size of the filters.

    stride : int or iterable of int
        The stride of the convolution, the upsampling of this layer.

    W : Theano shared variable, numpy array or callable
        The weights, of shape (input channels, filters, rows, columns).

    b : Theano shared variable, numpy array, callable or None
        The biases, of shape (filters,).

    nonlinearity : callable or None
        The nonlinearity that is applied to the layer activations.

    Examples
    --------
    >>> from lasagne.layers import InputLayer
    >>> from wnorm.nn import Deconv2DLayer, weight_norm
    >>> l = InputLayer((100, 16, 4, 4))
    >>> l = weight_norm(Deconv2DLayer(l, (100, 8, 8, 8), (5, 5)))
    >>> l.output_shape
    (100, 8, 8, 8)
    """
    filter_axis = 1

    def __init__(self, incoming, target_shape, filter_size, stride=(2, 2),
                 W=lasagne.init.Normal(0.05), b=lasagne.init.Constant(0.),
                 nonlinearity=relu, **kwargs):
        super(Deconv2DLayer, self).__init__(incoming, **kwargs)
        self.target_shape = target_shape
        self.nonlinearity = identity if nonlinearity is None else nonlinearity
        self.filter_size = as_tuple(filter_size, 2)
        self.stride = as_tuple(stride, 2)
        self.W_shape = (self.input_shape[1],
                        target_shape[1]) + self.filter_size
        self.W = self.add_param(W, self.W_shape, name='W')
        if b is None:
            self.b = None
        else:
            self.b = self.add_param(b, (target_shape[1],), name='b')

    def get_output_shape_for(self, input_shape):
        return self.target_shape

    def get_output_for(self, input, **kwargs):
        op = T.nnet.abstract_conv.AbstractConv2d_gradInputs(
            imshp=self.target_shape, kshp=self.W_shape,
            subsample=self.stride, border_mode='half')
        activation = op(self.W, input, self.target_shape[2:])
        if self.b is not None:
            activation = activation + self.b.dimshuffle('x', 0, 'x', 'x')
        return self.nonlinearity(activation)
