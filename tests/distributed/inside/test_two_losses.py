"""Several means in one function."""
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import DenseLayer, InputLayer, get_output
from lasagne.nonlinearities import tanh

from wnorm import distributed, weight_norm
from wnorm.distributed.reduction import in_order

from .nets import (
    RULES, all_equal, bits, data, dense, everybody, fresh, largest_difference,
    loss_of, means, params_of)

RANK, SIZE = distributed.rank(), distributed.size()


def generator():
    l = weight_norm(DenseLayer(InputLayer((None, 2)), 4, nonlinearity=tanh),
                    train_g=True)
    return weight_norm(DenseLayer(l, 3, nonlinearity=None), train_g=True)


def discriminator():
    l = weight_norm(DenseLayer(InputLayer((None, 3)), 4, nonlinearity=tanh),
                    train_g=True)
    return weight_norm(DenseLayer(l, 1, nonlinearity=None), train_g=True)


class Gan(object):
    """Two networks, trained against each other, both in one function."""

    def __init__(self, means, generator_first=False, rule='adam'):
        self.nets = fresh(generator), fresh(discriminator, 43)
        noise, real = T.matrices('noise', 'real')
        G, D = self.nets
        made = get_output(G, noise)
        of_made, of_real = get_output(D, made), get_output(D, real)
        losses = [T.mean(T.nnet.softplus(-of_made)),
                  T.mean(T.nnet.softplus(of_made) +
                         T.nnet.softplus(-of_real))]
        self.inputs, self.updates = [noise, real], []
        for number in [0, 1] if generator_first else [1, 0]:
            params = params_of(self.nets[number])
            self.updates += list(RULES[rule](
                means(losses[number], params), params).items())

    def compile(self, **kwargs):
        return theano.function(self.inputs, updates=self.updates, **kwargs)


def batches(n, steps):
    rng = np.random.RandomState(1)
    return [(rng.normal(size=(n, 2)), rng.normal(size=(n, 3)) + 1)
            for _ in range(steps)]


def test_gan(say):
    # all processes are given the updates in another order, too
    gan, alone = Gan(means), Gan(T.grad)
    shift = RANK * 5
    gan.updates = gan.updates[shift:] + gan.updates[:shift]
    train, train_alone = gan.compile(), alone.compile()
    for batch in batches(12, 50):
        train(*[array[RANK::SIZE] for array in batch])
        train_alone(*batch)
    found = max(map(largest_difference, gan.nets, alone.nets))
    say('equality: two losses, adam: largest difference %.1e' % found)
    assert found < 1e-10
    for net in gan.nets:
        assert all_equal(bits(net))


def chained(function):
    """The numbers of a function's calls, in the order of dependencies."""
    nodes = in_order(function.maker.fgraph)
    for before, after in zip(nodes, nodes[1:]):
        assert after.inputs[0] is before.outputs[0]
    return [node.op.call.number for node in nodes]


@pytest.mark.skipif(SIZE == 1, reason='one process averages nothing')
@pytest.mark.parametrize('generator_first', [True, False])
def test_order_is_that_of_the_calls(generator_first):
    gan = Gan(means, generator_first)
    numbers = chained(gan.compile())
    assert len(numbers) == 2 and numbers[0] < numbers[1]
    gan.updates = gan.updates[::-1]
    assert chained(gan.compile()) == numbers
    assert all_equal(everybody(numbers))


@pytest.mark.skipif(SIZE == 1, reason='one process averages nothing')
def test_a_mean_that_needs_another():
    # called first, it comes last
    x = T.dvector('x')
    p, q = theano.shared(1.), theano.shared(2.)
    inner = T.dscalar()
    outer, = means([inner + 100 * RANK], [p], weight=1)
    first, = means([x.sum()], [q], weight=1)
    whole = theano.clone(outer, replace={inner: 2 * first})
    function = theano.function([x], [whole, first])
    numbers = chained(function)
    assert numbers[0] > numbers[1]
    whole, first = function(np.full(3, RANK))
    assert first == 3 * np.mean(range(SIZE))
    assert whole == 2 * first + 100 * np.mean(range(SIZE))


@pytest.mark.skipif(SIZE == 1, reason='one process averages nothing')
def test_unordered_functions_are_refused():
    gan = Gan(means)
    train = gan.compile(mode=theano.Mode('py', optimizer=None))
    before = [bits(net) for net in gan.nets]
    with pytest.raises(RuntimeError) as caught:
        train(*batches(4, 1)[0])
    assert 'order' in str(caught.value) and 'FAST_RUN' in str(caught.value)
    assert [bits(net) for net in gan.nets] == before


@pytest.mark.skipif(SIZE == 1, reason='one process averages nothing')
def test_one_mean_needs_no_order():
    net, alone = fresh(dense), fresh(dense)
    mode = theano.Mode('py', optimizer=None)
    x, y, loss = loss_of(net)
    train = theano.function([x, y], mode=mode, updates=RULES['sgd'](
        means(loss, params_of(net)), params_of(net)))
    x, y, loss = loss_of(alone)
    train_alone = theano.function([x, y], updates=RULES['sgd'](
        loss, params_of(alone)))
    batch, = data(net, 12, 1)
    train(*[array[RANK::SIZE] for array in batch])
    train_alone(*batch)
    assert largest_difference(net, alone) < 1e-10


@pytest.mark.slow
def test_in_c(say):
    # updates in place, on the means, and the order all the same
    gan, alone = Gan(means, rule='momentum'), Gan(T.grad, rule='momentum')
    train = gan.compile(mode='FAST_RUN')
    train_alone = alone.compile(mode='FAST_RUN')
    for batch in batches(12, 50):
        train(*[array[RANK::SIZE] for array in batch])
        train_alone(*batch)
    found = max(map(largest_difference, gan.nets, alone.nets))
    say('equality: two losses, momentum, in C: largest difference %.1e'
        % found)
    assert found < 1e-10
    if SIZE > 1:
        assert len(chained(train)) == 2
