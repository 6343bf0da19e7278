"""The names of the ``nn.py`` that Lasagne users copied from improved-gan.

A project that has such a file replaces its content by one line,
``from wnorm.nn import *``. The other flavour of the file, with other numbers,
is :mod:`wnorm.nn.weightnorm`.
"""
from lasagne.init import Constant

from .. import layers
from ..layers import KEEP_W, WeightNormLayer, relu
from . import batch_normalization, functions
from .functions import centered_softplus, log_sum_exp
from .normalized import DenseLayer, MinibatchLayer, l2normalize
from .optimizers import adam_updates
from .unnormalized import Deconv2DLayer, GaussianNoiseLayer
from .wrapping import Guessing, guessed_axis

__all__ = ['BatchNormLayer', 'Deconv2DLayer', 'DenseLayer',
           'GaussianNoiseLayer', 'MinibatchLayer', 'WeightNormLayer',
           'adam_updates', 'batch_norm', 'centered_softplus', 'l2normalize',
           'log_sum_exp', 'lrelu', 'relu', 'weight_norm']


def lrelu(x, a=0.2):
    """
    wnorm.nn.lrelu(x, a=0.2)

    The leaky rectifier max(x, a x).

    Parameters
    ----------
    x : Theano expression
        Of any shape.

    a : float
        The slope below 0.

    Returns
    -------
    Theano expression
        Of the shape of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from wnorm.nn import lrelu
    >>> lrelu(np.array([-1., 2.])).eval()
    array([-0.2,  2. ])
    """
    return functions.leaky(x, a)


class GuessedWeightNormLayer(Guessing, WeightNormLayer):
    """A :class:`wnorm.WeightNormLayer` on a layer of an unknown class."""


def weight_norm(layer, **kwargs):
    """
    wnorm.nn.weight_norm(layer, **kwargs)

    :func:`wnorm.weight_norm`, which guesses for unknown classes.

    Parameters
    ----------
    layer, **kwargs
        As for :func:`wnorm.weight_norm`.

    Returns
    -------
    :class:`WeightNormLayer`
        On top of `layer`; a recurrent layer itself.

    Raises
    ------
    TypeError, ValueError
        As :func:`wnorm.weight_norm`; then `layer` is as it was.

    Warns
    -----
    UserWarning
        For a layer class that :mod:`wnorm.filters` does not know: the rule of
        the copied file holds then, filters on axis 1 of a weight of two
        dimensions, on axis 0 of one of four.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> from wnorm.nn import lrelu, weight_norm
    >>> l = DenseLayer(InputLayer((None, 20)), 5, nonlinearity=lrelu)
    >>> weight_norm(l, init_stdv=0.1)   # doctest: +NORMALIZE_WHITESPACE
    WeightNormLayer(DenseLayer (None, 5), init_stdv=0.1, nonlinearity=lrelu)
    """
    if guessed_axis(layer) is None:
        return layers.weight_norm(layer, **kwargs)
    return layers.wrap(GuessedWeightNormLayer, layer, kwargs)


class BatchNormLayer(batch_normalization.BatchNormLayer):
    r"""
    wnorm.nn.BatchNormLayer(incoming, b=lasagne.init.Constant(0.),
    g=lasagne.init.Constant(1.), nonlinearity=relu, **kwargs)

    Batch normalization of the layer below, with a bias and a nonlinearity.

    .. math:: y = \phi\left(g \frac{t - \mu}{\sqrt{10^{-6} + \sigma^2}}
              + b\right)

    with :math:`\mu` and :math:`\sigma^2` the mean and the population variance
    of each feature of the input t over the batch (and over positions), or,
    with ``deterministic=True``, their running averages.

    Parameters
    ----------
    incoming : a :class:`lasagne.layers.Layer` instance or a tuple
        The layer to normalize, without a nonlinearity of its own.

    b, g : shared variable, expression, numpy array, callable or None
        Initial value, expression or initializer for the biases and gains, of
        shape ``(num_features,)``. None for none.

    nonlinearity : callable or None
        The nonlinearity that is applied to the layer's activations.

    Attributes
    ----------
    avg_batch_mean, avg_batch_var : Theano shared variables
        The running averages; neither trainable nor regularizable.

    bn_updates : list of (shared variable, expression)
        Their updates, set by each pass with ``deterministic=False``: 0.9 times
        the average plus 0.1 times the batch's. Give them to
        :func:`theano.function`; nothing updates them otherwise.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type or shape, or unknown, or if the
        number of features is not known. Nothing has changed.

    Notes
    -----
    Usually called through :func:`batch_norm`. g is trainable and not
    regularizable, b the same.

    The variance that goes into the running average is multiplied by
    n / (n - 1), n the number of examples; with one example, by 1.

    References
    ----------
    .. [1] Ioffe, Sergey, and Christian Szegedy (2015): Batch Normalization:
           Accelerating Deep Network Training by Reducing Internal Covariate
           Shift. arXiv preprint arXiv:1502.03167.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> from wnorm.nn import BatchNormLayer
    >>> l = DenseLayer(InputLayer((None, 20)), 5, b=None, nonlinearity=None)
    >>> BatchNormLayer(l).get_params()
    [b, g, avg_batch_mean, avg_batch_var]
    """

    def __init__(self, incoming, b=Constant(0.), g=Constant(1.),
                 nonlinearity=relu, **kwargs):
        super(BatchNormLayer, self).__init__(incoming, b, g, KEEP_W,
                                             nonlinearity, **kwargs)


def batch_norm(layer, b=Constant(0.), g=Constant(1.), **kwargs):
    """
    wnorm.nn.batch_norm(layer, b=lasagne.init.Constant(0.),
    g=lasagne.init.Constant(1.), **kwargs)

    Apply batch normalization to an existing layer.

    Takes over the layer's nonlinearity, deletes its bias, and puts one
    :class:`BatchNormLayer` on top, with a new bias.

    Parameters
    ----------
    layer : a :class:`lasagne.layers.Layer` instance
        The layer to normalize; it is modified.

    b, g : shared variable, expression, numpy array, callable or None
        See :class:`BatchNormLayer`.

    **kwargs
        `nonlinearity` (instead of the layer's own) and `name`.

    Returns
    -------
    :class:`BatchNormLayer`
        On top of `layer`.

    Raises
    ------
    TypeError, ValueError
        As :class:`BatchNormLayer`; then `layer` is as it was.

    Notes
    -----
    In hidden layers. Collect `bn_updates` after the training pass, and ask
    for outputs with ``deterministic=True`` when you test.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer, get_all_params
    >>> from wnorm.nn import batch_norm
    >>> l = batch_norm(DenseLayer(InputLayer((None, 20)), 50), g=None)
    >>> get_all_params(l)
    [W, b, avg_batch_mean, avg_batch_var]
    """
    return batch_normalization.wrap(BatchNormLayer, layer,
                                    dict(kwargs, b=b, g=g))
