"""wnorm.nn: a script of 2016 with its own nn.py."""
import subprocess
import sys
import textwrap

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import DenseLayer, InputLayer, get_all_params, get_output
from theano.gradient import verify_grad

import wnorm
from test_filters import Mine  # noqa: F401 (a fixture)
from wnorm import nn

# `nn.py` is the one line that replaces the copied file
SCRIPT = textwrap.dedent("""
    import numpy as np
    import theano as th
    import theano.tensor as T
    import lasagne
    import lasagne.layers as ll
    from lasagne.layers import dnn
    from lasagne.init import Normal
    import nn

    np.random.seed(1)
    lasagne.random.set_rng(np.random.RandomState(2))
    x = T.tensor4()
    layers = [ll.InputLayer(shape=(None, 2, 6, 6))]
    layers.append(nn.weight_norm(dnn.Conv2DDNNLayer(
        layers[-1], 3, (2, 2), pad=1, W=Normal(0.05), nonlinearity=nn.lrelu)))
    V = layers[-1].input_layer.get_params()[0]
    data = np.random.randn(4, 2, 6, 6).astype(th.config.floatX)
    out = ll.get_output(layers[-1], x, init=True)
    updates = [u for l in layers for u in getattr(l, 'init_updates', [])]
    init = th.function([x], out, updates=updates)
    init(data)
    test = th.function([x], ll.get_output(layers[-1], x, deterministic=True))
    out = test(data)
    print(V.get_value().shape, out.shape, layers[-1].input_layer.W.ndim,
          [p.name for p in ll.get_all_params(layers)])
    print('%.3f %.3f' % (out.min(), out.max()))
    W = layers[-1].input_layer.W.eval()
    g, v = layers[-1].g.get_value(), V.get_value()
    print(np.allclose(W, v * (g / np.sqrt(1e-6 + np.sum(
        v ** 2, axis=(1, 2, 3))))[:, None, None, None]))
""")


def test_script_of_2016(tmp_path):
    (tmp_path / 'nn.py').write_text('from wnorm.nn import *\n')
    (tmp_path / 'train.py').write_text(SCRIPT)
    run = subprocess.run([sys.executable, 'train.py'], cwd=str(tmp_path),
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         universal_newlines=True)
    assert run.returncode == 0, run.stderr
    first, second, third = run.stdout.splitlines()
    assert first == "(3, 2, 2, 2) (4, 3, 7, 7) 4 ['W', 'b', 'g']"
    low, high = map(float, second.split())
    assert -2 < low < -.2 and 2 < high < 10  # the slope of lrelu is 0.2
    assert third == 'True'


def test_all_names():
    names = {}
    exec('from wnorm.nn import *', names)
    assert {'Deconv2DLayer', 'WeightNormLayer', 'lrelu', 'relu',
            'weight_norm'} == set(nn.__all__) <= set(names)


def test_nonlinearities():
    x = theano.shared(np.array([-2., 0., 3.]))
    np.testing.assert_allclose(nn.lrelu(x).eval(), [-.4, 0., 3.])
    np.testing.assert_allclose(nn.lrelu(x, a=.1).eval(), [-.2, 0., 3.])
    np.testing.assert_allclose(nn.relu(x).eval(), [0., 0., 3.])


@pytest.mark.parametrize('shape, axis', [((5, 3), 1), ((3, 5, 2, 2), 0)])
def test_unknown_class_follows_the_original(Mine, shape, axis):  # noqa: F811
    layer = Mine(InputLayer((None, 5)))
    layer.W = theano.shared(np.random.RandomState(0).randn(*shape))
    with pytest.warns(UserWarning) as record:
        l = nn.weight_norm(layer)
    assert len(record) == 1 and record[0].filename == __file__
    assert 'wnorm.register(Mine, W=%d)' % axis in str(record[0].message)
    assert isinstance(l, wnorm.WeightNormLayer)
    axes = tuple(i for i in range(len(shape)) if i != axis)
    np.testing.assert_allclose(np.sum(layer.W.eval() ** 2, axis=axes), 1.,
                               rtol=1e-5)
    for refuse in (wnorm.weight_norm, nn.WeightNormLayer):
        with pytest.raises(TypeError, match='wnorm.register'):
            refuse(Mine(InputLayer((None, 5))))


def test_unknown_class_of_another_dimension(Mine):  # noqa: F811
    layer = Mine(InputLayer((None, 5)))
    layer.W = T.tensor3()
    with pytest.raises(TypeError, match='wnorm.register'):
        nn.weight_norm(layer)


def test_known_class_does_not_warn():
    l = nn.weight_norm(DenseLayer(InputLayer((None, 5)), 3), train_g=True)
    assert [p.name for p in get_all_params(l, trainable=True)] == [
        'W', 'b', 'g']


# --- Deconv2DLayer -------------------------------------------------------------

def reference(x, W, target, stride):
    """Scatter each input value, times the filter, into the output."""
    n, channels, rows, columns = x.shape
    fr, fc = W.shape[2:]
    out = np.zeros((n,) + tuple(target[1:]))
    for i in range(rows):
        for j in range(columns):
            for u in range(fr):
                for v in range(fc):
                    # half padding: the centre of the filter meets the grid;
                    # the gradient of a convolution has its filter flipped
                    r = i * stride[0] + fr // 2 - u
                    c = j * stride[1] + fc // 2 - v
                    if 0 <= r < target[2] and 0 <= c < target[3]:
                        out[:, :, r, c] += x[:, :, i, j].dot(W[:, :, u, v])
    return out


@pytest.mark.parametrize('filter_size, stride, target', [
    ((3, 3), (2, 2), (2, 4, 6, 6)), ((5, 3), (2, 1), (2, 4, 6, 3)),
    (3, 1, (2, 4, 3, 3))])
def test_deconv(filter_size, stride, target, floatX):
    rng = np.random.RandomState(0)
    x = rng.randn(2, 3, 3, 3).astype(floatX)
    l = nn.Deconv2DLayer(InputLayer((2, 3, 3, 3)), target, filter_size,
                         stride, nonlinearity=None)
    assert l.output_shape == target
    l.b.set_value(rng.randn(4).astype(floatX))
    out = get_output(l, x).eval()
    assert out.dtype == floatX and out.shape == target
    np.testing.assert_allclose(
        out, reference(x, l.W.get_value(), target, l.stride) +
        l.b.get_value()[:, None, None], rtol=1e-4, atol=1e-5)


def test_deconv_parameters():
    l = nn.Deconv2DLayer(InputLayer((2, 3, 3, 3)), (2, 4, 6, 6), (3, 3))
    assert [p.name for p in l.get_params()] == ['W', 'b']
    assert l.get_params(trainable=True, regularizable=True) == [l.W, l.b]
    assert l.W.get_value().shape == (3, 4, 3, 3)
    assert l.nonlinearity is nn.relu


def test_deconv_without_bias():
    l = nn.Deconv2DLayer(InputLayer((2, 3, 3, 3)), (2, 4, 6, 6), (3, 3),
                         b=None, nonlinearity=lasagne.nonlinearities.tanh)
    assert l.b is None and [p.name for p in l.get_params()] == ['W']
    x = np.random.RandomState(0).randn(2, 3, 3, 3)
    np.testing.assert_allclose(get_output(l, x).eval(), np.tanh(reference(
        x, l.W.get_value(), l.target_shape, (2, 2))))


def test_deconv_gradient():
    rng = np.random.RandomState(0)
    l = nn.Deconv2DLayer(InputLayer((2, 3, 3, 3)), (2, 4, 6, 6), (3, 3),
                         nonlinearity=None)

    def output(x, W):
        return theano.clone(get_output(l, x), replace={l.W: W})
    verify_grad(output, [rng.randn(2, 3, 3, 3), l.W.get_value()], rng=rng)
