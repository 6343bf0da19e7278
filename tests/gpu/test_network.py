"""Every row of the table of layers, on the device."""
import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import InputLayer, get_all_params, get_output
from theano.gpuarray.type import GpuArraySharedVariable

import wnorm
from devices import (
    CPU, on_the_host, operations, stays_on_the_device, transfers)
from layouts import every_layout

#: Of float32 on the device from float64 on the CPU, relative to the largest
#: value: sums of up to some hundred products, in another order.
TOLERANCE = 2e-5


def rng():
    return np.random.RandomState(0)


class Network(object):
    """A layer, weight-normalized, with other than its initial values.

    The same numbers at every call, up to their precision.
    """

    def __init__(self, case, dtype):
        before, theano.config.floatX = theano.config.floatX, dtype
        try:
            self.layer = wnorm.weight_norm(case.layer())
            self.data = case.data(rng())
            random = rng()
            self.params = get_all_params(self.layer)
            for param in self.params:
                value = random.randn(*param.get_value().shape)
                param.set_value((.5 * value).astype(dtype))
            self.x = self.layer.input_layer.input_layer.input_var
            self.y = get_output(self.layer)
            loss = T.sqr(self.y).mean()
            wrt = self.params + ([] if case.integers else [self.x])
            self.grads = T.grad(loss, wrt)
            self.init = wnorm.init_updates(self.layer, self.x)
        finally:
            theano.config.floatX = before


def close(results, expected):
    assert len(results) == len(expected)
    for got, want in zip(results, expected):
        scale = max(np.abs(want).max(), 1e-2)
        np.testing.assert_allclose(np.asarray(got), want, rtol=0,
                                   atol=TOLERANCE * scale)


@pytest.mark.slow
@every_layout
def test_layout(case):
    cpu, device = Network(case, 'float64'), Network(case, 'float32')
    assert all(isinstance(param, GpuArraySharedVariable)
               for param in device.params)
    # forward, gradients and initialization at once: compiling takes longest
    expected = [np.asarray(value) for value in theano.function(
        [cpu.x], [cpu.y] + cpu.grads + [value for _, value in cpu.init],
        mode=CPU)(cpu.data)]
    split = 1 + len(cpu.grads)

    step = theano.function(
        [device.x], [device.y] + device.grads,
        updates=[(param, param - np.float32(.1) * grad) for param, grad in zip(
            device.params, device.grads)])
    stays_on_the_device(step)
    before = [param.get_value() for param in device.params]
    close(step(device.data), expected[:split])
    close([param.get_value() for param in device.params],
          [value - .1 * grad for value, grad in zip(before, expected[1:])])

    for param, value in zip(device.params, before):
        param.set_value(value)
    init = theano.function([device.x], updates=device.init)
    stays_on_the_device(init)
    init(device.data)
    assert [str(p) for p, _ in cpu.init] == [str(p) for p, _ in device.init]
    close([param.get_value() for param, _ in device.init], expected[split:])


def convnet(x=None, nonlinearity=lasagne.nonlinearities.softmax):
    """Two convolutions and a dense layer, each weight-normalized."""
    from lasagne.layers import dnn
    l = InputLayer((None, 2, 8, 8), x)
    l = wnorm.weight_norm(dnn.Conv2DDNNLayer(l, 5, 3, pad=1))
    l = dnn.Conv2DDNNLayer(l, 6, 3, stride=2, nonlinearity=wnorm.nn.lrelu)
    l = wnorm.weight_norm(l)
    l = lasagne.layers.DropoutLayer(l)
    return wnorm.weight_norm(lasagne.layers.DenseLayer(
        l, 4, nonlinearity=nonlinearity))


@pytest.mark.parametrize('loss, update', [
    ('squared_error', 'adam'), ('squared_error', 'momentum'),
    ('categorical_crossentropy', 'rmsprop')])
def test_train_step(device, loss, update):
    x, target = T.tensor4(), T.ivector()
    # OpenCL has no gradient of softmax
    l = convnet(x, *[None] * (loss == 'squared_error'))
    y = get_output(l)
    if loss == 'squared_error':
        loss = T.sqr(y - target.dimshuffle(0, 'x')).mean()
    elif device.startswith('opencl'):
        pytest.skip('OpenCL has no kernel for the fused softmax '
                    'cross-entropy: Theano computes it on the host')
    else:
        loss = lasagne.objectives.categorical_crossentropy(y, target).mean()
    params = get_all_params(l, trainable=True)
    step = theano.function([x, target], loss, updates=getattr(
        lasagne.updates, update)(loss, params, .01))
    stays_on_the_device(step)
    data = rng().randn(6, 2, 8, 8).astype('float32')
    labels = rng().randint(0, 4, 6).astype('int32')
    losses = [step(data, labels) for _ in range(30)]
    assert np.isfinite(losses).all() and np.mean(losses[-5:]) < losses[0]


@pytest.mark.slow
def test_data_on_the_device():
    # then not even the batch crosses
    data = theano.shared(rng().randn(40, 2, 8, 8).astype('float32'))
    index = T.iscalar()
    y = get_output(convnet(data[index * 8:(index + 1) * 8]),
                   deterministic=True)
    function = theano.function([index], y.sum())
    stays_on_the_device(function)
    assert np.isfinite(function(2))


def test_inference():
    x = T.tensor4()
    function = theano.function([x], get_output(convnet(x),
                                               deterministic=True))
    stays_on_the_device(function)


def test_a_computation_on_the_host_is_noticed():
    class Host(theano.Op):
        """Has no implementation for the device."""
        def make_node(self, x):
            return theano.Apply(self, [x], [x.type()])

        def perform(self, node, inputs, outputs):
            outputs[0][0] = np.tanh(inputs[0])

    x = T.matrix()
    function = theano.function([x], Host()(T.dot(x, x)) * 2 + x)
    assert {ndim for _, ndim in transfers(function)} == {2}
    with pytest.raises(AssertionError):
        stays_on_the_device(function)
    function = theano.function([x], Host()(x))
    assert [ndim for _, ndim in on_the_host(function)] == [2]


# --- recurrent layers: the loop of scan is exempt, and measured -------------

@pytest.mark.slow
def test_lstm(device):
    if device.startswith('opencl'):
        pytest.skip('theano.scan does not work on OpenCL')
    l = lasagne.layers.LSTMLayer(InputLayer((4, 5, 3), T.tensor3('x')), 6)
    l = wnorm.weight_norm(lasagne.layers.DenseLayer(l, 2))
    x = lasagne.layers.get_all_layers(l)[0].input_var
    loss = T.sqr(get_output(l)).mean()
    step = theano.function([x], loss, updates=lasagne.updates.sgd(
        loss, get_all_params(l, trainable=True), .1))
    loops = [node.op.fn for node in step.maker.fgraph.apply_nodes
             if type(node.op).__name__ == 'Scan']
    print('transfers per step of the loop:', [
        len(transfers(loop)) for loop in loops], 'outside:', transfers(step))
    assert loops
    assert [entry for entry in transfers(step) if entry[1] > 0] == []


# --- cuDNN ----------------------------------------------------------------

def test_convolution_through_cudnn(cudnn):
    x = T.tensor4()
    l = convnet(x)
    loss = T.sqr(get_output(l)).mean()
    step = theano.function([x], loss, updates=lasagne.updates.sgd(
        loss, get_all_params(l, trainable=True), .1))
    found = operations(step)
    assert {'GpuDnnConv', 'GpuDnnConvGradW', 'GpuDnnConvGradI'} <= set(found)
    assert not [op for op in found if 'Corr' in op]
    assert found.count('GpuDnnConv') == 2


def test_float16(cudnn):
    # stored in 16 bits, computed in 32
    before, theano.config.floatX = theano.config.floatX, 'float16'
    try:
        x = T.tensor4()
        l = convnet(x)
        data = rng().randn(6, 2, 8, 8).astype('float16')
        function = theano.function([x], get_output(l, deterministic=True))
        got = function(data)
        assert got.dtype == 'float16'
        values = lasagne.layers.get_all_param_values(l)
        theano.config.floatX = 'float32'
        x = T.tensor4()
        l = convnet(x)
        lasagne.layers.set_all_param_values(
            l, [value.astype('float32') for value in values])
        expected = theano.function([x], get_output(l, deterministic=True))(
            data.astype('float32'))
    finally:
        theano.config.floatX = before
    np.testing.assert_allclose(got, expected, rtol=0, atol=5e-3)
