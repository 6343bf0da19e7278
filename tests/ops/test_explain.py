"""What explain() says of compiled functions."""
import lasagne
import pytest
import theano
import theano.tensor as T
from lasagne.layers import (DenseLayer, InputLayer, dnn, get_all_params,
                            get_output)

import wnorm
from wnorm.ops import explain

MODE = theano.Mode(linker='py', optimizer='fast_run').excluding(
    *theano.config.optimizer_excluding.split(':'))


def net():
    layer = wnorm.weight_norm(DenseLayer(InputLayer((None, 4)), 3))
    return wnorm.weight_norm(DenseLayer(layer, 2, name='top'))


def updates(loss, layer, method=lasagne.updates.adam, **options):
    return method(loss, get_all_params(layer, trainable=True), **options)


def said(capsys, *arguments, mode=MODE, **options):
    wnorm.explain(theano.function(*arguments, mode=mode, **options))
    return capsys.readouterr().out


def test_factored(capsys):
    layer, x = net(), T.matrix()
    assert said(capsys, [x], get_output(layer, x)) == (
        'DenseLayer (None, 3): factored\n'
        "DenseLayer 'top' (None, 2): factored\n")


def test_fused(capsys):
    layer, x = net(), T.matrix()
    loss = T.sqr(get_output(layer, x)).mean()
    for method in (lasagne.updates.sgd, lasagne.updates.adam):
        assert said(capsys, [x], loss, updates=updates(
            loss, layer, method, learning_rate=.1)) == (
            'DenseLayer (None, 3): factored, gradient fused into the update '
            '(in place)\n'
            "DenseLayer 'top' (None, 2): factored, gradient fused into the "
            'update (in place)\n')
    gradients = T.grad(loss, [layer.input_layer.W_param])
    assert said(capsys, [x], gradients) == (
        'DenseLayer (None, 3): factored\n'
        "DenseLayer 'top' (None, 2): factored, gradient fused into the "
        'update\n')


def test_materialized(capsys):
    layer, x = net(), T.matrix()
    top, bottom = layer.input_layer, layer.input_layer.input_layer.input_layer
    y = get_output(layer, x)
    loss = T.sqr(y).mean() + lasagne.regularization.l2(top.W)
    assert said(capsys, [x], [y, bottom.W],
                updates=updates(loss, layer)) == (
        'DenseLayer (None, 3): materialized: used by an output of the '
        'function, gradient in one pass\n'
        "DenseLayer 'top' (None, 2): materialized: used by an elementwise "
        'expression, gradient in one pass\n')


def test_convolution(capsys):
    layer = wnorm.weight_norm(dnn.Conv2DDNNLayer(
        InputLayer((None, 1, 5, 5)), 2, 3))
    x = T.tensor4()
    assert said(capsys, [x], get_output(layer, x)).startswith(
        'Conv2DDNNLayer (None, 2, 3, 3): materialized: used by AbstractConv2d')


def test_arranged_anew_first(capsys):
    layer = wnorm.weight_norm(lasagne.layers.Conv1DLayer(
        InputLayer((None, 1, 5)), 2, 3))
    x = T.tensor3()
    assert said(capsys, [x], get_output(layer, x)).startswith(
        'Conv1DLayer (None, 2, 3): materialized: used by AbstractConv2d')


def test_switched_off(capsys):
    layer, x = net(), T.matrix()
    text = said(capsys, [x], get_output(layer, x),
                mode=MODE.excluding('wnorm'))
    assert text.count('materialized: the rewrites are off (') == 2


def test_without_names(capsys):
    V = theano.shared(lasagne.utils.floatX([[1., 2.]]))
    x = T.matrix()
    W = wnorm.ops.normalized(V, None, wnorm.Layout(1))
    assert said(capsys, [x], T.dot(x, W)) == 'a weight: factored\n'
    V.name = 'V'
    assert said(capsys, [x], T.dot(x, W)) == 'V: factored\n'


def test_nothing(capsys, monkeypatch):
    x = T.matrix()
    assert said(capsys, [x], 2 * x) == 'no normalized weight\n'
    monkeypatch.setattr(explain, 'on_device', lambda: True)
    assert 'the device computes it by the formula' in said(capsys, [x], 2 * x)
    with pytest.raises(TypeError, match='takes a function that'):
        wnorm.explain(2 * x)
