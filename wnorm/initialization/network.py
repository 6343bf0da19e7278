"""What a network is: its layers, and those that are to be initialized."""
import warnings

from lasagne.layers import InputLayer, Layer, get_all_layers
from lasagne.nonlinearities import identity
from theano.compile import SharedVariable

from ..layers import WeightNormLayer
from ..naming import describe
from ..parameters import all_records, records


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
        if (None in inputs_of(layer) and layer not in inputs and
                not isinstance(layer, InputLayer)):
            raise ValueError('%s stands on a shape, not on a layer: put an '
                             'InputLayer below it' % describe(layer))
    return layers


def wrapped_layers(layers):
    """Those of `layers` that are weight-normalized, at least one.

    Raises
    ------
    ValueError
        If there is none, and none that initializes itself, or if one cannot
        be initialized.
    """
    wrapped = [layer for layer in layers if is_to_do(layer)]
    if not wrapped and not by_themselves(layers):
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


def is_to_do(layer):
    """Whether `layer` is a weight normalization, and not folded."""
    return isinstance(layer, WeightNormLayer) and bool(
        layer.params or records(layer.input_layer))


def warn_of_overwriting(function, layers, stacklevel):
    """Before `function` overwrites b and g of these, if there are any."""
    if layers:
        warnings.warn(
            '%s() overwrites b and g that have been changed since the layer '
            'was made or last initialized (trained or loaded values?), or '
            "keep what it computes (g='norm'): %s" % (
                function, ', '.join(describe(
                    layer.input_layer if is_to_do(layer) else layer)
                    for layer in layers)), stacklevel=stacklevel + 1)


def by_themselves(layers):
    """Those of `layers` that set parameters of their own in the pass."""
    return [layer for layer in layers
            if getattr(layer, 'initializes_itself', False)]


def named(layer):
    """A weight normalization is known by what it normalizes."""
    if isinstance(layer, WeightNormLayer):
        return 'weight-normalized ' + describe(layer.input_layer)
    return describe(layer)


def inputs_of(layer):
    """The layers that feed `layer`; None for a mere shape."""
    return getattr(layer, 'input_layers',
                   [getattr(layer, 'input_layer', None)])


def levels_of(layers):
    """{layer: how many weight-normalized layers come after one another}

    up to and including that layer, at most.
    """
    levels = {}
    for layer in layers:
        levels[layer] = max([0] + [levels.get(below, 0)
                                   for below in inputs_of(layer)])
        levels[layer] += is_to_do(layer)
    return levels


def left_as_they_are(layers):
    """Notes about what is normalized and will not be initialized."""
    notes = ['%s has an initialization of its own, which took part.'
             % describe(layer) for layer in by_themselves(layers)]
    for layer in layers:
        if layer in by_themselves([layer]):
            continue
        names = [record.label if record.layer is layer or
                 record.label != record.name else
                 '%s of %s' % (record.label, type(record.layer).__name__)
                 for record in all_records([layer])
                 if record.owner not in layers or
                 not isinstance(record.owner, WeightNormLayer)]
        if names:
            notes.append('%s has no weight normalization on top, but '
                         'normalized parameters (%s): it is left as it is.'
                         % (describe(layer), ', '.join(names)))
    return notes


def about_the_gain(layer):
    """Notes about a form of g for which deviations are not as promised."""
    if layer.gain is None:
        return
    name = describe(layer.input_layer)
    filters = layer.b_shape[0]
    each = {'filter': 1, 'layer': filters}.get(
        layer.gain.per, filters // layer.gain.per
        if not isinstance(layer.gain.per, str) else None)
    if not isinstance(layer.g_param, SharedVariable):
        yield ('%s: its g is an expression and was not updated.' % name)
    elif each > 1:
        yield ('%s has one g for %d filters: its deviations are init_stdv on '
               'average (root mean square).' % (name, each))
