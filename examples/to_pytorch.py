"""From Lasagne to PyTorch: a trained net of handwritten digits moves over.

    python examples/to_pytorch.py [--epochs 3]

Trains a small weight-normalized net on scikit-learn's 1,797 digits of 8 x 8
pixels, gives its weights to the same net written in PyTorch, and compares the
two on the test set. Training can go on there: V and g are parameters again.

Needs PyTorch: pip install 'wnorm[torch,examples]'
"""
import argparse
import sys

try:
    import torch
    from torch import nn
    from torch.nn.utils.parametrizations import weight_norm as torch_norm
except ImportError:
    sys.exit("this example needs PyTorch: pip install "
             "'wnorm[torch,examples]'")

import lasagne
import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import (
    DenseLayer, InputLayer, MaxPool2DLayer, dnn, get_all_params, get_output)
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from wnorm import initialize, weight_norm
from wnorm.interop.torch import state_dict


def build():
    net = InputLayer((None, 1, 8, 8))
    net = weight_norm(dnn.Conv2DDNNLayer(net, 16, 3, pad=1), train_g=True)
    net = weight_norm(dnn.Conv2DDNNLayer(net, 16, 3, pad=1), train_g=True)
    net = MaxPool2DLayer(net, 2)
    net = weight_norm(dnn.Conv2DDNNLayer(net, 32, 3, pad=1), train_g=True)
    return weight_norm(DenseLayer(net, 10, nonlinearity=None), train_g=True)


def build_in_torch():
    return nn.Sequential(
        torch_norm(nn.Conv2d(1, 16, 3, padding=1)), nn.ReLU(),
        torch_norm(nn.Conv2d(16, 16, 3, padding=1)), nn.ReLU(),
        nn.MaxPool2d(2),
        torch_norm(nn.Conv2d(16, 32, 3, padding=1)), nn.ReLU(),
        nn.Flatten(),
        torch_norm(nn.Linear(512, 10)))


NAMES = ['0', '2', '5', '8']  # of the modules with weights


def load():
    images, labels = load_digits(return_X_y=True)
    images = lasagne.utils.floatX(images.reshape(-1, 1, 8, 8) / 16. - .5)
    return train_test_split(images, labels.astype('int32'), test_size=.25,
                            random_state=0, stratify=labels)


def train(net, X, y, epochs):
    x, target = T.tensor4('x'), T.ivector('y')
    loss = T.mean(T.nnet.categorical_crossentropy(
        T.nnet.softmax(get_output(net, x)), target))
    step = theano.function([x, target], loss, updates=lasagne.updates.adam(
        loss, get_all_params(net, trainable=True), .003))
    random = np.random.RandomState(1)
    for epoch in range(epochs):
        order = random.permutation(len(X))
        losses = [step(X[batch], y[batch])
                  for batch in np.array_split(order, len(X) // 50)]
        print('epoch %d: loss %.3f' % (epoch + 1, np.mean(losses)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--epochs', type=int, default=3)
    options = parser.parse_args()

    lasagne.random.set_rng(np.random.RandomState(1))
    X, X_test, y, y_test = load()
    net = build()
    initialize(net, X[:500])
    train(net, X, y, options.epochs)
    x = T.tensor4('x')
    here = theano.function([x], get_output(net, x))(X_test)

    model = build_in_torch().to(getattr(torch, theano.config.floatX))
    model.load_state_dict(state_dict(net, NAMES, parametrizations=True))
    with torch.no_grad():
        there = model(torch.from_numpy(X_test)).numpy()

    for name, output in (('Lasagne', here), ('PyTorch', there)):
        print('%s: test error %.1f %%' % (
            name, 100 * np.mean(output.argmax(axis=1) != y_test)))
    print('equal predictions: %d of %d' % (
        np.sum(here.argmax(axis=1) == there.argmax(axis=1)), len(y_test)))
    print('largest difference of outputs: %.1e, of up to %.1f' % (
        abs(here - there).max(), abs(here).max()))


if __name__ == '__main__':
    main()
