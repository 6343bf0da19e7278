"""Data-dependent initialization of b and g, from one batch or from many."""
import warnings
from collections import OrderedDict

import numpy as np
from lasagne.layers import get_output

from ..naming import describe
from ..parameters import values_set
from ..report import LayerReport, Report
from .data import is_many
from .graph import init_updates_of
from .many import Alone, from_many
from .network import (
    about_the_gain, all_layers, by_themselves, is_to_do, left_as_they_are,
    warn_of_overwriting, wrapped_layers)
from .one import from_one

__all__ = ['init_updates', 'initialize']


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
    layers = [layer for layer in all_layers(layer_or_layers, given)
              if layer not in given]
    return init_updates_of(layers, get_output(layers, inputs, init=True,
                                              **kwargs))


def initialize(layer_or_layers, batch=None, deterministic=None):
    r"""
    wnorm.initialize(layer_or_layers, batch=None, deterministic=None)

    Initialize b and g of a network from one batch of data, or from many.

    For each weight-normalized layer, from the input on, with m and std the
    mean and the deviation of t = W x on the data, per filter:

    .. math:: g \leftarrow g \frac{\sigma}{std}, \qquad
              b \leftarrow -m \frac{\sigma}{std}

    where :math:`\sigma` is the layer's `init_stdv`. Then the pre-activations
    of all units have mean 0 and deviation :math:`\sigma` on that data.

    Parameters
    ----------
    layer_or_layers : :class:`lasagne.layers.Layer` or list
        The output layer or layers of the network.

    batch : numpy array, dict or None; or many batches
        One batch: an array for the network's input layer; or a dictionary
        from input layers to arrays; or None if all input layers carry an
        expression, such as the noise of a generator.

        Many batches: a list or another iterable of such, or a function
        without arguments that returns an iterable. It is gone through once
        per level of the network, see below. Batches may differ in length;
        each example counts the same.

    deterministic : bool, optional
        Passed on to :func:`lasagne.layers.get_output`. With False, noise and
        dropout are active, as in training: so by default for one batch. By
        default many batches are initialized from with True.

    Returns
    -------
    Report
        A tuple with one :class:`wnorm.report.LayerReport` per
        weight-normalized layer: its mean and deviation before and after, and
        which filters were degenerate. Prints as a table, with notes below
        it; its method ``plot()`` draws the deviations.

    Raises
    ------
    TypeError, ValueError
        If the network has no weight-normalized layer or cannot be initialized
        in one pass (see :func:`init_updates`), if a batch does not fit its
        input layers, or if an activation is not finite: the message names the
        first layer where that happens. In any case nothing has changed.

        For many batches also: if there is none; if they can be gone through
        only once, but the network has several levels; if they are not the
        same in each pass, or not of the same shape but for their length; or
        if, unless False was given for `deterministic`, the output of a layer
        depends on noise or, for an example, on the other ones of its batch.

    MemoryError
        If host or device has not enough memory for the batch. Nothing has
        changed.

    Warns
    -----
    UserWarning
        If b or g of a layer have been changed since the layer was made or
        last initialized, or are those of ``g='norm'``: trained or loaded
        values are overwritten. And if a
        filter is degenerate, that is, constant on the data: its g stays,
        its b becomes -m.

    Notes
    -----
    Call it once, after the network is built and before training, with a batch
    of some hundred examples. It changes nothing but b and g: no running
    averages of batch normalization, no attributes of the layers. (Of mean-only
    batch normalization, many batches set the running mean to theirs.)

    In networks without noise, or with ``deterministic=True``, the statement
    about means and deviations holds exactly, and calling it twice changes
    nothing. With dropout or noise each pass draws anew: the statement holds
    for the draw of the initializing pass.

    **Many batches.** The first level of the network are the weight-normalized
    layers that no other one feeds, the second those that the first ones feed,
    and so on. Pass k over the data measures level k, on the layers below as
    they will be; nothing is written until all is known. Means and squared
    deviations are computed in float64, relative to the mean of each batch,
    and merged (Chan et al., 1979): they are those of the concatenated data,
    of which no more than one batch is in memory. Three functions are
    compiled, however deep the network.

    Other forms of g than one shared variable per filter: see :class:`Gain`.

    References
    ----------
    .. [1] Salimans, Tim, and Diederik P. Kingma (2016):
           Weight Normalization: A Simple Reparameterization to Accelerate
           Training of Deep Neural Networks. arXiv preprint arXiv:1602.07868,
           section 3.

    .. [2] Chan, Tony F., Gene H. Golub, and Randall J. LeVeque (1979):
           Updating Formulae and a Pairwise Algorithm for Computing Sample
           Variances. Technical Report STAN-CS-79-773, Stanford University.

    Examples
    --------
    >>> import numpy as np, wnorm
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> l = wnorm.weight_norm(DenseLayer(InputLayer((None, 20)), 5))
    >>> report = wnorm.initialize(l, np.random.rand(100, 20))
    >>> report[0].std_after.round(3)
    array([1., 1., 1., 1., 1.])

    From many batches, which a function reads again for each pass:

    >>> def batches():
    ...     random = np.random.RandomState(1)
    ...     for n in (100, 100, 50):
    ...         yield random.rand(n, 20)
    >>> report = wnorm.initialize(l, batches)
    """
    return carry_out(layer_or_layers, batch, deterministic)


def carry_out(layer_or_layers, batch, deterministic, peers=Alone()):
    """:func:`initialize`, of the batches of several processes too."""
    layers = all_layers(layer_or_layers)
    notes = left_as_they_are(layers)
    own = by_themselves(layers)
    if notes and not own and not any(map(is_to_do, layers)):
        return Report((), notes)
    wrapped = wrapped_layers(layers)
    notes = [note for layer in wrapped
             for note in about_the_gain(layer)] + notes
    many = is_many(batch)
    if many and not (deterministic is None or deterministic):
        notes.insert(0, 'The statistics are not exact: with '
                        'deterministic=False, noise is drawn for each batch '
                        'and pass, and what depends on the batch sees one at '
                        'a time.')
    overwritten = [layer for layer in wrapped + own if layer.changed()]
    if many:
        plan = from_many(layers, wrapped, batch, deterministic, peers)
    else:
        plan = from_one(layers, wrapped, batch, deterministic)
    peers.together(lambda: peers.rank or _warn(  # perhaps as an error
        wrapped, overwritten, plan.degenerate))
    with values_set(OrderedDict(zip(plan.params, plan.values))):
        after = plan.after()
    for layer in wrapped + own:
        layer.remember()
    return Report([
        LayerReport(layer, mean_before, std_before, mean_after, std_after,
                    constant)
        for layer, (mean_before, std_before), (mean_after, std_after), constant
        in zip(wrapped, plan.before, after, plan.degenerate)], notes)


def _warn(wrapped, overwritten, degenerate):
    warn_of_overwriting('initialize', overwritten, 6)
    for layer, constant in zip(wrapped, degenerate):
        if constant.any():
            warnings.warn(
                '%s: filters %s are constant on this data, so their g stays '
                'as it was' % (
                    describe(layer.input_layer),
                    ', '.join(map(str, np.flatnonzero(constant)))),
                stacklevel=6)
