"""Initialization without data: every layer keeps the norm of its input."""
import numbers
from collections import namedtuple

import lasagne
import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import (
    CustomRecurrentLayer, ElemwiseMergeLayer, Layer, MergeLayer,
    get_all_layers)
from theano.compile import SharedVariable

from .initialization import all_layers
from .initialization.network import inputs_of, warn_of_overwriting
from .layers import WeightNormLayer
from .naming import describe, suggest, table
from .parameters import all_records, value_of, values_set, with_inner_layers

__all__ = ['LayerGain', 'NormPreservingReport', 'initialize_norm_preserving']

#: What there is for V.
DIRECTIONS = ['orthogonal', 'normal', 'keep']


class LayerGain(namedtuple('LayerGain', [
        'layer', 'name', 'kind', 'fan_in', 'fan_out', 'gain', 'g'])):
    """The initialization of one normalized weight.

    Attributes
    ----------
    layer : :class:`lasagne.layers.Layer`
        The :class:`wnorm.WeightNormLayer`, or the layer that computes with
        the weight if there is none.

    name : str
        The name of the weight, such as ``'W'`` or ``'W_hid_to_cell'``.

    kind : str
        ``'plain'``; ``'last in branch'`` or ``'shortcut'`` of a residual
        block; ``'branch of a sum'``; ``'input-to-hidden'`` or
        ``'hidden-to-hidden'``.

    fan_in, fan_out : int
        The number of inputs of one output unit, and of outputs that one input
        unit feeds, strides left aside.

    gain, g : float
        g = sqrt(gain fan_in / fan_out) is what all filters start from.
    """
    __slots__ = ()


class NormPreservingReport(tuple):
    """One :class:`LayerGain` per weight, in order; prints as a table."""

    _HEAD = ('layer', 'kind', 'fan in', 'fan out', 'gain', 'g')

    def __str__(self):
        rows = [self._HEAD]
        for row in self:
            wrapped = isinstance(row.layer, WeightNormLayer)
            name = describe(row.layer.input_layer if wrapped else row.layer)
            rows.append((name if wrapped else '%s.%s' % (name, row.name),
                         row.kind, str(row.fan_in), str(row.fan_out),
                         '%.3g' % row.gain, '%.4g' % row.g))
        return table(rows)

    __repr__ = __str__


def initialize_norm_preserving(layer_or_layers, V='orthogonal', gains=None):
    r"""
    wnorm.initialize_norm_preserving(layer_or_layers, V='orthogonal',
    gains=None)

    Initialize a network without data, so that layers keep the norm.

    For each normalized weight, with the fan-in and fan-out of its layer:

    .. math:: g = \sqrt{\alpha \frac{n_{in}}{n_{out}}}, \qquad b = 0

    and V is drawn with orthogonal filters. The gain :math:`\alpha` is 2 if a
    rectifier follows, 1 / B for the last layer of the branch of one of B
    residual blocks, and 1 otherwise. Then in expectation the activations have
    the norm of the network's input, however deep it is.

    Parameters
    ----------
    layer_or_layers : :class:`lasagne.layers.Layer` or list
        The output layer or layers of the network.

    V : str
        ``'orthogonal'`` for filters that are orthogonal to each other, of
        norm 1, as far as there are weights enough for that; if there are more
        filters than weights in one, the filters' entries are orthogonal
        instead. ``'normal'`` for independent ones. ``'keep'`` leaves V as it
        is. A V that is an expression stays in any case.

    gains : dict, optional
        From layers to their gains :math:`\alpha`, positive numbers, in place
        of those that the graph tells; None leaves the layer as it is. A layer
        is named by itself or by the :class:`WeightNormLayer` on top of it,
        and a recurrent layer stands for all its weights.

    Returns
    -------
    NormPreservingReport
        A tuple with one :class:`wnorm.norm_preserving.LayerGain` per weight.
        Prints as a table.

    Raises
    ------
    TypeError, ValueError
        If the network has no normalized weight, if a g cannot be set, because
        it is None or an expression, or would have to be two things at once,
        because layers share it, or if an argument does not fit. Then nothing
        has changed, the random number generator included.

    Warns
    -----
    UserWarning
        If b or g of a layer have been changed since the layer was made or
        last initialized: trained or loaded values are overwritten.

    Notes
    -----
    Call it once, after the network is built, in place of :func:`initialize`
    where there are no data yet, or before it. If g = exp(s), s is set. One
    gain for several filters has the same value. A b that is None or an
    expression stays as it is, and so do the biases of layers without a
    :class:`WeightNormLayer`, such as those of the gates of an LSTM.

    **The gain.** The nonlinearity is the layer's own, or that of a
    :class:`lasagne.layers.NonlinearityLayer` further up, pooling, dropout and
    reshaping in between. It is tried out: if it is :math:`a x` for x > 0 and
    :math:`c x` for x < 0, the gain is :math:`2 / (a^2 + c^2)`, which is 2 for
    a rectifier and :math:`2 / (1 + c^2)` for a leaky one. For all others it
    is 1, as for a linear layer. What pooling does to the norm is not
    accounted for.

    **Fans.** The norm is that of all channels at one position; strides,
    therefore, do not enter :math:`n_{in}` and :math:`n_{out}`, which are the
    channels times the extent of the filter, :math:`n_{out}` divided by the
    number of groups. In a transposed convolution only one in
    :math:`\prod stride` weights meets an input, so its gain is multiplied
    by that product. At the borders of a padded convolution there is less
    input, and the norm shrinks somewhat.

    **Residual blocks** are recognized by their sum: some of its inputs, the
    shortcuts, have fewer layers with weights behind them than the others, the
    branches, counted from the last layer they have in common. The gain of
    the last layer of a branch is divided by B k, where k is the number of
    branches of that sum and B the number of blocks of its stage: blocks in
    succession, of which all but the first have shortcuts without weights or
    change of shape. Within a stage the squared norm grows to
    :math:`(1 + 1 / B)^B < e` times what it was. If a nonlinearity that is not
    odd, such as a rectifier, comes between the last layer and the sum, the
    branches have a mean in common, norms add up instead of their squares, and
    the divisor is :math:`(B k)^2`. A layer that ends in a shortcut has
    the gain of its nonlinearity. In a sum of k branches as long as each
    other, all are divided by k. A branch that ends in anything else, such as
    a concatenation, is left alone. What the sum multiplies a branch by is
    made up for.

    **Recurrent layers.** Gains are 1: hidden-to-hidden matrices are then
    orthogonal with g = 1, so that the linear part of the recurrence keeps the
    norm of the state, and the others have
    :math:`g = \sqrt{n_{in} / n_{out}}`. Networks inside a
    :class:`lasagne.layers.CustomRecurrentLayer` are initialized like others.

    What is kept is the mean over draws of V of the squared norm. In a plain
    rectifier network of depth L and width n, that of a single draw has a
    logarithm with a variance of about 3 L / n for orthogonal V, 5 L / n for
    normal ones: for hundreds of layers take hundreds of units. The gradient
    is multiplied by :math:`\sqrt{n_{in} / n_{out}}` in each layer: it is kept
    where widths are equal, and over the whole network the factors make the
    root of the first width over the last.

    **Differences** from the authors' code: its :math:`n_{out}` does not know
    of groups, with which g would be too small by the root of their number;
    it gives the stem of a residual network, which has no rectifier, gain 1 in
    one model, as here, and 2 in the other; and it has no transposed
    convolutions, leaky rectifiers, branches that end in a rectifier, or
    recurrent layers, for which the above is its equivalent. Gain 1 for
    shortcuts and 1 / B, with B per stage, are the authors'.

    See Also
    --------
    initialize : Data-dependent initialization.

    References
    ----------
    .. [1] Arpit, Devansh, Victor Campos, and Yoshua Bengio (2019):
           How to Initialize your Network? Robust Initialization for WeightNorm
           & ResNets. arXiv preprint arXiv:1906.02341.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer, ElemwiseSumLayer
    >>> from wnorm import initialize_norm_preserving, weight_norm
    >>> l = weight_norm(DenseLayer(InputLayer((None, 20)), 40))
    >>> for _ in range(2):
    ...     branch = weight_norm(DenseLayer(l, 10))
    ...     branch = weight_norm(DenseLayer(branch, 40, nonlinearity=None))
    ...     l = ElemwiseSumLayer([l, branch])
    >>> initialize_norm_preserving(l)    # doctest: +NORMALIZE_WHITESPACE
    layer                  kind            fan in  fan out  gain  g
    DenseLayer (None, 40)  plain           20      40       2     1
    DenseLayer (None, 10)  plain           40      10       2     2.828
    DenseLayer (None, 40)  last in branch  10      40       0.5   0.3536
    DenseLayer (None, 10)  plain           40      10       2     2.828
    DenseLayer (None, 40)  last in branch  10      40       0.5   0.3536
    """
    layers = with_inner_layers(all_layers(layer_or_layers))
    records = all_records(layers)
    if not records:
        raise ValueError('no layer of this network is weight-normalized: '
                         'wrap its layers with weight_norm first (last layer: '
                         '%s)' % describe(layers[-1]))
    if not isinstance(V, str) or V not in DIRECTIONS:
        raise ValueError('V must be one of %s, got %r.%s' % (
            ', '.join(map(repr, DIRECTIONS)), V,
            suggest(V, DIRECTIONS) if isinstance(V, str) else ''))
    given = _given_gains(records, layers, gains)
    records = [record for record in records
               if given.get(record, 1) is not None]
    graph = _Graph(layers)
    rows = [_row(record, graph, given.get(record)) for record in records]
    values = _gains_and_biases(records, rows)
    owners = lasagne.utils.unique(
        record.owner for record in records
        if isinstance(record.owner, WeightNormLayer))
    warn_of_overwriting('initialize_norm_preserving', [
        owner for owner in owners if owner.changed()], 2)

    rng = lasagne.random.get_rng()
    state = rng.get_state()
    try:
        for record in records:
            if (V != 'keep' and isinstance(record.V, SharedVariable) and
                    record.V not in values):
                values[record.V] = _directions(record, V, rng)
        with values_set({param: value.astype(param.dtype)
                         for param, value in values.items()}):
            pass
    except BaseException:  # an interruption as well
        rng.set_state(state)
        raise
    for owner in owners:
        owner.remember()
    return NormPreservingReport(rows)


# --- checks ----------------------------------------------------------------

def _given_gains(records, layers, gains):
    """The argument `gains`, by record."""
    if not (gains is None or isinstance(gains, dict)):
        raise TypeError('gains is a dictionary from layers to numbers, got a '
                        '%s' % type(gains).__name__)
    given = {}
    for layer, gain in (gains or {}).items():
        what = describe(layer) if isinstance(layer, Layer) else repr(layer)
        inside = with_inner_layers([layer]) if layer in layers else []
        meant = [record for record in records
                 if record.owner in inside or record.layer in inside]
        if not meant:
            raise ValueError('gains names %s, which is no weight-normalized '
                             'layer of this network' % what)
        if gain is not None and (
                isinstance(gain, bool) or not isinstance(gain, numbers.Real)
                or not 0 < gain < float('inf')):
            raise ValueError('%s: a gain is a positive number, or None to '
                             'leave the layer as it is; got %r'
                             % (what, gain))
        given.update((record, gain) for record in meant)
    return given


def _named(record):
    name = describe(record.layer)
    return (name if isinstance(record.owner, WeightNormLayer) else
            '%s.%s' % (name, record.label))


def _gains_and_biases(records, rows):
    """The new values of all g (or s) and b, {shared variable: array}."""
    values, owner, fixed = {}, {}, []
    for record, row in zip(records, rows):
        param = record.g_param
        if param is None and abs(row.g - 1) < 1e-12:
            pass  # filters of norm 1 it shall be
        elif not isinstance(param, SharedVariable):
            fixed.append('%s is %s and should be %.4g' % (
                _named(record), 'None' if param is None else 'an expression',
                row.g))
        else:
            value = np.full(param.get_value(borrow=True).shape,
                            np.log(row.g) if record.gain.exp else row.g)
            other = values.setdefault(param, value)
            if not np.allclose(other, value, rtol=1e-12):
                raise ValueError(
                    '%s and %s share %s, which cannot be right for both: give '
                    'each its own, or both one gain in gains, or leave one '
                    'as it is: gains={layer: None}'
                    % (_named(owner[param]), _named(record), param))
            owner.setdefault(param, record)
        b = getattr(record.owner, 'b', None)
        if (isinstance(record.owner, WeightNormLayer) and
                isinstance(b, SharedVariable)):
            values[b] = np.zeros_like(b.get_value(borrow=True))
    if fixed:
        raise ValueError(
            'g cannot be set: that of %s. Give the layer a g of its own, such '
            'as g=lasagne.init.Constant(1.), or leave it as it is: '
            'gains={layer: None}' % ', that of '.join(fixed))
    return values


# --- one weight ------------------------------------------------------------

def _row(record, graph, gain):
    kind, own_gain = graph.gain(record)
    if gain is None:
        gain = own_gain * _upsampling(record)
    fan_in, fan_out, _ = _fans(record)
    wrapped = isinstance(record.owner, WeightNormLayer)
    return LayerGain(
        record.owner if wrapped else record.layer, record.label, kind,
        fan_in, fan_out, float(gain), float(np.sqrt(gain * fan_in / fan_out)))


def _shape(record):
    if isinstance(record.V, SharedVariable):
        return record.V.get_value(borrow=True).shape
    return value_of(record.V, _named(record)).shape


def _fans(record):
    """Fan-in, fan-out, and the number of groups that V consists of."""
    shape = _shape(record)
    sizes = [shape[axis] for axis in record.layout.norm_axes(len(shape))]
    # of the summed axes, the first are the channels
    channelwise = getattr(record.layer, 'channelwise', False)
    extent = int(np.prod(sizes if channelwise else sizes[1:], dtype=int))
    groups = (record.num_filters if channelwise else
              getattr(record.layer, 'num_groups', 1))
    return (int(np.prod(sizes, dtype=int)),
            record.num_filters * extent // groups, groups)


def _upsampling(record):
    """How many weights of a filter there are to one that meets an input."""
    ndim = record.V.ndim
    transposed = ndim > 2 and record.layout.filter_axis % ndim == 1
    return np.prod(getattr(record.layer, 'stride', 1)) if transposed else 1


def _directions(record, kind, rng):
    """New values of V, each filter of norm 1, or of that on average."""
    shape, layout = _shape(record), record.layout
    ndim = len(shape)
    groups = _fans(record)[2]
    positions = [axis % ndim for axis in layout.position_axes]
    order = (positions + [layout.filter_axis % ndim] +
             list(layout.norm_axes(ndim)))
    filters = record.num_filters // groups
    size = int(np.prod([shape[axis] for axis in order[len(positions) + 1:]]))
    V = rng.normal(size=(int(np.prod(shape)) // (filters * size), filters,
                         size))
    V = (np.array([_orthogonal(matrix) for matrix in V])
         if kind == 'orthogonal' else V / np.sqrt(size))
    return V.reshape([shape[axis] for axis in order]).transpose(
        np.argsort(order))


def _orthogonal(matrix):
    """Orthonormal rows, or columns, whichever are fewer."""
    wide = matrix.shape[0] < matrix.shape[1]
    q, r = np.linalg.qr(matrix.T if wide else matrix)
    # Without the signs the diagonal is negative on average. The activations
    # of rectifiers have a mean, and would shrink from layer to layer.
    q = q * np.where(np.diag(r) < 0, -1, 1)
    return q.T if wide else q


# --- the graph -------------------------------------------------------------

#: The gain of no nonlinearity, and that it is odd.
LINEAR = (1., True)


def _below(layer):
    return [below for below in inputs_of(layer) if below is not None]


def _has_weights(layer):
    return (getattr(layer, 'W', None) is not None or
            any(param.ndim > 1 for param in layer.params))


def _is_transparent(layer):
    """Whether a layer has one input and nothing that weighs it: dropout,
    pooling, reshaping, nonlinearities, batch normalization."""
    return (len(_below(layer)) == 1 and not _has_weights(layer) and
            not isinstance(layer, MergeLayer) and
            (not isinstance(layer, WeightNormLayer) or layer.folded))


def _is_sum(layer):
    return (isinstance(layer, ElemwiseMergeLayer) and
            layer.merge_function == T.add)


def _function(layer):
    """The nonlinearity that a layer applies, or None."""
    slopes = getattr(layer, 'alpha', None)  # of a ParametricRectifierLayer
    if isinstance(slopes, SharedVariable):
        slope = np.sqrt(np.mean(np.square(slopes.get_value())))
        return lambda x: T.switch(T.gt(x, 0), x, slope * x)
    return getattr(layer, 'nonlinearity', None)


def _try_out(function):
    """The gain that `function` asks for, and whether it is odd."""
    mode = theano.Mode(linker='py', optimizer=None)  # nothing is compiled
    with theano.change_flags(warn_float64='ignore'):
        x = T.dmatrix()
        try:
            y = theano.function([x], function(x), mode=mode,
                                no_default_updates=True)(
                                    [[-2., -1., 1., 2.]])
            minus2, minus1, plus1, plus2 = np.asarray(y, 'float64')[0]
        except Exception:  # it wants something else than a matrix
            return 1., False
    odd = np.allclose([minus1, minus2], [-plus1, -plus2], rtol=1e-5)
    size = (plus1 ** 2 + minus1 ** 2) / 2
    if 0 < size < float('inf') and np.allclose(
            [plus2, minus2], [2 * plus1, 2 * minus1], rtol=1e-5):
        return 1 / size, odd
    return 1., odd


class _Graph(object):
    """What a network is like around each of its layers.

    `layers` are all, those inside recurrent ones included, each after those
    that feed it.
    """
    def __init__(self, layers):
        self.index = {layer: i for i, layer in enumerate(layers)}
        self.above = {layer: [] for layer in layers}
        self.behind = {}  # a layer and all that feed it
        for layer in layers:
            self.behind[layer] = {layer}.union(
                *[self.behind[below] for below in _below(layer)])
            for below in _below(layer):
                self.above[below].append(layer)
        self.records = {record.owner: record for record in all_records(layers)
                        if record.name == 'W'}
        self.roles = {}
        for layer in layers:
            if isinstance(layer, CustomRecurrentLayer):
                for top, role in (
                        (layer.input_to_hidden, 'input-to-hidden'),
                        (layer.hidden_to_hidden, 'hidden-to-hidden')):
                    for inner in get_all_layers(top):
                        self.roles[inner] = role
        self.tried = {}  # nonlinearities
        self.sums = set()  # without shortcut
        self.ends = {}  # owner: (kind, number of terms, coefficient)
        self._find_ends([layer for layer in layers if _is_sum(layer)])

    def gain(self, record):
        """What kind of weight it is, and the gain."""
        if record.name != 'W':  # what its layer does with it is not known
            for start, role in (('W_in_to_', 'input-to-hidden'),
                                ('W_hid_to_', 'hidden-to-hidden')):
                if record.name.startswith(start):
                    return role, 1.
            return 'plain', 1.
        gain, odd = self._function_of(record)
        kind, terms, coefficient = self.ends.get(
            record.owner, (self.roles.get(record.layer, 'plain'), 1, 1.))
        if kind == 'last in branch' and not odd:
            terms = terms ** 2
        return kind, gain / terms / (coefficient ** 2 or 1.)

    # what follows

    def _function_of(self, record):
        for layer in (record.layer, record.owner):
            found = self._tried(_function(layer))
            if found != LINEAR:
                return found
        return self._following(record.owner)

    def _following(self, layer):
        """That of all layers on top of `layer`, if they agree."""
        found = {self._through(above) for above in self.above[layer]}
        return found.pop() if len(found) == 1 else LINEAR

    def _through(self, layer):
        if layer in self.sums:
            return self._following(layer)
        if not _is_transparent(layer):
            return LINEAR
        found = self._tried(_function(layer))
        return self._following(layer) if found == LINEAR else found

    def _tried(self, function):
        if not callable(function):
            return LINEAR
        if id(function) not in self.tried:  # not all can be hashed
            self.tried[id(function)] = function, _try_out(function)
        return self.tried[id(function)][1]

    # sums

    def _find_ends(self, sums):
        blocks, stages = [], {}
        for total in sums:
            inputs = _below(total)
            common = set.intersection(*[self.behind[i] for i in inputs])
            fork = max(common, key=self.index.get) if common else None
            inside = self.behind.get(fork, set())
            weights = [sum(map(_has_weights, self.behind[i] - inside))
                       for i in inputs]
            short = [count == min(weights) for count in weights]
            if fork is None or all(short):
                self.sums.add(total)
                self._end(total, inside, short, 'branch of a sum',
                          len(inputs))
                continue
            before = self._sum_behind(fork)
            same = (before in stages and min(weights) == 0 and
                    fork.output_shape == total.output_shape)
            stages[total] = stages[before] if same else []
            stages[total].append(total)
            blocks.append((total, inside, short))
        for total, inside, short in blocks:
            self._end(total, inside, short, 'shortcut', 1)
            long = [not one for one in short]
            self._end(total, inside, long, 'last in branch',
                      len(stages[total]) * sum(long))

    def _end(self, total, inside, chosen, kind, terms):
        """Note the last layers of the `chosen` inputs of a sum."""
        coefficients = getattr(total, 'coeffs', [1.] * len(chosen))
        for layer, this, coefficient in zip(_below(total), chosen,
                                            coefficients):
            while this and layer not in inside and _is_transparent(layer):
                layer = _below(layer)[0]
            if this and layer not in inside and layer in self.records:
                # shortcuts keep what they have been multiplied by
                self.ends[layer] = (kind, terms, 1. if kind == 'shortcut'
                                    else coefficient)

    def _sum_behind(self, layer):
        while _is_transparent(layer):
            layer = _below(layer)[0]
        return layer
