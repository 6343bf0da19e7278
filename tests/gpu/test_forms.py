"""Forms of g, mean-only batch normalization, recurrent layers, folding and
initialization from many batches: on the device, against the CPU."""
import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import (
    DenseLayer, InputLayer, get_all_params, get_output)

import wnorm
from devices import CPU, stays_on_the_device
from test_network import close
from wnorm import Gain, weight_norm


def rng():
    return np.random.RandomState(0)


def forms(l):
    """A net with one layer of each form."""
    l = wnorm.mean_only_batch_norm(DenseLayer(l, 4), train_g=True,
                                   g=Gain(.5, per=2, exp=True))
    return weight_norm(DenseLayer(l, 3, nonlinearity=None), train_g=True,
                       g=Gain('norm', per='layer'))


def recurrent(l):
    """Unrolled: there is no scan on OpenCL."""
    l = weight_norm(lasagne.layers.RecurrentLayer(
        l, 5, unroll_scan=True, nonlinearity=T.tanh), train_g=True)
    return weight_norm(DenseLayer(l, 3, nonlinearity=None))


NETS = {'forms': (forms, (6, 5)), 'recurrent': (recurrent, (6, 4, 3))}


class Network(object):
    """The same numbers at every call, up to their precision."""

    def __init__(self, name, dtype):
        before, theano.config.floatX = theano.config.floatX, dtype
        try:
            make, shape = NETS[name]
            self.x = T.TensorType(dtype, (False,) * len(shape))('x')
            self.layer = make(InputLayer((None,) + shape[1:], self.x))
            self.data = rng().randn(*shape).astype(dtype)
            random = rng()
            self.params = get_all_params(self.layer, trainable=True)
            for param in self.params:
                value = random.randn(*param.get_value().shape)
                param.set_value(np.asarray(.5 * value, dtype))
            self.y = get_output(self.layer)
            self.fixed = get_output(self.layer, deterministic=True)
            self.grads = T.grad(T.sqr(self.y).mean(), self.params)
            self.init = wnorm.init_updates(self.layer, self.x)
        finally:
            theano.config.floatX = before


@pytest.mark.slow
@pytest.mark.filterwarnings(  # by Lasagne 0.1, where it unrolls
    'ignore:stack.* interface is deprecated:DeprecationWarning')
@pytest.mark.parametrize('name', list(NETS))
def test_network(name):
    cpu, device = Network(name, 'float64'), Network(name, 'float32')
    expected = [np.asarray(value) for value in theano.function(
        [cpu.x], [cpu.y] + cpu.grads + [value for _, value in cpu.init],
        mode=CPU)(cpu.data)]
    split = 1 + len(cpu.grads)
    step = theano.function([device.x], [device.y] + device.grads)
    stays_on_the_device(step)
    close(step(device.data), expected[:split])
    means = [[p.get_value() for p in get_all_params(
        net.layer, batch_norm_stat=True)] for net in (cpu, device)]
    assert len(means[0]) == (name == 'forms')
    close(means[1], means[0])
    init = theano.function([device.x], [value for _, value in device.init])
    stays_on_the_device(init)
    close(init(device.data), expected[split:])


@pytest.mark.slow
def test_fold():
    net = Network('forms', 'float32')
    before = theano.function([net.x], net.fixed)(net.data)
    wnorm.fold(net.layer)
    after = theano.function([net.x], get_output(net.layer,
                                                deterministic=True))
    stays_on_the_device(after)
    np.testing.assert_allclose(after(net.data), before, atol=1e-5)
    assert [p.name for p in get_all_params(net.layer)] == ['W', 'b'] * 2


@pytest.mark.slow
def test_checkpoint_crosses_to_the_cpu(tmp_path):
    cpu, device = Network('forms', 'float64'), Network('forms', 'float32')
    for param in cpu.params:
        param.set_value(param.get_value() * 2)
    wnorm.save(cpu.layer, tmp_path / 'net.npz')
    wnorm.load(device.layer, tmp_path / 'net.npz')
    for have, want in zip(device.params, cpu.params):
        np.testing.assert_allclose(have.get_value(), want.get_value(),
                                   rtol=1e-6)


@pytest.mark.slow
def test_many_batches():
    def net(dtype):
        before, theano.config.floatX = theano.config.floatX, dtype
        try:
            lasagne.random.set_rng(rng())
            l = InputLayer((None, 5), T.matrix())
            return weight_norm(DenseLayer(weight_norm(DenseLayer(l, 4)), 3))
        finally:
            theano.config.floatX = before

    batches = [rng().randn(n, 5) + n for n in (4, 7, 5)]
    device = net('float32')
    wnorm.initialize(device, [batch.astype('float32') for batch in batches])
    expected = theano.function([], get_output(
        device, np.concatenate(batches).astype('float32')))()
    # what the definition says
    t = np.concatenate(batches)
    for layer in lasagne.layers.get_all_layers(device)[1::2]:
        t = t.dot(layer.W_param.get_value())
        t = np.maximum((t - t.mean(axis=0)) / t.std(axis=0), 0)
    np.testing.assert_allclose(expected, t, atol=2e-4)
