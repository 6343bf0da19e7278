"""wnorm.nn and wnorm.nn.weightnorm in place of a copied nn.py."""
import inspect
import pickle
import subprocess
import sys
import textwrap

import lasagne
import numpy as np
import pytest
from lasagne.init import Constant, Normal
from lasagne.layers import DenseLayer, InputLayer, get_all_params, get_output

import wnorm
from wnorm import nn
from wnorm.nn import weightnorm as paper

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


PAPER = SCRIPT.replace('nn.weight_norm', 'nn.mean_only_bn').replace(
    '1e-6 + ', '').replace('init=True)', 'init=True); bn = [u for l in layers '
    'for u in getattr(l, "bn_updates", [])]')


def test_paper_s_script_of_2016(tmp_path):
    (tmp_path / 'nn.py').write_text('from wnorm.nn.weightnorm import *\n')
    (tmp_path / 'train.py').write_text(PAPER + textwrap.dedent("""
        print(len(bn), isinstance(layers[-1], nn.MeanOnlyBNLayer),
              isinstance(layers[-1], nn.WeightNormLayer))
        import pickle
        print([p.name for p in ll.get_all_params(
            pickle.loads(pickle.dumps(layers[-1])))])
    """))
    run = subprocess.run([sys.executable, 'train.py'], cwd=str(tmp_path),
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         universal_newlines=True)
    assert run.returncode == 0, run.stderr
    first, second, third, fourth, fifth = run.stdout.splitlines()
    names = "['W', 'b', 'g', 'avg_batch_mean']"
    assert first == '(3, 2, 2, 2) (4, 3, 7, 7) 4 ' + names
    low, high = map(float, second.split())
    assert -2 < low < -.1 and 2 < high < 10
    assert (third, fourth, fifth) == ('True', '1 True False', names)


BOTH = {'BatchNormLayer', 'WeightNormLayer', 'adam_updates', 'batch_norm',
        'log_sum_exp', 'lrelu', 'relu', 'weight_norm'}
FLAVOURS = {
    nn: BOTH | {'Deconv2DLayer', 'DenseLayer', 'GaussianNoiseLayer',
                'MinibatchLayer', 'centered_softplus', 'l2normalize'},
    paper: BOTH | {'GlobalAvgLayer', 'InitLayer', 'MeanOnlyBNLayer', 'ZCA',
                   'adamax_updates', 'mean_only_bn', 'no_norm',
                   'softmax_loss'}}


@pytest.mark.parametrize('flavour', FLAVOURS, ids=['nn', 'weightnorm'])
def test_all_names(flavour):
    names = {}
    exec('from %s import *' % flavour.__name__, names)
    assert FLAVOURS[flavour] == set(flavour.__all__) == (
        set(names) - {'__builtins__'})
    for name in flavour.__all__:
        assert names[name] is getattr(flavour, name)
        assert '>>> ' in names[name].__doc__ or name == 'relu'


def test_what_the_flavours_share():
    shared = [name for name in BOTH
              if getattr(nn, name) is getattr(paper, name)]
    assert sorted(shared) == ['adam_updates', 'log_sum_exp', 'relu']
    assert nn.WeightNormLayer is wnorm.WeightNormLayer
    for wrapper in (paper.WeightNormLayer, paper.MeanOnlyBNLayer,
                    paper.InitLayer):
        assert issubclass(wrapper, wnorm.WeightNormLayer)


ZERO, ONE = 'Constant(0.0)', 'Constant(1.0)'
SIGNATURES = [
    (nn.lrelu, [('a', .2)]), (paper.lrelu, [('a', .1)]),
    (nn.log_sum_exp, [('axis', 1)]),
    (nn.adam_updates, [('lr', .001), ('mom1', .9), ('mom2', .999)]),
    (paper.adamax_updates, [('lr', .001), ('mom1', .9), ('mom2', .999)]),
    (nn.WeightNormLayer, [
        ('b', ZERO), ('g', ONE), ('W', 'Normal(0.05)'), ('train_g', False),
        ('init_stdv', 1.), ('nonlinearity', nn.relu), ('eps', 1e-6)]),
    (nn.BatchNormLayer, [('b', ZERO), ('g', ONE), ('nonlinearity', nn.relu)]),
    (nn.batch_norm, [('b', ZERO), ('g', ONE)]),
    (nn.Deconv2DLayer, [
        ('stride', (2, 2)), ('W', 'Normal(0.05)'), ('b', ZERO),
        ('nonlinearity', nn.relu)]),
    (nn.MinibatchLayer, [
        ('dim_per_kernel', 5), ('theta', 'Normal(0.05)'),
        ('log_weight_scale', ZERO), ('b', 'Constant(-1.0)')]),
    (nn.GaussianNoiseLayer, [('sigma', .1)]),
    (nn.l2normalize, [('train_scale', True)]),
    (nn.DenseLayer, [
        ('theta', 'Normal(0.1)'), ('b', ZERO), ('weight_scale', ONE),
        ('train_scale', False), ('nonlinearity', nn.relu)]),
    (paper.WeightNormLayer, [
        ('b', ZERO), ('g', ONE), ('W', 'Normal(0.05)'),
        ('nonlinearity', nn.relu)]),
    (paper.MeanOnlyBNLayer, [
        ('b', ZERO), ('g', ONE), ('W', 'Normal(0.05)'),
        ('nonlinearity', nn.relu)]),
    (paper.InitLayer, [
        ('b', ZERO), ('g', ONE), ('nonlinearity', nn.relu)]),
    (paper.BatchNormLayer, [
        ('b', ZERO), ('g', ONE), ('W', 'Normal(0.05)'),
        ('nonlinearity', nn.relu)]),
    (paper.batch_norm, [('b', ZERO), ('g', ONE)]),
    (paper.ZCA, [('regularization', 1e-5), ('x', None)]),
]


@pytest.mark.parametrize('function, defaults', SIGNATURES, ids=[
    '%s.%s' % (function.__module__, function.__name__)
    for function, _ in SIGNATURES])
def test_defaults(function, defaults):
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        value = parameter.default
        if value is inspect.Parameter.empty:
            continue
        if isinstance(value, Normal):
            value = 'Normal(%s)' % value.std
        elif isinstance(value, Constant):
            value = 'Constant(%s)' % value.val
        found.append((name, value))
    assert found == defaults


# --- parameters: names, order, tags ------------------------------------------

def vectors():
    return InputLayer((6, 5))


def dense(wrap, **kwargs):
    return wrap(DenseLayer(vectors(), 4, W=Normal(.01)), **kwargs)


# trainable, regularizable or both
TR, T_, _R = ['regularizable', 'trainable'], ['trainable'], ['regularizable']
PARAMETERS = [
    ('nn.weight_norm', lambda: dense(nn.weight_norm),
     [('W', TR), ('b', T_), ('g', [])]),
    ('nn.weight_norm train_g', lambda: dense(nn.weight_norm, train_g=True),
     [('W', TR), ('b', T_), ('g', T_)]),
    ('nn.batch_norm', lambda: dense(nn.batch_norm),
     [('W', TR), ('b', T_), ('g', T_), ('avg_batch_mean', []),
      ('avg_batch_var', [])]),
    ('nn.Deconv2DLayer', lambda: nn.Deconv2DLayer(
        InputLayer((6, 3, 3, 3)), (6, 2, 6, 6), 3), [('W', TR), ('b', TR)]),
    ('nn.DenseLayer', lambda: nn.DenseLayer(vectors(), 4),
     [('theta', TR), ('weight_scale', _R), ('b', TR)]),
    ('nn.DenseLayer train_scale', lambda: nn.DenseLayer(
        vectors(), 4, train_scale=True),
     [('theta', TR), ('weight_scale', TR), ('b', TR)]),
    ('nn.MinibatchLayer', lambda: nn.MinibatchLayer(vectors(), 4),
     [('theta', TR), ('log_weight_scale', TR), ('b', TR)]),
    ('nn.l2normalize', lambda: dense(nn.l2normalize),
     [('W', TR), ('b', T_), ('W_scale', T_)]),
    ('nn.l2normalize fixed', lambda: dense(nn.l2normalize, train_scale=False),
     [('W', TR), ('b', T_), ('W_scale', [])]),
    ('nn.GaussianNoiseLayer', lambda: nn.GaussianNoiseLayer(vectors()), []),
    ('weightnorm.weight_norm', lambda: dense(paper.weight_norm),
     [('W', TR), ('b', T_), ('g', TR)]),
    ('weightnorm.mean_only_bn', lambda: dense(paper.mean_only_bn),
     [('W', TR), ('b', T_), ('g', TR), ('avg_batch_mean', [])]),
    ('weightnorm.no_norm', lambda: dense(paper.no_norm),
     [('W', TR), ('b', T_), ('g', [])]),
    ('weightnorm.batch_norm', lambda: dense(paper.batch_norm),
     [('W', TR), ('b', T_), ('g', TR), ('avg_batch_mean', []),
      ('avg_batch_var', [])]),
    ('weightnorm.GlobalAvgLayer', lambda: paper.GlobalAvgLayer(
        InputLayer((6, 3, 3, 3))), []),
]


@pytest.mark.parametrize('make, parameters', [
    row[1:] for row in PARAMETERS], ids=[row[0] for row in PARAMETERS])
def test_parameters(make, parameters):
    net = make()
    found = [(param.name, sorted(tags))
             for layer in lasagne.layers.get_all_layers(net)
             for param, tags in layer.params.items()]
    assert found == parameters
    copy = pickle.loads(pickle.dumps(net))
    assert type(copy) is type(net)
    assert [p.name for p in get_all_params(copy)] == [
        name for name, _ in parameters]
    data = np.random.RandomState(0).randn(*lasagne.layers.get_all_layers(
        net)[0].output_shape)
    np.testing.assert_allclose(*[
        get_output(one, data, deterministic=True).eval()
        for one in (net, copy)])


# --- random draws ------------------------------------------------------------

OWN, AGAIN = (.01, (5, 4)), (.05, (5, 4))


@pytest.mark.parametrize('make, draws', [
    (lambda: dense(nn.weight_norm), [OWN]),
    (lambda: dense(nn.weight_norm, W=Normal(.05)), [OWN, AGAIN]),
    (lambda: dense(nn.batch_norm), [OWN]),
    (lambda: dense(nn.l2normalize), [OWN]),
    (lambda: dense(paper.weight_norm), [OWN, AGAIN]),
    (lambda: dense(paper.mean_only_bn), [OWN, AGAIN]),
    (lambda: dense(paper.batch_norm), [OWN, AGAIN]),
    (lambda: dense(paper.batch_norm, W=Normal(.2)), [OWN, (.2, (5, 4))]),
    (lambda: dense(paper.no_norm), [OWN]),
    (lambda: nn.DenseLayer(vectors(), 4), [(.1, (5, 4))]),
    (lambda: nn.MinibatchLayer(vectors(), 4), [(.05, (5, 4, 5))]),
    (lambda: nn.Deconv2DLayer(InputLayer((6, 3, 3, 3)), (6, 2, 6, 6), 3),
     [(.05, (3, 2, 3, 3))])])
def test_draws(make, draws):
    expected, found = [np.random.RandomState(3) for _ in range(2)]
    lasagne.random.set_rng(found)
    V = get_all_params(make())[0].get_value()
    for deviation, shape in draws:
        last = expected.normal(0, deviation, shape)
    np.testing.assert_array_equal(V, last)
    assert expected.rand() == found.rand()


def test_draw_of_the_noise():
    expected, found = [np.random.RandomState(3) for _ in range(2)]
    lasagne.random.set_rng(found)
    nn.GaussianNoiseLayer(vectors())
    expected.randint(1, 2147462579)
    assert expected.rand() == found.rand()


def test_recurrent_layers():
    layer = lasagne.layers.LSTMLayer(InputLayer((None, 3, 2)), 4)
    assert nn.weight_norm(layer, params=['W_hid_to_cell']) is layer
    assert layer.g_W_hid_to_cell in layer.get_params()
