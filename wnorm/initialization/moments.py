"""Number, mean and spread of values, of parts and of the whole."""
import numpy as np
import theano.tensor as T


class Moments(object):
    r"""
    wnorm.initialization.moments.Moments(n, mean, norm)

    Number, mean and spread of values, per filter; those of parts merge to
    those of the whole, exactly up to rounding.

    Parameters
    ----------
    n : int
        How many values there are for each filter.
    mean : numpy array
        Of float64, one per filter.
    norm : numpy array
        The root of the sum of squared deviations from `mean`, `M2`: the root
        because a square may over- or underflow.

    References
    ----------
    .. [1] Chan, Tony F., Gene H. Golub, and Randall J. LeVeque (1979):
           Updating Formulae and a Pairwise Algorithm for Computing Sample
           Variances. Technical Report STAN-CS-79-773, Stanford University.

    Examples
    --------
    >>> import numpy as np
    >>> from wnorm.initialization.moments import Moments
    >>> one, two = Moments.of(np.array([[1.], [2.]])), Moments.of([[6.]])
    >>> whole = one.merge(two)
    >>> whole.n, whole.mean, whole.M2
    (3, array([3.]), array([14.]))
    """
    def __init__(self, n, mean, norm):
        self.n = int(n)
        self.mean = np.asarray(mean, 'float64')
        self.norm = np.asarray(norm, 'float64')

    @classmethod
    def of(cls, rows):
        """The moments of each column of `rows`."""
        rows = np.asarray(rows, 'float64')
        mean = rows[0] + np.mean(rows - rows[0], axis=0)
        return cls(len(rows), mean, np.linalg.norm(rows - mean, axis=0))

    @property
    def M2(self):
        """The sum of squared deviations from the mean."""
        return self.norm ** 2

    @property
    def std(self):
        """The population standard deviation."""
        return self.norm / np.sqrt(self.n)

    def merge(self, other):
        """The moments of these values and those of `other`."""
        n = self.n + other.n
        between = other.mean - self.mean
        # grouped so that equal means stay equal, and squares are not formed
        return type(self)(
            n, self.mean + between * (other.n / float(n)),
            np.hypot(np.hypot(self.norm, other.norm), abs(between) * np.sqrt(
                self.n * (other.n / float(n)))))

    def degenerate(self, dtype):
        """Which filters are constant up to the rounding of `dtype`."""
        rms = np.hypot(self.mean, self.std)
        return self.std <= 10 * np.sqrt(self.n) * np.finfo(dtype).eps * rms


def symbolic_moments(layer, t):
    """Symbolic moments of `t`: number, mean and norm, in float64."""
    axes = layer.axes_to_sum
    n = 1
    for axis in axes:
        n = n * t.shape[axis]
    unit = layer.unit(t)
    t = t / layer.align(unit)
    mean = T.mean(t, axis=axes)
    rest = t - layer.align(mean)
    # what rounding has left of the mean
    more = T.mean(rest, axis=axes)
    norm = T.sqrt(T.sum(T.sqr(rest - layer.align(more)), axis=axes))
    return [T.as_tensor_variable(n), (mean + more) * unit, norm * unit]
