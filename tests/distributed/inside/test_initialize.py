"""Data-dependent initialization from the data of all processes."""
import lasagne
import numpy as np
import pytest
import theano
from lasagne.layers import DenseLayer, InputLayer
from lasagne.nonlinearities import tanh

import wnorm
from wnorm import distributed, weight_norm
from wnorm.distributed.peers import OtherProcessError

from .nets import (
    all_equal, bits, convolutional, dense, everybody, fresh, mean_only,
    values_of)

RANK, SIZE = distributed.rank(), distributed.size()
LAST = SIZE - 1

several = pytest.mark.skipif(SIZE == 1, reason='one process cannot differ')


def deep():
    l = InputLayer((None, 5))
    for units in 4, 4, 4:
        l = weight_norm(DenseLayer(l, units, nonlinearity=tanh), train_g=True)
    return l


NETS = [dense, deep, convolutional, mean_only]


def batches_of_all(net, numbers):
    """A list of batches for each process, the same in all."""
    rng = np.random.RandomState(0)
    shape = lasagne.layers.get_all_layers(net)[0].output_shape[1:]
    return [[rng.normal(2, 3, (n,) + shape) for n in range(3, 3 + number)]
            for number in numbers]


def check_equal(net, report, alone, report_alone):
    """What has been found is that of one process with all data."""
    for one, two in zip(values_of(net), values_of(alone)):
        np.testing.assert_allclose(one, two, rtol=1e-10, atol=1e-10)
    for one, two in zip(report, report_alone):
        for name in ('mean_before', 'std_before', 'mean_after', 'std_after',
                     'degenerate'):
            np.testing.assert_allclose(getattr(one, name), getattr(two, name),
                                       rtol=1e-9, atol=1e-9)
    assert all_equal(bits(net))
    assert all_equal(everybody(str(report)))


@pytest.mark.parametrize('make', NETS)
def test_same_as_all_data_in_one_process(make):
    net, alone, start = fresh(make), fresh(make), fresh(make)
    parts = batches_of_all(net, [2] * SIZE)
    report = distributed.initialize(net, parts[RANK])
    data = np.concatenate(sum(parts, []))
    check_equal(net, report, alone, wnorm.initialize(alone, [data]))
    changed = [np.any(one != two) for one, two in zip(
        values_of(net), values_of(start))]
    assert changed.count(True) >= 3


@pytest.mark.parametrize('make, with_none', [(deep, 0), (mean_only, LAST)])
def test_unequal_numbers_of_batches(make, with_none):
    # none in one of them, if there are several
    net, alone = fresh(make), fresh(make)
    numbers = [1 + rank % 3 for rank in range(SIZE)]
    if SIZE > 1:
        numbers[with_none] = 0
    parts = batches_of_all(net, numbers)
    report = distributed.initialize(net, lambda: iter(parts[RANK]))
    check_equal(net, report, alone, wnorm.initialize(alone, sum(parts, [])))


def test_degenerate_filters():
    # constant in each process, but not the same; given as arrays
    net, alone = fresh(dense), fresh(dense)
    parts = [np.full((4, 5), 1. + rank) for rank in range(max(SIZE, 2))]
    own = parts[RANK] if SIZE > 1 else np.concatenate(parts)
    report = distributed.initialize(net, own)
    check_equal(net, report, alone, wnorm.initialize(alone, parts))
    assert not report[0].degenerate.any()


def unchanged(net, call, kind, *words):
    """All processes raise the error, and nothing has changed."""
    before = values_of(net)
    with pytest.raises(kind if RANK == LAST else OtherProcessError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
    if RANK != LAST:
        assert 'rank %d: %s' % (LAST, kind.__name__) in str(caught.value)
    for one, two in zip(values_of(net), before):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize('number', [0, 1])
def test_nan_in_one_process(number):
    net = fresh(dense)
    batches = batches_of_all(net, [2] * SIZE)[RANK]
    if RANK == LAST:
        batches[number][0, 0] = float('nan')
    unchanged(net, lambda: distributed.initialize(net, batches), ValueError,
              'batch %d: ' % (number + 1), 'NaN')
    # and then it works
    distributed.initialize(net, batches_of_all(net, [1] * SIZE)[RANK])


def test_fails_on_a_higher_level():
    net = fresh(deep)
    passes = []

    def batches():
        passes.append(None)
        if RANK == LAST and len(passes) == 3:
            raise OSError('the disk is gone')
        return batches_of_all(net, [1] * SIZE)[RANK]
    unchanged(net, lambda: distributed.initialize(net, batches), OSError,
              'the disk is gone')
    assert len(passes) == 3


@several
def test_iterator_in_one_process():
    net = fresh(deep)
    batches = batches_of_all(net, [1] * SIZE)[RANK]
    unchanged(net, lambda: distributed.initialize(
        net, iter(batches) if RANK == LAST else batches), ValueError,
        'only once')


def test_no_data_at_all():
    net = fresh(dense)
    before = values_of(net)
    with pytest.raises((ValueError, OtherProcessError)) as caught:
        distributed.initialize(net, [])
    assert 'there are no batches' in str(caught.value)
    for one, two in zip(values_of(net), before):
        np.testing.assert_array_equal(one, two)


@several
def test_different_input_layers():
    # one has a value, and may be given data in its place
    first = InputLayer((None, 5))
    second = InputLayer((None, 5), theano.shared(np.ones((4, 5))))
    net = lasagne.layers.ElemwiseSumLayer([
        weight_norm(DenseLayer(l, 3, W=np.ones((5, 3)), nonlinearity=None))
        for l in (first, second)])
    data = np.random.RandomState(RANK).rand(4, 5)
    batch = {first: data}
    if RANK == LAST:
        batch[second] = data
    with pytest.raises((ValueError, OtherProcessError)) as caught:
        distributed.initialize(net, [batch])
    assert 'not for the same input layers' in str(caught.value)


def test_warns_on_process_0():
    net = fresh(dense)
    data = batches_of_all(net, [1] * SIZE)[RANK]
    distributed.initialize(net, data)
    net.b.set_value(np.ones(3))
    distributed.check(net)
    if RANK == 0:
        with pytest.warns(UserWarning, match='overwrites') as caught:
            distributed.initialize(net, data)
        # it points here
        assert [warning.filename for warning in caught] == [__file__]
    else:
        distributed.initialize(net, data)


def test_warning_as_an_error():
    # an error in process 0 is one in all, and nothing has changed
    net = fresh(dense)
    net.b.set_value(np.ones(3))
    before = bits(net)
    with pytest.raises(UserWarning if RANK == 0 else OtherProcessError,
                       match='overwrites'):
        distributed.initialize(net, batches_of_all(net, [1] * SIZE)[RANK])
    assert bits(net) == before


def test_progress_bar(capfd):
    pytest.importorskip('tqdm')
    net = fresh(dense)
    distributed.initialize(net, batches_of_all(net, [2] * SIZE)[RANK])
    shown = capfd.readouterr().err
    # alone it is shown on a terminal only
    assert ('4/4' in shown) == (RANK == 0 and SIZE > 1)
    assert ('initialize' in shown) == (RANK == 0 and SIZE > 1)
