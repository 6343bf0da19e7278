"""Which examples each process takes."""
import numbers

import numpy as np

from .joining import world


def shard(n, epoch=0, seed=0):
    """
    wnorm.distributed.shard(n, epoch=0, seed=0)

    This process's examples of an epoch, out of `n`, in random order.

    Parameters
    ----------
    n : int
        How many examples there are.

    epoch, seed : int
        From 0 to 2**32 - 1. The order depends on them and on nothing else.

    Returns
    -------
    numpy array of int64
        Indices. Those of all processes are disjoint, and together all; their
        numbers differ by one at most.

    Raises
    ------
    ValueError, TypeError
        If one of the numbers does not fit.

    See Also
    --------
    minibatches : The same, cut into batches, as many in each process.

    Examples
    --------
    >>> from wnorm import distributed
    >>> sorted(int(i) for i in distributed.shard(5, epoch=1))
    [0, 1, 2, 3, 4]
    """
    peers = world()
    return _order(n, epoch, seed)[peers.rank::peers.size]


def minibatches(n, batch_size, epoch=0, seed=0):
    """
    wnorm.distributed.minibatches(n, batch_size, epoch=0, seed=0)

    This process's part of each batch of an epoch.

    Parameters
    ----------
    n, epoch, seed : int
        As for :func:`shard`.

    batch_size : int
        How many examples a batch has in all processes together.

    Returns
    -------
    list of numpy arrays of int64
        Indices: as many arrays in each process. The batches that they are
        parts of are the same for any number of processes.

    Raises
    ------
    ValueError, TypeError
        If one of the numbers does not fit.

    Notes
    -----
    The parts of a batch differ by one example at most, and the last may be
    empty: give :func:`grads` their lengths as weights.

    Examples
    --------
    >>> from wnorm import distributed
    >>> [len(batch) for batch in distributed.minibatches(10, 4)]
    [4, 4, 2]
    """
    peers = world()
    _check('batch_size', batch_size, 1)
    order = _order(n, epoch, seed)
    return [order[start:start + batch_size][peers.rank::peers.size]
            for start in range(0, n, batch_size)]


def _order(n, epoch, seed):
    _check('n', n, 0)
    for name, value in ('epoch', epoch), ('seed', seed):
        _check(name, value, 0, 2 ** 32)
    return np.random.RandomState([seed, epoch]).permutation(n)


def _check(name, value, least, above=None):
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError('%s must be an integer, got %r' % (name, value))
    if value < least or (above is not None and value >= above):
        raise ValueError('%s must be an integer from %d%s, got %d' % (
            name, least, '' if above is None else ' to %d' % (above - 1),
            value))
