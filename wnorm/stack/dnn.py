"""Stands in for ``lasagne.layers.dnn`` where that cannot be imported.

The layers of that module, with its names, arguments and defaults, on Theano's
abstract convolution and pooling: these run on a CPU, and become cuDNN's on a
GPU. What the installed Lasagne has no base for is not offered.

The file is loaded under the name ``lasagne.layers.dnn``, so a pickled layer
can be loaded where the real module can be imported, and the reverse.
"""
from theano.tensor import concatenate
from theano.tensor.nnet import conv2d, conv3d
from theano.tensor.signal.pool import pool_2d, pool_3d

from lasagne import init
from lasagne import nonlinearities
from lasagne.layers import conv
from lasagne.layers.base import Layer
from lasagne.layers.conv import conv_output_length
from lasagne.layers.pool import pool_output_length
from lasagne.utils import as_tuple

__all__ = ['Pool2DDNNLayer', 'MaxPool2DDNNLayer', 'Conv2DDNNLayer']


def _convolve(layer, input):
    # no shapes are given: like cuDNN, this takes an input of another size
    # than the layer was made for
    convolution = conv3d if input.ndim == 5 else conv2d
    return convolution(
        input, layer.W, subsample=layer.stride,
        border_mode='half' if layer.pad == 'same' else layer.pad,
        filter_flip=layer.flip_filters,
        num_groups=getattr(layer, 'num_groups', 1))


class DNNLayer(Layer):
    """Lasagne 0.1 has this class under its layers; it does nothing."""


class _PoolDNNLayer(DNNLayer):
    """Pooling over the last axes, `_pooled_axes` of them."""

    _pooled_axes = None

    def __init__(self, incoming, pool_size, stride=None, pad=0,
                 ignore_border=True, mode='max', **kwargs):
        super(_PoolDNNLayer, self).__init__(incoming, **kwargs)
        n = self._pooled_axes
        if len(self.input_shape) != n + 2:
            raise ValueError(
                '%s got the input shape %r. Expected %d input dimensions: '
                'examples, channels and %d to pool.'
                % (type(self).__name__, self.input_shape, n + 2, n))
        if not ignore_border:
            raise NotImplementedError(  # as Lasagne's: cuDNN cannot either
                '%s does not support ignore_border=False: incomplete regions '
                'are left out' % type(self).__name__)
        self.pool_size = as_tuple(pool_size, n)
        self.stride = self.pool_size if stride is None else as_tuple(stride, n)
        self.pad = as_tuple(pad, n)
        self.mode = mode

    def get_output_shape_for(self, input_shape):
        return tuple(input_shape[:2]) + tuple(
            pool_output_length(length, size, stride, pad, ignore_border=True)
            for length, size, stride, pad in zip(
                input_shape[2:], self.pool_size, self.stride, self.pad))

    def get_output_for(self, input, **kwargs):
        pool = pool_3d if self._pooled_axes == 3 else pool_2d
        return pool(input, ws=self.pool_size, stride=self.stride,
                    pad=self.pad, ignore_border=True, mode=self.mode)


class _MaxPoolDNNLayer(object):
    """Fixes the mode of the pooling layer that it is mixed into."""

    def __init__(self, incoming, pool_size, stride=None, pad=0,
                 ignore_border=True, **kwargs):
        super(_MaxPoolDNNLayer, self).__init__(
            incoming, pool_size, stride, pad, ignore_border, mode='max',
            **kwargs)


class Pool2DDNNLayer(_PoolDNNLayer):
    """2D pooling, computed by :func:`theano.tensor.signal.pool.pool_2d`.

    Parameters
    ----------
    incoming : Layer or tuple
        The layer below, or its output shape: four axes.
    pool_size : int or pair of int
        The size of a pooling region.
    stride : int, pair of int or None
        The distance between regions; None stands for `pool_size`.
    pad : int or pair of int
        How far the input is padded on either side.
    ignore_border : bool
        Must be True: incomplete regions are left out, as by cuDNN.
    mode : {'max', 'average_inc_pad', 'average_exc_pad'}
        What is taken of each region.
    **kwargs
        Passed to :class:`lasagne.layers.Layer`.
    """

    _pooled_axes = 2


class MaxPool2DDNNLayer(_MaxPoolDNNLayer, Pool2DDNNLayer):
    """:class:`Pool2DDNNLayer` with ``mode='max'`` and no such argument."""


if not hasattr(conv, 'BaseConvLayer'):
    # Lasagne 0.1. Its convolutional layers know no flip_filters.

    class Conv2DDNNLayer(DNNLayer):
        """2D convolution, computed by :func:`theano.tensor.nnet.conv2d`.

        Parameters
        ----------
        incoming : Layer or tuple
            The layer below, or its output shape: (examples, channels, rows,
            columns).
        num_filters : int
            The number of filters.
        filter_size, stride : int or pair of int
            The size of a filter, and the step from one place to the next.
        pad : int, pair of int, 'valid', 'full' or 'same'
            How far the input is padded with zeros on either side. 'same' is
            ``(filter_size - 1) // 2``: an even filter size makes the output
            one smaller than the input.
        untie_biases : bool
            Whether each position has a bias of its own.
        W, b : shared variable, array, initializer; for b also None
            The weights, (filters, channels, rows, columns), and the biases.
        nonlinearity : callable or None
            What is applied to the result.
        flip_filters : bool
            False, the default, makes it a correlation, as cuDNN's is; True a
            convolution, as in :class:`lasagne.layers.Conv2DLayer`.
        **kwargs
            Passed to :class:`lasagne.layers.Layer`.
        """

        def __init__(self, incoming, num_filters, filter_size, stride=(1, 1),
                     pad=0, untie_biases=False, W=init.GlorotUniform(),
                     b=init.Constant(0.), nonlinearity=nonlinearities.rectify,
                     flip_filters=False, **kwargs):
            super(Conv2DDNNLayer, self).__init__(incoming, **kwargs)
            self.num_filters = num_filters
            self.filter_size = as_tuple(filter_size, 2)
            self.stride = as_tuple(stride, 2)
            self.untie_biases = untie_biases
            self.flip_filters = flip_filters
            self.nonlinearity = (nonlinearities.identity
                                 if nonlinearity is None else nonlinearity)
            if pad == 'same':
                pad = tuple((size - 1) // 2 for size in self.filter_size)
            elif pad == 'valid':
                pad = 0
            self.pad = pad if pad == 'full' else as_tuple(pad, 2, int)

            self.W = self.add_param(W, self.get_W_shape(), name='W')
            self.b = None
            if b is not None:
                shape = (num_filters,)
                if untie_biases:
                    shape += self.output_shape[2:]
                self.b = self.add_param(b, shape, name='b',
                                        regularizable=False)

        def get_W_shape(self):
            return (self.num_filters, self.input_shape[1]) + self.filter_size

        def get_output_shape_for(self, input_shape):
            pad = (self.pad, self.pad) if self.pad == 'full' else self.pad
            return (input_shape[0], self.num_filters) + tuple(
                conv_output_length(*axis) for axis in zip(
                    input_shape[2:], self.filter_size, self.stride, pad))

        def get_output_for(self, input, **kwargs):
            activation = _convolve(self, input)
            if self.b is not None:
                axes = (0, 1, 2) if self.untie_biases else (0, 'x', 'x')
                activation += self.b.dimshuffle('x', *axes)
            return self.nonlinearity(activation)


if hasattr(conv, 'BaseConvLayer'):  # pragma: no cover (Lasagne master)
    from lasagne.layers.conv import BaseConvLayer
    from lasagne.layers.normalization import BatchNormLayer
    from lasagne.layers.special import NonlinearityLayer

    __all__ += ['Pool3DDNNLayer', 'MaxPool3DDNNLayer', 'Conv3DDNNLayer',
                'SpatialPyramidPoolingDNNLayer', 'BatchNormDNNLayer',
                'batch_norm_dnn']

    class _ConvDNNLayer(BaseConvLayer):
        """Convolution over the last axes, `_convolved_axes` of them."""

        _convolved_axes = None

        def __init__(self, incoming, num_filters, filter_size, stride=1,
                     pad=0, untie_biases=False, W=init.GlorotUniform(),
                     b=init.Constant(0.), nonlinearity=nonlinearities.rectify,
                     flip_filters=False, num_groups=1, **kwargs):
            super(_ConvDNNLayer, self).__init__(
                incoming, num_filters, filter_size, stride, pad, untie_biases,
                W, b, nonlinearity, flip_filters, num_groups,
                n=self._convolved_axes, **kwargs)

        def convolve(self, input, **kwargs):
            return _convolve(self, input)

    class Conv2DDNNLayer(_ConvDNNLayer):
        """2D convolution, computed by :func:`theano.tensor.nnet.conv2d`.

        The arguments are those of :class:`lasagne.layers.Conv2DLayer` without
        `convolution`. The filters are not flipped unless ``flip_filters=True``
        is given: by default it is a correlation, as cuDNN's is.
        """

        _convolved_axes = 2

    class Conv3DDNNLayer(_ConvDNNLayer):
        """3D convolution, computed by :func:`theano.tensor.nnet.conv3d`.

        The arguments are those of :class:`lasagne.layers.Conv3DLayer` without
        `convolution`. The filters are not flipped unless ``flip_filters=True``
        is given: by default it is a correlation, as cuDNN's is.
        """

        _convolved_axes = 3

    class Pool3DDNNLayer(_PoolDNNLayer):
        """3D pooling, computed by :func:`theano.tensor.signal.pool.pool_3d`.

        The arguments are those of :class:`Pool2DDNNLayer`, for an input of
        five axes.
        """

        _pooled_axes = 3

    class MaxPool3DDNNLayer(_MaxPoolDNNLayer, Pool3DDNNLayer):
        """:class:`Pool3DDNNLayer` with ``mode='max'`` and no such argument."""

    class SpatialPyramidPoolingDNNLayer(Layer):
        """Pools a picture of any size into a fixed number of features.

        Parameters
        ----------
        incoming : Layer or tuple
            The layer below, or its output shape: four axes.
        pool_dims : list of int
            For each level, into how many regions rows and columns are
            divided.
        mode : {'max', 'average_inc_pad', 'average_exc_pad'}
            What is taken of each region.
        **kwargs
            Passed to :class:`lasagne.layers.Layer`.

        Notes
        -----
        The regions are those of the cuDNN layer, which come out in the stated
        number for most sizes only (not for 5 rows in 3 regions).
        :class:`lasagne.layers.SpatialPyramidPoolingLayer` has an
        implementation for every size.
        """

        def __init__(self, incoming, pool_dims=[4, 2, 1], mode='max',
                     **kwargs):
            super(SpatialPyramidPoolingDNNLayer, self).__init__(
                incoming, **kwargs)
            if len(self.input_shape) != 4:
                raise ValueError(
                    'SpatialPyramidPoolingDNNLayer got the input shape %r. '
                    'Expected 4 input dimensions: examples, channels, rows '
                    'and columns.' % (self.input_shape,))
            self.pool_dims = pool_dims
            self.mode = mode

        def get_output_shape_for(self, input_shape):
            return tuple(input_shape[:2]) + (
                sum(dim ** 2 for dim in self.pool_dims),)

        def get_output_for(self, input, **kwargs):
            # lengths that are not known before the input is
            lengths = [input.shape[axis] if self.input_shape[axis] is None
                       else self.input_shape[axis] for axis in (2, 3)]
            levels = []
            for dim in self.pool_dims:
                # pad=None: a pad of (0, 0) is compared to ws, and that fails
                # for a symbolic length
                pooled = pool_2d(
                    input, ws=[(length + dim - 1) // dim
                               for length in lengths],
                    stride=[length // dim for length in lengths],
                    ignore_border=True, pad=None, mode=self.mode)
                levels.append(pooled.flatten(3))
            return concatenate(levels, axis=2)

    class BatchNormDNNLayer(BatchNormLayer):
        """Batch normalization as :class:`lasagne.layers.BatchNormLayer` does.

        What is left of cuDNN is that `axes` must be all but the second, or
        the first alone. Any `epsilon` will do, cuDNN wants 1e-5 at least.
        """

        def __init__(self, incoming, axes='auto', epsilon=1e-4, alpha=0.1,
                     beta=init.Constant(0), gamma=init.Constant(1),
                     mean=init.Constant(0), inv_std=init.Constant(1),
                     **kwargs):
            super(BatchNormDNNLayer, self).__init__(
                incoming, axes, epsilon, alpha, beta, gamma, mean, inv_std,
                **kwargs)
            spatial = tuple(range(2, len(self.input_shape)))
            if self.axes not in ((0,), (0,) + spatial):
                raise ValueError(
                    'BatchNormDNNLayer only supports the first axis, or all '
                    'but the second, not axes=%r' % (axes,))

    def batch_norm_dnn(layer, **kwargs):
        """:func:`lasagne.layers.batch_norm` with :class:`BatchNormDNNLayer`.

        Parameters
        ----------
        layer : Layer
            It loses its bias and its nonlinearity.
        **kwargs
            Passed to :class:`BatchNormDNNLayer`.

        Returns
        -------
        BatchNormDNNLayer or NonlinearityLayer
            The normalized layer, with the nonlinearity that `layer` had.
        """
        name = kwargs.pop('name', None)
        if not name and getattr(layer, 'name', None):
            name = layer.name + '_bn'
        if getattr(layer, 'b', None) is not None:
            del layer.params[layer.b]
            layer.b = None
        nonlinearity = getattr(layer, 'nonlinearity', None)
        if nonlinearity is not None:
            layer.nonlinearity = nonlinearities.identity
        normalized = BatchNormDNNLayer(layer, name=name, **kwargs)
        if nonlinearity is None:
            return normalized
        return NonlinearityLayer(normalized, nonlinearity,
                                 name=name and name + '_nonlin')
