r"""Save and load the parameters of a network: npz, without pickle.

The format, number 1. A file is what :func:`numpy.savez` writes: a zip archive
of arrays, each under a key. No array holds Python objects.

========================  ===================================================
key                       array
========================  ===================================================
``format``                the number of the format, an integer
``layers``                the layer table: one string, JSON
``<layer>/<parameter>``   the values, such as ``fc1/W``, ``DenseLayer_2/b``
========================  ===================================================

The table is a list of objects, one per layer, in the order of
:func:`lasagne.layers.get_all_layers`, a recurrent layer before the nets inside
it:

``key``
    The first part of the layer's keys: its name if no other layer has that
    name, else its class and its number among all layers of that class, from
    1. Layers inside a recurrent layer have that layer's key in front:
    ``RecurrentLayer_1/DenseLayer_2``.
``class``, ``name``, ``shape``
    The class, the name or null, and the output shape, null where it is open.
``params``
    The names of the layer's parameters, the last part of their keys. A weight
    normalization has no entry of its own: b and g are with the layer that it
    normalizes. (Where that has kept a bias as well, the other is ``b'``.)
``derived``
    An object. Its keys are the names of those parameters of `params` that are
    expressions of others: what they evaluate to is in the file so that it can
    be read without the network. Their values are lists of the parameters of
    this layer that only the expression uses.
``normalized``
    An object from the names of the normalized parameters to

    ``filter_axis``, ``position_axes``, ``eps``
        See :class:`wnorm.Layout`; axes from 0.
    ``gain``
        null where g is 1, else an object: ``param``, the name of the
        parameter; ``exp``, whether it is s of g = exp(s); ``per``: 'filter'
        (or filter and position, by its shape), 'layer', or a number of groups
        of consecutive filters.

    The array under the parameter's own name is then V, and the layer computes
    with g V / sqrt(eps + sum V^2), summed over all axes but these.

A parameter that several layers share is in the file for each of them.

Without wnorm:

    file = numpy.load('net.npz')
    V = file['fc1/W']
    table = json.loads(str(file['layers']))
"""
import json
import os
from collections import OrderedDict

import numpy as np

from ..naming import describe
from .files import FORMAT, opened, write
from .matching import (
    LoadReport, Plan, match_names, match_positions)
from .names import entries_of, evaluate, is_shared, unique

__all__ = ['LoadReport', 'load', 'save']


def save(layer_or_layers, path):
    """
    wnorm.save(layer_or_layers, path)

    Save the parameters of a network.

    Parameters
    ----------
    layer_or_layers : :class:`lasagne.layers.Layer` or list
        The output layer or layers of the network.

    path : str or path-like
        The file, as given: no ending is appended.

    Raises
    ------
    TypeError, ValueError
        If `layer_or_layers` is no network, if `path` is no path, or if a
        parameter holds something else than numbers.

    OSError
        If the file cannot be written. In any case what was in `path` before
        is still there.

    Notes
    -----
    An npz file without pickled objects; the docstring of
    :mod:`wnorm.checkpoints` says what is in it. It is written under another
    name in the same folder and renamed when it is complete: whatever happens,
    `path` is the old file or the new one, whole.

    Parameters have names that the same model code gives again: ``fc1/W`` for
    a layer with ``name='fc1'``, otherwise class and number, as in
    ``DenseLayer_2/W``, counted from the input on. Name your layers where
    the model may grow. A weight-normalized layer and a plain one, or one that
    has been folded, have the same W and b.

    The state of an optimizer and of random generators is not in the file.

    Examples
    --------
    >>> import os, tempfile, numpy, wnorm
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> net = DenseLayer(InputLayer((None, 20)), 5, name='fc1')
    >>> net = wnorm.weight_norm(net)
    >>> path = os.path.join(tempfile.mkdtemp(), 'net.npz')
    >>> wnorm.save(net, path)
    >>> sorted(numpy.load(path))
    ['fc1/W', 'fc1/b', 'fc1/g', 'format', 'layers']
    """
    path = os.fsdecode(path)
    entries = entries_of(layer_or_layers)
    arrays, rows = OrderedDict(format=np.array(FORMAT)), []
    expressions = unique(slot for entry in entries for slot in
                         entry.slots.values() if not is_shared(slot))
    evaluated = dict(zip(expressions, evaluate(expressions)))
    for entry in entries:
        rows.append(entry.row())
        for name, slot in entry.slots.items():
            values = (slot.get_value() if is_shared(slot) else
                      evaluated[slot])
            if values is None:
                continue
            values = np.asarray(values)
            if values.dtype.kind not in 'biufc':
                raise ValueError('%s: %s has dtype %s: only numbers can be '
                                 'saved' % (describe(entry.layer), name,
                                            values.dtype))
            arrays['%s/%s' % (entry.key, name)] = values
    arrays['layers'] = np.array(json.dumps(rows))
    write(path, arrays)


def load(layer_or_layers, path):
    r"""
    wnorm.load(layer_or_layers, path)

    Load the parameters of a network: all of them, or none.

    Parameters
    ----------
    layer_or_layers : :class:`lasagne.layers.Layer` or list
        The output layer or layers of the network.

    path : str or path-like
        A file that :func:`save` wrote, of this network or of the same one
        with other layers weight-normalized, or none; or what the scripts of
        2016 wrote:
        ``numpy.savez(path, *lasagne.layers.get_all_param_values(net))``.

    Returns
    -------
    LoadReport
        What has been loaded and what has been converted. Prints as text.

    Raises
    ------
    ValueError
        If the file does not fit the network: the message lists every
        difference. If it is no checkpoint, or is truncated, damaged, or of a
        later format, or contains pickled objects, which are never loaded. In
        all cases nothing has changed.

    TypeError
        If `layer_or_layers` is no network, or `path` no path.

    OSError
        If the file cannot be read.

    Warns
    -----
    UserWarning
        If values are NaN or infinite. They are loaded as they are.

    Notes
    -----
    Names, shapes and kinds of the parameters must agree, and the classes of
    the layers that have some; of weight-normalized ones also eps, the filter
    axis and the form of g. Precisions and output shapes may differ, and so
    may layers without parameters.

    A parameter that is normalized on one side only is converted, and the
    layer computes what it did:

    * plain into normalized: V = W, :math:`g = \sqrt{\epsilon + \sum W^2}`, or
      s = log(g). With ``g=None``, or one g for several filters, the norms of
      these must be 1, or the same; V is then W times a number per filter that
      makes up for :math:`\epsilon`;
    * normalized into plain: :math:`W = g V / \sqrt{\epsilon + \sum V^2}`,
      with the stored :math:`\epsilon`, axes and form of g.

    In both cases b is the bias of the other, and a bias that one of the two
    has not is 0.

    A positional file must have one array for each of ``get_all_params(net)``,
    or for each of those that the network has without its gains: that of a
    plain network. It says nothing of eps and of the form of g: these are the
    network's.

    Load after :func:`initialize`, or instead of it.

    Examples
    --------
    A plain network's parameters in a weight-normalized one:

    >>> import os, tempfile, wnorm
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> make = lambda: DenseLayer(InputLayer((None, 20)), 5, name='fc1')
    >>> path = os.path.join(tempfile.mkdtemp(), 'net.npz')
    >>> wnorm.save(make(), path)
    >>> net = wnorm.weight_norm(make(), train_g=True)
    >>> report = wnorm.load(net, path)
    >>> print(report.converted[0])
    fc1/W: plain in the file: V = W, g = sqrt(eps + ||W||^2)
    """
    path = os.fsdecode(path)
    entries = entries_of(layer_or_layers)
    plan = Plan(path, entries)
    with opened(path) as file:
        if file.is_positional:
            match_positions(plan, file, layer_or_layers)
        else:
            match_names(plan, file.table())
    plan.check_expressions()
    return plan.carry_out()
