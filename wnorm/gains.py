"""Forms of the gain g: what it is made from, how many there are, its scale."""
import numbers

import lasagne
import numpy as np
import theano
import theano.tensor as T
from lasagne.init import Constant
from theano.compile import SharedVariable

from .naming import describe

__all__ = ['Gain']

PER = ("there is one g per 'filter', one per 'layer', or a number of groups, "
       '1 or more')


class Gain(object):
    r"""
    wnorm.Gain(init=lasagne.init.Constant(1.), per='filter', exp=False)

    A form of the gain g of a weight normalization.

    .. math:: W = g \frac{V}{\sqrt{\epsilon + \sum V^2}}

    Parameters
    ----------
    init : number, numpy array, callable, 'norm', shared variable, expression
        The initial values of g: a number for all, an array, an initializer;
        ``'norm'`` for :math:`g = \sqrt{\epsilon + \sum V^2}`, which leaves W
        as V is. A shared variable or an expression becomes the parameter
        itself: g, or s with `exp`.

    per : 'filter', 'layer' or int
        How many there are: one per filter, of shape ``(num_filters,)``; one
        for the whole layer, a scalar; or this number of groups of as many
        consecutive filters each, of shape ``(per,)``, such as the
        ``num_groups`` of a grouped convolution. In each case every filter has
        a norm of its own.

    exp : bool
        With True g = exp(s), and s is the parameter: g stays positive.

    Raises
    ------
    TypeError, ValueError
        If an argument is none of these.

    Notes
    -----
    Given as the argument `g` of :func:`wnorm.weight_norm` and the like. Two
    strings are short for the usual forms: ``g='norm'`` for ``Gain('norm')``,
    the way to wrap a layer that is trained already, and ``g='exp'`` for
    ``Gain(exp=True)``.

    With ``'norm'`` and less than one gain per filter, g is the root mean
    square of the norms of its filters: W is as V on average only. Where
    positions have weights of their own, ``'norm'`` is one gain per filter and
    position.

    Data-dependent initialization multiplies g by init_stdv / std; it adds the
    logarithm of that to s. A gain of several filters goes by the root mean
    square over them, so that they have the deviation `init_stdv` on average.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> from wnorm import Gain, weight_norm
    >>> pretrained = DenseLayer(InputLayer((None, 20)), 5)
    >>> l = weight_norm(pretrained, g='norm', train_g=True)
    >>> l = weight_norm(DenseLayer(l, 4), g=Gain(2., per='layer', exp=True))
    >>> float(l.g.eval().round(3)), l.get_params()
    (2.0, [b, s])
    """
    def __init__(self, init=Constant(1.), per='filter', exp=False):
        if isinstance(init, str) and init != 'norm':
            raise ValueError("the initial values of g are numbers or 'norm', "
                             'got %r' % init)
        if init is None:
            raise TypeError('a Gain has initial values, got None. For no '
                            'gain: g=None')
        if isinstance(per, bool) or not isinstance(
                per, (str, numbers.Integral)):
            raise TypeError('%s, got %r' % (PER, per))
        if not (per in ('filter', 'layer') if isinstance(per, str) else
                per >= 1):
            raise ValueError('%s, got %r' % (PER, per))
        self.init = init
        self.per = per if isinstance(per, str) else int(per)
        self.exp = bool(exp)

    @property
    def is_norm(self):
        return isinstance(self.init, str)

    @property
    def is_free(self):
        """Whether it can be drawn for any number of filters."""
        return self.is_norm or isinstance(self.init, numbers.Real) or (
            callable(self.init) and not isinstance(
                self.init, theano.Variable))

    @property
    def name(self):
        """What the parameter is called."""
        return 's' if self.exp else 'g'

    def __repr__(self):
        init = self.init.val if isinstance(self.init, Constant) else self.init
        words = []
        if self.is_norm or isinstance(init, numbers.Real):
            words += [repr(init)] * (init != 1)
        else:
            words.append(getattr(init, 'name', None) or type(init).__name__)
        if self.per != 'filter':
            words.append('per=%r' % self.per)
        if self.exp:
            words.append('exp=True')
        short = {"'norm'": "'norm'", 'exp=True': "'exp'"}
        return short.get(', '.join(words), 'Gain(%s)' % ', '.join(words))

    def shape(self, num_filters):
        """The shape of the parameter."""
        return {'filter': (num_filters,), 'layer': ()}.get(
            self.per, (self.per,))

    def check(self, layer, num_filters):
        """Refuse what does not fit `layer`, as far as it can be seen."""
        if self.per not in ('filter', 'layer') and num_filters % self.per:
            raise ValueError('%s: %d filters cannot be divided into %d groups '
                             'of equal size' % (describe(layer), num_filters,
                                                self.per))
        if not (self.is_norm or isinstance(self.init, numbers.Real)):
            check_param(layer, self.name, self.init, self.shape(num_filters))
        if isinstance(self.init, (numbers.Real, np.ndarray)):
            self._check_values(layer, self.init)

    def _check_values(self, layer, values):
        with np.errstate(over='ignore', under='ignore'):
            values = np.asarray(values, theano.config.floatX)
        if not np.isfinite(values).all():
            raise ValueError('%s: g contains NaN or infinity'
                             % describe(layer))
        if self.exp and not np.all(values > 0):
            raise ValueError('%s: g = exp(s) is positive, it cannot start '
                             'from 0 or less' % describe(layer))

    def draw(self, layer, num_filters):
        """The parameter, as an array or a variable; not for ``'norm'``."""
        init, shape = self.init, self.shape(num_filters)
        if isinstance(init, numbers.Real):
            init = np.full(shape, init, 'float64')
        values = draw_param(layer, self.name, init, shape)
        if isinstance(values, theano.Variable):
            return values
        self._check_values(layer, values)
        return self._parameter(values)

    def from_norms(self, norms):
        """The parameter for ``'norm'``, from sqrt(eps + sum V^2)."""
        if self.per != 'filter':
            shape = self.shape(len(norms))
            norms = np.sqrt(np.mean(np.square(norms).reshape(
                (shape or (1,)) + (-1,)), axis=1)).reshape(shape)
        return self._parameter(norms)

    def _parameter(self, values):
        if self.exp:
            with np.errstate(divide='ignore'):  # a filter of zeros
                values = np.maximum(np.log(values), np.log(
                    np.finfo(theano.config.floatX).tiny))
        return lasagne.utils.floatX(values)

    def value(self, param):
        """g, given its parameter."""
        return T.exp(param) if self.exp else param

    def spread(self, g, num_filters):
        """g with one entry per filter, or a scalar."""
        if g is None or self.per in ('filter', 'layer'):
            return g
        return g[np.repeat(np.arange(self.per), num_filters // self.per)]

    def rescaling(self, std, degenerate, init_stdv):
        """What data-dependent initialization multiplies g by, per filter.

        Parameters
        ----------
        std, degenerate : vectors
            The deviation of each filter, and where that is none.
        init_stdv : number or array
        """
        target = np.asarray(init_stdv, std.dtype)
        if self.per == 'filter':
            return _ratio(target, std, degenerate)
        groups = 1 if self.per == 'layer' else self.per
        used = T.invert(degenerate).astype(std.dtype)
        wanted, have = [_norm((used * value).reshape((groups, -1)))
                        for value in (target, std)]
        factor = _ratio(wanted, have, T.eq(have, 0))
        return (factor * T.ones_like(std.reshape((groups, -1)))).flatten()

    def update(self, param, scale):
        """The new value of `param`, given :meth:`rescaling`."""
        if self.per == 'layer':
            scale = scale[0]
        elif self.per != 'filter':
            scale = scale.reshape((self.per, -1))[:, 0]
        elif param.ndim > 1:  # and positions
            scale = scale.dimshuffle(0, *['x'] * (param.ndim - 1))
        return param + T.log(scale) if self.exp else param * scale


def _ratio(a, b, unless):
    one = np.asarray(1, b.dtype)
    return T.switch(unless, one, a / T.switch(unless, one, b))


def _norm(rows):
    """The norm of each row of numbers that are not negative, relative to their
    mean, so that no square under- or overflows."""
    # not to the largest: devices of OpenCL have no maximum over an axis
    mean = T.mean(rows, axis=1, keepdims=True)
    return mean * T.sqrt(T.sum(T.sqr(
        _ratio(rows, mean, T.eq(mean, 0))), axis=1, keepdims=True))


#: Short for a form of their own.
FORMS = {'norm': Gain('norm'), 'exp': Gain(exp=True)}


def as_gain(layer, g):
    """The :class:`Gain` that the argument `g` means; None for None."""
    if g is None or isinstance(g, Gain):
        return g
    if isinstance(g, str):
        if g not in FORMS:
            raise ValueError('%s: the form of g %r is unknown, there are %s '
                             'and Gain(...)' % (describe(layer), g, ', '.join(
                                 map(repr, sorted(FORMS)))))
        return FORMS[g]
    if isinstance(g, numbers.Real):
        raise TypeError('%s: g must be an initializer, an array or the like, '
                        'got %r. To start all filters from it: Gain(%r); one '
                        "g for the whole layer: Gain(%r, per='layer')"
                        % (describe(layer), g, g, g))
    return Gain(g)


def check_param(layer, name, spec, shape):
    """Check what was given for the parameter `name`, if it can be seen."""
    what = '%s: %s' % (describe(layer), name)
    variable = isinstance(spec, theano.Variable)
    if spec is None or callable(spec) and not variable:
        return
    if not (isinstance(spec, np.ndarray) or
            variable and hasattr(spec, 'broadcastable')):
        raise TypeError('%s must be an initializer, an array, a shared '
                        'variable, an expression or None, got %r'
                        % (what, spec))
    if isinstance(spec, np.ndarray):
        given = spec.shape
    elif isinstance(spec, SharedVariable):
        given = spec.get_value(borrow=True).shape
    elif isinstance(spec, theano.Constant):
        given = spec.data.shape
    elif spec.ndim == len(shape):  # as far as it is known
        given = tuple(1 if one else n
                      for one, n in zip(spec.broadcastable, shape))
    else:
        given = (None,) * spec.ndim
    if given != shape:
        raise ValueError('%s has shape %s, must have %s%s' % (
            what, given, shape, '' if given or name == 'b' else
            ". For one g for the whole layer: Gain(..., per='layer')"))
    if variable and not spec.dtype.startswith('float'):
        raise TypeError('%s has dtype %s, must be floating point'
                        % (what, spec.dtype))
    if not variable:
        check_numbers(what, spec)


def check_numbers(what, array, dtype=None):
    """Refuse what is not finite as `dtype`, floatX if left out."""
    if array.dtype.kind not in 'biuf':
        raise TypeError('%s has dtype %s, must be real numbers'
                        % (what, array.dtype))
    with np.errstate(over='ignore', under='ignore'):
        array = array.astype(dtype or theano.config.floatX)
    if not np.isfinite(array).all():
        raise ValueError('%s contains NaN or infinity in %s'
                         % (what, array.dtype))


def draw_param(layer, name, spec, shape):
    """What becomes of `spec`: an array in floatX, a variable, or None."""
    if callable(spec) and not isinstance(spec, theano.Variable):
        spec = spec(shape)
        if spec is None or callable(spec) and not isinstance(
                spec, theano.Variable):
            raise TypeError('%s: the initializer of %s returned %r'
                            % (describe(layer), name, spec))
        check_param(layer, name, spec, shape)
    return (lasagne.utils.floatX(spec) if isinstance(spec, np.ndarray)
            else spec)
