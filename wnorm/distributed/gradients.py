"""Gradients, averaged over the processes."""
import itertools
import math
import numbers
from collections import OrderedDict

import theano
import theano.tensor as T
from lasagne.updates import get_or_compute_grads
from theano.compile import SharedVariable
from theano.gof.graph import ancestors

from . import log as logs
from . import reduction
from .joining import world
from .messages import HalfMessage, Message
from .peers import TIMEOUT, NotFiniteError, UnequalError, say
from .values import digest, label

#: Below, float32 holds all integers.
EXACT = 2 ** 24

_numbers = itertools.count(1)


def grads(loss_or_grads, params, weight=None, timeout=TIMEOUT,
          compress=False, log='wnorm-log'):
    r"""
    wnorm.distributed.grads(loss_or_grads, params, weight=None, timeout=300,
    compress=False, log='wnorm-log')

    The gradients of a loss, averaged over all processes.

    .. math:: \frac{\sum_r w_r \nabla L_r}{\sum_r w_r}

    where process r computes the loss :math:`L_r` of its own data, and
    :math:`w_r` is its weight.

    Parameters
    ----------
    loss_or_grads : symbolic expression or list of expressions
        The loss, a scalar, or its gradients, as for the functions in
        :mod:`lasagne.updates`.

    params : list of shared variables
        The parameters.

    weight : None, number or symbolic scalar, optional
        This process's weight, such as ``x.shape[0]``, its number of examples
        if the loss is their mean. Of a process with weight 0 nothing is
        read: its data may be empty, as far as Theano computes with that (a
        dense layer cannot flatten no images: give one, and weight 0). By
        default all processes weigh the same.

    timeout : float
        After how many seconds without an answer from another process all are
        ended.

    compress : bool
        Send float16 in place of the full precision: about half the bytes of
        a large network on few processes, and gradients (and running averages)
        that are exact to three digits relative to the largest entry of the
        same parameter.

    log : str or None
        The folder for a file per process that tells its last step, or None.

    Returns
    -------
    list of expressions
        In the order of `params`; every function in :mod:`lasagne.updates`
        takes it in place of a loss.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or if the parameters are not the same in
        all processes: the message says which one differs. All processes
        raise, before the first step.

    Notes
    -----
    All processes call it, as often and in the same order, and compile the
    same functions. Each call has its own communicator, and the means of one
    function are taken in the order of the calls. With one process the
    gradients are returned as they are.

    All gradients of a step are one message. Running averages of batch
    normalization that the loss brings along are in it, too: default updates,
    and the lists ``bn_updates`` of mean-only layers, to be collected after
    this call.

    In training, all processes raise in the same step: ValueError if batches
    (inputs of the function) of different length weigh the same, or if no
    process has an example;
    FloatingPointError if a gradient is NaN or infinite, with the rank and
    the layer in the message.

    Give all processes the same parameters before, with :func:`broadcast`
    (that is checked, once, in the first step), and different data:
    :func:`minibatches`. Each call takes a communicator, of which MPI has some
    thousand: call it once per loss, not in a loop.

    See Also
    --------
    broadcast : Gives all processes the parameters of process 0.
    minibatches : Each process's part of the batches.

    Examples
    --------
    Run by ``mpiexec -n 4 python train.py``, or without mpiexec:

    >>> import lasagne, theano, theano.tensor as T
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> from wnorm import distributed, weight_norm
    >>> net = weight_norm(DenseLayer(InputLayer((None, 20)), 5))
    >>> distributed.broadcast(net)
    >>> x, y = T.matrices('x', 'y')
    >>> loss = T.mean(T.sqr(lasagne.layers.get_output(net, x) - y))
    >>> params = lasagne.layers.get_all_params(net, trainable=True)
    >>> grads = distributed.grads(loss, params, weight=x.shape[0])
    >>> updates = lasagne.updates.adam(grads, params)
    >>> train = theano.function([x, y], loss, updates=updates)
    """
    peers = world()
    call = peers.together(lambda: Call(
        peers, loss_or_grads, params, weight, timeout, compress))
    if peers.size == 1:
        message = log and logs.take(log)
        if message:
            say(message)
        return call.alone()
    with peers.limited(timeout):
        call.agree()
        peers.open_log(log)
    return call.means()


class Call(object):
    """What one call of :func:`grads` averages, and how: the property of an
    Op, the same for all copies of it."""

    def __init__(self, peers, loss_or_grads, params, weight, timeout,
                 compress):
        if not (isinstance(timeout, numbers.Real) and timeout > 0):
            raise ValueError('timeout must be a number of seconds above 0, '
                             'got %r' % (timeout,))
        self.params = list(params)
        for param in self.params:
            if not isinstance(param, SharedVariable):
                raise TypeError('params must be shared variables, got %r'
                                % (param,))
        if not self.params:
            raise ValueError('there are no parameters: params is empty')
        roots = (loss_or_grads if isinstance(loss_or_grads, list)
                 else [loss_or_grads])
        for root in roots:
            if not isinstance(root, theano.Variable):
                raise TypeError('a loss, or a list of gradients, must consist '
                                'of expressions, got %r' % (root,))
        self.values = list(get_or_compute_grads(loss_or_grads, self.params))
        self.is_weighted = weight is not None
        self.weight = as_scalar('weight', 1 if weight is None else weight)
        self.averages = running_averages(roots)
        self.names = ['the gradient of %s' % label(param)
                      for param in self.params]
        self.names += ['a running average'] * len(self.averages)
        self.tensors = [T.as_tensor_variable(value) for value in
                        self.values + list(self.averages)]
        for name, tensor in zip(self.names, self.tensors):
            if tensor.dtype not in T.float_dtypes:
                raise TypeError('%s must be of a float type, got %s'
                                % (name, tensor.type))
        self.data = [] if self.is_weighted else free_inputs(self.tensors)
        self.world = peers
        self.timeout = timeout
        self.compress = bool(compress)
        self.steps = 0
        self.message = None

    # --- before the first step ----------------------------------------------

    def agree(self):
        """Make sure that all processes mean the same."""
        mine = [(param.name, param.get_value(borrow=True).shape, param.dtype)
                for param in self.params]
        options = [('weight', 'given' if self.is_weighted else None),
                   ('compress', self.compress),
                   ('inputs', len(self.data)),
                   ('running averages', len(self.averages))]
        everybody = self.world.exchange((mine, options))
        first, as_first = everybody[0]
        for rank, (params, others) in enumerate(everybody):
            if len(params) != len(first):
                self._refuse(rank, '%d parameters on rank 0, %d on rank %d' % (
                    len(first), len(params), rank))
            for place, (one, two) in enumerate(zip(first, params)):
                if one != two:
                    self._refuse(rank, 'parameter %d is %s %s of %s on rank '
                                 '0, %s %s of %s on rank %d' % (
                                     (place,) + one + two + (rank,)))
            for (name, one), (_, two) in zip(as_first, others):
                if one != two:
                    self._refuse(rank, '%s: %s on rank 0, %s on rank %d' % (
                        name, one, two, rank))
        self.comm = self.world.channel()
        self.number = next(_numbers)  # the same, now that nobody has failed

    def _refuse(self, rank, what):
        raise self.world.blame(rank, UnequalError(
            'grads() is not the same in all processes: %s. All must build '
            'the same network, and call it alike' % what))

    def alone(self):
        """The gradients as they are.

        The weight may be an input of its own, which the function has to use
        all the same: the switch goes when it is compiled.
        """
        used = set(ancestors(self.values))
        if any(x not in used for x in free_inputs([self.weight], least=0)):
            self.values[0] = T.switch(T.ge(self.weight, 0), self.values[0],
                                      self.values[0])
        return self.values

    def means(self):
        """The means over all processes, symbolically."""
        lengths = (T.stack([T.cast(x.shape[0], 'int64') for x in self.data])
                   if self.data else T.zeros((0,), 'int64'))
        means = reduction.mean(
            self, self.weight, lengths, self.tensors)
        for value, places in zip(self.tensors[len(self.values):],
                                 self.averages.values()):
            marked = reduction.RunningAverage()(value)
            for put in places:
                put(marked)
        return means[:len(self.values)]

    # --- in a step ----------------------------------------------------------

    def mean(self, weight, lengths, arrays):
        """The means over all processes, of arrays."""
        with self.world.limited(self.timeout):
            return self._mean(weight, lengths, arrays)

    def _mean(self, weight, lengths, arrays):
        self.steps += 1
        self.world.step(self, done=False)
        if self.message is None or not self.message.fits(arrays):
            if self.message is None:
                self._check_values()
            self._check_shapes([array.shape for array in arrays])
            kind = HalfMessage if self.compress else Message
            self.message = kind(self.world, self.comm, arrays,
                                2 + len(lengths))
        weight = float(self.message.dtype.type(weight))
        is_valid = 0 <= weight < math.inf
        flag = self.message.pack(arrays, 0. if not is_valid else weight if
                                 self.is_weighted else 1. / self.world.size)
        heads = self.message.reduce(
            [weight if is_valid else 0., -1 if not is_valid else
             0 if flag is None else flag + 1] + [n % EXACT for n in lengths])
        self._check(heads)
        means = self.message.unpack(
            heads[:, 0].sum() if self.is_weighted else 1)
        # running averages stay, the others are soon used up: what stays is
        # not to keep the whole message
        n = len(self.params)
        means[n:] = [mean.copy() for mean in means[n:]]
        self.world.step(self, done=True)
        return means

    def _check_values(self):
        """Before the first message: means of gradients are of no use to
        networks that differ."""
        everybody = self.world.exchange([
            digest(param.get_value(borrow=True)) for param in self.params])
        for rank, theirs in enumerate(everybody):
            for param, mine, first in zip(self.params, theirs, everybody[0]):
                if mine != first:
                    self._stop(UnequalError, rank, (
                        '%s has other values than on rank 0. Call '
                        'distributed.broadcast(net) before training'
                        % label(param)))

    def _check_shapes(self, mine):
        everybody = self.world.exchange(mine)
        for rank, shapes in enumerate(everybody):
            for name, shape, first in zip(self.names, shapes, everybody[0]):
                if shape != first:
                    self._stop(UnequalError, rank, (
                        '%s has shape %s on rank 0, %s on rank %d'
                        % (name, first, shape, rank)))

    def _check(self, heads):
        for rank, head in enumerate(heads):
            for x, mine, first in zip(self.data, head[2:], heads[0, 2:]):
                if mine != first:
                    self._stop(UnequalError, rank, (
                        'batches that weigh the same differ: %s has length '
                        '%d on rank 0, %d on rank %d. Give grads() the weight '
                        'of each process, such as weight=%s.shape[0], or '
                        'weight=1 if they are to weigh the same' % (
                            x, first, mine, rank, x)))
        for rank, head in enumerate(heads):
            if head[1] < 0:
                self._stop(UnequalError, rank, 'the weight of a process must '
                           'be a finite number, 0 or more')
            if head[1] > 0:
                self._stop(NotFiniteError, rank, '%s is NaN or infinite'
                           % self.names[int(head[1]) - 1])
        if self.is_weighted and not heads[:, 0].any():
            self._stop(UnequalError, 0, 'all processes have weight 0: none '
                       'has an example')

    def _stop(self, kind, rank, what):
        raise self.world.blame(rank, kind('rank %d, step %d%s: %s' % (
            rank, self.steps, self.suffix, what)))

    @property
    def suffix(self):
        """Which call, if there are several."""
        return ' of grads() no. %d' % self.number if self.number > 1 else ''

    # --- copies -------------------------------------------------------------

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        raise TypeError('a function that averages over processes cannot be '
                        'pickled: compile it in each process')


def as_scalar(name, thing):
    """An expression of float64."""
    if isinstance(thing, numbers.Real):
        return T.constant(thing, dtype='float64')
    if (getattr(getattr(thing, 'type', None), 'ndim', None) != 0 or
            thing.dtype in T.complex_dtypes):
        raise TypeError('%s must be a number or a symbolic scalar, such as '
                        'x.shape[0], got %r' % (name, thing))
    return T.cast(T.as_tensor_variable(thing), 'float64')


def free_inputs(expressions, least=1):
    """The variables that data are given for, of so many dimensions or more."""
    return [x for x in theano.gof.graph.inputs(expressions)
            if not isinstance(x, (SharedVariable, theano.Constant)) and
            getattr(x, 'ndim', 0) >= least]


def running_averages(roots):
    """New values of running averages that `roots` bring along.

    Returns
    -------
    OrderedDict
        From expressions to lists of functions that put another in its place.
    """
    found = OrderedDict()
    for variable in ancestors(roots):
        value = getattr(variable, 'default_update', None)
        # random streams have one, too, but not of floats
        if (getattr(variable, 'dtype', None) in T.float_dtypes and
                value is not None):
            found.setdefault(reduction.local(value), []).append(
                lambda mean, variable=variable: setattr(
                    variable, 'default_update', mean))
        updates = getattr(variable.tag, 'bn_updates', ())
        for place, (average, value) in enumerate(updates):
            found.setdefault(reduction.local(value), []).append(
                lambda mean, updates=updates, place=place, average=average:
                updates.__setitem__(place, (average, mean)))
    return found
