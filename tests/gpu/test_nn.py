"""The layers of both flavours of nn.py: on the device, against the CPU."""
import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import (
    DenseLayer, InputLayer, get_all_layers, get_all_params, get_output)

from devices import CPU, operations
from test_network import close
from wnorm import nn
from wnorm.nn import weightnorm


def improved_gan(l):
    l = nn.batch_norm(DenseLayer(l, 4, nonlinearity=nn.lrelu))
    l = nn.weight_norm(DenseLayer(l, 4), train_g=True)
    l = nn.DenseLayer(l, 5, train_scale=True)
    return nn.l2normalize(DenseLayer(l, 3, nonlinearity=None))


def discriminating(l):
    return nn.MinibatchLayer(l, 3, dim_per_kernel=2)


def paper(l):
    l = weightnorm.mean_only_bn(DenseLayer(l, 4))
    l = weightnorm.batch_norm(DenseLayer(l, 5))
    l = weightnorm.weight_norm(DenseLayer(l, 4))
    return weightnorm.no_norm(DenseLayer(l, 3, nonlinearity=None))


def computed(make, dtype, mode=None):
    """A function and its data: output, gradients, updates of averages."""
    before, theano.config.floatX = theano.config.floatX, dtype
    try:
        lasagne.random.set_rng(np.random.RandomState(0))
        x = T.TensorType(dtype, (False, False))('x')
        l = make(InputLayer((6, 5), x))
        random = np.random.RandomState(1)
        params = get_all_params(l, trainable=True)
        for param in params:
            param.set_value((.5 * random.randn(
                *param.get_value().shape)).astype(dtype))
        output = get_output(l)
        updates = [value for layer in get_all_layers(l) for _, value in
                   getattr(layer, 'bn_updates', [])]
        function = theano.function([x], [output] + T.grad(
            T.sqr(output).mean(), params) + updates, mode=mode)
        return function, random.randn(6, 5).astype(dtype)
    finally:
        theano.config.floatX = before


@pytest.mark.slow
@pytest.mark.parametrize('make', [improved_gan, discriminating, paper])
def test_network(make):
    function, data = computed(make, 'float64', CPU)
    expected = [np.asarray(value) for value in function(data)]
    function, data = computed(make, 'float32')
    assert any(name.startswith('Gpu') for name in operations(function))
    close(function(data), expected)
