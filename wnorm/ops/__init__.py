"""The arithmetic of weight normalization."""
import numpy as np
import theano.tensor as T

from .weight import NormalizedWeight, extent

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
        Of the shape of `V`: one Op, which rewrites of the graph turn into
        something faster where they can (see ``docs/speed.md``).
    """
    if V.dtype == 'float16':  # computed in float32
        W = normalized(V.astype('float32'), g, layout, eps)
        return W.astype('float16')
    axes = layout.norm_axes(V.ndim)
    if g is None:
        g = T.constant(np.ones((1,) * V.ndim, V.dtype))
    else:
        pattern = ['x'] * V.ndim
        pattern[layout.filter_axis] = 0
        g = g.astype(V.dtype).dimshuffle(*pattern)
    if extent(V.ndim, axes) is not None:
        return NormalizedWeight(axes, eps)(V, g)
    # summed and other axes alternate: the others first
    order = [axis for axis in range(V.ndim) if axis not in axes]
    order += axes
    W = NormalizedWeight(range(V.ndim - len(axes), V.ndim), eps)(
        V.dimshuffle(order), g.dimshuffle(order))
    return W.dimshuffle([order.index(axis) for axis in range(V.ndim)])
