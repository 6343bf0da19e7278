"""WeightNormLayer and weight_norm: what users meet."""
from collections import namedtuple

import lasagne
import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import CustomRecurrentLayer, Layer
from lasagne.nonlinearities import identity
from theano.compile import SharedVariable

from . import filters, recurrent
from .gains import as_gain, check_numbers, check_param, draw_param
from .naming import describe, suggest
from .parameters import (
    EXPRESSIONS, NormalizedParam, check_axes, check_eps, has_W, records,
    scaled, value_of)

__all__ = ['WeightNormLayer', 'relu', 'weight_norm']

#: The default of the argument `W`. Left at this very object, V stays as the
#: wrapped layer made it.
KEEP_W = lasagne.init.Normal(0.05)

#: What both functions take beside the layer.
OPTIONS = ['b', 'g', 'W', 'train_g', 'init_stdv', 'nonlinearity', 'eps',
           'name']


#: The bias that weight_norm deleted, for :func:`wnorm.fold`. `place` is that
#: among the layer's parameters; None if it was none of them.
RemovedBias = namedtuple('RemovedBias', ['name', 'tags', 'place'])


def relu(x):
    """max(x, 0)"""
    return T.maximum(x, 0)


class PerFilter(object):
    """For layers: statistics of the pre-activation t, one per filter.

    They have the attributes `axes_to_sum`, the axes of t over which these are
    taken, and `dimshuffle_args`, which aligns a vector with t; and a method
    `_updatable` that tells the parameters to initialize.
    """
    def run_along(self, axis, ndim):
        """The filters are on `axis` of `ndim` of t."""
        self.axes_to_sum = tuple(i for i in range(ndim) if i != axis)
        self.dimshuffle_args = ['x'] * axis + [0] + ['x'] * (ndim - axis - 1)

    def align(self, param):
        """Align `param`, one entry per filter or an untied bias, with t."""
        if param.ndim == 1:
            return param.dimshuffle(*self.dimshuffle_args)
        axis = self.dimshuffle_args.index(0)
        return param.dimshuffle(*(['x'] * axis + list(range(param.ndim))))

    def moments(self, t):
        """Statistics of the bias-free pre-activation `t`, per filter.

        Returns
        -------
        mean, std, degenerate : Theano expressions
            Vectors; `degenerate` where t is constant up to rounding.
        """
        unit = self.unit(t)
        t = t / self.align(unit)
        mean = T.mean(t, axis=self.axes_to_sum)
        std = T.sqrt(T.mean(T.sqr(t - self.align(mean)),
                            axis=self.axes_to_sum))
        # A constant rarely has a deviation of exactly 0 in floating point.
        n = 1
        for axis in self.axes_to_sum:  # single numbers stay on the host
            n = n * t.shape[axis]
        rms = T.sqrt(T.mean(T.sqr(t), axis=self.axes_to_sum))
        rounding = (10 * np.asarray(np.finfo(t.dtype).eps, t.dtype) *
                    T.sqrt(T.cast(n, t.dtype)) * rms)
        return mean * unit, std * unit, T.le(std, rounding)

    def unit(self, t):
        """A power of 2 per filter that `t` is taken relative to.

        No square under- or overflows then; multiplying by it is exact.
        """
        size = T.mean(abs(t), axis=self.axes_to_sum)
        unit = T.exp2(T.floor(T.log2(size))).astype(t.dtype)
        return T.switch(T.gt(unit, 0) & T.lt(unit, np.inf), unit,
                        np.asarray(1, t.dtype))

    def remember(self):
        """Take the present values of `b` and `g` for known.

        :func:`wnorm.initialize` warns before it overwrites other ones.
        """
        self._known = {name: param.get_value()
                       for name, param in self._updatable().items()}

    def changed(self):
        """Whether `b` or `g` have changed since :meth:`remember`."""
        return any(not np.array_equal(param.get_value(borrow=True),
                                      self._known.get(name))
                   for name, param in self._updatable().items())

    @staticmethod
    def _like(param, value):
        """`value` with the type of `param`, as an update needs it."""
        return T.patternbroadcast(value.astype(param.dtype),
                                  param.broadcastable)


class WeightNormLayer(PerFilter, Layer):
    r"""
    wnorm.WeightNormLayer(incoming, b=lasagne.init.Constant(0.),
    g=lasagne.init.Constant(1.), W=lasagne.init.Normal(0.05), train_g=False,
    init_stdv=1., nonlinearity=relu, eps=1e-6, name=None)

    Weight normalization of the layer below, with a bias and a nonlinearity.

    Replaces the weight ``W`` of the layer `incoming` by the expression

    .. math:: W = g \frac{V}{\sqrt{\epsilon + \sum V^2}}

    where V is what was the layer's weight before, and the sum is taken over
    the weights of one output unit. The layer itself computes

    .. math:: y = \phi(t + b), \qquad t = W x

    Usually called through :func:`weight_norm`, which moves the bias and the
    nonlinearity of the wrapped layer to where they belong.

    Parameters
    ----------
    incoming : a :class:`lasagne.layers.Layer` instance
        The layer whose ``W`` is normalized: any of the classes that
        :mod:`wnorm.filters` lists or that were added to them with
        :func:`wnorm.register`. Without a nonlinearity of its own.

    b : Theano shared variable, expression, numpy array, callable or None
        Initial value, expression or initializer for the biases, of shape
        ``(num_filters,)``, or of the shape of the bias of `incoming` if that
        is untied. None for no bias.

    g : shared variable, expression, array, callable, str, Gain or None
        Initial value, expression or initializer for the gains, of shape
        ``(num_filters,)``. ``'norm'`` for :math:`\sqrt{\epsilon + \sum V^2}`,
        so that W is as V is; ``'exp'`` for g = exp(s), where s is the
        parameter; a :class:`wnorm.Gain` for these and one gain for several
        filters. None for filters of norm 1.

    W : numpy array or callable
        Left at its default, V stays as `incoming` made it. Anything else is
        drawn or written into V.

    train_g : bool
        Whether `g` is trainable.

    init_stdv : float or numpy array
        The deviation that data-dependent initialization gives to the
        pre-activations: one number, or one per filter. Positive.

    nonlinearity : callable or None
        The nonlinearity that is applied to the layer's activations. None for
        a linear layer.

    eps : float
        The constant under the root; 0 for exactly :math:`g V / ||V||`.

    name : str or None
        The name of this layer, the prefix of the names of `b` and `g`.

    Attributes
    ----------
    b, g : Theano shared variable, expression or None
        The biases and the gains.

    g_param : Theano shared variable, expression or None
        The parameter behind the gains: g itself, or s where g = exp(s).

    gain : Gain or None
        The form of g.

    init_stdv, nonlinearity, eps
        As given: a list of deviations as an array, no nonlinearity as
        :func:`lasagne.nonlinearities.identity`.

    axes_to_sum : tuple of int
        The axes of the layer's input over which its statistics are taken.

    dimshuffle_args : list
        The pattern that aligns one number per filter with the input.

    init_updates : list of (shared variable, expression)
        The data-dependent initialization. Absent until the layer's output has
        been asked for with ``init=True``; then that of the last such pass.

    Raises
    ------
    ValueError
        If `incoming` has no ``W``, is weight-normalized already, or has
        another number of units than its filter axis has entries, if that
        number is not known, or if an argument has a wrong shape or value.

    TypeError
        If the class of `incoming` is unknown to :mod:`wnorm.filters`, or if
        an argument is of a wrong type or unknown. In either case nothing has
        changed.

    Notes
    -----
    On `incoming`, ``W_param`` is V: still the shared variable that it was and
    the key of ``incoming.params``, with its name and tags. ``W`` is the
    symbolic expression. Gradients, updates and penalties of either work.

    ``get_output(..., init=True)`` computes the data-dependent initialization
    on its way: with m and std the mean and the population deviation of t over
    `axes_to_sum` and s = init_stdv / std, the layer returns
    :math:`\phi((t - m) s)` and sets ``init_updates`` to ``[(b, -m * s),
    (g, g * s)]``. The output of the pass is what the layer computes after
    the updates, so that one pass initializes a whole network. In this:

    * with ``b=None``, m is not subtracted; with ``g=None``, s is 1;
    * a `b` or `g` that is no shared variable stays as it is;
    * if g = exp(s), s grows by log(init_stdv / std);
    * a gain of several filters is multiplied by the root mean square of their
      init_stdv over that of their std: they have the deviation on average;
    * a filter whose t is constant up to rounding,
      std <= 10 sqrt(n) machine epsilon rms(t) for n values, has s = 1.

    :func:`wnorm.initialize` does all that in one call.

    Tied weights: if V is shared with another layer, both see every change of
    V, and each has its own g. If the weight of `incoming` is an expression,
    such as the transpose of another layer's, V is that expression.

    See Also
    --------
    weight_norm : Wraps a layer, with its bias and nonlinearity.
    wnorm.initialize : Data-dependent initialization.

    References
    ----------
    .. [1] Salimans, Tim, and Diederik P. Kingma (2016):
           Weight Normalization: A Simple Reparameterization to Accelerate
           Training of Deep Neural Networks. arXiv preprint arXiv:1602.07868.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> from wnorm import WeightNormLayer
    >>> l = DenseLayer(InputLayer((None, 20)), 5, b=None, nonlinearity=None)
    >>> WeightNormLayer(l, train_g=True)
    WeightNormLayer(DenseLayer (None, 5), train_g=True)
    """
    #: What weight_norm and the like take beside the layer.
    options = OPTIONS

    #: Whether it is but the identity that :func:`wnorm.fold` left over.
    folded = False

    #: The :class:`RemovedBias` of the layer below, if it had one.
    removed_bias = None

    #: Whether penalties take g.
    regularize_g = False

    def __init__(self, incoming, b=lasagne.init.Constant(0.),
                 g=lasagne.init.Constant(1.), W=KEEP_W, train_g=False,
                 init_stdv=1., nonlinearity=relu, eps=1e-6, **kwargs):
        check_wrappable(incoming)
        check_keywords(incoming, kwargs, ['name'], self.options)
        layout = self.find_layout(incoming)
        V = incoming.W
        num_filters = count_filters(incoming, V, layout)
        init_stdv = check_init_stdv(incoming, init_stdv, num_filters)
        eps = check_eps(incoming, eps)
        check_nonlinearity(incoming, nonlinearity)
        gain = as_gain(incoming, g)
        if gain is not None:
            gain.check(incoming, num_filters)
        b_shape = bias_shape(incoming, num_filters)
        check_param(incoming, 'b', b, b_shape)
        if W is not KEEP_W:
            check_W(incoming, W)
        self._check(incoming, num_filters)
        record = NormalizedParam(incoming, 'W', layout, eps, num_filters,
                                 gain)
        norm = gain is not None and gain.is_norm  # that of V
        g = record.draw() if norm and W is KEEP_W else None
        # only now may initializers draw random numbers, V's last
        b = draw_param(incoming, 'b', b, b_shape)
        if not norm:
            g = record.draw()
        new_V = None if W is KEEP_W else draw(incoming, W)
        if norm and new_V is not None:
            g = record.draw(new_V)

        super(WeightNormLayer, self).__init__(incoming, **kwargs)
        self.train_g = bool(train_g)
        self.init_stdv = init_stdv
        self.nonlinearity = identity if nonlinearity is None else nonlinearity
        self.eps = eps
        self.gain = gain
        self.b_shape = b_shape

        # the axes of t
        ndim = len(incoming.output_shape)
        self.run_along(layout.output_axis % ndim, ndim)

        # create parameters, in this order
        self.b = self._create('b', b, b_shape, regularizable=False)
        self.g_param = self.g = None
        if gain is not None:
            self.g_param = self._create(
                gain.name, g, record.shape(g), trainable=self.train_g,
                regularizable=self.regularize_g)
            self.g = gain.value(self.g_param)
        self._known = {}  # the layer may be trained
        if not norm:
            self.remember()

        self._reparameterize(record)
        if new_V is not None:
            V.set_value(new_V)

    def _check(self, incoming, num_filters):
        """For subclasses: refuse arguments of their own."""

    def _reparameterize(self, record):
        """Make the layer below compute with the effective weight."""
        record.put(self.g_param, self)

    @staticmethod
    def find_layout(incoming):
        """The :class:`wnorm.Layout` of the weight of `incoming`."""
        return filters.layout(incoming, 'W')

    def _create(self, name, spec, shape, **tags):
        """Register the parameter `name`, or return None for no parameter."""
        if spec is None:
            return None
        if EXPRESSIONS or isinstance(spec, (np.ndarray, SharedVariable)):
            return self.add_param(spec, shape, name=name, **tags)
        # what add_param does with an expression in later versions of Lasagne
        tags = dict(dict(trainable=True, regularizable=True), **tags)
        self.params[spec] = set(tag for tag in tags if tags[tag])
        return spec

    def get_params(self, unwrap_shared=True, **tags):
        if EXPRESSIONS:  # pragma: no cover (Lasagne master does the rest)
            return super(WeightNormLayer, self).get_params(
                unwrap_shared=unwrap_shared, **tags)
        params = super(WeightNormLayer, self).get_params(**tags)
        if not unwrap_shared:
            return params
        # the shared variables that an expression consists of
        return lasagne.utils.unique(
            leaf for param in params
            for leaf in theano.gof.graph.inputs([param])
            if isinstance(leaf, SharedVariable))

    def _updatable(self):
        """Those of `b` and `g` that initialization can set."""
        return {name: param for name, param in (
            ('b', self.b), ('g', self.g_param))
            if isinstance(param, SharedVariable)}

    def get_output_for(self, input, init=False, **kwargs):
        return self.nonlinearity(self._initialized(input) if init else
                                 self.preactivation(input, **kwargs))

    def preactivation(self, input, **kwargs):
        """What the nonlinearity is applied to; of :meth:`get_output_for`."""
        if self.b is None:
            return input
        return input + self.align(self.b).astype(input.dtype)

    def _initialized(self, input):
        """The pre-activation after ``init_updates``, which this sets."""
        # a bias that the layer below has kept is no part of t
        below = getattr(self.input_layer, 'b', None)
        t = input if below is None else input - self.align(below)
        mean, std, degenerate = self.moments(t)
        scale, self.init_updates = self.initial_values(mean, std, degenerate)
        if 'b' in self._updatable():
            return (t - self.align(mean)) * self.align(scale)
        output = t * self.align(scale)
        for bias in (below, self.b):
            if bias is not None:
                output = output + self.align(bias).astype(t.dtype)
        return output

    def initial_values(self, mean, std, degenerate):
        """What data-dependent initialization makes of b and g.

        Parameters
        ----------
        mean, std, degenerate : vectors
            As returned by :meth:`moments`.

        Returns
        -------
        scale : vector
            What it multiplies t by.
        updates : list of (shared variable, expression)
        """
        updatable = self._updatable()
        scale, updates = T.ones_like(std), []
        if 'g' in updatable:
            scale = self.gain.rescaling(std, degenerate, self.init_stdv)
        if 'b' in updatable:
            shift = self._shift(-mean * scale)
            below = getattr(self.input_layer, 'b', None)
            if below is not None:
                shift = shift - below
            updates.append((self.b, self._like(self.b, shift)))
        if 'g' in updatable:
            updates.append((self.g_param, self._like(
                self.g_param, self.gain.update(self.g_param, scale))))
        return scale, updates

    def statistics_updates(self, mean, scale):
        """For subclasses that keep statistics of t: these, from many batches.

        Parameters
        ----------
        mean, scale : vectors
            The mean of t over all batches, and what t is multiplied by.

        Returns
        -------
        list of (shared variable, expression)
        """
        return []

    def _shift(self, shift):
        """Spread one number per filter over the positions of `b`."""
        if self.b.ndim == 1:
            return shift
        return T.zeros_like(self.b) + shift.dimshuffle(
            0, *['x'] * (self.b.ndim - 1))

    def __repr__(self):
        words = [describe(self.input_layer)] + self._words()
        return '%s(%s)' % (type(self).__name__, ', '.join(words))

    def _words(self):
        """The keywords of the call that made it, but for the defaults."""
        words = ['%s=None' % name for name in 'bg'
                 if getattr(self, name) is None]
        if self.gain is not None and repr(self.gain) != 'Gain()':
            words.append('g=%r' % self.gain)
        if self.train_g:
            words.append('train_g=True')
        if not np.array_equal(self.init_stdv, 1.):
            words.append('init_stdv=%r' % (self.init_stdv,))
        if self.nonlinearity is not relu:
            words.append('nonlinearity=' + getattr(
                self.nonlinearity, '__name__', repr(self.nonlinearity)))
        if self.eps != 1e-6:
            words.append('eps=%r' % self.eps)
        if self.name is not None:
            words.append('name=%r' % self.name)
        return words


def weight_norm(layer, **kwargs):
    r"""
    wnorm.weight_norm(layer, **kwargs)

    Apply weight normalization to an existing layer.

    .. math:: y = \phi(W x + b), \qquad
              W = g \frac{V}{\sqrt{\epsilon + \sum V^2}}

    Takes over the layer's nonlinearity :math:`\phi`, deletes its bias, and
    puts one :class:`WeightNormLayer` on top, with a new bias. A layer with
    several weights, such as an LSTM, has each of them normalized in itself.

    Parameters
    ----------
    layer : a :class:`lasagne.layers.Layer` instance
        The layer to normalize; it is modified.

    **kwargs
        `b`, `g`, `W`, `train_g`, `init_stdv`, `nonlinearity` (instead of the
        layer's own), `eps` and `name`: see :class:`WeightNormLayer`.

        For a layer with several weights: `g`, ``'norm'`` by default;
        `train_g`; `eps`; and `params`, a list of the names of those to
        normalize, all by default.

    Returns
    -------
    :class:`WeightNormLayer`
        On top of `layer`. The parameters of the two are, in this order, V
        (the ``W`` of `layer`), b and g. Or `layer` itself, if it has several
        weights: the gain of ``W_hid_to_cell`` is its parameter
        ``g_W_hid_to_cell``, see :func:`normalize_param`; for
        ``RecurrentLayer`` and ``CustomRecurrentLayer`` one of the layer
        inside.

    Raises
    ------
    TypeError, ValueError
        As :class:`WeightNormLayer`; then `layer` is as it was.

    Notes
    -----
    Wrap each layer that has a ``W`` where it is made, the output layer
    included, then initialize with one batch of data: :func:`wnorm.initialize`.
    The values of the layer's bias are lost, and the new one is 0 unless `b` is
    given; but with ``g='norm'``, for a layer that is trained already, it has
    the values and the shape of the old one.

    Recurrent layers keep their biases, and data-dependent initialization
    leaves them as they are. Their weights are normalized once per call, before
    the loop over time.

    References
    ----------
    .. [1] Salimans, Tim, and Diederik P. Kingma (2016):
           Weight Normalization: A Simple Reparameterization to Accelerate
           Training of Deep Neural Networks. arXiv preprint arXiv:1602.07868.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer, get_all_params
    >>> from lasagne.nonlinearities import softmax
    >>> from wnorm import weight_norm
    >>> l = InputLayer((None, 20))
    >>> l = weight_norm(DenseLayer(l, 50), train_g=True)
    >>> l = weight_norm(DenseLayer(l, 10, nonlinearity=softmax))
    >>> get_all_params(l)
    [W, b, g, W, b, g]
    >>> get_all_params(l, trainable=True)
    [W, b, g, W, b]

    >>> from lasagne.layers import LSTMLayer
    >>> l = LSTMLayer(InputLayer((None, 7, 20)), 5)
    >>> weight_norm(l, params=['W_hid_to_cell'], train_g=True) is l
    True
    >>> l.g_W_hid_to_cell in l.get_params(trainable=True)
    True
    """
    if isinstance(layer, CustomRecurrentLayer) or (
            isinstance(layer, Layer) and recurrent.matrices(layer)):
        check_keywords(layer, kwargs, recurrent.OPTIONS, recurrent.OPTIONS)
        return recurrent.normalize(layer, **kwargs)
    return wrap(WeightNormLayer, layer, kwargs)


def wrap(wrapper, layer, kwargs):
    """Put `wrapper`, a :class:`WeightNormLayer` class, around `layer`."""
    check_wrappable(layer)
    own = getattr(layer, 'nonlinearity', None)
    options = dict(dict(nonlinearity=own), **kwargs)
    gain = as_gain(layer, kwargs.get('g'))
    if gain is not None and gain.is_norm and 'b' not in kwargs:
        # the function stays what it was, so its bias does
        b = getattr(layer, 'b', None)
        options['b'] = value_of(b, '%s: b' % describe(layer)) if isinstance(
            b, theano.Variable) else None
    wrapped = wrapper(layer, **options)
    wrapped.removed_bias = strip(layer)
    return wrapped


def strip(layer):
    """Take the nonlinearity and the bias from a layer that has them.

    Returns
    -------
    :class:`RemovedBias` or None
    """
    if getattr(layer, 'nonlinearity', None) is not None:
        layer.nonlinearity = identity
    b = getattr(layer, 'b', None)
    if b is None:
        return None
    place = list(layer.params).index(b) if b in layer.params else None
    layer.b = None
    return RemovedBias(getattr(b, 'name', None), layer.params.pop(b, None),
                       place)


# --- checks, each of them before anything has changed ----------------------

def check_wrappable(layer):
    if not isinstance(layer, Layer):
        raise TypeError('weight normalization takes a Lasagne layer, got %r'
                        % (layer,))
    if getattr(layer, 'folded', False):
        raise ValueError('%s is what fold has left over: wrap the layer '
                         'below, its input_layer' % describe(layer))
    if isinstance(layer, WeightNormLayer) or 'W' in records(layer):
        raise ValueError('%s is weight-normalized already: wrap a layer once'
                         % describe(layer))
    if scaled(layer) is not None:
        raise ValueError('%s has a g already, without normalization: wrap a '
                         'layer once' % describe(layer))
    if not has_W(layer):
        names = [str(param) for param in getattr(layer, 'params', ())]
        raise ValueError(
            '%s has no weight W to normalize: wrap a layer that has one.%s' % (
                describe(layer), names and ' Is it one of its parameters, %s? '
                'Then wnorm.normalize_param(layer, name, axis=...), or '
                'wnorm.register(%s, name=axis) for weight_norm(layer)' % (
                    ', '.join(names), type(layer).__name__) or ''))


def check_keywords(layer, kwargs, known, options=OPTIONS):
    """Refuse what is not in `known`; `options` are what users may mean."""
    for keyword in kwargs:
        if keyword not in known:
            raise TypeError('%s: unknown keyword %r.%s' % (
                describe(layer), keyword, suggest(keyword, options) or
                ' Known: %s' % ', '.join(options)))


def check_nonlinearity(layer, nonlinearity):
    if not (nonlinearity is None or callable(nonlinearity)):
        raise TypeError('%s: nonlinearity must be a function or None, got %r'
                        % (describe(layer), nonlinearity))


def count_filters(layer, V, layout):
    """The number of filters, from W, or from the units where W is symbolic."""
    check_axes(layer, 'W', V, layout)
    output = layer.output_shape
    if not -len(output) <= layout.output_axis < len(output):
        raise ValueError('%s: the output has no axis %d for the filters'
                         % (describe(layer), layout.output_axis))
    units = getattr(layer, 'num_units', getattr(layer, 'num_filters', None))
    if units is None:
        units = output[layout.output_axis]
    if isinstance(V, SharedVariable):
        shape = V.get_value(borrow=True).shape
        entries = shape[layout.filter_axis]
        if units not in (None, entries):
            raise ValueError(
                '%s: W has shape %s with %d filters on axis %d, but the layer '
                'has %d units. Its class puts the filters elsewhere: '
                'wnorm.register(%s, W=axis)'
                % (describe(layer), shape, entries, layout.filter_axis, units,
                   type(layer).__name__))
        units = entries
    if units is None:
        raise ValueError(
            '%s: the number of units is not known, because W is an expression '
            'and axis %d of the output has no fixed size. Give the layer an '
            'attribute num_units' % (describe(layer), layout.output_axis))
    if output[layout.output_axis] not in (None, units):
        raise ValueError(
            '%s: %d filters, but %d entries on axis %d of the output. The '
            'filters are on another axis of it: wnorm.register(%s, '
            'W=wnorm.Layout(%d, output_axis=axis))'
            % (describe(layer), units, output[layout.output_axis],
               layout.output_axis, type(layer).__name__, layout.filter_axis))
    return units


def bias_shape(layer, num_filters):
    """One bias per filter, or the shape of the layer's own untied bias."""
    b = getattr(layer, 'b', None)
    if getattr(b, 'ndim', 0) <= 1:
        return (num_filters,)
    if isinstance(b, SharedVariable):
        return b.get_value(borrow=True).shape
    return (num_filters,) + tuple(layer.output_shape[-(b.ndim - 1):])


def draw(layer, W):
    """The array that the argument `W` puts into V."""
    V = layer.W.get_value(borrow=True)
    if callable(W):
        W = W(V.shape)
        check_W(layer, W, drawn=True)
    return W.astype(V.dtype)


def check_W(layer, W, drawn=False):
    """Check what was given for `W`, or what an initializer has `drawn`."""
    what = '%s: W' % describe(layer)
    if not isinstance(layer.W, SharedVariable):
        raise ValueError('%s cannot be set: the weight of this layer is an '
                         'expression. Leave W out' % what)
    if callable(W) and not isinstance(W, theano.Variable) and not drawn:
        return
    old = layer.W.get_value(borrow=True)
    if not isinstance(W, np.ndarray):
        raise TypeError('%s must be an initializer or an array, got %r. '
                        'Give a shared variable to the layer itself'
                        % (what, W))
    if W.shape != old.shape:
        raise ValueError('%s has shape %s, must have %s'
                         % (what, W.shape, old.shape))
    check_numbers(what, W, old.dtype)


def check_init_stdv(layer, init_stdv, num_filters):
    what = '%s: init_stdv' % describe(layer)
    try:
        value = np.array(init_stdv)
    except ValueError:  # lists of different lengths
        value = np.array(None)
    if value.dtype.kind not in 'iuf':
        raise TypeError('%s must be a number or one per filter, got %r'
                        % (what, init_stdv))
    if value.shape not in [(), (num_filters,)]:
        raise ValueError('%s has shape %s, must be one number or have shape '
                         '(%d,)' % (what, value.shape, num_filters))
    with np.errstate(over='ignore', under='ignore'):
        used = value.astype(theano.config.floatX)  # 1e-50 is 0 in float32
    if not (np.isfinite(used) & (used > 0)).all():
        raise ValueError('%s must be positive and finite, got %r'
                         % (what, init_stdv))
    return value if value.shape else init_stdv
