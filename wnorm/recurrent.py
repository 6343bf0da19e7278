"""Layers with several weights: recurrent ones, and others by name."""
from collections import OrderedDict

from lasagne.layers import CustomRecurrentLayer, get_all_layers

from . import filters
from .gains import as_gain
from .naming import describe, suggest
from .parameters import all_records, checked_record, put_all, records

#: What weight_norm takes for such a layer.
OPTIONS = ['g', 'train_g', 'eps', 'params']


def matrices(layer):
    """The weights of a layer that has several, in order.

    Returns
    -------
    OrderedDict
        From the name that users know a weight by to the layer that holds it,
        which is an inner one for :class:`lasagne.layers.CustomRecurrentLayer`,
        and its name there. Empty for layers with a single ``W``.
    """
    found = OrderedDict()
    if not isinstance(layer, CustomRecurrentLayer):
        for name in filters.names(layer):
            if getattr(layer, name, None) is not None:
                found[name] = layer, name
        return found if list(found) != ['W'] else OrderedDict()
    for name, top in (('W_in_to_hid', layer.input_to_hidden),
                      ('W_hid_to_hid', layer.hidden_to_hidden)):
        inner = [below for below in get_all_layers(top)
                 if hasattr(below, 'W') and filters.find(below) is not None
                 and (below, 'W') not in found.values()]
        for number, below in enumerate(inner, 1):
            found[name if len(inner) == 1 else '%s_%d' % (name, number)] = (
                below, 'W')
    return found


def normalize(layer, params=None, g='norm', train_g=False, eps=1e-6):
    """Normalize the weights of a layer that has several: all, or `params`.

    Returns
    -------
    `layer`
    """
    known = matrices(layer)
    if params is None and isinstance(layer, CustomRecurrentLayer):
        for below in get_all_layers([layer.input_to_hidden,
                                     layer.hidden_to_hidden]):
            if hasattr(below, 'W'):
                filters.layout(below)  # or it is refused
    if params is None:
        params = list(known)
    elif not isinstance(params, (list, tuple)) or not all(
            isinstance(name, str) for name in params):
        raise TypeError('%s: params is a list of names, such as %r, got %r'
                        % (describe(layer), list(known)[:1], params))
    for name in params:
        if name not in known:
            raise ValueError('%s has no matrix %r.%s It has %s' % (
                describe(layer), name, suggest(name, known),
                ', '.join(known)))
    if not known:
        raise ValueError('%s has no weight to normalize: no layer inside has '
                         'one' % describe(layer))
    if not params:
        raise ValueError('%s: there is nothing to normalize: params is empty'
                         % describe(layer))
    params = list(OrderedDict.fromkeys(params))
    gain = as_gain(layer, g)
    if gain is not None and len(params) > 1 and not gain.is_free:
        raise ValueError('%s: one g cannot serve %d matrices: give an '
                         'initializer, or name one matrix in params'
                         % (describe(layer), len(params)))
    inside = isinstance(layer, CustomRecurrentLayer)
    made = []
    try:
        for name in params:
            holder, attribute = known[name]
            made.append(checked_record(holder, attribute, None, gain, eps))
            made[-1].label = name
        put_all(made, train_g)
    except (TypeError, ValueError) as error:
        if not inside:
            raise
        # users may not know of the layer that the message names
        raise type(error)('%s: %s' % (describe(layer), error))
    if inside:
        for record in made:  # under the names that users know
            for form in ('%s', '%s_param', 'g_%s', 's_%s'):
                if hasattr(record.layer, form % record.name):
                    setattr(layer, form % record.label,
                            getattr(record.layer, form % record.name))
        layer.get_output_for = OutsideScan(layer)
    return layer


def outside_scan(layers):
    """Let recurrent layers with normalized weights inside take them from
    outside the loop, and keep ``init=True`` from the nets inside."""
    for layer in layers:
        if isinstance(layer, CustomRecurrentLayer) and all_records([layer]):
            layer.get_output_for = OutsideScan(layer)


class OutsideScan(object):
    """The ``get_output_for`` of a recurrent layer with normalized weights.

    Lasagne hands the shared variables of the inner layers to the loop over
    time, and so they would be normalized in every step. Here the loop gets
    the effective weights.
    """
    def __init__(self, layer):
        self.layer = layer

    def __call__(self, inputs, **kwargs):
        layer = self.layer
        # not for the nets inside: initialization leaves these as they are
        kwargs.pop('init', None)
        inner = [below for below in get_all_layers(
            [layer.input_to_hidden, layer.hidden_to_hidden])
            if records(below)]
        for below in inner:
            below.get_params = _WithWeights(below)
        try:
            return type(layer).get_output_for(layer, inputs, **kwargs)
        finally:
            for below in inner:
                del below.get_params


class _WithWeights(object):
    """A layer's ``get_params``, and its effective weights first."""

    def __init__(self, layer):
        self.layer = layer

    def __call__(self, **tags):
        return ([record.W for record in records(self.layer).values()] +
                type(self.layer).get_params(self.layer, **tags))
