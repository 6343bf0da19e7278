"""How a weight is normalized, in words and in NumPy's arithmetic.

For what leaves Theano: folded weights, checkpoints, PyTorch.
"""
from collections import OrderedDict, namedtuple

import numpy as np

from .filters import Layout
from .parameters import NormalizedParam


class Form(namedtuple('Form', 'layout eps param per exp')):
    """How a parameter is normalized; `param` is None where g is 1."""
    __slots__ = ()

    #: sqrt(eps + sum V^2), one per filter, or per filter and position
    norms = NormalizedParam.norms

    @classmethod
    def of(cls, record, param=None):
        """That of a record, whose gain a file calls `param`."""
        ndim = record.V.ndim
        layout = Layout(record.layout.filter_axis % ndim, tuple(
            axis % ndim for axis in record.layout.position_axes), 0)
        gain = record.gain
        return cls(layout, record.eps, param or gain and gain.name,
                   gain and gain.per,
                   bool(gain and gain.exp))

    def row(self):
        gain = None if self.param is None else OrderedDict([
            ('param', self.param), ('per', self.per), ('exp', self.exp)])
        return OrderedDict([
            ('filter_axis', self.layout.filter_axis),
            ('position_axes', list(self.layout.position_axes)),
            ('eps', self.eps), ('gain', gain)])

    @property
    def gain(self):
        """The gain in words."""
        if self.param is None:
            return 'g=None'
        return '%s, one per %s' % (
            'g = exp(s)' if self.exp else 'g',
            self.per if isinstance(self.per, str) else
            'group, %d groups' % self.per)

    def differences(self, other):
        """In words, how the file's form `other` differs."""
        for what, theirs, ours in [
                ('filter axis', other.layout.filter_axis,
                 self.layout.filter_axis),
                ('position axes', other.layout.position_axes,
                 self.layout.position_axes),
                ('eps', other.eps, self.eps),
                ('form of g', other.gain, self.gain)]:
            if theirs != ours:
                yield '%s: %s in the file, %s in the network' % (
                    what, theirs, ours)

    def fits(self, V_shape, g_shape):
        """Whether a gain of shape `g_shape` belongs to V."""
        axes = (self.layout.filter_axis,) + self.layout.position_axes
        if len(set(axes)) < len(axes) or max(axes) >= len(V_shape):
            return False
        filters = V_shape[axes[0]]
        if self.param is None:
            return g_shape is None
        if self.per == 'layer':
            return g_shape == ()
        if self.per != 'filter':
            return g_shape == (self.per,) and filters % self.per == 0
        return g_shape in [(filters,), tuple(V_shape[axis] for axis in axes)]

    def expand(self, values, ndim):
        """One number per filter (and position), aligned with V."""
        axes = (self.layout.filter_axis,) + self.layout.position_axes
        values = values.reshape(values.shape + (1,) * (ndim - values.ndim))
        return np.moveaxis(values, range(len(axes)), axes)

    def weight(self, V, param):
        """W, given V and the gain's parameter, in float64."""
        V = V.astype('float64')
        norms = self.norms(V)
        scale = np.divide(self.gains(param, norms.shape), norms,
                          where=norms != 0, out=np.zeros(norms.shape))
        return V * self.expand(scale, V.ndim)

    def gains(self, param, shape):
        """g in float64, given its parameter, for norms of a shape."""
        g = np.ones(()) if param is None else param.astype('float64')
        if self.exp:
            g = np.exp(g)
        if g.shape != shape:  # for several filters, or all positions
            g = np.repeat(g, shape[0] // g.size).reshape(
                (-1,) + (1,) * (len(shape) - 1))
        return np.broadcast_to(g, shape)

    def split(self, W, g_shape, rounding):
        """V and the gain's parameter for the plain weight W, in float64.

        `rounding` is the relative error of the norms.

        Raises
        ------
        ValueError
            If one g cannot serve all the filters that share it.
        """
        W = W.astype('float64')
        norms = self.norms(W)
        if g_shape == norms.shape:  # one each
            return W, self._parameter(norms)
        count = int(np.prod(g_shape)) if self.param else 1
        squares = (self._replace(eps=0.).norms(W) ** 2).reshape((count, -1))
        g2 = (self.eps + squares.max(axis=1)[:, None] if self.param else
              np.ones((1, 1)))
        # With eps, W's norms are a bit less than g, the less V the more so.
        # V = W wherever that is exact, else V = c W with
        # c^2 = eps / (g^2 - ||W||^2).
        exact = abs(g2 - self.eps - squares) <= rounding * g2
        gap = np.maximum(g2 - squares, rounding * g2)
        small = gap <= self.eps + rounding * g2 + (
            .01 * squares if self.eps else 0)  # ||V|| >= 10 sqrt(eps)
        fits = (g2 - squares >= -rounding * g2) & small
        if not (fits | exact | (squares == 0)).all():
            raise ValueError('norms from %.6g to %.6g' % (
                np.sqrt(squares.min()), np.sqrt(squares.max())))
        keep = exact | (squares == 0) | (self.eps == 0)
        c = np.where(keep, 1., np.sqrt(self.eps / gap))
        V = W * self.expand(c.reshape(norms.shape), W.ndim)
        return V, (self._parameter(np.sqrt(g2).reshape(g_shape))
                   if self.param else None)

    def _parameter(self, g):
        if not self.exp:
            return g
        # log(0) of a filter of zeros, whose g does not matter
        return np.log(np.maximum(g, np.finfo('float32').tiny))
