"""Each defect of the original nn.py, by name: none of them may come back."""
import subprocess
import sys

import lasagne
import numpy as np
import pytest
import theano
from lasagne.init import Constant
from lasagne.layers import (
    Conv1DLayer, DenseLayer, InputLayer, dnn, get_output)

import own_layers
from wnorm import nn, weight_norm

both = pytest.mark.parametrize('weight_norm', [weight_norm, nn.weight_norm],
                               ids=['wnorm', 'wnorm.nn'])


def data(*shape):
    return np.random.RandomState(0).randn(*shape)


def initialized(l, X):
    out = get_output(l, X, init=True)
    first = theano.function([], out, updates=l.init_updates)()
    np.testing.assert_allclose(get_output(l, X).eval(), first, atol=1e-10)
    return first


@both
def test_wrapped_layer_without_bias_raised_KeyError(weight_norm):
    l = weight_norm(DenseLayer(InputLayer((None, 5)), 3, b=None))
    assert get_output(l, data(4, 5)).eval().shape == (4, 3)


@both
def test_layer_without_nonlinearity_called_None(weight_norm):
    l = weight_norm(lasagne.layers.EmbeddingLayer(
        InputLayer((None, 2), theano.tensor.imatrix()), 5, 3))
    assert get_output(l, np.ones((4, 2), 'int32')).eval().shape == (4, 2, 3)


@both
@pytest.mark.parametrize('nothing', [['b'], ['g'], ['b', 'g']])
def test_init_without_b_or_g_raised_AttributeError(weight_norm, nothing):
    l = weight_norm(DenseLayer(InputLayer((None, 5)), 3),
                    **{name: None for name in nothing})
    initialized(l, data(8, 5))


@both
def test_constant_channel_became_infinite(weight_norm):
    # https://github.com/openai/weightnorm/issues/4
    X = data(8, 5)
    X[:, 0] = .1
    l = weight_norm(DenseLayer(InputLayer((None, 5)), 3, W=np.eye(5, 3)))
    initialized(l, X)
    assert np.isfinite(l.g.get_value()).all()
    assert np.isfinite(l.b.get_value()).all()


@both
def test_conv1d_and_conv3d_were_normalized_over_wrong_axes(weight_norm):
    # https://github.com/openai/weightnorm/issues/6
    conv3d = getattr(lasagne.layers, 'Conv3DLayer', own_layers.Conv3DLayer)
    for layer in (Conv1DLayer(InputLayer((None, 2, 6)), 4, 3),
                  conv3d(InputLayer((None, 2, 3, 3, 3)), 4, 2)):
        weight_norm(layer)
        W = layer.W.eval()
        np.testing.assert_allclose(
            np.sum(W ** 2, axis=tuple(range(1, W.ndim))), 1., rtol=1e-3)


@both
def test_units_were_counted_on_axis_1_of_the_output(weight_norm):
    if hasattr(lasagne.layers, 'TransposedConv2DLayer'):
        layer = DenseLayer(InputLayer((None, 3, 5)), 4, num_leading_axes=2)
    else:
        layer = own_layers.DenseLayer(InputLayer((None, 3, 5)), 4, 2)
    l = weight_norm(layer)
    assert l.g.get_value().shape == (4,)
    assert l.axes_to_sum == (0, 1) and l.dimshuffle_args == ['x', 'x', 0]
    initialized(l, data(8, 3, 5))


@both
def test_untied_bias_collapsed(weight_norm):
    l = weight_norm(dnn.Conv2DDNNLayer(InputLayer((None, 2, 4, 4)), 3, 2,
                                       untie_biases=True))
    assert l.b.get_value().shape == (3, 3, 3)
    initialized(l, data(8, 2, 4, 4))


@both
def test_wrapping_twice_nested_silently(weight_norm):
    l = weight_norm(DenseLayer(InputLayer((None, 5)), 3))
    for again in (l, l.input_layer):
        with pytest.raises(ValueError, match='already'):
            weight_norm(again)


def test_import_without_a_gpu_failed(tmp_path):
    code = 'import wnorm.nn; from wnorm.nn import *; print(weight_norm)'
    subprocess.run([sys.executable, '-c', code], check=True,
                   cwd=str(tmp_path), stdout=subprocess.PIPE)


@both
def test_argument_W_was_ignored(weight_norm):
    layer = DenseLayer(InputLayer((None, 5)), 3)
    weight_norm(layer, W=Constant(2.))
    assert (layer.W_param.get_value() == 2.).all()
