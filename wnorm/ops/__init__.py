"""The arithmetic of weight normalization."""
import numpy as np
import theano.tensor as T
from theano.tensor.elemwise import DimShuffle

from . import rewrites  # noqa: F401 (it registers them)
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
        The gain: one number per filter, or per filter and position, or a
        scalar; None for filters of norm 1.

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
    axes = layout.norm_axes(V.ndim)
    if g is None:
        g = T.constant(np.ones((1,) * V.ndim, V.dtype))
    else:
        pattern = ['x'] * V.ndim
        for i, axis in zip(range(g.ndim), (layout.filter_axis,) +
                           layout.position_axes):
            pattern[axis] = i
        g = g.astype(V.dtype).dimshuffle(*pattern)
    base, order = stored(V)
    if extent(V.ndim, [order[axis] for axis in axes]) is None:
        # summed and other axes alternate: the others first
        first = [axis for axis in range(V.ndim) if axis not in axes]
        first += axes
        base, order = V.dimshuffle(first), tuple(map(
            first.index, range(V.ndim)))
    W = NormalizedWeight(sorted(order[axis] for axis in axes), eps)(
        base, g.dimshuffle([order.index(axis) for axis in range(V.ndim)]))
    return W if base is V else W.dimshuffle(order)


def stored(V):
    """What V is a permutation of, such as a transpose, and of which axes."""
    node = V.owner
    if node is not None and isinstance(node.op, DimShuffle) and (
            sorted(map(str, node.op.new_order)) ==
            sorted(map(str, range(node.inputs[0].ndim)))):
        return node.inputs[0], tuple(node.op.new_order)
    return V, tuple(range(V.ndim))
