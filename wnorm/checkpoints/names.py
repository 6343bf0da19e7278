"""A network's parameters by name, and the values of expressions."""
from collections import OrderedDict

import lasagne
import numpy as np
import theano
from lasagne.layers import (
    CustomRecurrentLayer, RecurrentLayer, get_all_layers, get_all_params)
from theano.compile import SharedVariable

from .. import filters
from ..forms import Form
from ..initialization import all_layers
from ..layers import WeightNormLayer
from ..naming import describe
from ..parameters import records, scaled


class Entry(object):
    """The parameters of one layer, and of the normalizations upon it.

    Attributes
    ----------
    key, layer
    slots : OrderedDict
        From the name of a parameter to the shared variable or expression.
    derived : OrderedDict
        From the names of expressions among them to the names of those slots
        that are variables of theirs, and of nothing else.
    forms : OrderedDict
        From the names of normalized parameters to :class:`Form`.
    """
    def __init__(self, key, layer, wrappers):
        self.key = key
        self.layer = layer
        self.class_name = type(layer).__name__
        self.slots = OrderedDict()
        self.derived = OrderedDict()
        self.forms = OrderedDict()
        for record in records(layer).values():
            V = self._add(record.name, record.V)
            g = None
            if record.gain is not None:
                g = record.gain.name
                if record.owner is layer:
                    g = '%s_%s' % (g, record.name)
                g = self._add(g, record.g_param)
            self.forms[V] = Form.of(record, g)
        alone = scaled(layer)
        if alone is not None:  # g V, without norms
            self._add(alone.name, alone.V)
            if alone.gain is not None:
                self._add(alone.gain.name, alone.g_param)
        for name in filters.names(layer):
            # an expression, which only later versions of Lasagne register
            weight = getattr(layer, name, None)
            if (name not in self.slots and not is_shared(weight) and
                    isinstance(weight, theano.Variable)):
                self._add(name, weight)
        for owner in [layer] + wrappers:
            self._add_params(owner)

    def _add(self, name, variable):
        """The name of `variable`: `name`, or a longer one if it is taken."""
        for known, slot in self.slots.items():
            if slot is variable:
                return known
        while name in self.slots:
            name += "'"
        self.slots[name] = variable
        if not is_shared(variable):
            self.derived[name] = []
        return name

    def _add_params(self, owner):
        params = list(owner.params)
        # and what a layer of the user's own has elsewhere
        inner = (get_all_params([owner.input_to_hidden,
                                 owner.hidden_to_hidden])
                 if isinstance(owner, CustomRecurrentLayer) else [])
        params += [param for param in owner.get_params()
                   if param not in inner]
        inside = leaves_of(self.expressions())
        # the attributes of a layer are the surest names
        names = OrderedDict((value, name) for name, value in reversed(list(
            vars(owner).items())) if isinstance(value, theano.Variable))
        for number, param in enumerate(unique(params), 1):
            if param not in names and (
                    param in inside or param in leaves_of(self.expressions())):
                continue
            name = names.get(param) or param.name or 'param_%d' % number
            prefix = '%s.' % owner.name
            self._add(name[len(prefix):] if name.startswith(prefix) else name,
                      param)

    def expressions(self):
        return [slot for slot in self.slots.values() if not is_shared(slot)]

    def add_leaves(self, known):
        """Give names to the variables of expressions that have none."""
        for name in list(self.derived):
            for number, leaf in enumerate(leaves_of([self.slots[name]]), 1):
                if leaf not in known:
                    known.add(leaf)
                    leaf_name = self._add('%s.%d' % (name, number), leaf)
                    self.derived[name].append(leaf_name)

    def row(self):
        """The layer's row of the table."""
        return OrderedDict([
            ('key', self.key), ('class', self.class_name),
            ('name', None if self.layer.name is None else
             str(self.layer.name)),
            ('shape', _numbers(self.layer)),
            ('params', list(self.slots)), ('derived', self.derived),
            ('normalized', OrderedDict(
                (name, form.row()) for name, form in self.forms.items()))])


def entries_of(layer_or_layers):
    """One :class:`Entry` per layer, from the input on."""
    layers = all_layers(layer_or_layers)
    entries = list(_walk(layers, '', set()))
    known = set(slot for entry in entries for slot in entry.slots.values()
                if is_shared(slot))
    keys = set()
    for entry in entries:
        if entry.key in keys or '\0' in entry.key:
            raise ValueError('%s: %r cannot be its key in a file%s: give it '
                             'another name' % (
                                 describe(entry.layer), entry.key,
                                 ', another layer has it'
                                 if entry.key in keys else ''))
        keys.add(entry.key)
        entry.add_leaves(known)
    return entries


def _walk(layers, scope, seen, by_name=True):
    wrappers = {}
    for layer in layers:
        if isinstance(layer, WeightNormLayer):
            wrappers.setdefault(layer.input_layer, []).append(layer)
    layers = [layer for layer in layers if layer not in seen and
              not isinstance(layer, WeightNormLayer)]
    seen.update(layers)
    numbered, counts = [], {}
    for layer in layers:
        name = type(layer).__name__
        counts[name] = counts.get(name, 0) + 1
        numbered.append('%s_%d' % (name, counts[name]))
    names = [layer.name if layer.name is None else str(layer.name)
             for layer in layers]
    for layer, name, number in zip(layers, names, numbered):
        key = scope + (name if by_name and name and names.count(name) == 1 and
                       name not in numbered else number)
        yield Entry(key, layer, wrappers.get(layer, []))
        if isinstance(layer, CustomRecurrentLayer):
            inner = get_all_layers([layer.input_to_hidden,
                                    layer.hidden_to_hidden])
            # in a RecurrentLayer the names are Lasagne's, and change with it
            for entry in _walk(inner, key + '/', seen,
                               not isinstance(layer, RecurrentLayer)):
                yield entry


def _numbers(layer):
    """The output shape of `layer` for the table."""
    return [None if n is None else int(n) for n in layer.output_shape]


def is_shared(variable):
    return isinstance(variable, SharedVariable)


def unique(items):
    return lasagne.utils.unique(items)


def leaves_of(expressions):
    """The shared variables that `expressions` are computed from."""
    return [leaf for leaf in theano.gof.graph.inputs(expressions)
            if is_shared(leaf)]


def evaluate(expressions, values=()):
    """The values of expressions, as they are if variables have `values`.

    None for those that depend on something else.
    """
    values = OrderedDict(
        (variable, theano.shared(value, broadcastable=variable.broadcastable))
        for variable, value in dict(values).items())
    closed = [expression for expression in expressions if all(
        isinstance(leaf, (SharedVariable, theano.Constant))
        for leaf in theano.gof.graph.inputs([expression]))]
    if not closed:
        return [None] * len(expressions)
    leaves = set(leaves_of(closed))
    # used once: not worth a compiler
    found = theano.function([], closed, mode='FAST_COMPILE',
                            no_default_updates=True, givens=[
        (variable, copy) for variable, copy in values.items()
        if variable in leaves])()
    found = dict(zip(closed, map(np.asarray, found)))
    return [found.get(expression) for expression in expressions]
