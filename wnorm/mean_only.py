"""Mean-only batch normalization, with weight normalization or without."""
import numbers

import lasagne
import theano
import theano.tensor as T
from theano.compile import SharedVariable

from .gains import check_param, draw_param
from .layers import KEEP_W, WeightNormLayer, relu, wrap
from .naming import describe

__all__ = ['MeanOnlyBatchNormLayer', 'mean_only_batch_norm']


#: The default of the argument `g`.
DEFAULT_G = lasagne.init.Constant(1.)


class MeanOnlyBatchNormLayer(WeightNormLayer):
    r"""
    wnorm.MeanOnlyBatchNormLayer(incoming, b=lasagne.init.Constant(0.),
    g=lasagne.init.Constant(1.), W=lasagne.init.Normal(0.05), train_g=False,
    init_stdv=1., nonlinearity=wnorm.layers.relu, eps=1e-6, weight_norm=True,
    mean=lasagne.init.Constant(0.), alpha=0.1, name=None)

    Mean-only batch normalization of the layer below.

    .. math:: y = \phi(t - \mu[t] + b), \qquad t = W x

    where :math:`\mu[t]` is the mean of each filter's pre-activation over the
    batch (and over positions) in training; with ``deterministic=True`` it is
    its running mean. W is normalized as by :class:`WeightNormLayer`.

    Usually called through :func:`mean_only_batch_norm`, which moves the bias
    and the nonlinearity of the wrapped layer to where they belong.

    Parameters
    ----------
    incoming, b, g, W, train_g, init_stdv, nonlinearity, eps, name
        As for :class:`WeightNormLayer`.

    weight_norm : bool
        With False the weight of `incoming` stays as it is, and there is no g.

    mean : Theano shared variable, expression, numpy array or callable
        Initial value, expression or initializer for the running mean, of
        shape ``(num_filters,)``.

    alpha : float
        How much of a batch's mean goes into the running mean, between 0
        and 1.

    Attributes
    ----------
    mean : Theano shared variable or expression
        The running mean; neither trainable nor regularizable. An expression
        is not updated.

    bn_updates : list of (shared variable, expression)
        The update of the running mean. Absent until the layer's output has
        been asked for with a batch's mean; then that of the last such pass.

    Raises
    ------
    TypeError, ValueError
        As :class:`WeightNormLayer`, and if `alpha` or `mean` do not fit or g
        or W are given with ``weight_norm=False``. Nothing has changed.

    Notes
    -----
    The running mean becomes ``(1 - alpha) * mean + alpha * batch mean``
    whenever a function is called that was compiled of
    ``get_output(..., deterministic=False)``, as with Lasagne's
    ``BatchNormLayer``, by default updates of :func:`theano.function`.
    Code that collects the lists ``bn_updates`` and gives them to
    :func:`theano.function` does the same; doing both updates it once.
    ``batch_norm_use_averages`` and ``batch_norm_update_averages`` of
    :func:`lasagne.layers.get_output` decide about each by itself.

    With ``init=True``, data-dependent initialization, the layer computes
    :math:`\phi((t - m) \sigma / std + b)` with :math:`\sigma` its
    `init_stdv`, and of its parameters only g is updated.

    See Also
    --------
    mean_only_batch_norm : Wraps a layer, with its bias and nonlinearity.

    References
    ----------
    .. [1] Salimans, Tim, and Diederik P. Kingma (2016):
           Weight Normalization: A Simple Reparameterization to Accelerate
           Training of Deep Neural Networks. arXiv preprint arXiv:1602.07868,
           section 4.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> from wnorm import MeanOnlyBatchNormLayer
    >>> l = DenseLayer(InputLayer((None, 20)), 5, b=None, nonlinearity=None)
    >>> MeanOnlyBatchNormLayer(l, train_g=True).get_params()
    [b, g, mean]
    """
    options = WeightNormLayer.options + ['weight_norm', 'mean', 'alpha']

    #: The name of the parameter, and a tag of it.
    mean_name = 'mean'
    mean_tags = {'batch_norm_stat': True}

    def __init__(self, incoming, b=lasagne.init.Constant(0.),
                 g=DEFAULT_G, W=KEEP_W, train_g=False, init_stdv=1.,
                 nonlinearity=relu, eps=1e-6, weight_norm=True,
                 mean=lasagne.init.Constant(0.), alpha=0.1, **kwargs):
        self.weight_norm = bool(weight_norm)
        self.mean = mean
        self.alpha = alpha
        if not weight_norm:
            if not ((g is None or g is DEFAULT_G) and W is KEEP_W and
                    not train_g):
                raise TypeError('%s: g, train_g and W need weight_norm=True: '
                                'without weight normalization its weight '
                                'stays as it is' % describe(incoming))
            g = None
        super(MeanOnlyBatchNormLayer, self).__init__(
            incoming, b, g, W, train_g, init_stdv, nonlinearity, eps, **kwargs)

    def _check(self, incoming, num_filters):
        if not (isinstance(self.alpha, numbers.Real) and
                0 <= self.alpha <= 1):
            raise ValueError('%s: alpha must be a number from 0 to 1, got %r'
                             % (describe(incoming), self.alpha))
        if self.mean is None:
            raise TypeError('%s: mean must be an initializer, an array, a '
                            'shared variable or an expression, got None'
                            % describe(incoming))
        check_param(incoming, 'mean', self.mean, (num_filters,))

    def _reparameterize(self, record):
        shape = (record.num_filters,)
        self.mean = self._create(
            self.mean_name, draw_param(record.layer, 'mean', self.mean, shape),
            shape, trainable=False, regularizable=False, **self.mean_tags)
        if self.weight_norm:
            super(MeanOnlyBatchNormLayer, self)._reparameterize(record)

    def get_output_for(self, input, init=False, deterministic=False,
                       batch_norm_use_averages=None,
                       batch_norm_update_averages=None, **kwargs):
        # by name, so that Lasagne knows these keywords
        return super(MeanOnlyBatchNormLayer, self).get_output_for(
            input, init, deterministic=deterministic,
            batch_norm_use_averages=batch_norm_use_averages,
            batch_norm_update_averages=batch_norm_update_averages, **kwargs)

    def preactivation(self, input, deterministic=False,
                      batch_norm_use_averages=None,
                      batch_norm_update_averages=None, **kwargs):
        if batch_norm_use_averages is None:
            batch_norm_use_averages = deterministic
        if batch_norm_update_averages is None:
            batch_norm_update_averages = not deterministic
        batch_mean = T.mean(input, axis=self.axes_to_sum)
        mean = self.mean if batch_norm_use_averages else batch_mean
        is_updated = batch_norm_update_averages and isinstance(
            self.mean, SharedVariable)
        if is_updated:
            mean = mean + self._update(batch_mean)
        centered = input - self.align(mean).astype(input.dtype)
        if is_updated:
            # for wnorm.distributed, which finds them in the graph of a loss
            centered.tag.bn_updates = self.bn_updates
        return super(MeanOnlyBatchNormLayer, self).preactivation(centered)

    def _update(self, batch_mean):
        """Set `bn_updates`; a zero that brings along the default update."""
        # A variable with the same memory, of which the function contains
        # nothing but the default update.
        running = theano.clone(self.mean, share_inputs=False)
        running.default_update = self._moved(running, batch_mean)
        self.bn_updates = [(self.mean, running.default_update)]
        return 0 * running

    def _moved(self, running, batch_mean):
        """The running mean after a batch."""
        return self._like(running, (1 - self.alpha) * running +
                          self.alpha * batch_mean)

    def _initialized(self, input):
        mean, std, degenerate = self.moments(input)
        scale, self.init_updates = self.initial_values(mean, std, degenerate)
        return super(MeanOnlyBatchNormLayer, self).preactivation(
            (input - self.align(mean)) * self.align(scale))

    def initial_values(self, mean, std, degenerate):
        scale, updates = super(MeanOnlyBatchNormLayer, self).initial_values(
            mean, std, degenerate)
        return scale, [(param, value) for param, value in updates
                       if param is not self.b]

    def statistics_updates(self, mean, scale):
        if not isinstance(self.mean, SharedVariable):
            return []
        mean = mean * scale
        below = getattr(self.input_layer, 'b', None)
        if below is not None:  # a bias that the layer below has kept
            mean = mean + (below if below.ndim == 1 else T.mean(
                below, axis=tuple(range(1, below.ndim))))
        return [(self.mean, self._like(self.mean, mean))]

    def _words(self):
        words = super(MeanOnlyBatchNormLayer, self)._words()
        if not self.weight_norm:
            words.remove('g=None')
            words.append('weight_norm=False')
        if self.alpha != .1:
            words.append('alpha=%r' % self.alpha)
        return words


def mean_only_batch_norm(layer, weight_norm=True, **kwargs):
    r"""
    wnorm.mean_only_batch_norm(layer, weight_norm=True, **kwargs)

    Apply mean-only batch normalization to an existing layer.

    .. math:: y = \phi(t - \mu[t] + b), \qquad t = W x, \qquad
              W = g \frac{V}{\sqrt{\epsilon + \sum V^2}}

    Takes over the layer's nonlinearity :math:`\phi`, deletes its bias, and
    puts one :class:`MeanOnlyBatchNormLayer` on top, with a new bias.

    Parameters
    ----------
    layer : a :class:`lasagne.layers.Layer` instance
        The layer to normalize; it is modified.

    weight_norm : bool
        Whether its weight is normalized too; with False it stays as it is.

    **kwargs
        `b`, `g`, `W`, `train_g`, `init_stdv`, `nonlinearity` (instead of the
        layer's own), `eps`, `mean`, `alpha` and `name`: see
        :class:`MeanOnlyBatchNormLayer`.

    Returns
    -------
    :class:`MeanOnlyBatchNormLayer`
        On top of `layer`. The parameters of the two are, in this order, V
        (the ``W`` of `layer`), b, g and mean.

    Raises
    ------
    TypeError, ValueError
        As :class:`MeanOnlyBatchNormLayer`; then `layer` is as it was.

    Notes
    -----
    In place of :func:`weight_norm`, in hidden layers, where batches are large
    enough for a mean. Compared with batch normalization its gradients carry
    less noise, and nothing is divided by a batch's deviation. Ask for outputs
    with ``deterministic=True`` when you test.

    References
    ----------
    .. [1] Salimans, Tim, and Diederik P. Kingma (2016):
           Weight Normalization: A Simple Reparameterization to Accelerate
           Training of Deep Neural Networks. arXiv preprint arXiv:1602.07868,
           section 4.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer, get_all_params
    >>> from wnorm import mean_only_batch_norm
    >>> l = mean_only_batch_norm(DenseLayer(InputLayer((None, 20)), 50),
    ...                          train_g=True)
    >>> get_all_params(l)
    [W, b, g, mean]
    >>> get_all_params(l, trainable=True)
    [W, b, g]
    """
    return wrap(MeanOnlyBatchNormLayer, layer,
                dict(kwargs, weight_norm=weight_norm))
