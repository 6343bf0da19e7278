"""Data-dependent initialization of b and g, from one batch of data."""
import warnings
from collections import namedtuple

import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import InputLayer, Layer, get_all_layers, get_output
from lasagne.nonlinearities import identity
from theano.compile import SharedVariable

from .layers import WeightNormLayer
from .naming import describe

__all__ = ['LayerReport', 'Report', 'init_updates', 'initialize']


class LayerReport(namedtuple('LayerReport', [
        'layer', 'mean_before', 'std_before', 'mean_after', 'std_after',
        'degenerate'])):
    """What initialization did to one layer.

    Attributes
    ----------
    layer : :class:`wnorm.WeightNormLayer`

    mean_before, std_before, mean_after, std_after : numpy array
        Mean and deviation of the pre-activations on the batch, per filter.

    degenerate : numpy array of bool
        The filters whose pre-activation is constant on the batch: their gain
        was left as it was.
    """
    __slots__ = ()


class Report(tuple):
    """One :class:`LayerReport` per layer, in order; prints as a table."""

    _HEAD = ('layer', 'filters', 'mean before', 'deviation before',
             'mean after', 'deviation after', 'degenerate')

    @staticmethod
    def _range(values, decimals=None):
        if decimals is not None:  # a mean of 0 is reached up to rounding only
            values = np.round(values, decimals) + 0.
        return '%.3g .. %.3g' % (np.min(values), np.max(values))

    def __str__(self):
        rows = [self._HEAD]
        for row in self:
            rows.append((describe(row.layer.input_layer),
                         str(len(row.degenerate)),
                         self._range(row.mean_before, 6),
                         self._range(row.std_before),
                         self._range(row.mean_after, 6),
                         self._range(row.std_after),
                         str(int(np.sum(row.degenerate)))))
        widths = [max(map(len, column)) for column in zip(*rows)]
        return '\n'.join('  '.join(
            cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
            for row in rows)

    __repr__ = __str__


def init_updates(layer_or_layers, inputs=None, **kwargs):
    """
    wnorm.init_updates(layer_or_layers, inputs=None, **kwargs)

    The updates of a network's data-dependent initialization, symbolically.

    Parameters
    ----------
    layer_or_layers : :class:`lasagne.layers.Layer` or list
        The output layer or layers of the network.

    inputs : None, Theano expression, numpy array, or dict
        As for :func:`lasagne.layers.get_output`.

    **kwargs
        Passed on to :func:`lasagne.layers.get_output`, such as
        ``deterministic=True``.

    Returns
    -------
    list of (shared variable, expression)
        Of all layers, from the input on: what ``get_output(..., init=True)``
        left in their attributes ``init_updates``.

    Raises
    ------
    ValueError
        If no layer of the network is weight-normalized, if two layers share
        a b or g, or if the weights of a layer that feeds a weight-normalized
        one depend on the g of another: then one pass cannot initialize both.

    See Also
    --------
    initialize : Compiles and runs the updates.

    Examples
    --------
    >>> import theano, wnorm
    >>> import theano.tensor as T
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> l = wnorm.weight_norm(DenseLayer(InputLayer((None, 20)), 5))
    >>> x = T.matrix()
    >>> init = theano.function([x], updates=wnorm.init_updates(l, x))
    """
    layers = all_layers(layer_or_layers)
    return _updates(layers, get_output(layers, inputs, init=True, **kwargs))


def initialize(layer_or_layers, batch=None, deterministic=False):
    r"""
    wnorm.initialize(layer_or_layers, batch=None, deterministic=False)

    Initialize b and g of a network from one batch of data.

    For each weight-normalized layer, from the input on, with m and std the
    mean and the deviation of t = W x on the batch, per filter:

    .. math:: g \leftarrow g \frac{\sigma}{std}, \qquad
              b \leftarrow -m \frac{\sigma}{std}

    where :math:`\sigma` is the layer's `init_stdv`. Then the pre-activations
    of all units have mean 0 and deviation :math:`\sigma` on that batch.

    Parameters
    ----------
    layer_or_layers : :class:`lasagne.layers.Layer` or list
        The output layer or layers of the network.

    batch : numpy array, dict or None
        An array for the network's input layer; or a dictionary from input
        layers to arrays; or None if all input layers carry an expression,
        such as the noise of a generator.

    deterministic : bool
        Passed on to :func:`lasagne.layers.get_output`. With False, noise and
        dropout are active, as in training.

    Returns
    -------
    Report
        A tuple with one :class:`LayerReport` per weight-normalized layer: its
        mean and deviation before and after, and which filters were
        degenerate. Prints as a table.

    Raises
    ------
    TypeError, ValueError
        If the network has no weight-normalized layer or cannot be initialized
        in one pass (see :func:`init_updates`), if the batch does not fit its
        input layers, or if an activation is not finite: the message names the
        first layer where that happens. In any case nothing has changed.

    Warns
    -----
    UserWarning
        If b or g of a layer have been changed since the layer was made or
        last initialized: trained or loaded values are overwritten. And if a
        filter is degenerate, that is, constant on the batch: its g stays,
        its b becomes -m.

    Notes
    -----
    Call it once, after the network is built and before training, with a batch
    of some hundred examples. Calling it twice changes nothing. It changes
    nothing but b and g: no running averages of batch normalization, no state
    of a random number generator.

    References
    ----------
    .. [1] Salimans, Tim, and Diederik P. Kingma (2016):
           Weight Normalization: A Simple Reparameterization to Accelerate
           Training of Deep Neural Networks. arXiv preprint arXiv:1602.07868,
           section 3.

    Examples
    --------
    >>> import numpy as np, wnorm
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> l = wnorm.weight_norm(DenseLayer(InputLayer((None, 20)), 5))
    >>> report = wnorm.initialize(l, np.random.rand(100, 20))
    >>> report[0].std_after.round(3)
    array([1., 1., 1., 1., 1.])
    """
    layers = all_layers(layer_or_layers)
    normalized = normalized_layers(layers)
    _check_inner_nonlinearities(normalized)
    feeds = _feeds(layers, batch)
    overwritten = [layer for layer in normalized if layer.changed()]
    step, params = _compile(layers, normalized, list(feeds), deterministic)
    with np.errstate(all='ignore'):  # what is not finite is an error below
        before, degenerate, values = step(*feeds.values())
    old = [param.get_value() for param in params]
    try:
        for param, value in zip(params, values):
            param.set_value(value)
        after = step(*feeds.values())[0]
    except BaseException:  # an interruption as well
        for param, value in zip(params, old):
            param.set_value(value)
        raise
    for layer in normalized:
        layer.remember()
    report = Report(
        LayerReport(layer, mean_before, std_before, mean_after, std_after,
                    constant)
        for layer, (mean_before, std_before), (mean_after, std_after), constant
        in zip(normalized, before, after, degenerate))
    _warn(overwritten, report)
    return report


def all_layers(layer_or_layers):
    """The layers of a network, from the input on.

    Raises
    ------
    TypeError, ValueError
        If that is not a layer or a non-empty list of layers.
    """
    single = isinstance(layer_or_layers, Layer)
    outputs = [layer_or_layers] if single else layer_or_layers
    if not isinstance(outputs, (list, tuple)):
        raise TypeError('a network is a layer or a list of output layers, '
                        'got %r' % (layer_or_layers,))
    if not outputs:
        raise ValueError('a network is a layer or a list of output layers, '
                         'got an empty list')
    for layer in outputs:
        if not isinstance(layer, Layer):
            raise TypeError('a network is a layer or a list of output layers, '
                            'got a list with %r' % (layer,))
    layers = get_all_layers(list(outputs))
    for layer in layers:
        if None in _below(layer) and not isinstance(layer, InputLayer):
            raise ValueError('%s stands on a shape, not on a layer: put an '
                             'InputLayer below it' % describe(layer))
    return layers


def normalized_layers(layers):
    """Those of `layers` that are weight-normalized, at least one."""
    normalized = [layer for layer in layers
                  if isinstance(layer, WeightNormLayer)]
    if not normalized:
        raise ValueError('no layer of this network is weight-normalized: '
                         'wrap its layers with weight_norm first (last layer: '
                         '%s)' % describe(layers[-1]))
    return normalized


def _below(layer):
    """The layers that feed `layer`; None for a mere shape."""
    return getattr(layer, 'input_layers',
                   [getattr(layer, 'input_layer', None)])


def _check_inner_nonlinearities(normalized):
    for layer in normalized:
        inner = getattr(layer.input_layer, 'nonlinearity', None)
        if inner not in (None, identity):
            raise ValueError(
                '%s has a nonlinearity below its weight normalization, so its '
                'pre-activations cannot be initialized: wrap it with '
                'weight_norm, which takes the nonlinearity over, or give it '
                'nonlinearity=None' % describe(layer.input_layer))


# --- the batch -------------------------------------------------------------

def _feeds(layers, batch):
    """Check the batch; returns ``{input layer: array of its input's dtype}``.
    """
    if isinstance(batch, (list, tuple)):
        raise TypeError('a batch is an array or a dictionary from input '
                        'layers to arrays, got a %s'
                        % type(batch).__name__)
    inputs = [layer for layer in layers if isinstance(layer, InputLayer)]
    # those that need data: the others carry an expression or a value
    free = [layer for layer in inputs if _is_free(layer.input_var)]
    if batch is None:
        batch = {}
    elif not isinstance(batch, dict):
        takers = free or inputs
        if len(takers) != 1:
            raise ValueError('one array for %d input layers: give a '
                             'dictionary from each to its array: %s'
                             % (len(takers), ', '.join(map(describe, takers))))
        batch = {takers[0]: batch}
    for layer in batch:
        if layer not in inputs:
            raise ValueError('the batch names %s, which is no input layer of '
                             'the network' % (
                                 describe(layer) if isinstance(layer, Layer)
                                 else repr(layer)))
    missing = [layer for layer in free if layer not in batch]
    if missing:
        raise ValueError('no data for %s: give a batch'
                         % ', '.join(map(describe, missing)))
    return {layer: _checked(layer, array) for layer, array in batch.items()}


def _is_free(variable):
    return (variable.owner is None and
            not isinstance(variable, (theano.Constant, SharedVariable)))


def _checked(layer, array):
    """`array` as data for the input layer `layer`."""
    what = 'the batch for %s' % describe(layer)
    if isinstance(array, (theano.Variable, list, tuple)):
        raise TypeError('%s must be an array, got a %s'
                        % (what, type(array).__name__))
    array = np.asarray(array)
    dtype = np.dtype(layer.input_var.dtype)
    if not (np.can_cast(array.dtype, dtype, 'same_kind') or
            # unsigned indices too
            array.dtype.kind in 'iu' and dtype.kind in 'iu'):
        raise TypeError('%s has dtype %s, must be %s'
                        % (what, array.dtype, dtype))
    shape = layer.output_shape
    if len(array.shape) != len(shape) or any(
            want not in (None, have)
            for want, have in zip(shape, array.shape)):
        raise ValueError('%s has shape %s, must have %s'
                         % (what, array.shape, shape))
    if array.size == 0:
        raise ValueError('%s is empty: its shape is %s'
                         % (what, array.shape))
    if array.dtype.kind in 'fc' and not np.isfinite(array).all():
        raise ValueError('%s contains NaN or infinity' % what)
    with np.errstate(over='ignore'):
        cast = array.astype(dtype)
    if not np.isfinite(cast).all() or (
            dtype.kind in 'iu' and not np.array_equal(cast, array)):
        raise ValueError('%s has values that %s cannot hold' % (what, dtype))
    return cast


# --- the graph -------------------------------------------------------------

def _updates(layers, outputs):
    """Collect ``init_updates`` after an initializing pass over `layers`.

    One pass is exact only if no layer below a weight-normalized one computes
    with a parameter that the pass changes elsewhere.
    """
    normalized = normalized_layers(layers)
    updates, owner = [], {}
    for layer in layers:
        for param, value in getattr(layer, 'init_updates', []):
            if param in owner:
                raise ValueError(
                    '%s and %s share %s: data-dependent initialization '
                    'cannot set it for both. Give each its own'
                    % (describe(owner[param]), describe(layer), param))
            owner[param] = layer
            updates.append((param, value))
    output = dict(zip(layers, outputs))
    # a layer's weights contain the g of the weight normalization on top
    wrapper = {layer.input_layer: layer for layer in normalized}
    for layer in get_all_layers([layer.input_layer for layer in normalized]):
        blockers = [output[below] for below in _below(layer)
                    if below is not None]
        for leaf in theano.gof.graph.inputs([output[layer]], blockers):
            if owner.get(leaf, layer) not in (layer, wrapper.get(layer)):
                raise ValueError(
                    'the weights of %s depend on %s of %s, which the '
                    'initialization changes in the same pass. Tie them to '
                    'its direction parameter instead: W_param in place of W'
                    % (describe(layer), leaf,
                       describe(owner[leaf].input_layer)))
    return updates


def _compile(layers, normalized, feeds, deterministic):
    """The function that computes all that :func:`initialize` needs to know.

    Returns
    -------
    step : callable
        From one array per layer of `feeds` to the moments of the network as
        it is, the degenerate filters and the new values of `params`. Raises
        ValueError if any activation of the initializing pass is not finite.

    params : list of shared variables
    """
    symbols = [layer.input_var.type() for layer in feeds]
    inputs = dict(zip(feeds, symbols))
    below = [layer.input_layer for layer in normalized]
    moments = []
    for layer, t in zip(normalized, get_output(
            below, inputs, deterministic=deterministic)):
        if layer.b is not None:
            t = t + layer.align(layer.b)
        moments += layer.moments(t)[:2]
    outputs = get_output(layers, inputs, init=True,
                         deterministic=deterministic)
    updates = _updates(layers, outputs)
    finite = [_all_finite(output) for output in outputs]
    output = dict(zip(layers, outputs))
    degenerate = [layer.moments(output[layer.input_layer])[2]
                  for layer in normalized]
    groups = [finite, moments, degenerate, [value for _, value in updates]]
    results = sum(groups, [])
    unknown = [leaf for leaf in theano.gof.graph.inputs(results)
               if _is_free(leaf) and leaf not in symbols]
    if unknown:
        raise ValueError('the network depends on %s, for which there is no '
                         'data: give it a value or make it an input layer'
                         % ', '.join(map(str, unknown)))
    # no default updates: running averages and generators stay as they are
    function = theano.function(symbols, results, no_default_updates=True,
                               on_unused_input='ignore')

    def step(*arrays):
        results = iter(function(*arrays))
        finite, moments, degenerate, values = [
            [np.asarray(next(results)) for _ in group] for group in groups]
        for layer, ok in zip(layers, finite):
            if not ok:
                raise ValueError('the output of %s is not finite; nothing has '
                                 'been changed. It is the first such layer: '
                                 'look at its parameters and at the scale of '
                                 'the batch' % _named(layer))
        for (param, _), value in zip(updates, values):
            if not np.isfinite(value).all():
                owner = next(_named(layer) for layer in layers
                             if param in layer.params)
                raise ValueError(
                    'the initial value of %s of %s is not finite; nothing has '
                    'been changed. Its pre-activations are too small or too '
                    'large for %s' % (
                        param, owner, value.dtype))
        return list(zip(moments[::2], moments[1::2])), degenerate, values

    return step, [param for param, _ in updates]


def _named(layer):
    # a weight normalization by what it normalizes
    return (repr(layer) if isinstance(layer, WeightNormLayer)
            else describe(layer))


def _all_finite(output):
    if output.dtype not in theano.tensor.float_dtypes:
        return T.constant(True)
    return T.invert(T.any(T.isnan(output) | T.isinf(output)))


# --- the report ------------------------------------------------------------

def _warn(overwritten, report):
    if overwritten:
        warnings.warn(
            'initialize() has overwritten b and g that had been changed since '
            'the layer was made or last initialized (trained or loaded '
            'values?): %s' % ', '.join(
                describe(layer.input_layer) for layer in overwritten),
            stacklevel=3)
    for row in report:
        if row.degenerate.any():
            warnings.warn(
                '%s: filters %s are constant on this batch, so their g is '
                'left as it was' % (
                    describe(row.layer.input_layer),
                    ', '.join(map(str, np.flatnonzero(row.degenerate)))),
                stacklevel=3)
