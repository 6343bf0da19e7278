"""Data-dependent initialization of b and g, from one batch of data."""
import re
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
    TypeError
        If `layer_or_layers` is no network.

    ValueError
        If no layer of the network is weight-normalized, or if one pass cannot
        initialize it: two layers share a b or g, a weight-normalized layer or
        one that feeds it computes with the b or g of another, or there is a
        nonlinearity between the weight and its normalization.

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
    given = inputs if isinstance(inputs, dict) else {}
    layers = all_layers(layer_or_layers, given)
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

    MemoryError
        If host or device has not enough memory for the batch. Nothing has
        changed.

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
    of some hundred examples. It changes nothing but b and g: no running
    averages of batch normalization, no attributes of the layers.

    In networks without noise, or with ``deterministic=True``, the statement
    about means and deviations holds exactly, and calling it twice changes
    nothing. With dropout or noise each pass draws anew: the statement holds
    for the draw of the initializing pass.

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
    wrapped = wrapped_layers(layers)
    data = _checked_batch(layers, batch)
    overwritten = [layer for layer in wrapped if layer.changed()]
    step, params = _compile(layers, wrapped, list(data), deterministic)
    before, degenerate, values = step(*data.values())
    _warn(wrapped, overwritten, degenerate)  # perhaps as an error
    old = [param.get_value() for param in params]
    try:
        for param, value in zip(params, values):
            param.set_value(value)
        after, _, _ = step(*data.values())
    except BaseException:  # an interruption as well
        for param, value in zip(params, old):
            param.set_value(value)
        raise
    for layer in wrapped:
        layer.remember()
    return Report(
        LayerReport(layer, mean_before, std_before, mean_after, std_after,
                    constant)
        for layer, (mean_before, std_before), (mean_after, std_after), constant
        in zip(wrapped, before, after, degenerate))


def all_layers(layer_or_layers, inputs=()):
    """The layers of a network, from the input on, or from `inputs`.

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
    layers = get_all_layers(list(outputs), inputs)
    for layer in layers:
        if (None in _below(layer) and layer not in inputs and
                not isinstance(layer, InputLayer)):
            raise ValueError('%s stands on a shape, not on a layer: put an '
                             'InputLayer below it' % describe(layer))
    return layers


def wrapped_layers(layers):
    """Those of `layers` that are weight-normalized, at least one.

    Raises
    ------
    ValueError
        If there is none, or if one cannot be initialized.
    """
    wrapped = [layer for layer in layers if isinstance(layer, WeightNormLayer)]
    if not wrapped:
        raise ValueError('no layer of this network is weight-normalized: '
                         'wrap its layers with weight_norm first (last layer: '
                         '%s)' % describe(layers[-1]))
    for layer in wrapped:
        inner = getattr(layer.input_layer, 'nonlinearity', None)
        if inner not in (None, identity):
            raise ValueError(
                '%s has a nonlinearity below its weight normalization, so its '
                'pre-activations cannot be initialized: wrap it with '
                'weight_norm, which takes the nonlinearity over, or give it '
                'nonlinearity=None' % describe(layer.input_layer))
    return wrapped


def _named(layer):
    """A weight normalization is known by what it normalizes."""
    if isinstance(layer, WeightNormLayer):
        return 'weight-normalized ' + describe(layer.input_layer)
    return describe(layer)


def _below(layer):
    """The layers that feed `layer`; None for a mere shape."""
    return getattr(layer, 'input_layers',
                   [getattr(layer, 'input_layer', None)])


# --- the batch -------------------------------------------------------------

def _checked_batch(layers, batch):
    """The batch as ``{input layer: array of its input's dtype}``."""
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

    One pass is exact only if no weight-normalized layer, and none below one,
    computes with a parameter that the pass changes elsewhere.
    """
    wrapped = wrapped_layers(layers)
    updates, owner = [], {}
    for layer in layers:
        for param, value in getattr(layer, 'init_updates', []):
            if param in owner:
                raise ValueError(
                    '%s and %s share %s: data-dependent initialization '
                    'cannot set it for both. Give each its own'
                    % (_named(owner[param]), _named(layer), param))
            owner[param] = layer
            updates.append((param, value))
    output = dict(zip(layers, outputs))
    # the g that the weights of a layer contain
    own_g = {layer.input_layer: layer.g_param for layer in wrapped}
    feeding = set(get_all_layers(wrapped))
    for layer in [layer for layer in layers if layer in feeding]:
        blockers = [output[below] for below in _below(layer)
                    if below in output]
        for leaf in theano.gof.graph.inputs([output[layer]], blockers):
            if (owner.get(leaf, layer) is not layer and
                    leaf is not own_g.get(layer)):
                raise ValueError(
                    '%s computes with %s of %s, which the initialization '
                    'changes in the same pass: it cannot do both at once. If '
                    'weights are tied, tie them to the direction parameter: '
                    'W_param in place of W. Else initialize the network that '
                    '%s belongs to first, and leave it out here'
                    % (_named(layer), leaf, _named(owner[leaf]), leaf))
    return updates


def _compile(layers, wrapped, inputs, deterministic):
    """The function that computes all that :func:`initialize` needs to know.

    Returns
    -------
    step : callable
        From one array per layer of `inputs` to the moments of the network as
        it is, the degenerate filters and the new values of `params`. Raises
        ValueError if any activation of the initializing pass is not finite.

    params : list of shared variables
    """
    symbols = [layer.input_var.type() for layer in inputs]
    given = dict(zip(inputs, symbols))
    # layers keep expressions of their last pass: not of these ones
    attributes = [(layer, dict(vars(layer))) for layer in layers]
    try:
        moments = []
        for layer, t in zip(wrapped, get_output(
                [layer.input_layer for layer in wrapped], given,
                deterministic=deterministic)):
            if layer.b is not None:
                t = t + layer.align(layer.b)
            moments += layer.moments(t)[:2]
        outputs = get_output(layers, given, init=True,
                             deterministic=deterministic)
        updates = _updates(layers, outputs)
    finally:
        for layer, before in attributes:
            vars(layer).clear()
            vars(layer).update(before)
    output = dict(zip(layers, outputs))
    finite = [_all_finite(output[layer]) for layer in layers]
    degenerate = [layer.moments(output[layer.input_layer])[2]
                  for layer in wrapped]
    groups = [finite, moments, degenerate, [value for _, value in updates]]
    results = sum(groups, [])
    unknown = [leaf for leaf in theano.gof.graph.inputs(results)
               if _is_free(leaf) and leaf not in symbols]
    if unknown:
        raise ValueError('the network depends on %s, for which there is no '
                         'data: give it a value or make it an input layer'
                         % ', '.join(map(str, unknown)))
    # no default updates: running averages stay as they are
    function = theano.function(symbols, results, no_default_updates=True,
                               on_unused_input='ignore')

    def step(*arrays):
        try:
            # what is not finite is an error here
            with np.errstate(all='ignore'):
                results = iter(function(*arrays))
        except Exception as error:
            if not _is_exhaustion(error):
                raise
            raise MemoryError(
                'no memory for initialization%s; nothing has been changed. '
                'Initialize with fewer examples: some hundred do' % (
                    ' with a batch of %d examples' % len(arrays[0])
                    if arrays else ''))
        finite, moments, degenerate, values = [
            [np.asarray(next(results)) for _ in group] for group in groups]
        for layer, ok in zip(layers, finite):
            if not ok:
                raise ValueError(
                    'the output of %s is empty or not finite; nothing has '
                    'been changed. It is the first such layer: look at its '
                    'parameters, and at the shape and scale of the batch'
                    % _named(layer))
        for (param, _), value in zip(updates, values):
            if not np.isfinite(value).all():
                owner = next(_named(layer) for layer in layers
                             if param in layer.params)
                raise ValueError(
                    'the initial value of %s of %s is not finite; nothing has '
                    'been changed. Its pre-activations are too small or too '
                    'large for %s' % (param, owner, value.dtype))
        return list(zip(moments[::2], moments[1::2])), degenerate, values

    return step, [param for param, _ in updates]


def _is_exhaustion(error):
    """Whether an error says that host or device ran out of memory.

    A device has no type of its own for that: of CUDA and OpenCL there is
    only the text.
    """
    return isinstance(error, MemoryError) or bool(re.search(
        r'out.of.(host.)?(memory|resources)|allocat\w*.fail|alloc_failed|'
        'could not allocate|invalid.buffer.size', str(error), re.IGNORECASE))


def _all_finite(output):
    if output.dtype not in theano.tensor.float_dtypes:
        return T.gt(output.size, 0)
    return T.gt(output.size, 0) & T.invert(
        T.any(T.isnan(output) | T.isinf(output)))


def _warn(wrapped, overwritten, degenerate):
    if overwritten:
        warnings.warn(
            'initialize() overwrites b and g that have been changed since the '
            'layer was made or last initialized (trained or loaded values?): '
            '%s' % ', '.join(describe(layer.input_layer)
                             for layer in overwritten), stacklevel=3)
    for layer, constant in zip(wrapped, degenerate):
        if constant.any():
            warnings.warn(
                '%s: filters %s are constant on this batch, so their g stays '
                'as it was' % (
                    describe(layer.input_layer),
                    ', '.join(map(str, np.flatnonzero(constant)))),
                stacklevel=3)
