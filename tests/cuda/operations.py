"""Compiles what of Theano uses cuDNN, and a weight-normalized train step.

Started by check.py, in the environment of a device. Prints one JSON object:
which operations were compiled, and which were not, and why.
"""
import collections
import json
import os
import sys
import warnings

import lasagne
import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import dnn as lasagne_dnn
from pygpu import gpuarray
from theano.gpuarray import dnn

import wnorm

#: How Theano can choose an algorithm for each convolution: of 2 and of 3
#: dimensions, and of 2 alone.
ALGORITHMS = {
    'fwd': (['small', 'none', 'fft_tiling'],
            ['large', 'fft', 'winograd', 'winograd_non_fused']),
    'bwd_filter': (['none', 'small'],
                   ['deterministic', 'fft', 'winograd_non_fused',
                    'fft_tiling']),
    'bwd_data': (['none', 'deterministic', 'fft_tiling'],
                 ['fft', 'winograd', 'winograd_non_fused'])}
CHOICES = ['guess_once', 'guess_on_shape_change', 'time_once',
           'time_on_shape_change']

compiled = collections.Counter()
failed = collections.OrderedDict()


def build(what, outputs, inputs=(), **options):
    """Compile a function; note the operations of cuDNN in it."""
    try:
        function = theano.function(
            list(inputs), outputs, on_unused_input='ignore',
            # constants are folded by computing them
            mode=theano.compile.mode.get_mode('FAST_RUN').excluding(
                'constant_folding', 'topo_constant_folding'), **options)
    except Exception as error:
        failed[what] = str(error).strip()[-2000:]
        return None
    operations = [type(node.op).__name__
                  for node in function.maker.fgraph.apply_nodes]
    compiled.update(name for name in operations if 'Dnn' in name)
    return function


def shared(*shape):
    return theano.shared(np.zeros(shape, theano.config.floatX))


def convolutions(dims):
    """Forward and both gradients, by each algorithm; in groups too."""
    size = (8,) * dims
    x, w = shared(2, 4, *size), shared(6, 4, *(3,) * dims)
    run = {2: dnn.dnn_conv, 3: dnn.dnn_conv3d}[dims]
    grouped = run(x, shared(6, 2, *(3,) * dims), num_groups=2)
    build('%dd conv in groups' % dims, grouped)
    for part, (both, plane) in sorted(ALGORITHMS.items()):
        flag = 'algo_' + part
        before = getattr(theano.config.dnn.conv, flag)
        for choice in CHOICES + both + plane * (dims == 2):
            setattr(theano.config.dnn.conv, flag, choice)
            y = run(x, w)
            build('%dd conv, %s: %s' % (dims, part, choice),
                  y if part == 'fwd' else T.grad(
                      y.sum(), w if part == 'bwd_filter' else x))
        setattr(theano.config.dnn.conv, flag, before)


def others():
    x = shared(2, 4, 6, 6)
    for mode in ('max', 'average_inc_pad', 'average_exc_pad'):
        y = dnn.dnn_pool(x, (2, 2), mode=mode)
        build('pool ' + mode, [y, T.grad(y.sum(), x)])
    for algorithm in ('fast', 'accurate', 'log'):
        y = dnn.GpuDnnSoftmax(algorithm, 'channel')(
            theano.gpuarray.as_gpuarray_variable(x, None))
        build('softmax ' + algorithm, [y, T.grad(y.sum(), x)])
    build('norm', T.sqrt(T.sqr(x).sum((1, 2, 3))))
    build('sums', [x.sum((0, 2)), T.max(x, 1), abs(x).sum((0, 1))])
    for mode, shape in (('spatial', (1, 4, 1, 1)),
                        ('per-activation', (1, 4, 6, 6))):
        gamma, beta, mean, var = [shared(*shape) for _ in range(4)]
        y = dnn.dnn_batch_normalization_train(x, gamma, beta, mode)[0]
        build('batch normalization ' + mode, [
            y, T.grad(y.sum(), x), dnn.dnn_batch_normalization_test(
                x, gamma, beta, mean, var, mode)])
    theta = shared(2, 2, 3)
    y = dnn.dnn_spatialtf(x, theta)
    build('spatial transformer', [y] + T.grad(y.sum(), [x, theta]))


def recurrent():
    """cuDNN's own, of which version 9 has another form: so it only ends in
    an error when it is used."""
    # what is described, the GPU would have to be asked for
    nothing = dnn.rnndesc_type.make_constant(None)
    code = gpuarray.dtype_to_typecode(theano.config.floatX)
    build('size of a GRU', dnn._RNNParamSize(None)(None, [2, 4], code))
    build('description of a GRU', dnn._RNNDescriptor(None)(
        5, 1, None, 'linear', 'unidirectional', 'gru',
        theano.config.floatX))
    w, x, h = shared(165), shared(3, 2, 4), shared(1, 2, 5)
    y = dnn.GpuDnnRNNOp('gru', 'unidirectional')(
        nothing, w, x, h, return_list=True)[1]
    build('GRU', [y] + T.grad(y.sum(), [w, x]))


def train_step():
    """A small network, weight-normalized, with all that trains it."""
    l = lasagne.layers.InputLayer((8, 3, 12, 12))
    l = wnorm.weight_norm(lasagne_dnn.Conv2DDNNLayer(l, 6, 3))
    l = lasagne_dnn.MaxPool2DDNNLayer(l, 2)
    l = wnorm.weight_norm(lasagne_dnn.Conv2DDNNLayer(l, 8, 3))
    l = lasagne.layers.DropoutLayer(l)
    l = wnorm.weight_norm(lasagne.layers.DenseLayer(
        l, 10, nonlinearity=lasagne.nonlinearities.softmax))
    x, t = T.tensor4(), T.ivector()
    y = lasagne.layers.get_output(l, x)
    loss = lasagne.objectives.categorical_crossentropy(y, t).mean()
    build('train step', loss, [x, t], updates=lasagne.updates.adam(
        loss, lasagne.layers.get_all_params(l, trainable=True)))
    build('initialization', None, [x], updates=wnorm.init_updates(l, x))


def main():
    warnings.simplefilter('ignore')
    recurrent()
    convolutions(2)
    convolutions(3)
    others()
    train_step()
    print('operations: ' + json.dumps({
        'cudnn': dnn.version(), 'compiled': compiled, 'failed': failed}))
    sys.stdout.flush()
    os._exit(0)  # cuDNN's destructors would look for a GPU


if __name__ == '__main__':
    main()
