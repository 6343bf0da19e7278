"""Looking at a network: its layers as a table, its gains and norms drawn."""
import numpy as np
from lasagne.layers import get_all_params
from theano.compile import SharedVariable

from .initialization import all_layers
from .naming import table
from .parameters import all_records, records, value_of
from .report import new_axes

__all__ = ['plot_gains', 'summary']

HEAD = ('layer', 'output', 'parameters', 'trainable', 'V', 'axis', 'g',
        '||V||', 'values of g')
NUMBERS = [HEAD.index(name) for name in ('parameters', 'trainable', 'axis')]

#: Colours that can be told apart without seeing red or green.
COLOURS = {'g': '#0072b2', '||V||': '#e69f00'}


def summary(layer_or_layers, file=None):
    """
    wnorm.summary(layer_or_layers, file=None)

    Print the layers of a network and what is weight-normalized in them.

    Parameters
    ----------
    layer_or_layers : :class:`lasagne.layers.Layer` or list
        The output layer or layers of the network.

    file : file-like object, optional
        Where to print to; standard output if left out.

    Raises
    ------
    TypeError, ValueError
        If that is no network.

    Notes
    -----
    For each layer, from the input on: class and name, the shape of its
    output, how many numbers its parameters have and how many of these are
    trainable. In the last row, parameters of several layers count once.

    For each normalized parameter, which is a row of its own in layers with
    several: the shape of V; the axis that enumerates its filters; the form of
    g, see :class:`Gain`; the range of the norms sqrt(eps + sum V^2) and that
    of g. What depends on variables that have no value is an ``expression``.

    See Also
    --------
    plot_gains : Draws the norms and gains.

    Examples
    --------
    >>> from lasagne.init import Constant
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> from wnorm import summary, weight_norm
    >>> l = DenseLayer(InputLayer((None, 4)), 5, W=Constant(.5), name='fc1')
    >>> l = weight_norm(l, train_g=True)
    >>> summary(l)   # doctest: +ELLIPSIS, +NORMALIZE_WHITESPACE
    layer             output     parameters  trainable  V       axis ...
    InputLayer        (None, 4)           0          0
    DenseLayer 'fc1'  (None, 5)          20         20  (4, 5)     1 ...
    WeightNormLayer   (None, 5)          10         10
    total                                30         30
    """
    net = all_layers(layer_or_layers)
    rows = [HEAD]
    for layer in net:
        first = (_name(layer), _shape(layer)) + _numbers(layer.get_params)
        if list(records(layer)) == ['W']:
            rows.append(first + _describe(records(layer)['W']))
            continue
        rows.append(first)
        rows += [('  ' + _label(record, layer), '', '', '') + _describe(record)
                 for record in all_records([layer])]
    rows.append(('total', '') + _numbers(
        lambda **tags: get_all_params(net, **tags)))
    rows = [row + ('',) * (len(HEAD) - len(row)) for row in rows]
    print(table(rows, NUMBERS), file=file)


def plot_gains(layer_or_layers, ax=None):
    """
    wnorm.plot_gains(layer_or_layers, ax=None)

    Draw the distributions of the gains and norms of a network, per layer.

    Parameters
    ----------
    layer_or_layers : :class:`lasagne.layers.Layer` or list
        The output layer or layers of the network.

    ax : :class:`matplotlib.axes.Axes`, optional
        Where to draw; the axes of a new figure if left out.

    Returns
    -------
    :class:`matplotlib.axes.Axes`
        With two boxes for each normalized parameter, from the input on: g on
        the left and sqrt(eps + sum V^2) on the right. A box spans the
        quartiles over the filters.

    Raises
    ------
    ImportError
        If matplotlib is not installed.

    TypeError, ValueError
        If that is no network, or nothing in it is weight-normalized, or `ax`
        is something else.

    Notes
    -----
    There is no box for a g of None, nor for what depends on variables that
    have no value. Nothing is shown or saved: ``ax.figure.savefig(path)``.

    See Also
    --------
    summary : Prints ranges and shapes.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> from wnorm import plot_gains, weight_norm
    >>> l = weight_norm(DenseLayer(InputLayer((None, 20)), 50, name='fc1'))
    >>> ax = plot_gains(weight_norm(DenseLayer(l, 10, name='fc2')))
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ["DenseLayer 'fc1'", "DenseLayer 'fc2'"]
    >>> ax.figure.savefig('gains.png')   # doctest: +SKIP
    """
    found = [(layer, record) for layer in all_layers(layer_or_layers)
             for record in all_records([layer])]
    if not found:
        raise ValueError('there are no gains to draw: no layer of this '
                         'network is weight-normalized')
    if ax is None:
        ax = new_axes((max(6.4, .5 * len(found)), 4.8))
    elif not hasattr(ax, 'boxplot'):
        raise TypeError('ax must be the axes of a figure of matplotlib, got '
                        '%r' % (ax,))
    columns = {'g': [_gain(record) for _, record in found],
               '||V||': [_norms(record) for _, record in found]}
    boxes = []
    for shift, name in (-.2, 'g'), (.2, '||V||'):
        drawn = [(place + shift, values.ravel())
                 for place, values in enumerate(columns[name])
                 if values is not None]
        if drawn:
            places, values = zip(*drawn)
            boxes.append((name, ax.boxplot(
                values, positions=places, widths=.3, manage_ticks=False,
                flierprops=dict(markeredgecolor=COLOURS[name]),
                **{part + 'props': dict(color=COLOURS[name]) for part in (
                    'box', 'cap', 'median', 'whisker')})['boxes'][0]))
    ax.set_xticks(range(len(found)))
    ax.set_xticklabels(
        [_name(layer) if record.layer is layer and record.name == 'W' else
         '%s %s' % (_name(layer), _label(record, layer))
         for layer, record in found], rotation=30, ha='right')
    ax.set_xlim(-.6, len(found) - .4)
    if boxes:
        ax.legend([box for _, box in boxes], [name for name, _ in boxes])
    return ax


def _name(layer):
    """Class and name."""
    name = type(layer).__name__
    return name if layer.name is None else '%s %r' % (name, layer.name)


def _shape(layer):
    """That of the output."""
    return str(tuple(layer.output_shape))


def _label(record, layer):
    """How a parameter of `layer` or of a net inside it is called."""
    if record.layer is layer or record.label != record.name:
        return record.label
    return '%s of %s' % (record.label, _name(record.layer))


def _numbers(get_params):
    """How many numbers all and the trainable parameters have, as text."""
    return tuple(str(sum(param.get_value(borrow=True).size for param in
                         get_params(**tags)))
                 for tags in ({}, {'trainable': True}))


def _describe(record):
    """The cells of a normalized parameter."""
    V = _value(record.V)
    axis = record.layout.filter_axis % record.V.ndim
    return ('expression' if V is None else str(V.shape), str(axis),
            _form(record), _range(_norms(record)),
            '' if record.gain is None else _range(_gain(record)))


def _form(record):
    """That of g, in words."""
    gain, param = record.gain, record.g_param
    if gain is None:
        return 'none'
    many = ('per ' + gain.per if isinstance(gain.per, str) else
            '%d group%s' % (gain.per, 's' * (gain.per > 1)))
    if param.ndim > 1:
        many += ' and position'
    trained = 'trainable' in record.owner.params.get(param, ())
    return ', '.join(['exp(s)'] * gain.exp + [many, (
        'expression' if not isinstance(param, SharedVariable) else
        'trained' if trained else 'fixed')])


def _gain(record):
    """The values of g; None if there are none."""
    values = None if record.gain is None else _value(record.g_param)
    return (values if values is None or not record.gain.exp else
            np.exp(values))


def _norms(record):
    """sqrt(eps + sum V^2); None if V has no value."""
    V = _value(record.V)
    with np.errstate(all='ignore'):  # a table of what is wrong is welcome
        return None if V is None else record.norms(V)


def _value(variable):
    """That of a shared variable or an expression, None if it has none."""
    try:
        return value_of(variable, '')
    except ValueError:
        return None


def _range(values):
    return 'expression' if values is None else '%.3g .. %.3g' % (
        np.min(values), np.max(values))
