"""What is sent: in full and in half precision; what becomes of it."""
import numpy as np
import pytest
import theano
import theano.tensor as T

from wnorm import distributed
from wnorm.distributed.messages import HalfMessage, Message

from .nets import (
    RULES, all_equal, bits, data, dense, fresh, loss_of, means, params_of,
    values_of)

RANK, SIZE = distributed.rank(), distributed.size()

several = pytest.mark.skipif(SIZE == 1, reason='one process sends nothing')


def compiled(arrays, weighted=True, **kwargs):
    """A function that averages arrays of such types."""
    inputs = [theano.tensor.as_tensor_variable(array).type()
              for array in arrays]
    params = [theano.shared(np.zeros_like(array)) for array in arrays]
    weight = T.dscalar()
    found = means(inputs, params, weight=weight, **kwargs)
    return theano.function([weight] + inputs, found, on_unused_input='ignore',
                           allow_input_downcast=True)


def drawn(shapes, dtype='float64', seed=0):
    """Arrays of all processes, the same for all."""
    rng = np.random.RandomState(seed)
    return [[np.asarray(rng.normal(size=shape)).astype(dtype)
             for shape in shapes] for _ in range(SIZE)]


def mean(parts, weights):
    """By the formula."""
    return [sum(weight * array.astype('float64') for weight, array in
                zip(weights, arrays)) / sum(weights)
            for arrays in zip(*parts)]


SHAPES = [(3, 4), (), (1,), (0, 2), (5,)]
WEIGHTS = [3., 0., 1.5, 2.][:SIZE]


@pytest.mark.parametrize('dtype, tolerance', [
    ('float64', 1e-14), ('float32', 1e-6), ('float16', 2e-3)])
def test_mean(dtype, tolerance):
    parts = drawn(SHAPES, dtype)
    found = compiled(parts[0])(WEIGHTS[RANK], *parts[RANK])
    for one, expected, array in zip(found, mean(parts, WEIGHTS), parts[0]):
        assert one.dtype == dtype and one.shape == array.shape
        np.testing.assert_allclose(one, expected, atol=tolerance)
    assert all_equal(bits(found))


def test_mixed_types():
    parts = [[single[0], double[0]] for single, double in zip(
        drawn([(3,)], 'float32'), drawn([(3,)]))]
    found = compiled(parts[0])(WEIGHTS[RANK], *parts[RANK])
    assert [one.dtype for one in found] == ['float32', 'float64']
    for one, expected, tolerance in zip(
            found, mean(parts, WEIGHTS), [1e-6, 1e-14]):
        np.testing.assert_allclose(one, expected, atol=tolerance)


def test_not_contiguous():
    parts = [[array.T[::2] for array in arrays]
             for arrays in drawn([(4, 6), (5, 3)])]
    found = compiled(parts[0])(WEIGHTS[RANK], *parts[RANK])
    for one, expected in zip(found, mean(parts, WEIGHTS)):
        np.testing.assert_allclose(one, expected, atol=1e-14)


def test_half_precision_does_not_overflow_on_the_way():
    # 1000 * 100 is more than float16 holds
    found, = compiled([np.zeros(1, 'float16')])(
        100., np.full(1, 1000, 'float16'))
    assert found == 1000


def test_large_numbers():
    # whose squares overflow
    found, = compiled([np.zeros(2)])(1., np.array([1e200, -1e200]))
    np.testing.assert_allclose(found, [1e200, -1e200], rtol=1e-14)


def test_results_are_kept():
    # a call's results are the user's
    for options in dict(), dict(allow_gc=False):
        x = T.matrix('x')
        params = [theano.shared(np.zeros((2, 3))), theano.shared(np.zeros(3))]
        found = means([x, x[0]], params, weight=1)
        functions = [theano.function(
            [x], found, mode=theano.compile.get_mode(None).clone(
                linker=theano.gof.vm.VM_Linker(use_cloop=False, **options)))
            for _ in range(2)] + [theano.function([x], found)]
        kept = []
        for number in range(6):
            value = np.full((2, 3), float(number + RANK))
            kept.append(functions[number % 3](value))
        middle = np.mean(range(SIZE))
        for number, arrays in enumerate(kept):
            for array in arrays:
                assert (array == number + middle).all()


@several
@pytest.mark.parametrize('options', [dict(), dict(allow_gc=False)])
def test_memory_is_used_again(options):
    # if nobody has kept it
    net = fresh(dense)
    x, y, loss = loss_of(net)
    gradients = means(loss, params_of(net))
    call = gradients[0].owner.op.call
    train = theano.function(
        [x, y], updates=RULES['momentum'](gradients, params_of(net)),
        mode=theano.compile.get_mode(None).clone(
            linker=theano.gof.vm.VM_Linker(use_cloop=False, **options)))
    buffers = []
    for batch in data(net, 2, 4):
        train(*batch)
        buffers.append(call.message._buffer)
        address = buffers.pop().ctypes.data
        buffers.append(address)
    assert len(set(buffers)) == 1


def test_shapes_that_change():
    x = T.matrix('x')
    found = means([x], [theano.shared(np.zeros((2, 2)))], weight=1)
    function = theano.function([x], found)
    for shape in (2, 3), (2, 3), (4, 1), (0, 2), (2, 3):
        one, = function(np.full(shape, float(RANK)))
        assert one.shape == shape and (one == np.mean(range(SIZE))).all()


# --- compressed --------------------------------------------------------------

def bound(parts, weights, shape):
    """How far float16 may be off: its rounding, twice, of the largest."""
    largest = [max(abs(weight * array).max(initial=0) for weight, array in
                   zip(weights, arrays)) for arrays in zip(*parts)]
    return [2 ** -11 * 2 * SIZE * one / sum(weights) for one in largest]


@pytest.mark.parametrize('shapes', [
    SHAPES, [(1,)], [(0,)], [(), ()], [(7, 11), (3,)], [(16 * SIZE,)],
    [(16 * SIZE + 1,)], [(8,), (8,), (8,), (8,)], [(2,)] * 9])
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_compressed(shapes, dtype):
    parts = drawn(shapes, dtype)
    # of different magnitudes
    for arrays in parts:
        for place, array in enumerate(arrays):
            array *= 10 ** (6 * (-1) ** place)
    function = compiled(parts[0], compress=True)
    found = function(WEIGHTS[RANK], *parts[RANK])
    assert all_equal(bits(found))
    for one, expected, array, off in zip(
            found, mean(parts, WEIGHTS), parts[0],
            bound(parts, WEIGHTS, shapes)):
        assert one.dtype == dtype and one.shape == array.shape
        np.testing.assert_allclose(one, expected, atol=off, rtol=0)
    # nothing but zeros
    found = function(1, *[np.zeros_like(array) for array in parts[0]])
    assert not any(one.any() for one in found)
    # tiny and huge ones
    for scale in [1e-30, 1e30]:
        found = function(1, *[np.full_like(array, scale)
                              for array in parts[0]])
        for one in found:
            np.testing.assert_allclose(one, scale, rtol=1e-3)


@several
def test_compressed_training():
    nets = [fresh(dense) for _ in range(2)]
    functions = []
    for net, compress in zip(nets, [True, False]):
        x, y, loss = loss_of(net)
        functions.append(theano.function([x, y], updates=RULES['adam'](
            means(loss, params_of(net), compress=compress), params_of(net))))
    start = values_of(nets[0])
    for batch in data(nets[0], 12, 20):
        for train in functions:
            train(*[array[RANK::SIZE] for array in batch])
    assert all_equal(bits(nets[0]))
    values, exact = map(values_of, nets)
    assert any((one != two).any() for one, two in zip(values, exact))
    for one, two, before in zip(values, exact, start):
        np.testing.assert_allclose(
            one, two, atol=.02 * abs(two - before).max())


@several
def test_size_of_a_message():
    arrays = [np.zeros((100, 100), 'float32'), np.zeros(100, 'float32')]
    whole, half = [kind(distributed.world(), None, arrays, 2)
                   for kind in (Message, HalfMessage)]
    assert whole.nbytes == 4 * (10100 + 2 * SIZE)
    assert 2 * 10100 <= half.nbytes < 2 * 10100 + 100 * SIZE
