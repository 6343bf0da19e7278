"""The data: one batch, checked, or many, gone through pass by pass."""
import contextlib
from collections.abc import Iterator

import numpy as np
import theano
from lasagne.layers import InputLayer, Layer
from theano.compile import SharedVariable

from ..naming import describe


def checked_batch(layers, batch):
    """The batch as ``{input layer: array of its input's dtype}``."""
    if isinstance(batch, (list, tuple)):
        raise TypeError('a batch is an array or a dictionary from input '
                        'layers to arrays, got a %s'
                        % type(batch).__name__)
    inputs = [layer for layer in layers if isinstance(layer, InputLayer)]
    # those that need data: the others carry an expression or a value
    free = [layer for layer in inputs if is_free(layer.input_var)]
    if batch is None:
        batch = {}
    elif not isinstance(batch, dict):
        takers = free or inputs
        if len(takers) != 1:
            raise ValueError('one array for %d input layers: give a '
                             'dictionary from each to its array: %s'
                             % (len(takers), ', '.join(map(describe, takers))))
        batch = {takers[0]: batch}
    for layer in batch:
        if layer not in inputs:
            raise ValueError('the batch names %s, which is no input layer of '
                             'the network' % (
                                 describe(layer) if isinstance(layer, Layer)
                                 else repr(layer)))
    missing = [layer for layer in free if layer not in batch]
    if missing:
        raise ValueError('no data for %s: give a batch'
                         % ', '.join(map(describe, missing)))
    # in the network's order, whatever the dictionary's
    return {layer: _checked(layer, batch[layer]) for layer in inputs
            if layer in batch}


def is_free(variable):
    return (variable.owner is None and
            not isinstance(variable, (theano.Constant, SharedVariable)))


def _checked(layer, array):
    """`array` as data for the input layer `layer`."""
    what = 'the batch for %s' % describe(layer)
    if isinstance(array, (theano.Variable, list, tuple)):
        raise TypeError('%s must be an array, got a %s'
                        % (what, type(array).__name__))
    array = np.asarray(array)
    dtype = np.dtype(layer.input_var.dtype)
    if not (np.can_cast(array.dtype, dtype, 'same_kind') or
            # unsigned indices too
            array.dtype.kind in 'iu' and dtype.kind in 'iu'):
        raise TypeError('%s has dtype %s, must be %s'
                        % (what, array.dtype, dtype))
    shape = layer.output_shape
    if len(array.shape) != len(shape) or any(
            want not in (None, have)
            for want, have in zip(shape, array.shape)):
        raise ValueError('%s has shape %s, must have %s'
                         % (what, array.shape, shape))
    if array.size == 0:
        raise ValueError('%s is empty: its shape is %s'
                         % (what, array.shape))
    if array.dtype.kind in 'fc' and not np.isfinite(array).all():
        raise ValueError('%s contains NaN or infinity' % what)
    with np.errstate(over='ignore'):
        cast = array.astype(dtype, copy=False)
    if not np.isfinite(cast).all() or (
            dtype.kind in 'iu' and not np.array_equal(cast, array)):
        raise ValueError('%s has values that %s cannot hold' % (what, dtype))
    return cast


def is_many(batch):
    """Whether `batch` is an iterable of batches, or a function for one."""
    if isinstance(batch, (list, tuple)):
        return True
    if (batch is None or isinstance(batch, (dict, str, bytes, theano.Variable))
            or hasattr(batch, '__array__')):
        return False
    return _is_iterable(batch) or callable(batch)


def _is_iterable(thing):
    return not isinstance(thing, type) and (
        hasattr(thing, '__iter__') or hasattr(thing, '__getitem__'))


class Batches(object):
    """Goes through the batches, pass by pass, and checks them.

    It holds none of them: of what :meth:`next` returns, no reference is left
    here.
    """
    def __init__(self, layers, source, passes, may_be_empty=False):
        if isinstance(source, Iterator) and passes > 1:
            raise ValueError(
                'the batches can be gone through only once, as %r, but this '
                'network takes %d passes: its weight-normalized layers form '
                'so many levels. Give a list, or a function that returns a '
                'fresh iterator' % (source, passes))
        self.layers = layers
        self.source = source
        self.passes = passes
        self.may_be_empty = may_be_empty
        self.done = 0
        self.shapes = None
        self.first_pass = None

    def total(self):
        """How many there are in all passes, if that is known before."""
        try:
            return self.passes * len(self.source)
        except TypeError:
            return None

    def start(self):
        """Begin another pass."""
        source = self.source
        if not _is_iterable(source):
            source = source()
            if not _is_iterable(source):
                raise TypeError('%r must return an iterable of batches, it '
                                'returned %r' % (self.source, source))
        self.iterator = iter(source)
        self.done += 1
        self.number = self.examples = 0

    def next(self):
        """The next batch, as ``{input layer: array}``; None at the end."""
        try:
            batch = next(self.iterator)
        except StopIteration:
            self._end()
            return None
        self.number += 1
        with self.numbered():
            data = checked_batch(self.layers, batch)
            shapes = {layer: array.shape[1:] for layer, array in data.items()}
            self.shapes = self.shapes or shapes
            self._check_shapes(shapes)
        self.examples += number_of_examples(data)
        return data

    def _check_shapes(self, shapes):
        for layer in list(self.shapes) + list(shapes):
            if (layer in shapes) != (layer in self.shapes):
                raise ValueError('there is data for %s in %s batch only' % (
                    describe(layer),
                    'this' if layer in shapes else 'the first'))
            if shapes[layer] != self.shapes[layer]:
                raise ValueError(
                    'its examples for %s have shape %s, those of the first '
                    'batch %s' % (describe(layer), shapes[layer],
                                  self.shapes[layer]))

    def _end(self):
        if not (self.number or self.done > 1 or self.may_be_empty):
            raise ValueError('there are no batches: %r is empty'
                             % (self.source,))
        found = self.number, self.examples
        self.first_pass = self.first_pass or found
        if found != self.first_pass:
            raise ValueError(
                'pass %d over the data found %d batches with %d examples, the '
                'first pass %d with %d: nothing has been changed. The '
                'batches must be the same each time; a function must return a '
                'fresh iterator' % ((self.done,) + found + self.first_pass))

    @contextlib.contextmanager
    def numbered(self):
        """Errors in here begin with the number of the batch."""
        try:
            yield
        except Exception as error:
            error.args = ('batch %d: %s' % (
                self.number, error.args[0] if error.args else ''),
            ) + error.args[1:]
            raise


def number_of_examples(data):
    return next((len(array) for array in data.values() if array.ndim), 1)
