"""N processes that share a batch are one process with the whole of it."""
import numpy as np
import pytest
import theano
import theano.tensor as T

from wnorm import distributed

from .nets import (
    NETS, RULES, all_equal, bits, data, dense, fresh, largest_difference,
    loss_of, means, params_of)

RANK, SIZE = distributed.rank(), distributed.size()


def mine(batch):
    """This process's examples."""
    return [array[RANK::SIZE] for array in batch]


def difference(make, rule, n, part=mine, steps=50, mode=None, **kwargs):
    """Between training with all processes and with one, after `steps`."""
    net, alone = fresh(make), fresh(make)
    start = fresh(make)
    x, y, loss = loss_of(net)
    weight = kwargs.pop('weight', lambda x: None)(x)
    train = theano.function([x, y], loss, mode=mode, updates=RULES[rule](
        means(loss, params_of(net), weight=weight, **kwargs),
        params_of(net)))
    x, y, loss = loss_of(alone)
    train_alone = theano.function([x, y], loss, mode=mode, updates=RULES[
        rule](T.grad(loss, params_of(alone)), params_of(alone)))
    for batch in data(net, n, steps):
        train(*part(batch))
        train_alone(*batch)
    assert largest_difference(net, start) > .05  # there was something to learn
    assert all_equal(bits(net))
    return largest_difference(net, alone)


@pytest.mark.parametrize('rule', RULES)
@pytest.mark.parametrize('net', NETS)
def test_same_as_one_process(net, rule, say):
    found = difference(NETS[net], rule, 12)
    say('equality: %s, %s: largest difference %.1e' % (net, rule, found))
    assert found < 1e-10


def examples(x):
    return x.shape[0]


def test_uneven_batches(say):
    found = difference(dense, 'momentum', 13, weight=examples)
    say('equality: dense, momentum, 13 examples: largest difference %.1e'
        % found)
    assert found < 1e-10


def but_the_last(batch):
    """The last process has none, if there are several."""
    return [array[RANK::max(SIZE - 1, 1)][:len(array) * (
        RANK < SIZE - 1 or SIZE == 1)] for array in batch]


def test_empty_batch(say):
    # whose loss and gradients are NaN
    found = difference(dense, 'adam', 13, but_the_last, weight=examples)
    say('equality: dense, adam, no examples on one: largest difference %.1e'
        % found)
    assert found < 1e-10


def test_float32(say):
    before, theano.config.floatX = theano.config.floatX, 'float32'
    try:
        for weight in (lambda x: None), examples:
            found = difference(dense, 'adam', 12, weight=weight)
            say('equality: dense, adam, float32: largest difference %.1e'
                % found)
            assert found < 1e-4
    finally:
        theano.config.floatX = before


def test_number_as_weight():
    # as if the batch of process 0 were there once, of process 1 twice, ...
    net, alone = fresh(dense), fresh(dense)
    batches = data(net, 4 * SIZE, 10)
    x, y, loss = loss_of(net)
    train = theano.function([x, y], updates=RULES['sgd'](
        means(loss, params_of(net), weight=RANK + 1), params_of(net)))
    x, y, loss = loss_of(alone)
    train_alone = theano.function([x, y], updates=RULES['sgd'](
        loss, params_of(alone)))
    for batch in batches:
        train(*mine(batch))
        train_alone(*[np.concatenate([
            array[rank::SIZE] for rank in range(SIZE)
            for _ in range(rank + 1)]) for array in batch])
    assert largest_difference(net, alone) < 1e-10
