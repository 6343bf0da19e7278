"""Layers that Lasagne 0.1 lacks, with the W layout of the real ones.

Only what the tests of weight normalization need: a W, a bias, a nonlinearity,
an output. On a Lasagne that has the real layers these are not used.
"""
import lasagne
import numpy as np
import theano.tensor as T
from lasagne.layers import Layer
from lasagne.nonlinearities import identity, rectify

import wnorm


class OwnLayer(Layer):
    """`W_shape` and `linear` are left to the subclasses."""

    def __init__(self, incoming, num_filters, filter_size,
                 W=lasagne.init.GlorotUniform(), b=lasagne.init.Constant(0.),
                 nonlinearity=rectify, untie_biases=False, **kwargs):
        super(OwnLayer, self).__init__(incoming, **kwargs)
        self.num_filters = num_filters
        self.filter_size = (filter_size,) * (len(self.input_shape) - 2)
        self.nonlinearity = identity if nonlinearity is None else nonlinearity
        self.W = self.add_param(W, self.W_shape(), name='W')
        shape = ((num_filters,) + self.output_shape[2:] if untie_biases
                 else (num_filters,))
        self.b = None if b is None else self.add_param(
            b, shape, name='b', regularizable=False)

    def grown(self, step):
        return tuple(n if n is None else n + step * (f - 1)
                     for n, f in zip(self.input_shape[2:], self.filter_size))

    def get_output_shape_for(self, input_shape):
        return (input_shape[0], self.num_filters) + self.grown(self.step)

    def get_output_for(self, input, **kwargs):
        t = self.linear(input)
        if self.b is not None:
            free = ['x'] * (t.ndim - 2) if self.b.ndim == 1 else range(
                1, t.ndim - 1)
            t = t + self.b.dimshuffle('x', 0, *free)
        return self.nonlinearity(t)


class Conv3DLayer(OwnLayer):
    step = -1

    def W_shape(self):
        return (self.num_filters, self.input_shape[1]) + self.filter_size

    def linear(self, input):
        return T.nnet.conv3d(input, self.W)


class TransposedConvLayer(OwnLayer):
    step = 1

    def W_shape(self):
        return (self.input_shape[1], self.num_filters) + self.filter_size

    def linear(self, input):
        op = {2: T.nnet.abstract_conv.AbstractConv2d_gradInputs,
              3: T.nnet.abstract_conv.AbstractConv3d_gradInputs}
        shape = [input.shape[i + 2] + f - 1
                 for i, f in enumerate(self.filter_size)]
        return op[len(self.filter_size)]()(self.W, input, shape)


class DilatedConv2DLayer(OwnLayer):
    step = -2

    def W_shape(self):
        return (self.input_shape[1], self.num_filters) + self.filter_size

    def linear(self, input):
        return T.nnet.conv2d(input, self.W.dimshuffle(1, 0, 2, 3),
                             filter_dilation=(2, 2), filter_flip=False)


class LocallyConnected2DLayer(OwnLayer):
    """Filters of size 1: enough for a norm per position."""
    step = 0

    def __init__(self, incoming, num_filters, filter_size, channelwise=False,
                 **kwargs):
        self.channelwise = channelwise
        super(LocallyConnected2DLayer, self).__init__(
            incoming, num_filters, filter_size, **kwargs)

    def W_shape(self):
        channels = () if self.channelwise else (self.input_shape[1],)
        return ((self.num_filters,) + channels + self.filter_size +
                self.input_shape[2:])

    def linear(self, input):
        # the filter's weights: at its centre, as a sum over its extent
        W = T.sum(self.W, axis=(-4, -3))
        if self.channelwise:
            return input * W
        return T.sum(input.dimshuffle(0, 'x', 1, 2, 3) * W, axis=2)


class DenseLayer(OwnLayer):
    """With `num_leading_axes`."""

    def __init__(self, incoming, num_units, num_leading_axes, **kwargs):
        self.num_leading_axes = num_leading_axes
        super(DenseLayer, self).__init__(incoming, num_units, 0, **kwargs)

    def W_shape(self):
        rest = self.input_shape[self.num_leading_axes:]
        return (int(np.prod(rest)), self.num_filters)

    def get_output_shape_for(self, input_shape):
        return input_shape[:self.num_leading_axes] + (self.num_filters,)

    def get_output_for(self, input, **kwargs):
        leading = self.num_leading_axes % input.ndim
        t = T.dot(input.flatten(leading + 1), self.W)
        return self.nonlinearity(t if self.b is None else t + self.b)


wnorm.register(Conv3DLayer, W=0)
wnorm.register(TransposedConvLayer, W=1)
wnorm.register(DilatedConv2DLayer, W=1)
wnorm.register(LocallyConnected2DLayer,
               W=wnorm.Layout(0, position_axes=(-2, -1)))
wnorm.register(DenseLayer, W=wnorm.Layout(1, output_axis=-1))
