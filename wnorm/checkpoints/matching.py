"""What a file has for a network: set it, convert it, or say what differs."""
import warnings
from collections import OrderedDict, namedtuple

import numpy as np
from lasagne.layers import Layer, get_all_params

from ..parameters import values_set
from .files import Array, Stored
from .names import evaluate, is_shared, unique


class LoadReport(namedtuple('LoadReport', 'path loaded converted notes')):
    """What :func:`wnorm.load` did; prints as text.

    Attributes
    ----------
    path : str
        The file.

    loaded : tuple of str
        The keys of the parameters that have been set.

    converted : tuple of str
        One sentence for each parameter that was normalized on one side only.

    notes : tuple of str
        What else there is to know: values that are not finite.
    """
    __slots__ = ()

    def __str__(self):
        layers = set(key.rsplit('/', 1)[0] for key in self.loaded)
        counts = ['%d %s%s' % (len(items), what, 's' * (len(items) != 1))
                  for items, what in [(self.loaded, 'parameter'),
                                      (layers, 'layer')]]
        return '\n  '.join(('%s: %s' % (self.path, ' of '.join(counts)),) +
                           self.converted + self.notes)

    __repr__ = __str__


class Plan(object):
    """What is to be set, and what does not fit."""

    def __init__(self, path, entries):
        self.path = path
        self.entries = entries
        self.differences = []
        self.values = OrderedDict()  # {shared variable: (array, key)}
        self.wanted = []             # [(expression, array, key, rounding)]
        self.loaded = []
        self.converted = []
        self.strange = []            # keys of values that are not finite
        expressions = unique(slot for entry in entries
                             for slot in entry.expressions())
        self.now = dict(zip(expressions, evaluate(expressions)))

    def differ(self, key, text):
        self.differences.append('%s: %s' % (key, text))

    def shape(self, slot):
        """The shape of a parameter, None for an expression without value."""
        value = (slot.get_value(borrow=True) if is_shared(slot) else
                 self.now[slot])
        return None if value is None else value.shape

    def accepts(self, key, slot, array):
        """Whether shape and kind are right; otherwise that is noted."""
        shape = self.shape(slot)
        kinds = [np.dtype(dtype).kind.replace('u', 'i')
                 for dtype in (array.dtype, slot.dtype)]
        if array.shape != shape:
            self.differ(key, 'shape %s in the file, %s in the network'
                        % (array.shape, shape))
        if kinds[0] != kinds[1]:
            self.differ(key, 'dtype %s in the file, %s in the network'
                        % (array.dtype, slot.dtype))
        return array.shape == shape and kinds[0] == kinds[1]

    def assign(self, key, slot, values, dtype=None):
        """Note what `slot` is to be; `values` have its shape and kind.

        `dtype` is the file's, if that is not the one of `values`.
        """
        with np.errstate(over='ignore', under='ignore'):
            cast = values.astype(slot.dtype)
        finite = np.isfinite(values)
        if not np.array_equal(finite, np.isfinite(cast)) or (
                cast.dtype.kind != 'f' and not np.array_equal(cast, values)):
            self.differ(key, 'values that %s cannot hold' % slot.dtype)
        if not finite.all():
            self.strange.append(key)
        if not is_shared(slot):
            self.wanted.append((slot, cast, key, _rounding(
                dtype or values.dtype, slot.dtype)))
            return
        other, other_key = self.values.setdefault(slot, (cast, key))
        if not _same(other, cast):
            self.differ(key, 'other values in the file than for %s, with '
                        'which the network shares it' % other_key)
        self.loaded.append(key)

    def take(self, key, slot, array):
        if self.accepts(key, slot, array):
            self.assign(key, slot, array.read())

    def check_expressions(self):
        """Expressions must compute what the file has for them."""
        if self.differences or not self.wanted:
            return
        found = evaluate([slot for slot, _, _, _ in self.wanted], [
            (variable, values) for variable, (values, _) in
            self.values.items()])
        for (_, values, key, rounding), now in zip(self.wanted, found):
            bound = 10 * rounding * np.max(abs(values), initial=0)
            if not (_same(values, now) or
                    (abs(values - now) <= bound).all()):
                self.differ(key, 'an expression in the network, which '
                            'computes other values than the file has')

    def carry_out(self):
        if self.differences:
            raise ValueError('%s does not fit the network; nothing has been '
                             'changed:\n  %s' % (
                                 self.path, '\n  '.join(self.differences)))
        notes = ()
        if self.strange:
            notes = ('NaN or infinite: %s' % ', '.join(self.strange),)
            warnings.warn('%s has values that are NaN or infinite: %s'
                          % (self.path, ', '.join(self.strange)),
                          stacklevel=3)  # perhaps as an error
        with values_set(OrderedDict(
                (variable, values)
                for variable, (values, _) in self.values.items())):
            pass
        return LoadReport(self.path, tuple(self.loaded),
                          tuple(self.converted), notes)


def _rounding(*dtypes):
    """The relative error of a norm that has been in each of `dtypes`."""
    return 8 * max([np.finfo(dtype).eps for dtype in dtypes
                    if np.dtype(dtype).kind == 'f'] or [0])


def _same(one, other):
    return one.shape == other.shape and bool(
        ((one == other) | (one != one) & (other != other)).all())


def match_names(plan, stored):
    """`stored` is ``{key of a layer: Stored}``."""
    entries = OrderedDict((entry.key, entry) for entry in plan.entries)
    for key in unique(list(stored) + list(entries)):
        theirs, ours = stored.get(key), entries.get(key)
        if theirs and ours and (theirs.arrays or ours.slots):
            _match_layer(plan, ours, theirs)
        elif theirs and theirs.arrays:
            plan.differ(key, 'a %s with %s in the file, not in the network'
                        % (theirs.class_name, ', '.join(theirs.arrays)))
        elif ours and ours.slots:
            plan.differ(key, 'a %s with %s in the network, not in the file'
                        % (ours.class_name, ', '.join(ours.slots)))


def _match_layer(plan, ours, theirs):
    if ours.class_name != theirs.class_name:
        plan.differ(ours.key, 'a %s in the file, a %s in the network' % (
            theirs.class_name, ours.class_name))
    done, converts = set(), False
    for name in unique(list(theirs.forms) + list(ours.forms)):
        key = '%s/%s' % (ours.key, name)
        new, old = ours.forms.get(name), theirs.forms.get(name)
        if new and old:
            found = list(new.differences(old))
            for text in found:
                plan.differ(key, text)
            if found:  # say no more of it
                done.update([name, new.param, old.param])
        elif name in ours.slots and name in theirs.arrays:
            convert = _to_plain if old else _to_normalized
            convert(plan, ours, theirs, name, new or old)
            done.update([name, (new or old).param])
            converts = True
    for name, leaves in theirs.derived.items():
        if name not in ours.derived:
            done.update(leaves)  # its value is enough
    for name in unique(list(theirs.arrays) + list(ours.slots)):
        if name in done:
            continue
        key = '%s/%s' % (ours.key, name)
        array, slot = theirs.arrays.get(name), ours.slots.get(name)
        is_bias = converts and name.rstrip("'") == 'b'
        if array is not None and slot is not None:
            plan.take(key, slot, array)
        elif array is not None and is_bias:
            _drop_bias(plan, key, ours, array)
        elif array is not None:
            plan.differ(key, 'in the file, not in the network')
        elif is_bias:
            plan.assign(key, slot, np.zeros(plan.shape(slot)))
            plan.converted.append('%s: none in the file: 0' % key)
        elif is_shared(slot):
            plan.differ(key, 'in the network, not in the file')


def _to_normalized(plan, ours, theirs, name, form):
    """A plain weight of the file becomes V and g."""
    key = '%s/%s' % (ours.key, name)
    V, array = ours.slots[name], theirs.arrays[name]
    if not plan.accepts(key, V, array):
        return
    g = ours.slots.get(form.param)
    shape = () if g is None else plan.shape(g)
    if shape is None:
        plan.differ(key, 'plain in the file, but its gain in the network '
                    'depends on inputs')
        return
    try:
        with np.errstate(invalid='ignore', over='ignore'):
            W = array.read()
            new_V, new_g = form.split(W, shape, _rounding(
                array.dtype, V.dtype))
    except ValueError as error:
        plan.differ(key, 'plain in the file, with %s: cannot be written with '
                    '%s' % (error, form.gain))
        return
    plan.assign(key, V, new_V, array.dtype)
    how = 'V = W' if _same(new_V, W) else (
        'V = c W, with a c for each filter')
    if g is not None:
        plan.assign('%s/%s' % (ours.key, form.param), g, new_g, array.dtype)
        how += ', g = %ssqrt(eps + ||W||^2)' % (
            'exp(s) = ' if form.exp else '')
    plan.converted.append('%s: plain in the file: %s' % (key, how))


def _to_plain(plan, ours, theirs, name, form):
    """V and g of the file become a plain weight."""
    key = '%s/%s' % (ours.key, name)
    W, V = ours.slots[name], theirs.arrays[name]
    if not plan.accepts(key, W, V):
        return
    if form.param is not None and form.param not in theirs.arrays:
        plan.differ(key, 'normalized in the file, with a gain that is an '
                    'expression without a value')
        return
    g = None if form.param is None else theirs.arrays[form.param]
    if not form.fits(V.shape, None if g is None else g.shape) or (
            g is not None and g.dtype.kind != 'f'):
        plan.differ(key, 'V has shape %s in the file, which its axes and its '
                    'gain do not fit' % (V.shape,))
        return
    with np.errstate(invalid='ignore', over='ignore'):
        plan.assign(key, W, form.weight(
            V.read(), None if g is None else g.read()), V.dtype)
    plan.converted.append('%s: normalized in the file: W = g V / sqrt(eps + '
                          '||V||^2)' % key)


def _drop_bias(plan, key, ours, array):
    """A bias of the file for a layer without: only if it is 0."""
    filters = ours.layer.output_shape[1:] or (1,)
    # else it may be of any size
    small = np.prod(array.shape, dtype=float) <= max(
        np.prod([n or 1 for n in filters], dtype=float), filters[-1] or 1)
    if small and not array.read().any():
        plan.converted.append('%s: 0 in the file, none in the network' % key)
    else:
        plan.differ(key, 'a bias that is not 0 in the file, none in the '
                    'network')


# --- arrays without names ----------------------------------------------------

def match_positions(plan, file, layer_or_layers):
    """The arrays of a file in the order of ``get_all_params``."""
    arrays = [file.arrays['arr_%d' % i] for i in range(len(file.arrays))]
    params = get_all_params(
        layer_or_layers if isinstance(layer_or_layers, Layer) else
        list(layer_or_layers))
    keys = {}
    for entry in plan.entries:
        for name, slot in entry.slots.items():
            keys.setdefault(slot, '%s/%s' % (entry.key, name))
    plain = _without_gains(plan.entries, params)
    shapes = [array.shape for array in arrays]
    order = params
    if shapes != list(map(plan.shape, params)) and (
            shapes == list(map(plan.shape, plain)) or
            len(shapes) == len(plain)):
        order = plain
    if len(order) != len(arrays):
        also = '' if len(plain) == len(params) else (
            ', %d as a plain one' % len(plain))
        plan.differ('arr_0 to arr_%d' % (len(arrays) - 1),
                    '%d arrays without names in the file, %d parameters in '
                    'the network%s. Build the network as it was saved, '
                    'biases and gains included'
                    % (len(arrays), len(params), also))
        return
    fit = [plan.accepts('arr_%d, %s' % (i, keys[param]), param, array)
           for i, (array, param) in enumerate(zip(arrays, order))]
    if not all(fit):
        return
    if order is params:
        if len(plain) == len(params) and any(
                entry.forms for entry in plan.entries):
            plan.converted.append(
                "there are no gains by which to tell a plain network's file: "
                'taken for one of this normalized network')
        for array, param in zip(arrays, params):
            plan.assign(keys[param], param, array.read())
        return
    values = OrderedDict((param, array.read())
                         for array, param in zip(arrays, plain))
    match_names(plan, _as_plain(plan.entries, values))


def _without_gains(entries, params):
    """Those that the network would have without normalizations."""
    gains, others = [], []
    for entry in entries:
        names = [form.param for form in entry.forms.values()]
        for name, slot in entry.slots.items():
            (gains if name in names else others).append(slot)
        for name in names:
            gains += [entry.slots[leaf]
                      for leaf in entry.derived.get(name, [])]
    return [param for param in params if param not in gains]


def _as_plain(entries, values):
    """The plain network with `values` for its variables, as from a file."""
    weights = unique(entry.slots[name] for entry in entries
                     for name in entry.forms
                     if name in entry.derived)
    values = dict(values)
    values.update((weight, value) for weight, value in zip(
        weights, evaluate(weights, values)) if value is not None)
    return OrderedDict(
        (entry.key, Stored(entry.class_name, OrderedDict(
            (name, Array.of(values[slot])) for name, slot in
            entry.slots.items() if slot in values), {}, {}))
        for entry in entries)
