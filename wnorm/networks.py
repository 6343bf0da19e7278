"""Weight normalization of a whole network that exists already."""
from collections import OrderedDict

import lasagne
import theano
from lasagne.layers import get_all_params

from . import filters, layers, recurrent
from .gains import Gain
from .initialization import all_layers
from .layers import KEEP_W, weight_norm
from .naming import describe, suggest
from .parameters import has_W, records, scaled, with_inner_layers

__all__ = ['weight_norm_network']

#: Of the options of weight_norm, those that are not a single layer's own.
OPTIONS = [option for option in layers.OPTIONS
           if option not in ('nonlinearity', 'name')]

#: Those that a recurrent layer takes.
RECURRENT = [option for option in recurrent.OPTIONS if option in OPTIONS]

#: Where a layer may hold another one that feeds it, beside its inputs.
INITIAL_STATES = ['hid_init', 'cell_init']


def weight_norm_network(layer_or_layers, where=None, **options):
    r"""
    wnorm.weight_norm_network(layer_or_layers, where=None, **options)

    Apply weight normalization to all layers of a network that exists already.

    As :func:`weight_norm` does for each of them; and every layer that took
    one as its input takes the :class:`WeightNormLayer` on top of it.

    Parameters
    ----------
    layer_or_layers : :class:`lasagne.layers.Layer` or list
        The output layer or layers of the network, all of them; the network is
        modified.

    where : callable, optional
        Called with each layer that could be normalized; those for which it
        returns False stay as they are.

    **options
        For each layer: `g`, `train_g`, `eps`, `b`, `W` and `init_stdv` of
        :func:`weight_norm`. Recurrent layers take `g`, `train_g` and `eps`,
        and ``g='norm'`` unless `g` is given.

    Returns
    -------
    :class:`lasagne.layers.Layer` or list
        The output layer or layers, in the order given: the
        :class:`WeightNormLayer` where an output layer was wrapped.

    Raises
    ------
    TypeError, ValueError
        If that is no network, if an option is unknown or does not fit one of
        the layers (named in the message), or if there is nothing to
        normalize. Then nothing has changed: neither attributes nor parameters
        of any layer, nor the state of ``lasagne.random``.

    Notes
    -----
    With ``g='norm'`` the network computes what it did before: the way to go
    on with a trained one. As :func:`weight_norm` comes, g is 1 and biases are
    0, to be initialized from data: :func:`initialize`.

    Normalized are the layers whose classes :mod:`wnorm.filters` lists or that
    were added to them with :func:`register`, and the matrices of recurrent
    layers. What is normalized already is left out, so that layers that want
    options of their own are wrapped first.

    Give all output layers. A layer above one of these that cannot be reached
    from the outputs would go on to take it without its bias and nonlinearity.
    Variables of yours that refer to a layer go on to do so; its
    :class:`WeightNormLayer` is above it.

    Layers that share V, as the same variable or through an expression such as
    ``W=other.W.T``, go on to share it, and each has its own g and b.

    See Also
    --------
    weight_norm : Wraps one layer.
    initialize : Data-dependent initialization.

    References
    ----------
    .. [1] Salimans, Tim, and Diederik P. Kingma (2016):
           Weight Normalization: A Simple Reparameterization to Accelerate
           Training of Deep Neural Networks. arXiv preprint arXiv:1602.07868.

    Examples
    --------
    >>> from lasagne.layers import (
    ...     InputLayer, DenseLayer, ElemwiseSumLayer, get_all_params)
    >>> from wnorm import weight_norm_network
    >>> l = DenseLayer(InputLayer((None, 20)), 50)
    >>> l = ElemwiseSumLayer([l, DenseLayer(l, 50)])
    >>> net = DenseLayer(l, 10, nonlinearity=None)
    >>> net = weight_norm_network(net, g='norm', train_g=True)
    >>> get_all_params(net)
    [W, b, g, W, b, g, W, b, g]

    Without the output layer:

    >>> net = DenseLayer(DenseLayer(InputLayer((None, 20)), 50), 10)
    >>> net = weight_norm_network(net, lambda layer: layer is not net)
    >>> get_all_params(net)
    [W, b, g, W, b]
    """
    net = all_layers(layer_or_layers)
    if not (where is None or callable(where)):
        raise TypeError('where must be a function of a layer that returns '
                        'True or False, got %r' % (where,))
    _check_options(options)
    weights = _choose(net, where)
    _check_shared(weights, options)

    restore = _snapshot(net, 'W' in options)
    try:
        wrappers = {}
        for layer, names in weights.items():
            if names is None:
                wrappers[layer] = weight_norm(layer, **options)
            else:
                recurrent.normalize(layer, names, **{
                    option: value for option, value in options.items()
                    if option in RECURRENT})
        recurrent.outside_scan(net)  # those that share nets inside, too
        for layer in net:
            _relink(layer, wrappers)
    except BaseException:  # an interrupt too
        restore()
        raise
    if isinstance(layer_or_layers, lasagne.layers.Layer):
        return wrappers.get(layer_or_layers, layer_or_layers)
    return [wrappers.get(layer, layer) for layer in layer_or_layers]


def _choose(net, where):
    """What to normalize: {layer: names of its matrices, or None for its W}.

    Raises
    ------
    ValueError
        If that is nothing.
    """
    chosen, holders = OrderedDict(), set()
    normalized, refused = 0, 0
    for layer in net:
        matrices = recurrent.matrices(layer)
        if not (matrices or has_W(layer) and filters.find(layer)):
            continue
        # nets inside two recurrent layers are normalized once
        names = [name for name, holder in matrices.items()
                 if holder[1] not in records(holder[0]) and
                 holder not in holders]
        if not names if matrices else (
                'W' in records(layer) or scaled(layer) is not None):
            normalized += 1
        elif where is not None and not where(layer):
            refused += 1
        else:
            chosen[layer] = names or None
            holders.update(matrices[name] for name in names)
    if chosen:
        return chosen
    if refused:
        reason = 'where returned False for all %d that could be' % refused
    elif normalized:
        reason = ('all layers that could be, %d of them, are weight-'
                  'normalized already' % normalized)
    else:
        reason = 'no layer is of a class with a known filter axis.'
        unknown = [layer for layer in net if has_W(layer)]
        if unknown:
            reason += (' Tell it once, for %s: wnorm.register(%s, W=axis)' % (
                ', '.join(map(describe, unknown)),
                type(unknown[0]).__name__))
    raise ValueError('nothing to normalize in the network up to %s: %s'
                     % (describe(net[-1]), reason))


def _relink(layer, wrappers):
    """Let `layer` take the wrappers of the layers that it took."""
    for name in ['input_layer'] + INITIAL_STATES:
        below = getattr(layer, name, None)
        if isinstance(below, lasagne.layers.Layer) and below in wrappers:
            setattr(layer, name, wrappers[below])
    if hasattr(layer, 'input_layers'):
        layer.input_layers = [wrappers.get(below, below)
                              for below in layer.input_layers]


def _snapshot(net, values):
    """A function that puts layers and generator back to how they are now."""
    net_and_inner = with_inner_layers(net)
    attributes = [(layer, dict(vars(layer)), list(layer.params.items()))
                  for layer in net_and_inner]
    values = [(param, param.get_value()) for param in get_all_params(net)
              ] if values else []
    generator = lasagne.random.get_rng()
    state = generator.get_state()

    def restore():
        for layer, before, params in attributes:
            vars(layer).clear()
            vars(layer).update(before)
            layer.params.clear()
            layer.params.update(params)
        for param, value in values:
            param.set_value(value)
        generator.set_state(state)

    return restore


# --- checks, each of them before anything has changed ----------------------

def _check_options(options):
    for option in options:
        if option in layers.OPTIONS and option not in OPTIONS:
            raise TypeError('%s is not one for all layers: each has its own. '
                            'Call weight_norm for a layer that wants another '
                            'one, and then weight_norm_network for the rest'
                            % option)
        if option not in OPTIONS:
            raise TypeError('weight_norm_network: unknown keyword %r.%s' % (
                option, suggest(option, OPTIONS) or
                ' Known: where, %s' % ', '.join(OPTIONS)))


def _check_shared(weights, options):
    """Refuse one variable for many layers, and two draws of the same V."""
    plain = [layer for layer, names in weights.items() if names is None]
    number = {'b': len(plain), 'g': sum(
        1 if names is None else len(names) for names in weights.values())}
    for option in sorted(number):
        value = options.get(option)
        if isinstance(value, Gain):
            value = value.init
        if isinstance(value, theano.Variable) and number[option] > 1:
            raise ValueError(
                'one %s cannot serve the %d weights of this network: give an '
                'initializer, or choose one layer with where'
                % (option, number[option]))
    if options.get('W', KEEP_W) is not KEEP_W:
        owner = {}
        for layer in plain:
            for leaf in theano.gof.graph.inputs([layer.W]):
                if isinstance(leaf, theano.compile.SharedVariable):
                    if owner.setdefault(leaf, layer) is not layer:
                        raise ValueError(
                            'W would be set twice: %s and %s share it. Leave '
                            'W out, or choose other layers with where'
                            % (describe(owner[leaf]), describe(layer)))
