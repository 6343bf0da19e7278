"""Training: 20 steps equal those of the formulas, written out."""
from collections import OrderedDict

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import (
    DenseLayer, InputLayer, NINLayer, dnn, get_all_layers, get_all_params,
    get_output)

from wnorm import nn
from wnorm.nn import weightnorm as paper

STEPS = 20


# --- the formulas ------------------------------------------------------------

def row(v):
    return v.dimshuffle('x', 0)


def channels(v):
    return v.dimshuffle('x', 0, 'x', 'x')


def filters(v):
    return v.dimshuffle(0, 'x', 'x', 'x')


def relu(x):
    return x * (x > 0)


def leaky(slope):
    return lambda x: T.switch(x > 0, x, slope * x)


def conv(x, W):
    return T.nnet.conv2d(x, W, border_mode=(1, 1), filter_flip=False)


def dense_weight_norm(x, V, b, g):
    W = V * row(g) / row(T.sqrt(1e-6 + T.sum(V ** 2, axis=0)))
    return T.tanh(T.dot(x, W) + row(b)), []


def conv_weight_norm(x, V, b, g):
    norm = T.sqrt(1e-6 + T.sum(V ** 2, axis=(1, 2, 3)))
    return leaky(.2)(conv(x, V * filters(g / norm)) + channels(b)), []


def deconv_weight_norm(x, V, b, g):
    W = V * channels(g / T.sqrt(1e-6 + T.sum(V ** 2, axis=(0, 2, 3))))
    # zeros between the entries of x, then a convolution
    n, k, h, w = x.shape
    wide = T.set_subtensor(
        T.zeros((n, k, 2 * h - 1, 2 * w - 1))[:, :, ::2, ::2], x)
    padded = T.set_subtensor(
        T.zeros((n, k, 2 * h + 2, 2 * w + 2))[:, :, 1:-2, 1:-2], wide)
    y = T.nnet.conv2d(padded, W.dimshuffle(1, 0, 2, 3), filter_flip=False)
    return relu(y + channels(b)), []


def normalized_dense(x, theta, scale, b):
    W = theta * row(scale) / row(T.sqrt(T.sum(theta ** 2, axis=0)))
    return relu(T.dot(x, W) + row(b)), []


def minibatch(x, theta, s, b):
    W = theta * T.exp(s) / T.sqrt(T.sum(theta ** 2, axis=0))
    a = T.tensordot(x, W, 1)
    n = 6
    f = [sum(T.exp(-T.sum(abs(a[i] - a[j]), axis=1))
             for j in range(n) if j != i) for i in range(n)]
    return T.concatenate([x, T.stack(f) + row(b)], axis=1), []


def l2normalized(x, V, b, s):
    W = V * row(s) / row(T.sqrt(1e-6 + T.sum(V ** 2, axis=0)))
    return T.nnet.sigmoid(T.dot(x, W) + row(b)), []


def averages(t, mean, var, axes):
    m, v = T.mean(t, axis=axes), T.var(t, axis=axes)
    return m, v, [(mean, .9 * mean + .1 * m),
                  (var, .9 * var + .1 * v * 6 / 5.)]


def dense_batch_norm(x, W, b, g, mean, var):
    t = T.dot(x, W)
    m, v, updates = averages(t, mean, var, 0)
    return T.tanh((t - row(m)) / row(T.sqrt(v + 1e-6)) * row(g) +
                  row(b)), updates


def conv_batch_norm(x, W, b, g, mean, var):
    t = conv(x, W)
    m, v, updates = averages(t, mean, var, (0, 2, 3))
    return relu((t - channels(m)) / channels(T.sqrt(v + 1e-6)) *
                channels(g) + channels(b)), updates


def paper_dense(x, V, b, g):
    W = V * row(g) / row(T.sqrt(T.sum(V ** 2, axis=0)))
    return leaky(.1)(T.dot(x, W) + row(b)), []


def paper_conv(x, V, b, g):
    norm = T.sqrt(T.sum(V ** 2, axis=(1, 2, 3)))
    return leaky(.1)(conv(x, V * filters(g / norm)) + channels(b)), []


def paper_mean_only(x, V, b, g, mean):
    norm = T.sqrt(T.sum(V ** 2, axis=(1, 2, 3)))
    t = conv(x, V * filters(g / norm))
    m = T.mean(t, axis=(0, 2, 3))
    return relu(t - channels(m) + channels(b)), [
        (mean, .9 * mean + .1 * m)]


def paper_mean_only_dense(x, V, b, g, mean):
    t = T.dot(x, V * row(g) / row(T.sqrt(T.sum(V ** 2, axis=0))))
    m = T.mean(t, axis=0)
    return T.tanh(t - row(m) + row(b)), [(mean, .9 * mean + .1 * m)]


def paper_no_norm(x, V, b, g):
    return relu(T.dot(x, V * row(g)) + row(b)), []


def paper_nin_averaged(x, V, b, g):
    W = V * row(g) / row(T.sqrt(T.sum(V ** 2, axis=0)))
    t = T.tensordot(x, W, [[1], [0]]).dimshuffle(0, 3, 1, 2)
    return T.mean(T.mean(relu(t + channels(b)), axis=3), axis=2), []


# --- the layers --------------------------------------------------------------

def dense(wrap, nonlinearity, **kwargs):
    return lambda l: wrap(DenseLayer(l, 4, nonlinearity=nonlinearity),
                          **kwargs)


def convolution(wrap, nonlinearity, **kwargs):
    return lambda l: wrap(dnn.Conv2DDNNLayer(
        l, 2, 3, pad=1, nonlinearity=nonlinearity), **kwargs)


tanh, sigmoid = (lasagne.nonlinearities.tanh, lasagne.nonlinearities.sigmoid)
VECTORS, IMAGES = (6, 5), (6, 3, 4, 4)

CASES = OrderedDict([
    ('weight_norm', (nn, VECTORS, dense_weight_norm, dense(
        nn.weight_norm, tanh, train_g=True))),
    ('weight_norm of a convolution', (nn, IMAGES, conv_weight_norm,
        convolution(nn.weight_norm, nn.lrelu, train_g=True))),
    ('Deconv2DLayer', (nn, IMAGES, deconv_weight_norm, lambda l:
        nn.weight_norm(nn.Deconv2DLayer(l, (6, 2, 8, 8), 3), train_g=True))),
    ('DenseLayer', (nn, VECTORS, normalized_dense, lambda l:
        nn.DenseLayer(l, 4, train_scale=True))),
    ('MinibatchLayer', (nn, VECTORS, minibatch, lambda l:
        nn.MinibatchLayer(l, 3, 2))),
    ('l2normalize', (nn, VECTORS, l2normalized, dense(
        nn.l2normalize, sigmoid))),
    ('batch_norm', (nn, VECTORS, dense_batch_norm, dense(
        nn.batch_norm, tanh))),
    ('batch_norm of a convolution', (nn, IMAGES, conv_batch_norm, convolution(
        nn.batch_norm, nn.relu))),
    ('weight_norm, paper', (paper, VECTORS, paper_dense, dense(
        paper.weight_norm, paper.lrelu))),
    ('weight_norm of a convolution, paper', (paper, IMAGES, paper_conv,
        convolution(paper.weight_norm, paper.lrelu))),
    ('mean_only_bn', (paper, IMAGES, paper_mean_only, convolution(
        paper.mean_only_bn, paper.relu))),
    ('mean_only_bn of a dense layer', (paper, VECTORS, paper_mean_only_dense,
        dense(paper.mean_only_bn, tanh))),
    ('no_norm', (paper, VECTORS, paper_no_norm, dense(
        paper.no_norm, paper.relu))),
    ('batch_norm, paper', (paper, VECTORS, dense_batch_norm, dense(
        paper.batch_norm, tanh))),
    ('GlobalAvgLayer', (paper, IMAGES, paper_nin_averaged, lambda l:
        paper.GlobalAvgLayer(paper.weight_norm(NINLayer(
            l, 4, nonlinearity=paper.relu))))),
])


def adam(params, cost):
    t = theano.shared(np.float64(0))
    updates = [(t, t + 1)]
    for p, g in zip(params, T.grad(cost, params)):
        m, v = [theano.shared(0 * p.get_value()) for _ in range(2)]
        new = [(m, .5 * m + .5 * g), (v, .99 * v + .01 * g ** 2)]
        m_hat = new[0][1] / (1 - .5 ** (t + 1))
        v_hat = new[1][1] / (1 - .99 ** (t + 1))
        updates += new + [(p, p - .03 * m_hat / (v_hat + 1e-8) ** .5)]
    return updates


def adamax(params, cost):
    updates = []
    for p, g in zip(params, T.grad(cost, params)):
        m, u = [theano.shared(0 * p.get_value()) for _ in range(2)]
        new_m = .5 * m + .5 * g
        new_u = T.switch(.99 * u > abs(g), .99 * u, abs(g))
        updates += [(m, new_m), (u, new_u),
                    (p, p - .03 * new_m / (new_u + 1e-6))]
    return updates


def trained(inputs, cost, updates, batches):
    step = theano.function(inputs, cost, updates=updates)
    return [float(step(*batch)) for batch in batches]


@pytest.mark.parametrize('name', CASES)
def test_training(name):
    flavour, shape, formula, make = CASES[name]
    random = np.random.RandomState(0)
    x = T.TensorType('float64', [False] * len(shape))('x')
    net = make(InputLayer(shape, x))
    params = get_all_params(net)
    for p in params:
        p.set_value(p.get_value() + .3 * random.rand(*p.get_value().shape))
    copies = [theano.shared(p.get_value()) for p in params]
    trainable = get_all_params(net, trainable=True)
    output, averages = formula(x, *copies)
    target = random.rand(*get_output(net, np.ones(shape)).eval().shape)
    batches = [(random.randn(*shape),) for _ in range(STEPS)]

    result = get_output(net)
    given = [u for l in get_all_layers(net)
             for u in getattr(l, 'bn_updates', [])]
    cost = T.mean((result - target) ** 2)
    pairs = [('adam_updates', adam)]
    if flavour is paper and len(shape) == 2:
        pairs.append(('adamax_updates', adamax))
    start = [p.get_value() for p in params]
    for optimizer, textbook in pairs:
        for p, copy, value in zip(params, copies, start):
            p.set_value(value)
            copy.set_value(value)
        ours = trained([x], cost, getattr(flavour, optimizer)(
            trainable, cost, lr=.03, mom1=.5, mom2=.99) + given, batches)
        cost2 = T.mean((output - target) ** 2)
        theirs = trained([x], cost2, textbook(
            [copy for p, copy in zip(params, copies) if p in trainable],
            cost2) + averages, batches)
        np.testing.assert_allclose(ours, theirs, rtol=1e-8)
        assert ours[0] != ours[-1]
        for p, copy, before in zip(params, copies, start):
            np.testing.assert_allclose(p.get_value(), copy.get_value(),
                                       rtol=1e-8, atol=1e-9)
            # all but the g of no_norm move
            assert (formula is paper_no_norm and p.name == 'g') == np.all(
                p.get_value() == before)
