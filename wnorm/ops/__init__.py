"""The arithmetic of weight normalization."""
import numpy as np
import theano.tensor as T
from theano.gradient import disconnected_grad

__all__ = ['normalized']


def normalized(V, g, layout, eps=1e-6):
    r"""
    wnorm.ops.normalized(V, g, layout, eps=1e-6)

    The effective weight

    .. math:: W = g \frac{V}{\sqrt{\epsilon + \sum V^2}}

    Parameters
    ----------
    V : Theano expression
        The direction parameter, of any number of dimensions.

    g : Theano expression or None
        The gain, one number per filter; None for filters of norm 1.

    layout : :class:`wnorm.Layout`
        Which axes of `V` the sum leaves out.

    eps : float
        With 0, W is exactly :math:`g V / ||V||`, however small or large the
        entries of `V`; W and the gradients of a filter of zeros are 0.

    Returns
    -------
    Theano expression
        Of the shape of `V`.
    """
    axes = layout.norm_axes(V.ndim)
    if g is not None:
        pattern = ['x'] * V.ndim
        pattern[layout.filter_axis] = 0
        g = g.astype(V.dtype).dimshuffle(*pattern)
    if eps:
        norm = T.sqrt(np.asarray(eps, V.dtype) +
                      T.sum(T.sqr(V), axis=axes, keepdims=True))
        return V / norm if g is None else V * (g / norm)
    # Divide by the largest entry first, so that no square under- or
    # overflows. It cancels out of W, hence is a constant to the gradient.
    largest = T.max(abs(V), axis=axes, keepdims=True)
    zero = T.eq(largest, 0)
    V = V / disconnected_grad(T.switch(zero, 1, largest).astype(V.dtype))
    square = T.sum(T.sqr(V), axis=axes, keepdims=True)
    # the inner switch keeps the derivative of the root finite where the
    # outer one discards it
    inverse = T.switch(zero, 0, 1 / T.sqrt(T.switch(zero, 1, square)))
    inverse = inverse.astype(V.dtype)
    return V * (inverse if g is None else g * inverse)
