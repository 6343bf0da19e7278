"""The names of the ``nn.py`` of the paper's own code (openai/weightnorm).

A project that has such a file replaces its content by one line,
``from wnorm.nn.weightnorm import *``.
"""
import theano.tensor as T
from lasagne.init import Constant, Normal

from .. import layers, mean_only
from ..gains import as_gain
from ..layers import KEEP_W, check_keywords, relu
from ..naming import describe
from . import batch_normalization, functions
from .functions import log_sum_exp, softmax_loss
from .optimizers import adam_updates, adamax_updates
from .unnormalized import GlobalAvgLayer
from .whitening import ZCA
from .wrapping import Guessing, keep_or_draw

__all__ = ['BatchNormLayer', 'GlobalAvgLayer', 'InitLayer', 'MeanOnlyBNLayer',
           'WeightNormLayer', 'ZCA', 'adam_updates', 'adamax_updates',
           'batch_norm', 'log_sum_exp', 'lrelu', 'mean_only_bn', 'no_norm',
           'relu', 'softmax_loss', 'weight_norm']

#: The default of the argument `W`. Left at it, too, W is drawn again.
DRAW_W = Normal(0.05)


def lrelu(x, a=0.1):
    """
    wnorm.nn.weightnorm.lrelu(x, a=0.1)

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
    >>> from wnorm.nn.weightnorm import lrelu
    >>> lrelu(np.array([-1., 2.])).eval()
    array([-0.1,  2. ])
    """
    return functions.leaky(x, a)


class _Wrapper(Guessing):
    """What the wrapper classes of this flavour share."""

    options = ['b', 'g', 'W', 'nonlinearity', 'name']

    def _words(self):
        # what is always so goes without saying
        return [word for word in super(_Wrapper, self)._words()
                if word not in ('train_g=True', 'eps=0.0')]


class _Normalizing(_Wrapper):
    """Those that normalize: W drawn again, g trained and regularizable."""

    regularize_g = True

    def __init__(self, incoming, b=Constant(0.), g=Constant(1.), W=DRAW_W,
                 nonlinearity=relu, **kwargs):
        check_keywords(incoming, kwargs, ['name'], self.options)
        super(_Normalizing, self).__init__(
            incoming, b, g, keep_or_draw(incoming, W, DRAW_W), True, 1.,
            nonlinearity, 0., **kwargs)


class WeightNormLayer(_Normalizing, layers.WeightNormLayer):
    r"""
    wnorm.nn.weightnorm.WeightNormLayer(incoming,
    b=lasagne.init.Constant(0.), g=lasagne.init.Constant(1.),
    W=lasagne.init.Normal(0.05), nonlinearity=relu, **kwargs)

    Weight normalization of the layer below, with a bias and a nonlinearity.

    .. math:: y = \phi(t + b), \qquad t = W x, \qquad
              W = g \frac{V}{||V||}

    Parameters
    ----------
    incoming, b, g, nonlinearity, name
        As for :class:`wnorm.WeightNormLayer`.

    W : numpy array or callable
        What is written into the weight of `incoming`; drawn also if it is
        left at its default, except where the weight cannot be set.

    Raises
    ------
    TypeError, ValueError
        As :class:`wnorm.WeightNormLayer`; nothing has changed.

    Notes
    -----
    There is no constant in the norm; the W of a filter of zeros is 0. g is
    trainable and regularizable. Data-dependent initialization is that of
    :class:`wnorm.WeightNormLayer` with deviation 1. Unknown classes as in
    :func:`wnorm.nn.weight_norm`.

    References
    ----------
    .. [1] Salimans, Tim, and Diederik P. Kingma (2016):
           Weight Normalization: A Simple Reparameterization to Accelerate
           Training of Deep Neural Networks. arXiv preprint arXiv:1602.07868.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> from wnorm.nn.weightnorm import WeightNormLayer
    >>> l = DenseLayer(InputLayer((None, 20)), 5, b=None, nonlinearity=None)
    >>> WeightNormLayer(l).get_params(regularizable=True)
    [g]
    """


def weight_norm(layer, **kwargs):
    """
    wnorm.nn.weightnorm.weight_norm(layer, **kwargs)

    Apply weight normalization to an existing layer.

    Parameters
    ----------
    layer : a :class:`lasagne.layers.Layer` instance
        The layer; it is modified.

    **kwargs
        `b`, `g`, `W`, `nonlinearity` (instead of the layer's own) and `name`:
        see :class:`WeightNormLayer`.

    Returns
    -------
    :class:`WeightNormLayer`
        On top of `layer`, with its nonlinearity and a new bias.

    Raises
    ------
    TypeError, ValueError
        As :class:`WeightNormLayer`; then `layer` is as it was.

    Notes
    -----
    Around each layer, the output layer included. W is drawn again.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer, get_all_params
    >>> from wnorm.nn.weightnorm import weight_norm
    >>> l = weight_norm(DenseLayer(InputLayer((None, 20)), 50))
    >>> get_all_params(l)
    [W, b, g]
    """
    return layers.wrap(WeightNormLayer, layer, kwargs)


class MeanOnlyBNLayer(_Normalizing, mean_only.MeanOnlyBatchNormLayer):
    r"""
    wnorm.nn.weightnorm.MeanOnlyBNLayer(incoming,
    b=lasagne.init.Constant(0.), g=lasagne.init.Constant(1.),
    W=lasagne.init.Normal(0.05), nonlinearity=relu, **kwargs)

    Weight normalization with mean-only batch normalization.

    .. math:: y = \phi(t - \mu[t] + b), \qquad t = W x, \qquad
              W = g \frac{V}{||V||}

    where :math:`\mu[t]` is the mean over the batch (and over positions); with
    ``deterministic=True`` its running average.

    Parameters
    ----------
    incoming, b, g, nonlinearity, name
        As for :class:`wnorm.MeanOnlyBatchNormLayer`.

    W : numpy array or callable
        What is written into the weight of `incoming`; drawn also if it is
        left at its default, except where the weight cannot be set.

    Attributes
    ----------
    avg_batch_mean : Theano shared variable
        The running mean; neither trainable nor regularizable. Also `mean`.

    bn_updates : list of (shared variable, expression)
        Its update, set by each pass with ``deterministic=False``: 0.9 times
        the mean plus 0.1 times the batch's. Give it to
        :func:`theano.function`; nothing updates it otherwise.

    Raises
    ------
    TypeError, ValueError
        As :class:`wnorm.WeightNormLayer`; nothing has changed.

    Notes
    -----
    There is no constant in the norm; g is trainable and regularizable. With
    ``init=True`` only g is updated.

    See Also
    --------
    wnorm.MeanOnlyBatchNormLayer : Which keeps its running mean by itself.

    References
    ----------
    .. [1] Salimans, Tim, and Diederik P. Kingma (2016):
           Weight Normalization: A Simple Reparameterization to Accelerate
           Training of Deep Neural Networks. arXiv preprint arXiv:1602.07868,
           section 4.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> from wnorm.nn.weightnorm import MeanOnlyBNLayer
    >>> l = DenseLayer(InputLayer((None, 20)), 5, b=None, nonlinearity=None)
    >>> MeanOnlyBNLayer(l).get_params()
    [b, g, avg_batch_mean]
    """
    mean_name = 'avg_batch_mean'
    mean_tags = {}

    @property
    def avg_batch_mean(self):
        """The running mean."""
        return self.mean

    def _update(self, batch_mean):
        # code of this flavour makes these updates itself
        self.bn_updates = [(self.mean, self._moved(self.mean, batch_mean))]
        return 0

    def _initialized(self, input):
        self._update(T.mean(input, axis=self.axes_to_sum))
        return super(MeanOnlyBNLayer, self)._initialized(input)


def mean_only_bn(layer, **kwargs):
    """
    wnorm.nn.weightnorm.mean_only_bn(layer, **kwargs)

    Apply weight normalization with mean-only batch normalization.

    Parameters
    ----------
    layer : a :class:`lasagne.layers.Layer` instance
        The layer; it is modified.

    **kwargs
        `b`, `g`, `W`, `nonlinearity` (instead of the layer's own) and `name`:
        see :class:`MeanOnlyBNLayer`.

    Returns
    -------
    :class:`MeanOnlyBNLayer`
        On top of `layer`, with its nonlinearity and a new bias.

    Raises
    ------
    TypeError, ValueError
        As :class:`MeanOnlyBNLayer`; then `layer` is as it was.

    Notes
    -----
    Around each layer. W is drawn again. Collect `bn_updates` after the
    training pass.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer, get_all_params
    >>> from wnorm.nn.weightnorm import mean_only_bn
    >>> l = mean_only_bn(DenseLayer(InputLayer((None, 20)), 50))
    >>> get_all_params(l)
    [W, b, g, avg_batch_mean]
    """
    return layers.wrap(MeanOnlyBNLayer, layer, kwargs)


class InitLayer(_Wrapper, layers.WeightNormLayer):
    r"""
    wnorm.nn.weightnorm.InitLayer(incoming, b=lasagne.init.Constant(0.),
    g=lasagne.init.Constant(1.), nonlinearity=relu, **kwargs)

    Data-dependent initialization without normalization.

    .. math:: y = \phi(t + b), \qquad t = W x, \qquad W = g V

    Parameters
    ----------
    incoming, b, g, nonlinearity, name
        As for :class:`wnorm.WeightNormLayer`. A g of None for W = V.

    Raises
    ------
    TypeError, ValueError
        As :class:`wnorm.WeightNormLayer`, and if g is ``'norm'``, for there
        is none. Nothing has changed.

    Notes
    -----
    g is set by the initialization only: neither trainable nor regularizable.

    References
    ----------
    .. [1] Salimans, Tim, and Diederik P. Kingma (2016):
           Weight Normalization: A Simple Reparameterization to Accelerate
           Training of Deep Neural Networks. arXiv preprint arXiv:1602.07868,
           section 3.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> from wnorm.nn.weightnorm import InitLayer
    >>> l = DenseLayer(InputLayer((None, 20)), 5, b=None, nonlinearity=None)
    >>> InitLayer(l).get_params(trainable=True)
    [b]
    """
    options = ['b', 'g', 'nonlinearity', 'name']

    def __init__(self, incoming, b=Constant(0.), g=Constant(1.),
                 nonlinearity=relu, **kwargs):
        check_keywords(incoming, kwargs, ['name'], self.options)
        gain = as_gain(incoming, g)
        if gain is not None and gain.is_norm:
            raise ValueError("%s: g cannot be 'norm', there is no "
                             'normalization here' % describe(incoming))
        super(InitLayer, self).__init__(
            incoming, b, g, KEEP_W, False, 1., nonlinearity, 0., **kwargs)

    def _reparameterize(self, record):
        record.owner, record.normalizes = self, False
        record.g_param, record.g = self.g_param, self.g
        layer = record.layer
        layer.scaled_W, layer.W_param = record, record.V
        if self.g is not None:
            pattern = ['x'] * record.V.ndim
            if self.g.ndim:
                pattern[record.layout.filter_axis] = 0
            g = record.gain.spread(self.g, record.num_filters)
            layer.W = record.V * g.astype(record.V.dtype).dimshuffle(*pattern)


def no_norm(layer, **kwargs):
    """
    wnorm.nn.weightnorm.no_norm(layer, **kwargs)

    Give an existing layer a data-dependent initialization only.

    Parameters
    ----------
    layer : a :class:`lasagne.layers.Layer` instance
        The layer; it is modified.

    **kwargs
        `b`, `g`, `nonlinearity` (instead of the layer's own) and `name`:
        see :class:`InitLayer`.

    Returns
    -------
    :class:`InitLayer`
        On top of `layer`, with its nonlinearity and a new bias.

    Raises
    ------
    TypeError, ValueError
        As :class:`InitLayer`; then `layer` is as it was.

    Notes
    -----
    The control of an experiment: initialized as the others, then trained as
    it is. W stays as the layer drew it.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer, get_all_params
    >>> from wnorm.nn.weightnorm import no_norm
    >>> l = no_norm(DenseLayer(InputLayer((None, 20)), 50))
    >>> get_all_params(l)
    [W, b, g]
    """
    return layers.wrap(InitLayer, layer, kwargs)


class BatchNormLayer(batch_normalization.BatchNormLayer):
    r"""
    wnorm.nn.weightnorm.BatchNormLayer(incoming, b=lasagne.init.Constant(0.),
    g=lasagne.init.Constant(1.), W=lasagne.init.Normal(0.05),
    nonlinearity=relu, **kwargs)

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

    W : numpy array or callable
        What is written into the weight of `incoming`; drawn also if it is
        left at its default, except where the weight cannot be set.

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
    Usually called through :func:`batch_norm`. g and the weight
    below are trainable and regularizable, b is trainable.

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
    >>> from wnorm.nn.weightnorm import BatchNormLayer
    >>> l = DenseLayer(InputLayer((None, 20)), 5, b=None, nonlinearity=None)
    >>> BatchNormLayer(l).get_params()
    [b, g, avg_batch_mean, avg_batch_var]
    """
    regularize_g = True
    options = ['b', 'g', 'W', 'nonlinearity', 'name']

    def __init__(self, incoming, b=Constant(0.), g=Constant(1.), W=DRAW_W,
                 nonlinearity=relu, **kwargs):
        super(BatchNormLayer, self).__init__(
            incoming, b, g, keep_or_draw(incoming, W, DRAW_W), nonlinearity,
            **kwargs)


def batch_norm(layer, b=Constant(0.), g=Constant(1.), **kwargs):
    """
    wnorm.nn.weightnorm.batch_norm(layer, b=lasagne.init.Constant(0.),
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
        `W`, `nonlinearity` (instead of the layer's own) and `name`.

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
    >>> from wnorm.nn.weightnorm import batch_norm
    >>> l = batch_norm(DenseLayer(InputLayer((None, 20)), 50), g=None)
    >>> get_all_params(l)
    [W, b, avg_batch_mean, avg_batch_var]
    """
    return batch_normalization.wrap(BatchNormLayer, layer,
                                    dict(kwargs, b=b, g=g))
