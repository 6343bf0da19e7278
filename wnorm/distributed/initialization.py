"""Data-dependent initialization from the data of all processes."""
from ..initialization import carry_out
from ..initialization.data import is_many
from .joining import world
from .values import check


def initialize(layer_or_layers, batches, deterministic=None, timeout=None):
    """
    wnorm.distributed.initialize(layer_or_layers, batches, deterministic=None,
    timeout=None)

    Initialize b and g of a network from the data of all processes.

    Parameters
    ----------
    layer_or_layers : :class:`lasagne.layers.Layer` or list
        The output layer or layers of the network, the same in all processes.

    batches
        This process's part of the data: one batch or many, as for
        :func:`wnorm.initialize`; an empty list where it has none.

    deterministic : bool, optional
        As for :func:`wnorm.initialize` with many batches.

    timeout : float, optional
        As for :func:`grads`; 300 seconds by default. Longer than one process
        needs for a pass over its data more than another.

    Returns
    -------
    Report
        The same in all processes.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As :func:`wnorm.initialize`; and ValueError if the networks differ
        between processes. All processes raise; nothing has changed in any.

    Notes
    -----
    The statistics are those of all processes' data together, exactly: moments
    are gathered, and merged in the order of ranks, on process 0, which gives
    the new values to all: b and g are the same in all processes, to the last
    bit. The data are gone through once per level of the network, a batch at a
    time. Process 0 shows a progress bar.

    Call it after :func:`broadcast`.

    See Also
    --------
    wnorm.initialize : From the data of one process.

    References
    ----------
    .. [1] Salimans, Tim, and Diederik P. Kingma (2016):
           Weight Normalization: A Simple Reparameterization to Accelerate
           Training of Deep Neural Networks. arXiv preprint arXiv:1602.07868,
           section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> from wnorm import distributed, weight_norm
    >>> net = weight_norm(DenseLayer(InputLayer((None, 20)), 5))
    >>> distributed.broadcast(net)
    >>> report = distributed.initialize(net, [np.random.rand(100, 20)])
    >>> report[0].std_after.round(3)
    array([1., 1., 1., 1., 1.])
    """
    peers = world()
    check(layer_or_layers, timeout)
    if not is_many(batches):
        batches = [batches]
    with peers.limited(timeout):
        return carry_out(layer_or_layers, batches, deterministic, peers)
