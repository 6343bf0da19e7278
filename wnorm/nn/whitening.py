"""ZCA whitening, of the paper's flavour."""
import numpy as np
import theano
from scipy import linalg


class ZCA(object):
    r"""
    wnorm.nn.weightnorm.ZCA(regularization=1e-5, x=None)

    ZCA whitening: of all whitenings the one that changes the data least.

    .. math:: y = (x - \bar x) U (S + \lambda)^{-1/2} U^T, \qquad
              \frac{1}{n} \sum (x - \bar x)^T (x - \bar x) = U S U^T

    Parameters
    ----------
    regularization : float
        :math:`\lambda`, added to the variances S.

    x : numpy array, optional
        Data for :meth:`fit`, of shape (examples, ...).

    Attributes
    ----------
    ZCA_mat, inv_ZCA_mat, mean : Theano shared variables
        What :meth:`fit` has found: the matrix, its inverse, and the mean.

    Notes
    -----
    It is computed in the precision of the data, integers in float64.

    References
    ----------
    .. [1] Krizhevsky, Alex (2009): Learning Multiple Layers of Features from
           Tiny Images. Technical report, University of Toronto.

    Examples
    --------
    >>> import numpy as np
    >>> from wnorm.nn.weightnorm import ZCA
    >>> x = np.random.RandomState(0).randn(1000, 2).dot([[1., 2.], [0., 1.]])
    >>> whitener = ZCA(x=x)
    >>> abs(np.cov(whitener.apply(x).T, bias=True)).round(3)
    array([[1., 0.],
           [0., 1.]])
    """
    def __init__(self, regularization=1e-5, x=None):
        self.regularization = regularization
        if x is not None:
            self.fit(x)

    def fit(self, x):
        """Find mean and covariance of data, of shape (examples, ...)."""
        x = np.asarray(x)
        if not (x.ndim and x.size):
            raise ValueError('ZCA takes data of shape (examples, ...), got '
                             'shape %s' % (x.shape,))
        if x.dtype not in ('float32', 'float64'):
            x = x.astype('float64')
        x = x.reshape((len(x), -1))
        mean = np.mean(x, axis=0)
        x = x - mean
        U, S, _ = linalg.svd(np.dot(x.T, x) / len(x))
        root = np.sqrt(S + self.regularization)
        self.ZCA_mat = _shared(np.dot(U / root, U.T))
        self.inv_ZCA_mat = _shared(np.dot(U * root, U.T))
        self.mean = _shared(mean)

    def apply(self, x):
        """Whiten an array or an expression, of shape (examples, ...)."""
        return self._map(x, lambda x, mean, ZCA_mat, _:
                         (x - mean).dot(ZCA_mat))

    def invert(self, x):
        """Undo :meth:`apply`, on an array or an expression."""
        return self._map(x, lambda x, mean, _, inverse:
                         x.dot(inverse) + mean)

    def _map(self, x, function):
        if not hasattr(self, 'mean'):
            raise ValueError('ZCA has seen no data yet: call fit(x) first')
        found = [self.mean, self.ZCA_mat, self.inv_ZCA_mat]
        if isinstance(x, theano.Variable):
            return function(x.flatten(2), *found).reshape(
                x.shape, ndim=x.ndim)
        x = np.asarray(x)
        return function(x.reshape((len(x), -1)), *[
            variable.get_value(borrow=True) for variable in found]).reshape(
                x.shape)


def _shared(array):
    return theano.shared(array.astype(theano.config.floatX))
