"""Every row of the table of W layouts, as test cases.

A case knows, apart from the code that is tested, which axes of W the norm
runs over and which axis of the output enumerates the units.
"""
import lasagne.layers
import numpy as np
import pytest
from lasagne.layers import InputLayer
from lasagne.layers import dnn

import own_layers
import wnorm.nn

HAS_GROUPS = HAS_LEADING_AXES = hasattr(lasagne.layers, 'TransposedConv2DLayer')


def real_or_own(name, own=None):
    """Lasagne's layer, or the tests' own where the installed Lasagne has none.
    """
    return getattr(lasagne.layers, name, getattr(own_layers, own or name))


class Case(object):
    """A layer to wrap.

    norm_axes, position_axes : axes of W
    unit_axis : axis of the output
    """
    def __init__(self, name, make, input_shape, norm_axes, filter_axis,
                 unit_axis=1, missing=None, integers=False):
        self.name = name
        self.make = make
        self.input_shape = input_shape
        self.norm_axes = norm_axes
        self.filter_axis = filter_axis
        self.unit_axis = unit_axis
        self.missing = missing
        self.integers = integers

    def layer(self, **kwargs):
        """A new layer on a new input layer."""
        if self.missing:
            pytest.skip('the installed Lasagne lacks ' + self.missing)
        import theano.tensor as T
        ndim = len(self.input_shape)
        kind = T.TensorType('int32' if self.integers else T.config.floatX,
                            (False,) * ndim)
        return self.make(InputLayer((None,) + self.input_shape[1:],
                                    kind('x')), **kwargs)

    def data(self, rng, n=None):
        """Input of the precision in force."""
        import theano
        shape = (n or self.input_shape[0],) + self.input_shape[1:]
        if self.integers:
            return rng.randint(0, 6, shape).astype('int32')
        return rng.randn(*shape).astype(theano.config.floatX)

    def W(self, V, g, eps=1e-6):
        """The textbook formula in NumPy."""
        norm = np.sqrt(eps + np.sum(V ** 2, axis=self.norm_axes,
                                    keepdims=True))
        shape = [1] * V.ndim
        shape[self.filter_axis] = -1
        return V / norm if g is None else V / norm * np.reshape(g, shape)

    def sum_axes(self, ndim):
        """The axes of the output over which statistics are taken."""
        return tuple(i for i in range(ndim) if i != self.unit_axis % ndim)


def _layer(cls, *args, **fixed):
    return lambda incoming, **kwargs: cls(incoming, *args,
                                          **dict(fixed, **kwargs))


def _embedding(incoming, **kwargs):
    # has neither bias nor nonlinearity
    kwargs.pop('b', None), kwargs.pop('nonlinearity', None)
    return lasagne.layers.EmbeddingLayer(incoming, 6, 4, **kwargs)


def _dense(leading):
    return (_layer(lasagne.layers.DenseLayer, 4, num_leading_axes=leading)
            if HAS_LEADING_AXES else
            _layer(own_layers.DenseLayer, 4, leading))


_needs_groups = None if HAS_GROUPS else 'num_groups'
_needs_dnn3d = None if hasattr(dnn, 'Conv3DDNNLayer') else 'Conv3DDNNLayer'

CASES = [
    Case('dense', _layer(lasagne.layers.DenseLayer, 4), (7, 5), 0, 1),
    Case('dense of one unit', _layer(lasagne.layers.DenseLayer, 1),
         (7, 5), 0, 1),
    Case('dense on images', _layer(lasagne.layers.DenseLayer, 4),
         (7, 2, 3, 3), 0, 1),
    Case('dense, 2 leading axes', _dense(2), (5, 3, 4), 0, 1, unit_axis=-1),
    Case('dense, -1 leading axes', _dense(-1), (5, 3, 2, 4), 0, 1,
         unit_axis=-1),
    Case('nin', _layer(lasagne.layers.NINLayer, 4), (5, 3, 4, 2), 0, 1),
    Case('nin on sequences', _layer(lasagne.layers.NINLayer, 4),
         (5, 3, 4), 0, 1),
    Case('conv1d', _layer(lasagne.layers.Conv1DLayer, 4, 3),
         (5, 2, 6), (1, 2), 0),
    Case('conv2d', _layer(dnn.Conv2DDNNLayer, 4, 2), (5, 3, 4, 4),
         (1, 2, 3), 0),
    Case('conv2d plain', _layer(lasagne.layers.Conv2DLayer, 4, 3, pad='same'),
         (4, 2, 4, 4), (1, 2, 3), 0),
    Case('conv2d 1x1', _layer(dnn.Conv2DDNNLayer, 4, 1), (5, 3, 4, 4),
         (1, 2, 3), 0),
    Case('conv2d grouped', _layer(dnn.Conv2DDNNLayer, 4, 2, num_groups=2),
         (5, 4, 4, 4), (1, 2, 3), 0, missing=_needs_groups),
    Case('conv3d', _layer(real_or_own('Conv3DLayer'), 3, 2),
         (3, 2, 3, 3, 3), (1, 2, 3, 4), 0),
    Case('conv3d dnn', _layer(getattr(dnn, 'Conv3DDNNLayer', None), 3, 2),
         (3, 2, 3, 3, 3), (1, 2, 3, 4), 0, missing=_needs_dnn3d),
    Case('transposed2d', _layer(
        real_or_own('TransposedConv2DLayer', 'TransposedConvLayer'), 4, 2),
        (5, 3, 3, 3), (0, 2, 3), 1),
    Case('transposed3d', _layer(
        real_or_own('TransposedConv3DLayer', 'TransposedConvLayer'), 3, 2),
        (3, 2, 3, 3, 3), (0, 2, 3, 4), 1),
    Case('dilated2d', _layer(real_or_own('DilatedConv2DLayer'), 4, 2),
         (5, 3, 4, 4), (0, 2, 3), 1),
    Case('deconv of nn.py', _layer(wnorm.nn.Deconv2DLayer, (5, 4, 6, 6),
                                   (3, 3)), (5, 3, 3, 3), (0, 2, 3), 1),
    Case('local', _layer(real_or_own('LocallyConnected2DLayer'), 4, 3),
         (6, 2, 3, 3), (1, 2, 3), 0),
    Case('local channelwise', _layer(real_or_own('LocallyConnected2DLayer'),
                                     2, 3, channelwise=True),
         (6, 2, 3, 3), (1, 2), 0),
    Case('embedding', _embedding, (9, 5), 0, 1, unit_axis=-1, integers=True),
]
every_layout = pytest.mark.parametrize(
    'case', CASES, ids=[case.name for case in CASES])
