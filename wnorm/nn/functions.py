"""Nonlinearities and losses of both flavours."""
import numpy as np
import theano
import theano.tensor as T


def leaky(x, a):
    """max(x, a x)"""
    return T.maximum(x, a * x)


def centered_softplus(x):
    r"""
    wnorm.nn.centered_softplus(x)

    :math:`\log(1 + e^x) - \log 2`, which is 0 at 0.

    Parameters
    ----------
    x : Theano expression
        Of any shape.

    Returns
    -------
    Theano expression
        Of the shape of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from wnorm.nn import centered_softplus
    >>> centered_softplus(np.array([-1., 0., 1.])).eval().round(3)
    array([-0.38,  0.  ,  0.62])
    """
    return T.nnet.softplus(x) - np.asarray(np.log(2.), theano.config.floatX)


def log_sum_exp(x, axis=1):
    r"""
    wnorm.nn.log_sum_exp(x, axis=1)

    :math:`\log \sum e^x`, for numbers of any size.

    Parameters
    ----------
    x : Theano expression
        Of any number of dimensions.

    axis : int, tuple of int or None
        What the sum is taken over; None for all.

    Returns
    -------
    Theano expression
        Of the shape of `x` without `axis`.

    Examples
    --------
    >>> import numpy as np
    >>> from wnorm.nn import log_sum_exp
    >>> log_sum_exp(np.array([[1000., 1000.]])).eval().round(3)
    array([1000.693])
    """
    x = T.as_tensor_variable(x)
    largest = T.max(x, axis=axis, keepdims=True)
    # the logarithm of 0 is -inf, not NaN
    shift = T.switch(T.isinf(largest), T.zeros_like(largest), largest)
    return T.sum(shift, axis=axis) + T.log(
        T.sum(T.exp(x - shift), axis=axis))


def softmax_loss(p_true, output_before_softmax):
    r"""
    wnorm.nn.weightnorm.softmax_loss(p_true, output_before_softmax)

    The mean cross entropy of a softmax.

    .. math:: -\frac{1}{n} \sum_{i, k} p_{ik} \log \frac
              {e^{x_{ik}}}{\sum_l e^{x_{il}}}

    Parameters
    ----------
    p_true : Theano expression or numpy array
        The labels, a vector of n integers; or probabilities of shape
        (n, classes), such as one-hot rows.

    output_before_softmax : Theano expression
        x, of shape (n, classes).

    Returns
    -------
    Theano expression
        A scalar.

    Raises
    ------
    TypeError
        If `p_true` is neither.

    Examples
    --------
    >>> import numpy as np
    >>> from wnorm.nn.weightnorm import softmax_loss
    >>> x = np.log([[.5, .25, .25], [.1, .1, .8]])
    >>> float(softmax_loss(np.array([0, 2]), x).eval().round(3))
    0.458
    """
    p_true = T.as_tensor_variable(p_true)
    if not (p_true.ndim == 2 or
            p_true.ndim == 1 and p_true.dtype in T.integer_dtypes):
        raise TypeError('p_true must be a vector of integer labels or a '
                        'matrix with a row of probabilities for each example, '
                        'got %s' % p_true.type)
    x = T.as_tensor_variable(output_before_softmax)
    x = x - T.max(x, axis=1, keepdims=True)
    if p_true.ndim == 2:
        likely = T.sum(p_true * x, axis=1)
    else:
        likely = x[T.arange(p_true.shape[0]), p_true]
    return T.mean(T.log(T.sum(T.exp(x), axis=1)) - likely)
