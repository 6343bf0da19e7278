"""Wrapping a layer as the copied files do, classes unknown included."""
import sys
import warnings

from theano.compile import SharedVariable

from .. import filters
from ..layers import KEEP_W
from ..naming import describe

#: The rule of the copied files: dimensions of W, axis of its filters.
RULE = {2: 1, 4: 0}


def guessed_axis(layer):
    """The filter axis by the rule, for a class that nobody has registered."""
    if filters.find(layer) is None:
        return RULE.get(getattr(getattr(layer, 'W', None), 'ndim', None))


def layout(layer):
    """The :class:`wnorm.Layout` of W: known, or guessed with a warning."""
    axis = guessed_axis(layer)
    if axis is None:
        return filters.layout(layer, 'W')
    name = type(layer).__name__
    warnings.warn('%s: filters taken to be on axis %d of W, as in the '
                  'original nn.py. Tell it once: wnorm.register(%s, W=%d)'
                  % (describe(layer), axis, name, axis),
                  stacklevel=_level_of_the_caller())
    return filters.Layout(axis)


def _level_of_the_caller():
    """How far up the stack, from who asks, the first line outside is."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and str(frame.f_globals.get('__name__')).startswith(
            'wnorm.'):
        level, frame = level + 1, frame.f_back
    return level


class Guessing(object):
    """A wrapper class that takes layers of unknown classes, too."""

    find_layout = staticmethod(layout)


def keep_or_draw(incoming, W, default):
    """The argument `W` of a wrapper that draws W also at its `default`.

    Where that cannot be drawn, only what was asked for is an error.
    """
    if W is default and not isinstance(getattr(incoming, 'W', None),
                                       SharedVariable):
        return KEEP_W
    return W
