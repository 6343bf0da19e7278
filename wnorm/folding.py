"""Fold: back to plain weights, for inference and for plain Lasagne code."""
import warnings
from collections import OrderedDict, namedtuple
from copy import deepcopy
from itertools import groupby

import lasagne
import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import (
    CustomRecurrentLayer, EmbeddingLayer, InputLayer, Layer, get_all_layers)
from lasagne.nonlinearities import identity
from theano.compile import SharedVariable

from .forms import Form
from .initialization import all_layers
from .layers import WeightNormLayer
from .naming import describe, table
from .parameters import (
    all_records, records, scaled, value_of, with_inner_layers)
from .recurrent import OutsideScan

__all__ = ['FoldReport', 'FoldedLayer', 'LayerFold', 'fold']

ALREADY = 'folded already'


class FoldedLayer(WeightNormLayer):
    """What :func:`wnorm.fold` makes of a :class:`wnorm.WeightNormLayer`.

    The identity, without parameters; the layer below has them again.
    """
    folded = True

    def get_output_for(self, input, init=False, **kwargs):
        return input

    def __repr__(self):
        return '%s(%s)' % (type(self).__name__, describe(self.input_layer))


class LayerFold(namedtuple('LayerFold', ['layer', 'params', 'reason'])):
    """What folding did to one layer.

    Attributes
    ----------
    layer : :class:`lasagne.layers.Layer`
        The layer that has the weight.

    params : tuple of str
        The names of the parameters in question, such as ``('W', 'b')``.

    reason : str or None
        Why they were not folded; None if they were.
    """
    __slots__ = ()


class FoldReport(tuple):
    """One or more :class:`LayerFold` per layer, in order; prints as a table.

    Attributes
    ----------
    folded, already, kept : tuple of LayerFold
        What was folded; what had been before; what could not be.
    """
    @property
    def folded(self):
        return tuple(row for row in self if row.reason is None)

    @property
    def already(self):
        return tuple(row for row in self if row.reason == ALREADY)

    @property
    def kept(self):
        return tuple(row for row in self
                     if row.reason not in (None, ALREADY))

    def __str__(self):
        rows = [('layer', 'parameters', 'outcome')]
        for row in self:
            rows.append((describe(row.layer), ', '.join(row.params), {
                None: 'folded', ALREADY: ALREADY}.get(
                    row.reason, 'not folded: %s' % row.reason)))
        return table(rows)

    __repr__ = __str__


def fold(layer_or_layers, copy=False, only=None):
    r"""
    wnorm.fold(layer_or_layers, copy=False, only=None)

    Make plain weights of the normalized ones of a network.

    .. math:: W \leftarrow g \frac{V}{\sqrt{\epsilon + \sum V^2}}

    is computed once and becomes the weight of its layer, which gets its bias
    and its nonlinearity back. The network computes what it did before, and
    its parameters are those of one that was never normalized.

    Parameters
    ----------
    layer_or_layers : :class:`lasagne.layers.Layer` or list
        The output layer or layers of the network, all of them.

    copy : bool
        With False the network itself is folded. With True it stays as it is,
        and a folded copy is returned.

    only : :class:`lasagne.layers.Layer` or list, optional
        The layers to fold, if not all: a :class:`WeightNormLayer`, the layer
        below one, or a layer with normalized parameters of its own. One layer
        is folded by ``fold(net, only=layer)``.

    Returns
    -------
    FoldReport
        With ``copy=False``: a tuple with one
        :class:`wnorm.folding.LayerFold` or more per layer, what was folded,
        or why it was not. Prints as a table.

    :class:`lasagne.layers.Layer` or list
        With ``copy=True``: the output layer or layers of the copy, in the
        order given. Each has the report as its attribute ``fold_report``.

    Raises
    ------
    TypeError, ValueError
        If that is no network, if no layer of it, or one of `only`, was ever
        weight-normalized, or if the network cannot be copied. In any case
        nothing has changed.

    Warns
    -----
    UserWarning
        With ``copy=True``, if something could not be folded.

    Notes
    -----
    Call it when training is over: for inference at the cost of the plain
    network, or to save parameters that plain Lasagne code loads.

    Folded in place, a :class:`WeightNormLayer` stays where it is, as an
    identity without parameters (:class:`wnorm.folding.FoldedLayer`), so that
    variables that refer to a layer stay valid. The layer below has, in the
    place of V, a new shared variable W with V's name, type and tags, a bias b
    with the name, shape and tags of the one it had (or, if it had none, those
    that Lasagne would give it; zeros if the weight normalization has none),
    and the nonlinearity. Whoever shares V keeps V. Functions that were
    compiled before go on with V, b and g. In a copy these identities are gone;
    its input variables are those of the original.

    All forms of g are covered, parameters of recurrent layers and those
    normalized with :func:`normalize_param`, and mean-only batch
    normalization, whose running mean is subtracted from the bias: it is the
    output with ``deterministic=True`` that stays. V, g or b that are
    expressions of shared variables become numbers. An expression that other
    layers made of a folded W is one of the new W. The bias of an embedding is
    added to its rows.

    Not folded, but left as it is and named in the report, is a layer

    * that feeds others as well, or is itself an output, if its weight
      normalization has a bias or a nonlinearity: the others would see them;
    * with a nonlinearity of its own below these;
    * whose class has no bias or nonlinearity to take them;
    * whose V, g or b depend on something else than shared variables.

    It may be called again, and a folded layer may be normalized again.

    See Also
    --------
    weight_norm : The reverse, with ``g='norm'``.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer, get_all_params
    >>> from wnorm import fold, weight_norm
    >>> net = weight_norm(DenseLayer(InputLayer((None, 20)), 50))
    >>> net = weight_norm(DenseLayer(net, 10, name='output'))
    >>> plain = fold(net, copy=True)
    >>> plain.name, get_all_params(plain)
    ('output', [W, b, output.W, output.b])
    >>> print(fold(net))
    layer                           parameters  outcome
    DenseLayer (None, 50)           W, b        folded
    DenseLayer 'output' (None, 10)  W, b        folded
    >>> get_all_params(net)
    [W, b, output.W, output.b]
    """
    single = isinstance(layer_or_layers, Layer)
    all_layers(layer_or_layers)  # or it is refused
    outputs = [layer_or_layers] if single else list(layer_or_layers)
    if isinstance(only, Layer):
        only = [only]
    check_only(only, with_inner_layers(get_all_layers(outputs)))
    if copy:
        outputs, only = copied(outputs, only)
    rows, jobs = plan(outputs, only)
    perform(outputs, jobs)
    if not copy:
        return report(rows)
    outputs = without_identities(outputs)
    result = report(rows)
    for layer in outputs:
        layer.fold_report = result
    if result.kept:
        warnings.warn('not folded: ' + '; '.join(
            '%s of %s: %s' % (', '.join(row.params), describe(row.layer),
                              row.reason) for row in result.kept),
            stacklevel=2)
    return outputs[0] if single else outputs


def report(rows):
    """The parameters of one layer with the same outcome in one row."""
    return FoldReport(
        LayerFold(layer, sum((row.params for row in same), ()), reason)
        for (layer, reason), same in groupby(
            rows, lambda row: (row.layer, row.reason)))


# --- what there is to do, and the numbers for it ----------------------------

def plan(outputs, only):
    """What to fold of the network that ends in `outputs`.

    Returns
    -------
    rows : list of LayerFold
    jobs : list
        Those of the rows that can be folded, with all values computed.

    Raises
    ------
    ValueError
        If there is nothing to fold.
    """
    layers = with_inner_layers(get_all_layers(outputs))
    users = users_of(layers, outputs)
    recurrent = [layer for layer in layers
                 if isinstance(layer, CustomRecurrentLayer)]
    around = [(outer, with_inner_layers([outer])) for outer in recurrent]
    if only is not None:
        only = [not_identity(layer) for layer in only]
    rows, jobs, made, named = [], [], {}, set()
    for layer in layers:
        for job in jobs_of(layer, layers):
            job.holder = holder_of(job, recurrent, layer)
            names = {layer, job.layer}.union(
                outer for outer, inner in around if layer in inner)
            if only is not None and not names.intersection(only):
                continue
            named |= names
            if job.reason is None:
                try:
                    job.reason = job.prepare(users[job.layer], made)
                except Unfoldable as error:
                    job.reason = str(error)
                if job.reason is None:
                    jobs.append(job)
            rows.append(LayerFold(job.holder, job.names, job.reason))
    # not those that have been normalized again
    again = {(row.layer, name) for row in rows for name in row.params
             if row.reason != ALREADY}
    rows = [row for row in rows if row.reason != ALREADY or
            (row.layer, row.params[0]) not in again]
    for layer in only or ():
        if layer not in named:
            raise ValueError('there is nothing to fold: %s was never '
                             'weight-normalized' % describe(layer))
    if not rows:
        raise ValueError('there is nothing to fold: no layer of this network '
                         'was ever weight-normalized (last layer: %s)'
                         % describe(layers[-1]))
    return rows, jobs


def check_only(only, layers):
    if only is None:
        return
    if not isinstance(only, (list, tuple)):
        raise TypeError('only is a layer or a list of layers, got %r'
                        % (only,))
    if not only:
        raise ValueError('there is nothing to fold: only is empty')
    for layer in only:
        if not isinstance(layer, Layer):
            raise TypeError('only is a layer or a list of layers, got a list '
                            'with %r' % (layer,))
        if layer not in layers:
            raise ValueError('%s is no layer of this network, so it cannot be '
                             'folded with it' % describe(layer))


def users_of(layers, outputs):
    """Who computes with the output of each layer, as layers and words."""
    users = {layer: [] for layer in layers}
    for layer in layers:
        for below in getattr(layer, 'input_layers',
                             [getattr(layer, 'input_layer', None)]):
            if below is not None:
                users[below].append(layer)
        if isinstance(layer, CustomRecurrentLayer):
            for top in (layer.input_to_hidden, layer.hidden_to_hidden):
                users[top].append(layer)
    for layer in outputs:
        users[layer].append('an output of the network')
    return users


def jobs_of(layer, layers):
    """What is normalized at `layer`, or was."""
    if isinstance(layer, WeightNormLayer) and not layer.folded:
        yield WrapperFold(layer)
    for record in records(layer).values():
        if record.owner is layer:
            yield ParamFold(record)
        elif record.owner not in layers:
            yield Nothing(layer, record, (
                'its WeightNormLayer is no layer of this network: fold the '
                'one that it belongs to'))
    for name, holder in getattr(layer, 'folded_params', ()):
        yield Nothing(holder, None, ALREADY, name)


def holder_of(job, recurrent, layer):
    """The layer by which users know a parameter of an inner one."""
    if job.record is None:
        return layer if job.reason == ALREADY else job.layer
    return ([outer for outer in recurrent if
             vars(outer).get(job.record.label) is job.record.W] +
            [job.layer])[0]


class Unfoldable(Exception):
    """With the reason."""


def number(variable, name):
    """The value of a shared variable or of an expression of such."""
    if not isinstance(variable, theano.Variable):
        return np.asarray(variable)
    if not isinstance(variable, SharedVariable):
        for leaf in theano.gof.graph.inputs([variable]):
            if hasattr(leaf, 'default_update'):
                raise Unfoldable('%s is an expression of %s, which changes '
                                 'whenever it is computed' % (name, leaf))
    try:
        return np.asarray(value_of(variable, name))
    except ValueError as error:
        raise Unfoldable(str(error))


def effective_weight(record):
    """W in float64, by the formula."""
    form = Form.of(record)
    V = number(record.V, 'V').astype('float64')
    g = None if record.gain is None else number(
        record.g_param, record.gain.name)
    # what became infinite or NaN in training is so afterwards
    with np.errstate(all='ignore'):
        if record.normalizes:
            return form.weight(V, g)
        return V if g is None else V * form.expand(
            form.gains(g, (record.num_filters,)), V.ndim)


class Nothing(object):
    """What was folded already, or belongs to another network."""

    def __init__(self, layer, record, reason, name='W'):
        self.layer = layer
        self.record = record
        self.reason = reason
        self.names = (name,)


class ParamFold(object):
    """A parameter that its layer computes with as it is."""
    reason = None
    added = 0  # what is new at the front of the layer's parameters

    def __init__(self, record):
        self.record = record
        self.layer = record.layer
        self.names = (record.label,)

    def prepare(self, users, made):
        """Compute the values; return why that is impossible, or None."""
        self.make_weight(made)

    def make_weight(self, made, rows=()):
        """The new W. One for all that have V, g and `rows` in common.

        `rows` are the terms of a bias that is added to rows of W.
        """
        record = self.record
        key = (record.V, record.g_param, record.layout, record.eps,
               record.gain and (record.gain.per, record.gain.exp),
               record.normalizes, rows)
        if key not in made:
            W = effective_weight(record)
            for sign, term in rows:
                W = W + sign * number(term, 'b')
            V = record.V
            made[key] = theano.shared(np.asarray(W, V.dtype), V.name,
                                      broadcastable=V.broadcastable)
        self.W = made[key]

    def perform(self):
        """Change the layer."""
        self.put_weight()
        for kind in ('g', 's'):
            vars(self.layer).pop('%s_%s' % (kind, self.record.name), None)
        drop_gain(self.layer, self.record)

    def put_weight(self):
        record, layer = self.record, self.record.layer
        setattr(layer, record.name, self.W)
        del vars(layer)[record.name + '_param']
        if scaled(layer) is record:
            del layer.scaled_W
        for name in record.aliases:
            vars(layer).pop(name, None)
        rest = OrderedDict(records(layer))
        rest.pop(record.name, None)
        layer.normalized_params = rest
        mark(self.holder, record.label, layer)
        V = record.V
        if V in layer.params:
            insert(layer, list(layer.params).index(V), self.W,
                   layer.params[V])
        elif not isinstance(V, SharedVariable):  # a fixed weight stays fixed
            insert(layer, 0, self.W, {'trainable', 'regularizable'})
            self.added = 1
        if not any(value is V for value in vars(layer).values()):
            drop(layer, V)


class WrapperFold(ParamFold):
    """A WeightNormLayer and the layer below it."""

    def __init__(self, wrapper):
        self.wrapper = wrapper
        self.layer = wrapper.input_layer
        self.record = records(self.layer).get('W', scaled(self.layer))
        if self.record is not None and self.record.owner is not wrapper:
            self.record = None  # it is another one's
        self.names = () if self.record is None else ('W',)
        # by which the bias changes
        self.terms = [] if wrapper.b is None else [(1, wrapper.b)]
        if getattr(wrapper, 'mean', None) is not None:
            self.terms.append((-1, wrapper.mean))
        if self.terms or self.record is None:
            self.names += ('b',)

    def prepare(self, users, made):
        layer, wrapper = self.layer, self.wrapper
        if self.record is None and (getattr(wrapper, 'weight_norm', True) or
                                    not hasattr(layer, 'W')):
            return ('it is not the layer for which the normalization above '
                    'it was made')
        for method in ('get_output_for', 'preactivation'):
            if not getattr(type(wrapper), method).__module__.startswith(
                    'wnorm.'):
                return ('its weight normalization is of the class %s, which '
                        'computes something of its own'
                        % type(wrapper).__name__)
        moved = ['bias'] * bool(self.terms)
        if wrapper.nonlinearity is not identity:
            moved.append('nonlinearity')
        moved = ' and '.join(moved)
        others = [user for user in users if user is not wrapper]
        if moved and others:
            return 'others than its weight normalization use it, and would ' \
                'see its %s: %s' % (moved, ', '.join(
                    describe(user) if isinstance(user, Layer) else user
                    for user in others))
        own = getattr(layer, 'nonlinearity', None)
        if moved and own not in (None, identity):
            return ('it has a nonlinearity of its own below the %s of its '
                    'weight normalization' % moved)
        rows, self.b = (), None
        if wrapper.nonlinearity is not identity and not hasattr(
                layer, 'nonlinearity'):
            return 'its class has no nonlinearity to take %s' % getattr(
                wrapper.nonlinearity, '__name__', wrapper.nonlinearity)
        if self.terms and not hasattr(layer, 'b'):
            if self.record is None or not isinstance(layer, EmbeddingLayer):
                return 'its class has no bias'
            rows = tuple(self.terms)
        else:
            self.make_bias(made)
        if self.record is not None:
            self.make_weight(made, rows)

    def make_bias(self, made):
        """The bias of the layer below; None if that is what it has."""
        layer, removed = self.layer, self.wrapper.removed_bias
        kept = getattr(layer, 'b', None)
        terms = [(1, kept)] * (kept is not None) + self.terms
        if not self.terms and (kept is not None or removed is None):
            return
        name = 'b' if layer.name is None else layer.name + '.b'
        if kept in layer.params:
            name = kept.name
        elif removed is not None and removed.place is not None:
            name = removed.name
        shape = self.bias_shape()
        total = np.zeros(shape)
        for sign, term in terms:
            value = number(term, 'b')
            total = total + sign * value.reshape(
                value.shape + (1,) * (len(shape) - value.ndim))
        key = (tuple(terms), name, shape)
        if not terms or key not in made:
            made[key] = lasagne.utils.create_param(
                total.astype(layer.W.dtype), shape, name)
        self.b = made[key]

    def bias_shape(self):
        """The shape that the class of the layer below expects."""
        layer, shape = self.layer, self.wrapper.b_shape
        if len(shape) == 1 and getattr(layer, 'untie_biases', False):
            shape += tuple(layer.output_shape[2:])
        if None in shape:
            raise Unfoldable('the number of positions for its untied bias is '
                             'not known')
        return shape

    def perform(self):
        layer, wrapper = self.layer, self.wrapper
        if self.record is not None:
            self.put_weight()
        else:
            mark(layer, 'b', layer)
        if self.b is not None:
            self.put_bias()
        if wrapper.nonlinearity is not identity:
            layer.nonlinearity = wrapper.nonlinearity
        # from here on the identity
        for name in ('init_updates', 'bn_updates', 'mean', 'removed_bias'):
            vars(wrapper).pop(name, None)
        wrapper.b = wrapper.g = wrapper.g_param = wrapper.gain = None
        wrapper.nonlinearity = identity
        wrapper.train_g = False
        wrapper.params = OrderedDict()
        wrapper.remember()
        wrapper.__class__ = FoldedLayer

    def put_bias(self):
        layer, removed = self.layer, self.wrapper.removed_bias
        params = list(layer.params)
        place = params.index(layer.W) + 1 if layer.W in params else len(params)
        tags = {'trainable'}  # as Lasagne does
        if layer.b in params:
            place, tags = params.index(layer.b), layer.params[layer.b]
            drop(layer, layer.b)
        elif removed is not None and removed.place is not None:
            place, tags = removed.place + self.added, removed.tags
        layer.b = self.b
        insert(layer, place, self.b, tags)


# --- changes ----------------------------------------------------------------

def perform(outputs, jobs):
    """Do all `jobs`, or none if one fails."""
    layers = with_inner_layers(get_all_layers(outputs))
    objects = layers + all_records(layers)
    before = [(thing, type(thing), dict(vars(thing))) for thing in objects]
    try:
        weights = [job for job in jobs if job.record is not None]
        new_W = {job.record.W: job.W for job in weights}
        for job in jobs:
            job.perform()
        for layer in layers:
            if isinstance(layer, CustomRecurrentLayer):
                clear_aliases(layer, [job.record for job in weights], new_W)
        retie(layers, new_W)
    except BaseException:  # an interruption as well
        for thing, kind, attributes in before:
            thing.__class__ = kind
            vars(thing).clear()
            vars(thing).update(attributes)
        raise


def insert(layer, place, param, tags):
    """Put a parameter to its place. Another dictionary: so it can be undone"""
    params = list(layer.params.items())
    params.insert(place, (param, set(tags)))
    layer.params = OrderedDict(params)


def drop(layer, param):
    layer.params = OrderedDict((other, tags) for other, tags in
                               layer.params.items() if other is not param)


def drop_gain(layer, record):
    """Remove a gain from the parameters unless it has other uses there."""
    if record.gain is None:
        return
    leaves = [record.g_param] if record.g_param in layer.params else (
        theano.gof.graph.inputs([record.g_param]))
    used = list(vars(layer).values()) + [
        leaf for other in records(layer).values() if other.gain is not None
        for leaf in [other.g_param] + theano.gof.graph.inputs([other.g_param])]
    for leaf in leaves:
        if not any(leaf is variable for variable in used):
            drop(layer, leaf)


def mark(holder, name, layer):
    """For later reports: `layer` had the parameter that users know by `name`
    of `holder`."""
    before = getattr(holder, 'folded_params', ())
    holder.folded_params = before + ((name, layer),) * (
        (name, layer) not in before)


def clear_aliases(layer, folded, new_W):
    """What weight_norm gave a recurrent layer, for inner ones that are folded.

    The alias of W itself is put right with all expressions of it.
    """
    for record in folded:
        W = vars(layer).get(record.label)
        if isinstance(W, theano.Variable) and new_W.get(W) is record.W:
            for form in ('%s_param', 'g_%s', 's_%s'):
                vars(layer).pop(form % record.label, None)
    inner = get_all_layers([layer.input_to_hidden, layer.hidden_to_hidden])
    if isinstance(vars(layer).get('get_output_for'), OutsideScan) and not any(
            map(records, inner)):
        del layer.get_output_for


def retie(layers, new_W):
    """Let the expressions that others made of a W be of the new one."""
    if not new_W:
        return

    def concerned(variable):
        return isinstance(variable, theano.Variable) and any(
            node in new_W for node in theano.gof.graph.ancestors([variable]))

    things = [vars(thing) for thing in layers + all_records(layers)]
    old = OrderedDict.fromkeys(
        value for thing in things for value in thing.values()
        if concerned(value))
    old.update(OrderedDict.fromkeys(
        param for layer in layers for param in layer.params
        if concerned(param)))
    new = dict(new_W)
    apart = [variable for variable in old if variable not in new]
    for variable, clone in zip(apart, theano.clone(apart, replace=[
            (W, T.patternbroadcast(plain, W.broadcastable))
            for W, plain in new_W.items()])):
        clone.name = variable.name
        new[variable] = clone
    for thing in things:
        for name, value in list(thing.items()):
            if isinstance(value, theano.Variable) and value in old:
                thing[name] = new[value]
    for layer in layers:
        if any(param in old for param in layer.params):
            layer.params = OrderedDict((new.get(param, param), tags)
                                       for param, tags in layer.params.items())


# --- copies -----------------------------------------------------------------

def copied(outputs, only):
    """A copy of a network, with the same input variables."""
    memo = {}
    layers = get_all_layers(outputs)
    for layer in with_inner_layers(layers):
        values = list(vars(layer).values()) + list(layer.params)
        variables = [value for value in values
                     if isinstance(value, theano.Variable)]
        kept = [leaf for leaf in theano.gof.graph.inputs(variables)
                if not isinstance(leaf, (SharedVariable, theano.Constant))]
        if isinstance(layer, InputLayer):
            kept.append(layer.input_var)
        memo.update((id(variable), variable) for variable in kept)
        for name in ('init_updates', 'bn_updates'):  # of their last pass
            if hasattr(layer, name):
                memo[id(getattr(layer, name))] = []
    for layer in layers:  # from the input on, so that nothing recurs deeply
        try:
            deepcopy(layer, memo)
        except Exception as error:
            raise TypeError('%s cannot be copied: %s. Fold the network '
                            'itself: copy=False' % (describe(layer), error))
    return [memo[id(layer)] for layer in outputs], only and [
        memo[id(layer)] for layer in only]


def without_identities(outputs):
    """Take the layers that :func:`fold` left over out of a network."""
    for layer in with_inner_layers(get_all_layers(outputs)):
        for name, value in list(vars(layer).items()):
            if isinstance(value, FoldedLayer):
                setattr(layer, name, not_identity(value))
            elif isinstance(value, list):
                setattr(layer, name, [not_identity(one) for one in value])
    return [not_identity(layer) for layer in outputs]


def not_identity(layer):
    """`layer`, or what is below if :func:`fold` left it over."""
    while isinstance(layer, FoldedLayer):
        layer = layer.input_layer
    return layer
