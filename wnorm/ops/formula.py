"""The textbook formula, of Theano's own operations.

The Ops compute the same, and take their higher derivatives from it. Devices
compute with it.
"""
from collections import OrderedDict

import numpy as np
import theano.tensor as T
from theano.gradient import disconnected_grad


def inverse_norm(V, axes, eps):
    """1 / sqrt(eps + sum V^2), with the summed axes of size 1."""
    if eps:
        return 1 / T.sqrt(np.asarray(eps, V.dtype) +
                          T.sum(T.sqr(V), axis=axes, keepdims=True))
    relative, inverse, largest = _relative(V, axes)
    return inverse / largest


def weight(V, g, axes, eps):
    """g V / sqrt(eps + sum V^2), for a `g` that broadcasts against V."""
    if eps:
        return V * (g * inverse_norm(V, axes, eps))
    relative, inverse, largest = _relative(V, axes)
    return relative * (g * inverse)


def gradient(V, g, dW, axes, eps):
    """The gradients of V and g, given that of the weight."""
    return T.grad(None, [V, g], known_grads={weight(V, g, axes, eps): dW})


def second_gradient(V, g, dW, ddV, ddg, axes, eps):
    """The gradients of V, g and dW, given those of :func:`gradient`."""
    dV, dg = gradient(V, g, dW, axes, eps)
    return T.grad(None, [V, g, dW], disconnected_inputs='ignore',
                  known_grads=OrderedDict([(dV, ddV), (dg, ddg)]))


def _relative(V, axes):
    """V relative to its largest entry, its inverse norm, and that entry.

    So that no square under- or overflows. The largest entry cancels out of
    the weight, hence is a constant to the gradient. For zeros the inverse
    norm is 0.
    """
    # typed constants: Theano's rewriting of switch takes no others
    one, none = np.asarray(1, V.dtype), np.asarray(0, V.dtype)
    # constants, each by itself: max over several axes has no R_op, and that
    # of a comparison with a constant has another shape
    size = abs(disconnected_grad(V))
    # of no axes, it takes all
    largest = T.max(size, axis=axes, keepdims=True) if axes else size
    zero = disconnected_grad(T.eq(largest, none))
    largest = disconnected_grad(T.switch(zero, one, largest))
    relative = V / largest
    square = T.sum(T.sqr(relative), axis=axes, keepdims=True)
    # the inner switch keeps the derivative of the root finite where the
    # outer one discards it
    inverse = T.switch(zero, none, one / T.sqrt(T.switch(zero, one, square)))
    return relative, inverse, largest
