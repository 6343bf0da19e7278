"""A program: trains a small network, or loads one; on whatever device.

    python model.py train FILE | apply FILE

Writes parameters, outputs and losses to FILE, or adds the outputs of the
network with the parameters in FILE. Several processes train together, each on
a part of the batch.
"""
import sys

import lasagne
import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import DenseLayer, InputLayer, dnn

import wnorm
from wnorm import distributed

STEPS = 50


def network(x):
    l = InputLayer((None, 2, 8, 8), x)
    l = wnorm.weight_norm(dnn.Conv2DDNNLayer(l, 5, 3, pad=1))
    l = wnorm.weight_norm(dnn.Conv2DDNNLayer(l, 6, 3, stride=2))
    return wnorm.weight_norm(DenseLayer(
        l, 4, nonlinearity=lasagne.nonlinearities.softmax))


def data():
    rng = np.random.RandomState(1)
    x = rng.randn(16, 2, 8, 8).astype(theano.config.floatX)
    return x, (x[:, 0, :4].mean((1, 2)) > 0) + 2 * (
        x[:, 1].mean((1, 2)) > 0).astype('int32')


def train(mode=None):
    """Values of all parameters, the outputs, and the losses on the way."""
    lasagne.random.set_rng(np.random.RandomState(0))
    x, target = T.tensor4(), T.ivector()
    l = network(x)
    images, labels = data()
    mine = slice(distributed.rank(), None, distributed.size())
    distributed.initialize(l, [images[mine]])
    y = lasagne.layers.get_output(l)
    loss = lasagne.objectives.categorical_crossentropy(y, target).mean()
    params = lasagne.layers.get_all_params(l, trainable=True)
    step = theano.function(
        [x, target], loss, mode=mode, updates=lasagne.updates.adam(
            distributed.grads(loss, params, log=None), params, .003))
    losses = [float(step(images[mine], labels[mine].astype('int32')))
              for _ in range(STEPS)]
    outputs = theano.function([x], y, mode=mode)(images)
    return lasagne.layers.get_all_param_values(l), outputs, losses


def main(what, path):
    if what == 'train':
        values, outputs, losses = train()
        if distributed.rank() == 0:
            np.savez(path, *values, outputs=outputs, losses=losses)
        return
    with np.load(path) as file:
        content = dict(file)
    x = T.tensor4()
    l = network(x)
    lasagne.layers.set_all_param_values(l, [
        content['arr_%d' % i].astype(theano.config.floatX)
        for i in range(len(lasagne.layers.get_all_params(l)))])
    content['applied'] = theano.function([x], lasagne.layers.get_output(l))(
        data()[0])
    content['loaded'] = np.concatenate([
        value.ravel() for value in lasagne.layers.get_all_param_values(l)])
    np.savez(path, **content)


if __name__ == '__main__':
    main(*sys.argv[1:])
