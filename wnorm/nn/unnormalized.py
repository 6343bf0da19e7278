"""Layers that have nothing to do with weight normalization."""
import lasagne
import theano.tensor as T
from lasagne.layers import Layer
from lasagne.nonlinearities import identity
from lasagne.utils import as_tuple
from theano.sandbox.rng_mrg import MRG_RandomStreams

from ..layers import relu
from ..naming import describe


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

    Raises
    ------
    ValueError
        If input or target have not 4 dimensions, or if a convolution of the
        target has not the shape of the input.

    Notes
    -----
    The layer of the generators of improved-gan. Its filters are on axis 1 of
    W, which :func:`weight_norm` knows.

    References
    ----------
    .. [1] Dumoulin, Vincent, and Francesco Visin (2016): A guide to
           convolution arithmetic for deep learning. arXiv preprint
           arXiv:1603.07285, section 4.

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
        self.target_shape = target_shape = tuple(target_shape)
        self.nonlinearity = identity if nonlinearity is None else nonlinearity
        self.filter_size = as_tuple(filter_size, 2)
        self.stride = as_tuple(stride, 2)
        self._check(incoming)
        self.W_shape = (self.input_shape[1],
                        target_shape[1]) + self.filter_size
        self.W = self.add_param(W, self.W_shape, name='W')
        if b is None:
            self.b = None
        else:
            self.b = self.add_param(b, (target_shape[1],), name='b')

    def _check(self, incoming):
        """Refuse shapes that the convolution does not lead to."""
        shape, target = self.input_shape, self.target_shape
        if len(shape) != 4 or len(target) != 4:
            raise ValueError('%s: input and target_shape must have 4 '
                             'dimensions, got %s and %s'
                             % (describe(incoming), shape, target))
        for size, wanted, extent, stride in zip(
                shape[2:], target[2:], self.filter_size, self.stride):
            if None not in (size, wanted) and size != (
                    wanted + 2 * (extent // 2) - extent) // stride + 1:
                raise ValueError(
                    '%s: a convolution of target_shape %s with filters of '
                    'size %s and stride %s does not have this shape; times '
                    'the stride it does' % (
                        describe(incoming), target, self.filter_size,
                        self.stride))

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


class GaussianNoiseLayer(Layer):
    r"""
    wnorm.nn.GaussianNoiseLayer(incoming, sigma=0.1, **kwargs)

    Adds Gaussian noise, except with ``deterministic=True``.

    .. math:: y = x + \sigma n, \qquad n \sim N(0, 1)

    Parameters
    ----------
    incoming : a :class:`lasagne.layers.Layer` instance or a tuple
        The layer feeding into this layer, or the expected input shape.

    sigma : float or Theano scalar
        The deviation of the noise; 0 for none.

    Attributes
    ----------
    noise : Theano expression
        That of the last pass.

    Raises
    ------
    ValueError
        If the last noise is asked for before there is any.

    Notes
    -----
    ``get_output(..., use_last_noise=True)`` adds the noise of the last pass
    again: the same numbers within one compiled function. The seed is drawn
    from Lasagne's generator when the layer is made.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, get_output
    >>> from wnorm.nn import GaussianNoiseLayer
    >>> l = GaussianNoiseLayer(InputLayer((None, 20)), sigma=0.3)
    >>> get_output(l, deterministic=True) is l.input_layer.input_var
    True
    """

    def __init__(self, incoming, sigma=0.1, **kwargs):
        super(GaussianNoiseLayer, self).__init__(incoming, **kwargs)
        self._srng = MRG_RandomStreams(
            lasagne.random.get_rng().randint(1, 2147462579))
        self.sigma = sigma

    def get_output_for(self, input, deterministic=False, use_last_noise=False,
                       **kwargs):
        if deterministic or self.sigma == 0:
            return input
        if not use_last_noise:
            self.noise = self._srng.normal(input.shape, avg=0.0,
                                           std=self.sigma)
        elif not hasattr(self, 'noise'):
            raise ValueError('%s has no last noise: ask for its output '
                             'without use_last_noise first' % describe(self))
        return input + self.noise


class GlobalAvgLayer(Layer):
    """
    wnorm.nn.weightnorm.GlobalAvgLayer(incoming, **kwargs)

    The mean of each channel over all positions.

    Parameters
    ----------
    incoming : a :class:`lasagne.layers.Layer` instance or a tuple
        The layer feeding into this layer, or the expected input shape: batch
        size, channels, and one axis or more of positions.

    Raises
    ------
    ValueError
        If the input has no positions.

    Examples
    --------
    >>> from lasagne.layers import InputLayer
    >>> from wnorm.nn.weightnorm import GlobalAvgLayer
    >>> GlobalAvgLayer(InputLayer((None, 10, 8, 8))).output_shape
    (None, 10)
    """

    def __init__(self, incoming, **kwargs):
        super(GlobalAvgLayer, self).__init__(incoming, **kwargs)
        if len(self.input_shape) < 3:
            raise ValueError('%s has no positions to take a mean over, its '
                             'shape is %s' % (describe(incoming),
                                              self.input_shape))

    def get_output_shape_for(self, input_shape):
        return input_shape[:2]

    def get_output_for(self, input, **kwargs):
        return T.mean(input, axis=tuple(range(2, input.ndim)))
