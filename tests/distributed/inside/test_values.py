"""broadcast and check; the log."""
import os

import numpy as np
import pytest
import theano
from lasagne.layers import DenseLayer, InputLayer, get_all_params
from theano.sandbox.rng_mrg import MRG_RandomStreams
from theano.tensor.shared_randomstreams import RandomStreams

from wnorm import distributed
from wnorm.distributed import log as logs
from wnorm.distributed.peers import OtherProcessError, UnequalError

from .nets import (
    NETS, all_equal, bits, convolutional, dense, everybody, fresh, mean_only,
    means, values_of)

RANK, SIZE = distributed.rank(), distributed.size()
LAST = SIZE - 1

several = pytest.mark.skipif(SIZE == 1, reason='one process cannot differ')


@pytest.mark.parametrize('make', [
    NETS[name] for name in NETS] + [mean_only])
def test_broadcast(make):
    net, expected = fresh(make, RANK), values_of(fresh(make, 0))
    if SIZE > 1:
        assert not all_equal(bits(net))
        with pytest.raises(UnequalError):
            distributed.check(net)
    distributed.broadcast(net)
    distributed.check(net)
    for value, of_first in zip(values_of(net), expected):
        np.testing.assert_array_equal(value, of_first)
    distributed.broadcast(net)
    distributed.check([net, DenseLayer(net, 2, W=np.zeros((3, 2)))])


@pytest.mark.parametrize('dtype', [
    'float64', 'float32', 'float16', 'int32', 'int64', 'bool', 'uint8'])
def test_variables(dtype):
    # such as the state of an optimizer
    def made(number):
        return [np.asarray(np.random.RandomState(number).normal(
            size=shape) * 100).astype(dtype)
            for shape in [(2, 3), (), (0, 2), (1,), (40,)]]
    variables = [theano.shared(array) for array in made(RANK)]
    # as users may have put it in
    variables.append(theano.shared(made(RANK)[0].T, borrow=True))
    distributed.broadcast(variables)
    distributed.check(variables)
    for variable, array in zip(variables, made(0) + [made(0)[0].T]):
        value = variable.get_value()
        assert value.dtype == dtype
        np.testing.assert_array_equal(value, array)


def test_random_streams():
    streams = MRG_RandomStreams(1 + RANK)
    draw = theano.function([], streams.normal((3,)))
    state = [update[0] for update in streams.state_updates]
    distributed.broadcast(state)
    assert all_equal(everybody(draw().tobytes()))


@several
def test_first_layer_that_differs():
    net = fresh(convolutional)
    params = get_all_params(net)
    distributed.check(net)
    for param in params[1:]:
        if RANK:  # by the last bit
            value = param.get_value()
            value.flat[0] = np.nextafter(value.flat[0], 9)
            param.set_value(value)
    others = ', '.join(map(str, range(1, SIZE)))
    with pytest.raises(UnequalError) as caught:
        distributed.check(net)
    assert ('check(): %s of weight-normalized Conv2DLayer' % params[1]
            in str(caught.value))
    assert ('rank%s %s differ%s from rank 0' % (
        's' * (SIZE > 2), others, 's' * (SIZE == 2)) in str(caught.value))
    assert distributed.world().blamed == 1


@several
@pytest.mark.parametrize('value', [
    np.zeros(4), np.zeros((3, 1)), np.zeros(3, 'float32')])
def test_what_does_not_fit(value):
    one = theano.shared(np.full(2, RANK), 'a')
    other = theano.shared(value if RANK == LAST else np.zeros(3), 'b')
    with pytest.raises(UnequalError) as caught:
        distributed.broadcast([one, other])
    assert 'broadcast(): b %s is not the same' % (
        other.get_value().shape,) in str(caught.value)
    assert one.get_value()[0] == RANK
    with pytest.raises(UnequalError):  # names, too
        distributed.check([theano.shared(1., 'xy'[RANK == LAST])])


@several
@pytest.mark.parametrize('function', [
    distributed.check, distributed.broadcast, lambda net:
    distributed.initialize(net, np.zeros((2, 5)))])
def test_different_networks(function):
    net = fresh(dense)
    before = values_of(net)
    if RANK == LAST:
        function_of = DenseLayer(net, 3, W=np.zeros((3, 3)))
    else:
        function_of = net
    with pytest.raises(UnequalError) as caught:
        function(function_of)
    assert '6 parameters on rank 0, 8 on rank %d' % LAST in str(caught.value)
    for one, two in zip(values_of(net), before):
        np.testing.assert_array_equal(one, two)


def test_wrong_types():
    variable = theano.shared(0.)
    stream = RandomStreams(1)
    stream.normal((2,))
    for function in distributed.check, distributed.broadcast:
        for wrong, word in [
                (3, 'layer'), ([variable, 3], 'list of shared variables'),
                (variable, 'layer'),
                ([variable, stream.state_updates[0][0]], 'arrays')]:
            with pytest.raises(TypeError) as caught:
                function(wrong)
            assert word in str(caught.value)
        with pytest.raises((TypeError, OtherProcessError) if SIZE > 1 else
                           TypeError):
            function([variable, 3] if RANK == LAST else [variable])


def test_nothing_to_do():
    net = InputLayer((None, 2))
    distributed.broadcast(net)
    distributed.check(net)


# --- the log -----------------------------------------------------------------

@pytest.mark.skipif(SIZE == 1, reason='one process writes no log')
def test_log(tmp_path, capfd, monkeypatch):
    world = distributed.world()
    folder = world.exchange(str(tmp_path))[0]
    if RANK == 0:  # of a run that was killed
        killed = logs.StepLog(folder, 1., 0, 1)
        killed.step(7, True, 'after step 7')
        with open(killed.path) as file:
            text = file.read()
        with open(killed.path, 'w') as file:  # no process has that number
            file.write(text.replace('"pid": %d' % os.getpid(),
                                    '"pid": %d' % 2 ** 30))
    world.exchange('written')
    monkeypatch.setattr(world, '_may_log', True)
    monkeypatch.setattr(world, 'log', None)
    param = theano.shared(1.)

    def step():
        theano.function([], means(param ** 2, [param], log=folder))()
    step()
    said = capfd.readouterr().err
    assert ('First stopped rank 0, after step 7' in said) == (RANK == 0)
    step()  # in the same
    last = [last for last in logs.read(folder) if last.rank == RANK][0]
    assert last.where.startswith('after step 1')
    # a log that cannot be written any more
    world.log.file = os.open('/dev/full', os.O_WRONLY)
    step()
    assert ('no log of rank %d from now on' % RANK) in capfd.readouterr().err
    # or not at all
    world._may_log = True
    theano.function([], means(param ** 2, [param], log='/dev/null/log'))()
    assert ('no log of ranks 0' in capfd.readouterr().err) == (RANK == 0)
