"""Which axis of a weight enumerates the filters: one table, open to all.

The norm of weight normalization is taken over the weights of one output unit.
Where these lie in ``W`` differs from layer to layer; the layer's class tells.
"""
import inspect
import operator
from collections import namedtuple

from .naming import describe

__all__ = ['Layout', 'find', 'layout', 'register']


def _axis(value):
    if isinstance(value, bool):
        raise TypeError('an axis is an integer, got %r' % value)
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError('an axis is an integer, got %r' % (value,))


class Layout(namedtuple('Layout', 'filter_axis position_axes output_axis')):
    """
    wnorm.Layout(filter_axis, position_axes=(), output_axis=1)

    Where the filters lie in a weight, and in the output of its layer.

    Parameters
    ----------
    filter_axis : int
        The axis of the weight that enumerates the filters; ``g`` and ``b``
        run along it.

    position_axes : tuple of int
        The axes of the weight that enumerate positions, for layers that do
        not share weights over positions: each position has a norm of its own.

    output_axis : int
        The axis of the layer's output that enumerates the filters.

    Notes
    -----
    The norm is taken over all remaining axes. Axes may be negative.

    Examples
    --------
    >>> from wnorm import Layout
    >>> Layout(0).norm_axes(4)      # a convolution: (filters, in, h, w)
    (1, 2, 3)
    >>> Layout(0, position_axes=(-2, -1)).norm_axes(6)    # local filters
    (1, 2, 3)
    """
    __slots__ = ()

    def __new__(cls, filter_axis, position_axes=(), output_axis=1):
        return super(Layout, cls).__new__(
            cls, _axis(filter_axis), tuple(map(_axis, position_axes)),
            _axis(output_axis))

    def norm_axes(self, ndim):
        """The axes of a weight of `ndim` dimensions that the norm sums."""
        kept = [axis % ndim for axis in
                (self.filter_axis,) + self.position_axes]
        return tuple(axis for axis in range(ndim) if axis not in kept)


def _recurrent(*names):
    """(in, units) or (units, units), for each of the gates."""
    return {'W_%s_to_%s' % (source, name): Layout(1, output_axis=-1)
            for name in names for source in ('in', 'hid')}


# Lasagne's layers by name, not by class: some modules (dnn, corrmm) can only
# be imported where there is a GPU, and Lasagne 0.1 lacks many.
_LASAGNE = {
    'DenseLayer': Layout(1, output_axis=-1),      # (in, units)
    'NINLayer': Layout(1),                        # (in, units)
    'EmbeddingLayer': Layout(1, output_axis=-1),  # (vocabulary, units)
    'Conv1DLayer': Layout(0),                     # (filters, in, length)
    'Conv2DLayer': Layout(0),                     # (filters, in, h, w)
    'Conv2DDNNLayer': Layout(0),
    'Conv2DMMLayer': Layout(0),
    'Conv3DLayer': Layout(0),                     # (filters, in, d, h, w)
    'Conv3DDNNLayer': Layout(0),
    'TransposedConv2DLayer': Layout(1),           # (in, filters, h, w)
    'TransposedConv3DLayer': Layout(1),           # (in, filters, d, h, w)
    'DilatedConv2DLayer': Layout(1),              # (in, filters, h, w)
    # (filters, in, h, w, rows, columns), without `in` if channelwise
    'LocallyConnected2DLayer': Layout(0, position_axes=(-2, -1)),
    'LSTMLayer': _recurrent('ingate', 'forgetgate', 'cell', 'outgate'),
    'GRULayer': _recurrent('updategate', 'resetgate', 'hidden_update'),
}

_registered = {}  # class: {parameter: axis or Layout}


def register(layer_class, **layouts):
    """
    wnorm.register(layer_class, W=axis)

    Tell where the filters lie in the weights of your own layer class.

    Parameters
    ----------
    layer_class : class
        The class; its subclasses are included.

    **layouts : int or :class:`Layout`
        For each parameter, by name: the axis that enumerates its filters, or
        a :class:`Layout` where positions do not share weights. With a mere
        axis, the filters are on that axis of the output on which the base
        class has them, on axis 1 if that is not known.

    Raises
    ------
    TypeError
        If `layer_class` is no class, or if no parameter is named, or if an
        axis is no integer.

    Notes
    -----
    A class may say the same of itself: with an attribute ``filter_axis``, an
    axis or a :class:`Layout` for its ``W``, or a dictionary by parameter.

    Examples
    --------
    >>> import lasagne, wnorm
    >>> class ScaledDense(lasagne.layers.Layer):    # W: (units, in)
    ...     pass
    >>> wnorm.register(ScaledDense, W=0)

    or

    >>> class ScaledDense(lasagne.layers.Layer):
    ...     filter_axis = 0
    """
    if not inspect.isclass(layer_class):
        raise TypeError('register() takes a layer class, got %r'
                        % (layer_class,))
    if not layouts:
        raise TypeError('register(%s) needs at least one parameter, such as '
                        'W=0' % layer_class.__name__)
    for value in layouts.values():
        _as_layout(value, 1)  # or it is refused, before anything is kept
    _registered.setdefault(layer_class, {}).update(layouts)


def _as_layout(value, output_axis):
    return (value if isinstance(value, Layout) else
            Layout(value, output_axis=output_axis))


def _entries(layer_class):
    """What is said of parameters, as dictionaries by their name, from the
    class itself to its remotest base."""
    for cls in layer_class.__mro__:
        yield _registered.get(cls, {})
        yield _by_name(vars(cls).get('filter_axis'))
        if cls.__module__.startswith('lasagne.layers.'):
            yield _by_name(_LASAGNE.get(cls.__name__))


def _by_name(declared):
    if not isinstance(declared, dict):
        declared = {'W': declared}
    return {name: value for name, value in declared.items()
            if value is not None}


def names(layer):
    """The parameters of a layer for which a :class:`Layout` is known."""
    found = [name for entry in _entries(type(layer)) for name in entry]
    return sorted(set(found), key=found.index)


def find(layer, param='W'):
    """Look up the :class:`Layout` of a layer's parameter.

    Parameters
    ----------
    layer : :class:`lasagne.layers.Layer`

    param : str
        The name of the parameter.

    Returns
    -------
    Layout or None
        That of the layer's class or of the nearest base class that has one.

    Raises
    ------
    TypeError
        If what the class says is no axis.
    """
    entries = [entry[param] for entry in _entries(type(layer))
               if param in entry]
    if not entries:
        return None
    output_axes = [entry.output_axis for entry in entries
                   if isinstance(entry, Layout)]
    return declared(layer, param, entries[0], (output_axes + [1])[0])


def declared(layer, param, value, output_axis=1):
    """`value`, an axis or a :class:`Layout` for `param`, as a Layout."""
    try:
        return _as_layout(value, output_axis)
    except TypeError as error:
        raise TypeError('%s: the filter axis of %s: %s'
                        % (describe(layer), param, error))


def layout(layer, param='W'):
    """:func:`find`, or a TypeError that says how to register the class."""
    found = find(layer, param)
    if found is None:
        name = type(layer).__name__
        raise TypeError(
            '%s: which axis of %s enumerates the filters is not known for '
            'this class. Tell it once: wnorm.register(%s, %s=axis)'
            % (describe(layer), param, name, param))
    return found
