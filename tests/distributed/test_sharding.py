"""shard and minibatches, for any number of processes."""
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wnorm import distributed


class Place(object):
    """One of several processes, as far as arithmetic goes."""

    def __init__(self, rank, size):
        self.rank = rank
        self.size = size


def everywhere(size, function, *arguments):
    """What it returns in each of so many processes."""
    module = sys.modules['wnorm.distributed.sharding']
    before = module.world
    try:
        found = []
        for rank in range(size):
            module.world = lambda: Place(rank, size)
            found.append(function(*arguments))
        return found
    finally:
        module.world = before


lengths, sizes = st.integers(0, 60), st.integers(1, 9)
seeds = st.integers(0, 2 ** 32 - 1)


@given(lengths, sizes, seeds, seeds)
@settings(deadline=None)
def test_shard(n, size, epoch, seed):
    shards = everywhere(size, distributed.shard, n, epoch, seed)
    # disjoint, complete, of about the same size
    assert sorted(np.concatenate(shards)) == list(range(n))
    numbers = list(map(len, shards))
    assert max(numbers) - min(numbers) <= 1
    assert all(shard.dtype == 'int64' for shard in shards)
    # and the same whenever asked for
    for one, two in zip(shards, everywhere(
            size, distributed.shard, n, epoch, seed)):
        np.testing.assert_array_equal(one, two)


@given(lengths, st.integers(1, 70), sizes, seeds, seeds)
@settings(deadline=None)
def test_minibatches(n, batch_size, size, epoch, seed):
    parts = everywhere(size, distributed.minibatches, n, batch_size, epoch,
                       seed)
    whole, = everywhere(1, distributed.minibatches, n, batch_size, epoch,
                        seed)
    assert [len(batch) for batch in whole] == [
        min(batch_size, n - start) for start in range(0, n, batch_size)]
    assert sorted(np.concatenate(whole + [np.zeros(0, 'int64')])) == list(
        range(n))
    # the batches are the same for any number of processes
    assert {len(one) for one in parts} == {len(whole)}
    for number, batch in enumerate(whole):
        of_processes = [one[number] for one in parts]
        assert all(part.dtype == 'int64' for part in of_processes)
        numbers = list(map(len, of_processes))
        assert max(numbers) - min(numbers) <= 1
        assert sorted(np.concatenate(of_processes)) == sorted(batch)


def test_order_depends_on_epoch_and_seed():
    orders = [tuple(distributed.shard(50, epoch, seed))
              for epoch in range(3) for seed in range(3)]
    assert len(set(orders)) == 9
    # of old too: what is resumed goes on with the same batches
    assert distributed.shard(6, 2, 1).tolist() == [2, 4, 1, 5, 3, 0]


def test_integers_of_numpy():
    np.testing.assert_array_equal(
        distributed.shard(np.int32(7), np.uint8(1), np.int64(2)),
        distributed.shard(7, 1, 2))
    assert [len(batch) for batch in distributed.minibatches(
        np.int64(7), np.int32(3))] == [3, 3, 1]


@pytest.mark.parametrize('function, arguments, kind, word', [
    (distributed.shard, (-1,), ValueError, 'n must be an integer from 0,'),
    (distributed.shard, (2.,), TypeError, 'n must be'),
    (distributed.shard, (True,), TypeError, 'n must be'),
    (distributed.shard, (3, -1), ValueError,
     'epoch must be an integer from 0 to 4294967295, got -1'),
    (distributed.shard, (3, 0, 2 ** 32), ValueError, 'seed must be'),
    (distributed.shard, (3, None), TypeError, 'epoch must be'),
    (distributed.minibatches, (3, 0), ValueError,
     'batch_size must be an integer from 1, got 0'),
    (distributed.minibatches, (3, 1.5), TypeError, 'batch_size must be'),
    (distributed.minibatches, ('3', 1), TypeError, 'n must be'),
])
def test_wrong_numbers(function, arguments, kind, word):
    with pytest.raises(kind) as caught:
        function(*arguments)
    assert word in str(caught.value)
