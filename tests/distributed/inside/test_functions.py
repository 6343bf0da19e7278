"""Functions that contain means: copied, pickled, and used otherwise."""
import copy
import pickle

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T

from wnorm import distributed
from wnorm.distributed.reduction import in_order

from .nets import (
    RULES, all_equal, bits, data, dense, fresh, largest_difference, loss_of,
    means, params_of)

RANK, SIZE = distributed.rank(), distributed.size()


def summed(**options):
    """The mean of what processes give."""
    x = T.dvector('x')
    param = theano.shared(np.zeros(2), 'param')
    found, = means([x], [param], weight=1)
    return param, theano.function([x], found, updates=[
        (param, param + found)], **options)


@pytest.mark.parametrize('how', [
    copy.copy, copy.deepcopy, lambda function: function.copy()])
def test_copies(how):
    param, function = summed()
    other = how(function)
    for number, one in enumerate([function, other, other, function]):
        found = one(np.full(2, number + RANK))
        assert (found == number + np.mean(range(SIZE))).all()


@pytest.mark.skipif(SIZE == 1, reason='one process averages nothing')
def test_pickle():
    param, function = summed()
    with pytest.raises(TypeError) as caught:
        pickle.dumps(function)
    assert 'compile it in each process' in str(caught.value)
    # parameters are what is kept
    assert (pickle.loads(pickle.dumps(param)).get_value() == 0).all()


@pytest.mark.skipif(SIZE == 1, reason='one process averages nothing')
def test_is_shown_by_number():
    _, function = summed()
    node, = in_order(function.maker.fgraph)
    assert str(node.op) == 'MeanOverProcesses{%d}' % node.op.call.number


def equal_to_one(build):
    """Whether a way to train is that of one process with all data."""
    net, alone = fresh(dense), fresh(dense)
    train = build(net, means, lambda x: x[RANK::SIZE])
    train_alone = build(
        alone, lambda loss, params, weight=None:
        lasagne.updates.get_or_compute_grads(loss, params), lambda x: x)
    for _ in range(3):
        train()
        train_alone()
    assert largest_difference(net, alone) < 1e-10
    assert largest_difference(net, fresh(dense)) > .01
    assert all_equal(bits(net))


def stepping_along(found):
    """For `equal_to_one`: steps along what `found` makes of a loss."""
    def build(net, means, part):
        batch, = data(net, 12, 1)
        x, y, loss = loss_of(net)
        params = params_of(net)
        train = theano.function([x, y], updates=RULES['sgd'](
            found(means, loss, params), params))
        return lambda: train(*map(part, batch))
    return build


def test_gradients_in_place_of_a_loss():
    equal_to_one(stepping_along(lambda means, loss, params: means(
        [2 * one for one in T.grad(loss, params)], params)))


def test_norm_constraint():
    # of the means, not the mean of limited norms
    equal_to_one(stepping_along(
        lambda means, loss, params: lasagne.updates.total_norm_constraint(
            means(loss, params), .5)))


def test_givens():
    def build(net, means, part):
        batch, = data(net, 12, 1)
        x, y, loss = loss_of(net)
        params = params_of(net)
        images, targets = [theano.shared(part(array)) for array in batch]
        i = T.iscalar()
        train = theano.function([i], updates=RULES['sgd'](
            means(loss, params), params), givens={
                x: images[i:], y: targets[i:]})
        return lambda: train(0)
    equal_to_one(build)


def test_given_in_place_of_an_expression():
    # of which the data are not needed then
    def build(net, means, part):
        batch, = data(net, 12, 1)
        x, y, _ = loss_of(net)
        raw = T.bmatrix('raw')
        x = T.cast(raw, 'float64')
        loss = T.mean(T.sqr(lasagne.layers.get_output(net, x) - y))
        given = T.dmatrix('given')
        params = params_of(net)
        train = theano.function([given, y], updates=RULES['sgd'](
            means(loss, params, weight=1), params), givens={x: given})
        return lambda: train(*map(part, batch))
    equal_to_one(build)


def test_loop():
    # gradients of a loop
    def build(net, means, part):
        batch, = data(net, 12, 1)
        x, y, _ = loss_of(net)
        params = params_of(net)
        outputs, _ = theano.scan(
            lambda row, *params: lasagne.layers.get_output(
                net, row.dimshuffle('x', 0))[0], [x],
            non_sequences=params, strict=False)
        loss = T.mean(T.sqr(outputs - y))
        train = theano.function([x, y], updates=RULES['sgd'](
            means(loss, params), params))
        return lambda: train(*map(part, batch))
    equal_to_one(build)


def test_weight_that_is_shared():
    weight = theano.shared(1)
    x = T.dvector('x')
    found, = means([x], [theano.shared(np.zeros(2))], weight=weight)
    function = theano.function([x], found)
    for weights in [1, 1, 2, 3][:SIZE], [5, 0, 0, 1][:SIZE]:
        weight.set_value(weights[RANK])
        np.testing.assert_allclose(
            function(np.full(2, RANK)),
            np.average(range(SIZE), weights=weights), rtol=1e-12)


def test_one_call_in_several_functions():
    net = fresh(dense)
    x, y, loss = loss_of(net)
    params = params_of(net)
    found = means(loss, params)
    functions = [theano.function([x, y], found[:n]) for n in (1, 2)] + [
        theano.function([x, y], updates=RULES['sgd'](found, params))]
    x, y = data(net, 4, 1)[0]
    for function in functions + functions:
        function(x, y)
    assert all_equal(bits(net))


def test_shape_without_a_step():
    # Theano knows it without the values, so that there is no message
    x = T.dmatrix('x')
    found, = means([x], [theano.shared(np.zeros((2, 2)))], weight=1)
    function = theano.function([x], found.shape[0], mode='FAST_RUN')
    if RANK == 0:
        assert function(np.zeros((3, 2))) == 3


@pytest.mark.skipif(SIZE == 1, reason='one process averages nothing')
def test_constants():
    # which Theano would average when it compiles, in no order
    found, = means([T.constant(float(RANK))], [theano.shared(0.)], weight=1)
    function = theano.function([], found)
    node, = in_order(function.maker.fgraph)
    constant = node.op(*[T.constant(x.eval()) for x in node.inputs])[1].owner
    assert theano.tensor.opt.constant_folding.transform(constant) is False
    assert node.op.call.steps == 0
    assert function() == np.mean(range(SIZE))


def test_many_calls():
    # each has communicators of its own, none is used up
    for _ in range(50):
        _, function = summed()
    assert (function(np.full(2, RANK)) == np.mean(range(SIZE))).all()


def test_test_values():
    # of no function: each process has its own
    before = theano.config.compute_test_value
    theano.config.compute_test_value = 'raise'
    try:
        x = T.dvector('x')
        x.tag.test_value = np.full(2, RANK + 1.)
        found, = means([x], [theano.shared(np.zeros(2), 'param')], weight=1)
        assert (found.tag.test_value == RANK + 1).all()
    finally:
        theano.config.compute_test_value = before
    assert (theano.function([x], found)(np.full(2, RANK)) ==
            np.mean(range(SIZE))).all()
