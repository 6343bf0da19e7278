"""Parameters that are the same in all processes."""
import hashlib
from collections import OrderedDict

import numpy as np
from theano.compile import SharedVariable

from ..initialization.network import all_layers, named
from .joining import world
from .messages import as_bytes
from .peers import UnequalError


def broadcast(net_or_variables, timeout=None):
    """
    wnorm.distributed.broadcast(net_or_variables, timeout=None)

    Give all processes the values of process 0.

    Parameters
    ----------
    net_or_variables : :class:`lasagne.layers.Layer` or list
        The output layer or layers of a network: all its parameters, trainable
        or not. Or a list of shared variables, such as the state of an
        optimizer: the keys of its updates.

    timeout : float, optional
        As for :func:`grads`; 300 seconds by default.

    Raises
    ------
    TypeError, ValueError
        If that is no network and no list of shared variables, or if names,
        shapes or dtypes are not the same in all processes: the message names
        the first that differs. All processes raise, and nothing has changed.

    Notes
    -----
    Call it when the network is built or loaded, in all processes: parameters
    are drawn at random in each. With one process nothing happens.

    It also lets :func:`grads` say which layer a parameter belongs to.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> from wnorm import distributed
    >>> net = DenseLayer(InputLayer((None, 20)), 5)
    >>> distributed.broadcast(net)
    """
    peers = world()
    with peers.limited(timeout):
        found = peers.together(lambda: owners(net_or_variables))
        if peers.size == 1:
            return
        _agree(peers, 'broadcast', found, [
            (array.shape, str(array.dtype)) for array in _values(found)])
        for variable, array in zip(found, _values(found)):
            array = np.require(array, requirements='CW')
            peers.wait(peers.comm.Ibcast(as_bytes(array), 0))
            if peers.rank:
                variable.set_value(array, borrow=True)


def check(net_or_variables, timeout=None):
    """
    wnorm.distributed.check(net_or_variables, timeout=None)

    Make sure that all processes have the same parameters, to the last bit.

    Parameters
    ----------
    net_or_variables, timeout
        As for :func:`broadcast`.

    Raises
    ------
    TypeError, ValueError
        As :func:`broadcast`; and ValueError if values differ: the message
        names the first layer whose do, and the ranks. All processes raise.

    Notes
    -----
    Cheap: each process sends 16 bytes per array. Call it after an epoch,
    say. Values differ if processes began with different ones
    (:func:`broadcast`), if one of them updated by something that was not
    averaged, or if their machines round differently.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> from wnorm import distributed
    >>> net = DenseLayer(InputLayer((None, 20)), 5)
    >>> distributed.check(net)
    """
    peers = world()
    with peers.limited(timeout):
        found = peers.together(lambda: owners(net_or_variables))
        if peers.size > 1:
            _agree(peers, 'check', found, [
                (array.shape, str(array.dtype), digest(array))
                for array in _values(found)])


def _values(variables):
    """One after the other: all at once may be too many."""
    for variable in variables:
        yield variable.get_value(borrow=True)


def digest(array):
    """16 bytes that tell arrays apart."""
    return hashlib.blake2b(np.ascontiguousarray(array),
                           digest_size=16).digest()


def owners(net_or_variables):
    """``{shared variable: what it is called}``"""
    if isinstance(net_or_variables, (list, tuple)) and any(
            isinstance(one, SharedVariable) for one in net_or_variables):
        for one in net_or_variables:
            if not (isinstance(one, SharedVariable) and isinstance(
                    one.get_value(borrow=True), np.ndarray)):
                raise TypeError('a list of shared variables that are arrays, '
                                'or of output layers, got one with %r'
                                % (one,))
        return OrderedDict((one, label(one)) for one in net_or_variables)
    found = OrderedDict()
    for layer in all_layers(net_or_variables):
        for param in layer.get_params():
            if isinstance(param, SharedVariable) and param not in found:
                param.tag.layer = named(layer)
                found[param] = label(param)
    return found


def label(variable):
    """Such as ``W of DenseLayer 'fc1' (None, 10)``, if the layer is known."""
    layer = getattr(variable.tag, 'layer', None)
    return '%s of %s' % (variable, layer) if layer else '%s %s' % (
        variable, variable.get_value(borrow=True).shape)


def _agree(peers, function, found, facts):
    """Compare facts about variables, and what they are called."""
    everybody = peers.exchange([
        (variable.name,) + fact for variable, fact in zip(found, facts)])
    first = everybody[0]
    for rank, mine in enumerate(everybody):
        if len(mine) != len(first):
            raise peers.blame(rank, UnequalError(
                '%s(): %d parameters on rank 0, %d on rank %d: all processes '
                'must build the same network' % (
                    function, len(first), len(mine), rank)))
    for place, what in enumerate(found.values()):
        differing = [rank for rank, mine in enumerate(everybody)
                     if mine[place] != first[place]]
        if differing:
            raise peers.blame(differing[0], UnequalError(
                '%s(): %s is not the same in all processes: rank%s %s '
                'differ%s from rank 0' % (
                    function, what, 's' * (len(differing) > 1),
                    ', '.join(map(str, differing)),
                    's' * (len(differing) == 1))))
