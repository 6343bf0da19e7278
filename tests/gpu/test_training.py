"""Training and initialization on the device, and models that move."""
import functools
import os
import pickle

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import InputLayer, get_output

import model
import wnorm
from devices import CPU_IN_C
from distributed.processes import mpiexec, needs_mpi
from running import python

#: 50 steps of Adam magnify what rounding does to the first.
TOLERANCE = 2e-3


def flags(device, floatX='float32'):
    """THEANO_FLAGS for a process on the device or on the CPU."""
    own = os.environ['THEANO_FLAGS']
    base = 'base_compiledir=' + theano.config.base_compiledir
    if device == 'cpu':
        return base + ',device=cpu,floatX=' + floatX
    return own + ',' + base


def run(what, path, device, floatX='float32', start=python):
    # no process may inherit a device that is in use
    done = start(model.__file__, what, path, cwd=path.parent, limit=600,
                 THEANO_FLAGS=flags(device, floatX),
                 THEANO_GPU_IS_ALREADY_ACTIVE=None)
    assert done.returncode == 0, done.stderr
    with np.load(str(path)) as file:
        return dict(file)


def parameters(content):
    return np.concatenate([content['arr_%d' % i].ravel() for i in range(
        sum(name.startswith('arr_') for name in content))])


@pytest.mark.slow
def test_fifty_steps(tmp_path):
    values, outputs, losses = model.train()
    expected = run('train', tmp_path / 'model.npz', 'cpu', 'float64')
    assert losses[-1] < .7 * losses[0]
    np.testing.assert_allclose(losses, expected['losses'], rtol=TOLERANCE)
    np.testing.assert_allclose(outputs, expected['outputs'], atol=TOLERANCE)


@needs_mpi
@pytest.mark.slow
def test_two_processes_on_one_device(device, tmp_path):
    """Each has half of the batch; one of the CPU has all of it."""
    if device.startswith('opencl'):
        pytest.skip('PoCL crashes where two processes fill its cache of '
                    'kernels at the same time')
    shared = run('train', tmp_path / 'shared.npz', 'device',
                 start=functools.partial(mpiexec, 2))
    expected = run('train', tmp_path / 'alone.npz', 'cpu', 'float64')
    np.testing.assert_allclose(shared['outputs'], expected['outputs'],
                               atol=TOLERANCE)
    np.testing.assert_allclose(parameters(shared), parameters(expected),
                               atol=5 * TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize('here, there', [
    ('device', 'cpu'), ('cpu', 'device')])
def test_a_model_moves(tmp_path, here, there):
    path = tmp_path / 'model.npz'
    trained = run('train', path, here)
    moved = run('apply', path, there)
    np.testing.assert_array_equal(moved['loaded'], parameters(trained))
    np.testing.assert_allclose(moved['applied'], trained['outputs'],
                               atol=2e-5)


@pytest.mark.slow
def test_pickle():
    l = model.network(T.tensor4())
    again = pickle.loads(pickle.dumps(l))
    data = model.data()[0]
    for one, other in zip(lasagne.layers.get_all_param_values(l),
                          lasagne.layers.get_all_param_values(again)):
        np.testing.assert_array_equal(one, other)
    x = T.tensor4()
    a, b = theano.function([x], [get_output(l, x), get_output(again, x)])(
        data)
    np.testing.assert_array_equal(a, b)


def test_same_bits_twice(cudnn, tmp_path):
    """With deterministic algorithms."""
    path = tmp_path / 'model.npz'
    own = os.environ['THEANO_FLAGS']
    os.environ['THEANO_FLAGS'] = own + (
        ',dnn.conv.algo_bwd_filter=deterministic,'
        'dnn.conv.algo_bwd_data=deterministic,deterministic=more')
    try:
        one, other = [parameters(run('train', path, 'device'))
                      for _ in range(2)]
    finally:
        os.environ['THEANO_FLAGS'] = own
    np.testing.assert_array_equal(one, other)


# --- initialization -------------------------------------------------------

def test_initialize():
    l = model.network(T.tensor4())
    report = wnorm.initialize(l, model.data()[0])
    for row in report:
        np.testing.assert_allclose(row.mean_after, 0, atol=1e-4)
        np.testing.assert_allclose(row.std_after, 1, atol=1e-4)
    assert not any(row.degenerate.any() for row in report)


class Huge(lasagne.layers.Layer):
    """Computes something for which no memory suffices."""

    def get_output_for(self, input, **kwargs):
        row = T.sum(input, 0)
        # 10^7 times 10^7 numbers
        wide = T.tile(row, 10 ** 7 // self.input_shape[1])
        return input + T.max(T.tanh(wide.dimshuffle(0, 'x') * wide))


@pytest.mark.slow
def test_memory_is_exhausted():
    l = Huge(InputLayer((None, 10), T.matrix()))
    l = wnorm.weight_norm(lasagne.layers.DenseLayer(l, 3))
    before = lasagne.layers.get_all_param_values(l)
    with pytest.raises(MemoryError, match='a batch of 40 examples'):
        wnorm.initialize(l, np.ones((40, 10), 'float32'))
    for value, old in zip(lasagne.layers.get_all_param_values(l), before):
        np.testing.assert_array_equal(value, old)
    # and the device goes on
    assert theano.function([], T.tanh(theano.shared(
        np.zeros(3, 'float32'))).sum())() == 0


# --- lasagne.layers.dnn ---------------------------------------------------

@pytest.mark.slow
def test_the_same_layers_as_on_the_cpu(tmp_path):
    from lasagne.layers import dnn
    code = ('from lasagne.layers import dnn; '
            'print(" ".join(sorted(name for name in vars(dnn) '
            'if name.endswith("DNNLayer"))))')
    done = python('-c', code, cwd=tmp_path, THEANO_FLAGS=flags('cpu'))
    assert done.returncode == 0, done.stderr
    assert sorted(name for name in vars(dnn)
                  if name.endswith('DNNLayer')) == done.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize('options', [
    {}, {'pad': 'same'}, {'stride': 2, 'pad': 1}, {'flip_filters': True}])
def test_convolution_is_that_of_the_cpu(options):
    from lasagne.layers import dnn
    x = T.tensor4()
    l = dnn.Conv2DDNNLayer(InputLayer((None, 2, 8, 8), x), 5, 3, **options)
    data = model.data()[0]
    y = get_output(l)
    np.testing.assert_allclose(
        theano.function([x], y)(data),
        theano.function([x], y, mode=CPU_IN_C)(data)
        if 'GpuDnn' not in theano.printing.debugprint(y, file='str')
        else convolved(l, data), atol=2e-5)


def convolved(l, data):
    """What a layer of cuDNN computes, by Theano's abstract convolution."""
    x = T.tensor4()
    pad = l.pad if isinstance(l.pad, str) else tuple(l.pad)
    y = T.nnet.conv2d(x, l.W, subsample=l.stride, border_mode=pad,
                      filter_flip=l.flip_filters)
    y = l.nonlinearity(y + l.b.dimshuffle('x', 0, 'x', 'x'))
    return theano.function([x], y, mode=CPU_IN_C)(data)
