"""Weights of every form that the Ops tell apart, and the formula in NumPy."""
import numpy as np


class Case(object):
    """A weight, the axes that its norm sums, the axes of its gain."""

    def __init__(self, name, shape, axes, gain_axes):
        self.name = name
        self.shape = shape
        self.axes = axes
        self.gain_axes = gain_axes

    def __repr__(self):
        return self.name

    @property
    def form(self):
        """What Ops know of it when they are compiled."""
        return len(self.shape), self.axes, self.gain_axes

    def gain_shape(self, shape=None):
        return tuple(n if axis in self.gain_axes else 1
                     for axis, n in enumerate(shape or self.shape))

    def arrays(self, rng, dtype='float64', most=1000):
        """V, g, dW; with at most so many entries along an axis."""
        shape = tuple(min(n, most) for n in self.shape)
        return [rng.randn(*s).astype(dtype)
                for s in (shape, self.gain_shape(shape), shape)]


# The sizes make the loops go through whole groups, chunks and strips, and
# leave something over.
CASES = [
    Case('dense', (75, 6), (0,), (1,)),
    Case('narrow', (973, 6), (0,), (1,)),
    Case('dense, filters first', (4, 71), (1,), (0,)),
    Case('convolution', (3, 2, 13, 51), (1, 2, 3), (0,)),
    Case('small convolution', (3, 2, 3, 3), (1, 2, 3), (0,)),
    Case('transposed convolution', (19, 3, 2, 3), (0, 2, 3), (1,)),
    Case('large transposed convolution', (2, 3, 9, 8), (0, 2, 3), (1,)),
    Case('local', (3, 2, 3, 3, 4, 2), (1, 2, 3), (0,)),
    Case('local, a gain for each position', (2, 3, 2, 2, 3), (1, 2),
         (0, 3, 4)),
    Case('one gain for all', (10, 4), (0,), ()),
    Case('one filter', (4, 5), (0, 1), ()),
    Case('vector', (6,), (), (0,)),
]


def inverse_norm(V, axes, eps):
    return 1 / np.sqrt(eps + np.sum(V.astype('float64') ** 2, axis=axes,
                                    keepdims=True))


def weight(V, g, axes, eps):
    return V * (g * inverse_norm(V, axes, eps))


def gradient(V, g, dW, axes, eps):
    """The gradients of V and of g."""
    inverse = inverse_norm(V, axes, eps)
    direction = V * inverse
    along = np.sum(dW * direction, axis=axes, keepdims=True)
    broadcast = tuple(axis for axis in range(g.ndim) if g.shape[axis] == 1)
    return (g * inverse * (dW - direction * along),
            np.sum(along, axis=broadcast, keepdims=True))
