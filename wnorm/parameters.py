"""Any parameter of any layer: the primitive below all, and its record."""
import numbers
from collections import OrderedDict
from contextlib import contextmanager

import lasagne
import numpy as np
import theano
from lasagne.layers import CustomRecurrentLayer, Layer, get_all_layers
from theano.compile import SharedVariable

from . import filters
from .gains import as_gain
from .naming import describe
from .ops import normalized
from .ops.weight import FLOATS

__all__ = ['normalize_param']

#: Whether Lasagne takes expressions for parameters (0.1 does not).
EXPRESSIONS = hasattr(lasagne.utils, 'collect_shared_vars')


class NormalizedParam(object):
    """The record of one normalized parameter: what all other rooms go by.

    Attributes
    ----------
    layer : :class:`lasagne.layers.Layer`
        The layer that computes with the parameter.
    name : str
        Its name, such as ``'W'``.
    label : str
        The name that users know it by, if that is another one.
    V : Theano shared variable or expression
        What was the parameter.
    layout : :class:`wnorm.Layout`
    eps : float
    num_filters : int
    gain : :class:`wnorm.Gain` or None
        The form of g.
    g_param : Theano shared variable, expression or None
        The parameter of the gain: g itself, or s where g = exp(s).
    g : the same
        The gain, of the shape of `g_param`.
    owner : :class:`lasagne.layers.Layer`
        The layer among whose parameters `g_param` is: `layer`, or the
        :class:`wnorm.WeightNormLayer` on top of it.
    aliases : tuple of str
        Attributes of the layer that are V or the gain under other names.
    """
    aliases = ()

    #: Whether it is divided by norms; or W = g V.
    normalizes = True

    def __init__(self, layer, name, layout, eps, num_filters, gain):
        self.layer = layer
        self.name = self.label = name
        self.V = getattr(layer, name)
        self.layout = layout
        self.eps = eps
        self.num_filters = num_filters
        self.gain = gain
        self.g_param = self.g = self.owner = None

    @property
    def W(self):
        """The effective weight, an expression."""
        return getattr(self.layer, self.name)

    def draw(self, V=None):
        """The values or variable that `g_param` starts from.

        `V` are the values that V will have, if that is not what it has.
        """
        if self.gain is None:
            return None
        if not self.gain.is_norm:
            return self.gain.draw(self.layer, self.num_filters)
        norms = self.norms(V)
        if not np.isfinite(norms).all():
            raise ValueError('%s: %s contains NaN or infinity'
                             % (describe(self.layer), self.name))
        return self.gain.from_norms(norms)

    def shape(self, values):
        """The shape of `g_param`, given what :meth:`draw` returned."""
        return (values.shape if isinstance(values, np.ndarray) else
                self.gain.shape(self.num_filters))

    def norms(self, V=None):
        """sqrt(eps + sum V^2), one per filter, or per filter and position."""
        V = (value_of(self.V, '%s: %s' % (describe(self.layer), self.name))
             if V is None else V).astype('float64')
        axes = self.layout.norm_axes(V.ndim)
        # relative to the largest entry, so that no square under- or overflows
        root = np.sqrt(self.eps)
        unit = np.max(abs(V), axis=axes, keepdims=True, initial=root)
        unit = np.where(unit == 0, 1, unit)
        norms = np.squeeze(unit * np.sqrt((root / unit) ** 2 + np.sum(
            np.square(V / unit), axis=axes, keepdims=True)), axes)
        kept = [axis for axis in range(V.ndim) if axis not in axes]
        order = [self.layout.filter_axis] + list(self.layout.position_axes)
        return norms.transpose([kept.index(axis % V.ndim) for axis in order])

    def put(self, g_param, owner):
        """Make the layer compute with the effective weight."""
        self.owner = owner
        if g_param is not None:
            self.g_param = g_param
            self.g = self.gain.value(g_param)
        setattr(self.layer, self.name + '_param', self.V)
        W = normalized(self.V, self.gain and self.gain.spread(
            self.g, self.num_filters), self.layout, self.eps)
        W.tag.layer = describe(self.layer)  # for wnorm.explain
        if self.label != 'W':
            W.tag.layer += '.' + self.label
        setattr(self.layer, self.name, W)
        # another dictionary: who holds the former one sees no change
        self.layer.normalized_params = OrderedDict(
            records(self.layer), **{self.name: self})


def has_W(layer):
    """Whether a layer has a weight W, a variable or an expression."""
    return isinstance(getattr(layer, 'W', None), theano.Variable)


def records(layer):
    """The normalized parameters of a layer: {name: NormalizedParam}."""
    return getattr(layer, 'normalized_params', OrderedDict())


def scaled(layer):
    """The record of a W that has a gain, but no norms; None if it has not."""
    return getattr(layer, 'scaled_W', None)


def all_records(layers):
    """Those of many layers, in order and inside recurrent ones too."""
    return [record for layer in with_inner_layers(layers)
            for record in records(layer).values()]


def with_inner_layers(layers):
    """`layers`, each followed by the nets inside it, without duplicates."""
    found = []
    for layer in layers:
        found.append(layer)
        if isinstance(layer, CustomRecurrentLayer):
            found += with_inner_layers(get_all_layers(
                [layer.input_to_hidden, layer.hidden_to_hidden]))
    return lasagne.utils.unique(found)


def value_of(variable, what):
    """The value of a shared variable or of an expression of such."""
    if isinstance(variable, SharedVariable):
        return variable.get_value()
    free = [leaf for leaf in theano.gof.graph.inputs([variable])
            if not isinstance(leaf, (SharedVariable, theano.Constant))]
    if free:
        raise ValueError('%s depends on %s, so it has no value of its own'
                         % (what, ', '.join(map(str, free))))
    # without the updates that random numbers bring along
    return np.asarray(theano.function([], variable,
                                      no_default_updates=True)())


@contextmanager
def values_set(values):
    """Set shared variables, ``{variable: value}``: all of them, or, if that or
    what is done with them fails, none."""
    old = [(variable, variable.get_value()) for variable in values]
    try:
        for variable, value in values.items():
            variable.set_value(value)
        yield
    except BaseException:  # an interruption as well
        for variable, value in old:
            variable.set_value(value)
        raise


def add_param(layer, spec, shape, name, **tags):
    """``layer.add_param``, which on Lasagne 0.1 refuses expressions."""
    if EXPRESSIONS or isinstance(spec, (np.ndarray, SharedVariable)):
        return layer.add_param(spec, shape, name=name, **tags)
    # the shared variables that the expression consists of
    tags = dict(dict(trainable=True, regularizable=True), **tags)
    for leaf in theano.gof.graph.inputs([spec]):
        if isinstance(leaf, SharedVariable):
            layer.params.setdefault(leaf, {tag for tag in tags if tags[tag]})
    return spec


def normalize_param(layer, name='W', axis=None, g='norm', train_g=False,
                    eps=1e-6):
    r"""
    wnorm.normalize_param(layer, name='W', axis=None, g='norm', train_g=False,
    eps=1e-6)

    Normalize one parameter of a layer, and leave the rest of it alone.

    .. math:: W = g \frac{V}{\sqrt{\epsilon + \sum V^2}}

    Parameters
    ----------
    layer : a :class:`lasagne.layers.Layer` instance
        The layer; it is modified.

    name : str
        The parameter: an attribute of `layer` that is a shared variable or
        an expression, with one norm for each entry of its filter axis.

    axis : int or :class:`Layout`, optional
        The axis that enumerates the filters, if the layer's class is not
        known to :mod:`wnorm.filters`.

    g : str, :class:`Gain`, shared variable, expression, array, callable, None
        The gain; as it comes, the effective weight is what the parameter was.
        See :class:`Gain`.

    train_g : bool
        Whether the gain is trainable.

    eps : float
        The constant under the root; 0 for exactly :math:`g V / ||V||`.

    Returns
    -------
    `layer`
        Of whose attributes now ``<name>`` is the expression W,
        ``<name>_param`` is V, still the parameter, and ``g_<name>`` the gain,
        a new parameter, not regularizable. With g = exp(s), the parameter is
        ``s_<name>``.

    Raises
    ------
    TypeError, ValueError
        If the layer has no such parameter, if it is normalized already, if
        its filter axis is neither given nor known, or if another argument
        does not fit. Then nothing has changed.

    Notes
    -----
    For layers of your own with several weights: attention, minibatch
    discrimination, bilinear forms. For a weight ``W`` in front of a bias and
    a nonlinearity, :func:`weight_norm` does more: its b and g can be
    initialized from data, which here :func:`initialize` leaves as they are.

    Examples
    --------
    >>> import lasagne, theano.tensor as T
    >>> from lasagne.layers import InputLayer, Layer
    >>> class Attention(Layer):
    ...     def __init__(self, incoming, units, **kwargs):
    ...         super(Attention, self).__init__(incoming, **kwargs)
    ...         shape = (self.input_shape[2], units)
    ...         self.key, self.query = [self.add_param(
    ...             lasagne.init.Normal(.1), shape, name=name)
    ...             for name in ('key', 'query')]
    ...     def get_output_for(self, input, **kwargs):
    ...         scores = T.batched_dot(T.dot(input, self.query), T.dot(
    ...             input, self.key).dimshuffle(0, 2, 1))
    ...         return T.batched_dot(T.nnet.softmax(scores.reshape(
    ...             (-1, input.shape[1]))).reshape(scores.shape), input)
    >>> from wnorm import normalize_param
    >>> l = Attention(InputLayer((None, 7, 20)), 5)
    >>> l = normalize_param(l, 'query', axis=1, train_g=True)
    >>> l = normalize_param(l, 'key', axis=1, train_g=True)
    >>> l.get_params()
    [key, query, g_query, g_key]
    """
    record = checked_record(layer, name, axis, g, eps)
    put_all([record], train_g)
    return layer


def put_all(made, train_g):
    """Reparameterize, each gain a parameter of the layer: all or none."""
    drawn = [record.draw() for record in made]
    for record, values in zip(made, drawn):
        g_param = None
        if record.gain is not None:
            kind = record.gain.name
            g_param = add_param(
                record.layer, values, record.shape(values),
                '%s_%s' % (kind, record.label), trainable=bool(train_g),
                regularizable=False)
            setattr(record.layer, '%s_%s' % (kind, record.name), g_param)
        record.put(g_param, record.layer)
        setattr(record.layer, 'g_' + record.name, record.g)


# --- checks, each of them before anything has changed ----------------------

def checked_record(layer, name, axis, g, eps):
    """The record for one parameter of `layer`, which is not yet changed."""
    if not isinstance(layer, Layer):
        raise TypeError('weight normalization takes a Lasagne layer, got %r'
                        % (layer,))
    V = getattr(layer, name, None) if isinstance(name, str) else None
    if not isinstance(V, theano.Variable):
        raise ValueError('%s has no parameter %r. It has %s' % (
            describe(layer), name, ', '.join(sorted(
                key for key, value in vars(layer).items()
                if isinstance(value, theano.Variable))) or 'none'))
    if name in records(layer):
        raise ValueError('%s: %s is weight-normalized already: normalize it '
                         'once' % (describe(layer), name))
    if isinstance(layer, CustomRecurrentLayer) and V not in layer.params:
        raise ValueError('%s: %s is a parameter of a layer inside: '
                         'weight_norm(layer, params=[%r])'
                         % (describe(layer), name, name))
    for form in ('%s_param', 'g_%s', 's_%s'):
        if hasattr(layer, form % name):
            raise ValueError('%s has an attribute %s already, which would be '
                             'overwritten: give it another name'
                             % (describe(layer), form % name))
    layout = (filters.layout(layer, name) if axis is None else
              filters.declared(layer, name, axis))
    check_axes(layer, name, V, layout)
    number = value_of(V, '%s: %s' % (describe(layer), name)).shape[
        layout.filter_axis]
    eps = check_eps(layer, eps)
    gain = as_gain(layer, g)
    if gain is not None:
        gain.check(layer, number)
    return NormalizedParam(layer, name, layout, eps, number, gain)


def check_axes(layer, name, V, layout):
    if V.dtype not in FLOATS:
        raise TypeError('%s: %s has dtype %s, must be floating point'
                        % (describe(layer), name, V.dtype))
    axes = (layout.filter_axis,) + layout.position_axes
    for axis in axes:
        if not -V.ndim <= axis < V.ndim:
            raise ValueError('%s: %s has %d dimensions, there is no axis %d'
                             % (describe(layer), name, V.ndim, axis))
    if len({axis % V.ndim for axis in axes}) < len(axes):
        raise ValueError('%s: the axes %s of %s are not different ones'
                         % (describe(layer), axes, name))


def check_eps(layer, eps):
    if not (isinstance(eps, numbers.Real) and 0 <= eps < float('inf')):
        raise ValueError('%s: eps must be a number, 0 or greater, got %r'
                         % (describe(layer), eps))
    return float(eps)
