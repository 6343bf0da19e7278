"""Updates of both flavours: Adam, and the paper's AdaMax."""
import numpy as np
import theano
import theano.tensor as T


def adam_updates(params, cost, lr=0.001, mom1=0.9, mom2=0.999):
    r"""
    wnorm.nn.adam_updates(params, cost, lr=0.001, mom1=0.9, mom2=0.999)

    Adam.

    .. math::
        v &\leftarrow \beta_1 v + (1 - \beta_1) g, \qquad
        m \leftarrow \beta_2 m + (1 - \beta_2) g^2 \\
        p &\leftarrow p - \eta \frac{v / (1 - \beta_1^t)}
        {\sqrt{m / (1 - \beta_2^t) + 10^{-8}}}

    Parameters
    ----------
    params : list of shared variables
        What is trained.

    cost : Theano expression
        A scalar, whose gradient is g.

    lr : float or Theano scalar
        The learning rate :math:`\eta`.

    mom1, mom2 : float or Theano scalar
        The decays :math:`\beta_1` and :math:`\beta_2`.

    Returns
    -------
    list of (shared variable, expression)
        For each parameter v, m and itself; last t, which starts at 1.

    Notes
    -----
    The constant is under the root. :func:`lasagne.updates.adam` has another
    one, beside it: the numbers differ.

    References
    ----------
    .. [1] Kingma, Diederik P., and Jimmy Ba (2014): Adam: A Method for
           Stochastic Optimization. arXiv preprint arXiv:1412.6980.

    Examples
    --------
    >>> import theano, theano.tensor as T
    >>> from wnorm.nn import adam_updates
    >>> p = theano.shared(3.)
    >>> updates = adam_updates([p], T.sqr(p), lr=.1)
    >>> step = theano.function([], updates=updates, mode='FAST_COMPILE')
    >>> _ = step()
    >>> float(p.get_value().round(3))
    2.9
    """
    updates = []
    t = theano.shared(np.asarray(1, theano.config.floatX))
    for p, g in zip(params, T.grad(cost, params)):
        v, m = _zeros(p), _zeros(p)
        new_v = mom1 * v + (1. - mom1) * g
        new_m = mom2 * m + (1. - mom2) * T.sqr(g)
        step = new_v / (1. - mom1 ** t) / T.sqrt(
            new_m / (1. - mom2 ** t) + 1e-8)
        updates += [_typed(v, new_v), _typed(m, new_m),
                    _typed(p, p - lr * step)]
    updates.append((t, t + 1))
    return updates


def adamax_updates(params, cost, lr=0.001, mom1=0.9, mom2=0.999):
    r"""
    wnorm.nn.weightnorm.adamax_updates(params, cost, lr=0.001, mom1=0.9,
    mom2=0.999)

    AdaMax, without the correction of the first steps.

    .. math::
        v &\leftarrow \beta_1 v + (1 - \beta_1) g, \qquad
        m \leftarrow \max(\beta_2 m, |g|) \\
        p &\leftarrow p - \eta \frac{v}{m + 10^{-6}}

    Parameters
    ----------
    params : list of shared variables
        What is trained.

    cost : Theano expression
        A scalar, whose gradient is g.

    lr : float or Theano scalar
        The learning rate :math:`\eta`.

    mom1, mom2 : float or Theano scalar
        The decays :math:`\beta_1` and :math:`\beta_2`. With ``mom1=0``
        there is no v.

    Returns
    -------
    list of (shared variable, expression)
        For each parameter v, m and itself.

    References
    ----------
    .. [1] Kingma, Diederik P., and Jimmy Ba (2014): Adam: A Method for
           Stochastic Optimization. arXiv preprint arXiv:1412.6980, section 7.

    Examples
    --------
    >>> import theano, theano.tensor as T
    >>> from wnorm.nn.weightnorm import adamax_updates
    >>> p = theano.shared(3.)
    >>> updates = adamax_updates([p], T.sqr(p), lr=.1)
    >>> step = theano.function([], updates=updates, mode='FAST_COMPILE')
    >>> _ = step()
    >>> float(p.get_value().round(3))
    2.99
    """
    updates = []
    for p, g in zip(params, T.grad(cost, params)):
        m, new_v = _zeros(p), g
        if not (isinstance(mom1, (int, float)) and mom1 == 0):
            v = _zeros(p)
            new_v = mom1 * v + (1. - mom1) * g
            updates.append(_typed(v, new_v))
        new_m = T.maximum(mom2 * m, abs(g))
        updates += [_typed(m, new_m),
                    _typed(p, p - lr * new_v / (new_m + 1e-6))]
    return updates


def _zeros(param):
    """A state variable for a parameter."""
    return theano.shared(np.zeros_like(param.get_value(borrow=True)),
                         broadcastable=param.broadcastable)


def _typed(variable, value):
    """An update, of the type of its variable."""
    return variable, T.patternbroadcast(value.astype(variable.dtype),
                                        variable.broadcastable)
