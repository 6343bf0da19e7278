"""fold: back to plain weights."""
import copy
import pickle

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.init import Constant, Normal
from lasagne.layers import (
    ConcatLayer, CustomRecurrentLayer, DenseLayer, DropoutLayer,
    ElemwiseSumLayer, EmbeddingLayer, GRULayer, InputLayer, Layer, LSTMLayer,
    RecurrentLayer, dnn, get_all_layers, get_all_param_values, get_all_params,
    get_output, set_all_param_values)
from lasagne.nonlinearities import identity, rectify, softmax, tanh
from theano.sandbox.rng_mrg import MRG_RandomStreams

import wnorm
from layouts import CASES, every_layout
from wnorm import (
    Gain, MeanOnlyBatchNormLayer, WeightNormLayer, initialize,
    mean_only_batch_norm, normalize_param, weight_norm)
from wnorm.folding import ALREADY, FoldedLayer, FoldReport, LayerFold, fold
from wnorm.parameters import EXPRESSIONS, all_records, with_inner_layers

DENSE, CONV = CASES[0], CASES[8]
LOCAL = [case for case in CASES if case.name == 'local'][0]
EMBEDDING = CASES[-1]
FORMS = [None, 'norm', 'exp', Gain(2., per='layer'), Gain(.5, per=2),
         Gain(3., per=2, exp=True), Gain('norm', exp=True),
         Gain(2., per='layer', exp=True)]


def rng():
    return np.random.RandomState(0)


def dense(units=4, incoming=None, **kwargs):
    if incoming is None:
        incoming = InputLayer((None, 5), T.matrix('x'))
    return DenseLayer(incoming, units, **kwargs)


def residual(wrap=weight_norm):
    """Sums, concatenations, two outputs."""
    l_in = InputLayer((None, 5), T.matrix('x'))
    l1 = wrap(DenseLayer(l_in, 4, name='first'))
    l2 = wrap(DenseLayer(l1, 4, nonlinearity=tanh))
    l3 = ElemwiseSumLayer([l1, l2])
    l4 = ConcatLayer([l3, DropoutLayer(l1)])
    return [wrap(DenseLayer(l4, 3, nonlinearity=softmax, name='out')), l3]


def randomize(net):
    """Other values than the initial ones, for all parameters."""
    random = rng()
    for param in get_all_params(net):
        value = param.get_value()
        param.set_value(np.asarray(random.randn(*value.shape), value.dtype))
    return net


def run(net, data=None, **kwargs):
    """What the network computes, as one vector."""
    kwargs.setdefault('deterministic', True)
    outputs = net if isinstance(net, list) else [net]
    x = [l for l in get_all_layers(outputs) if isinstance(l, InputLayer)][0]
    if data is None:
        data = rng().randn(*[n or 3 for n in x.shape]).astype(
            x.input_var.dtype)
    f = theano.function([x.input_var], get_output(outputs, **kwargs),
                        on_unused_input='ignore')
    return np.concatenate([np.ravel(out) for out in f(data)])


def signature(net):
    """The parameter list: names, tags, types and shapes, in order."""
    found = []
    for layer in get_all_layers(net):
        for inner in with_inner_layers([layer]):
            found += [(p.name, tags, p.type, p.get_value().shape)
                      for p, tags in inner.params.items()]
    return found


def state(net):
    """All that folding may change, to tell whether it did."""
    layers = with_inner_layers(get_all_layers(net))
    things = layers + all_records(layers)
    return [(thing, type(thing), dict(vars(thing)),
             list(getattr(thing, 'params', {}).items())) for thing in things]


def same(a, b):
    """Whether two states are the same, variables by identity."""
    def pairs(items):
        return [(id(key), str(value)) for key, value in items]

    def flat(states):
        for thing, kind, attributes, params in states:
            yield thing, kind, pairs(params)
            for name, value in sorted(attributes.items()):
                yield name, (pairs(value.items()) if isinstance(value, dict)
                             else value if isinstance(value, (tuple, list))
                             else id(value))
    return list(flat(a)) == list(flat(b))


def tolerance(dtype):
    return dict(float64=1e-12, float32=1e-6)[str(dtype)]


def close(a, b, dtype='float64', atol=0.):
    assert a.dtype == b.dtype == dtype
    np.testing.assert_allclose(a, b, rtol=tolerance(dtype),
                               atol=tolerance(dtype) + atol)


def loads(folded, twin, before, data=None, atol=0.):
    """The folded network computes what it did, and so does a plain one with
    its parameters, of which it has the list."""
    assert signature(folded) == signature(twin)
    set_all_param_values(twin, get_all_param_values(folded))
    dtype = before.dtype
    close(run(folded, data), before, dtype, atol)
    close(run(twin, data), before, dtype, atol)


# --- weights, biases, nonlinearities ----------------------------------------

@every_layout
def test_every_layout(case, floatX):
    for options in ({}, {'b': None})[:1 + (floatX == 'float64')]:
        l = weight_norm(case.layer(), **options)
        randomize(l)
        layer, data = l.input_layer, case.data(rng())
        V = layer.W_param.get_value()
        W = case.W(V.astype('float64'), l.g.get_value(), l.eps)
        if case is EMBEDDING and l.b is not None:
            W = W + l.b.get_value()
        before = run(l, data)
        report = fold(l)
        close(layer.W.get_value(), W.astype(floatX), floatX)
        assert isinstance(l, WeightNormLayer) and l.input_layer is layer
        assert type(layer.W) is type(theano.shared(V))
        # in float32 a sum of many products is as exact as its largest one
        loads(l, case.layer(), before, data, 2e-5 * (floatX == 'float32'))
        assert [row.layer for row in report.folded] == [layer]
        assert report[0].params == (('W',) if options else ('W', 'b'))


@pytest.mark.parametrize('g', FORMS, ids=str)
@pytest.mark.parametrize('case', [DENSE, CONV, LOCAL],
                         ids=lambda case: case.name)
def test_every_form_of_g(case, g, floatX):
    if case is LOCAL and isinstance(g, Gain) and g.per == 'layer':
        g = Gain('norm')
    for eps in (1e-6, 0.)[floatX == 'float32':]:
        l = weight_norm(case.layer(), g=g, eps=eps)
        randomize(l)
        V = l.input_layer.W_param.get_value()
        V[np.index_exp[:, 1] if case.filter_axis else 1] = 0  # a zero filter
        l.input_layer.W_param.set_value(V)
        data = case.data(rng())
        before = run(l, data)
        assert fold(l).kept == ()
        loads(l, case.layer(), before, data, 2e-5 * (floatX == 'float32'))


def test_formula_of_groups_and_positions():
    d = dense()
    V = d.W.get_value()
    w = LOCAL.layer()
    U = w.W.get_value()
    l = weight_norm(w, g='norm')
    l.g.set_value(rng().randn(*l.g.get_value().shape))
    fold(l)
    norm = np.sqrt(1e-6 + np.sum(U ** 2, axis=(1, 2, 3), keepdims=True))
    g = rng().randn(*[n for i, n in enumerate(U.shape)
                      if i not in (1, 2, 3)])
    close(w.W.get_value(), g[:, None, None, None] * U / norm)
    top = WeightNormLayer(dense(W=V, b=None, nonlinearity=None),
                          g=Gain(np.array([2., 3.]), per=2, exp=True), eps=.5)
    fold(top)
    close(top.input_layer.W.get_value(), np.array([2., 2., 3., 3.]) * V /
          np.sqrt(.5 + np.sum(V ** 2, axis=0)))


def test_one_direction_in_different_forms():
    # is not taken for one weight
    one = dense()
    V = one.W.get_value()
    net = ConcatLayer([weight_norm(one, eps=1e-6)] + [
        weight_norm(DenseLayer(one.input_layer, 4, W=one.W_param), **options)
        for options in (dict(eps=.5), dict(g='exp'), dict(g=None))])
    net.input_layers[2].g_param.set_value(np.full(4, .7))
    fold(net)
    norm2 = np.sum(V ** 2, axis=0)
    for layer, expected in zip(net.input_layers, (
            V / np.sqrt(1e-6 + norm2), V / np.sqrt(.5 + norm2),
            np.exp(.7) * V / np.sqrt(1e-6 + norm2),
            V / np.sqrt(1e-6 + norm2))):
        close(layer.input_layer.W.get_value(), expected)


@pytest.mark.parametrize('size', [1e-300, 1e-200, 1e200, 1e307])
def test_no_square_under_or_overflows(size):
    d = dense(W=Constant(1.))
    V = np.ones((5, 4))
    V[:, 1] = size
    d.W.set_value(V)
    fold(weight_norm(d, eps=0.))
    close(d.W.get_value(), np.full((5, 4), 1 / np.sqrt(5)))


def test_nothing_is_left_to_explain(capsys):
    x = T.matrix()
    l = weight_norm(dense())
    wnorm.explain(theano.function([x], get_output(l, x)))
    assert capsys.readouterr().out.startswith('DenseLayer')
    fold(l)
    wnorm.explain(theano.function([x], get_output(l, x)))
    assert capsys.readouterr().out.startswith('no normalized weight')


def test_what_is_not_finite_stays_so():
    d = dense()
    V = d.W.get_value()
    V[0, 1] = np.nan
    d.W.set_value(V)
    fold(weight_norm(d))
    assert np.isnan(d.W.get_value()).any(axis=0).tolist() == [
        False, True, False, False]


def test_expressions_are_evaluated():
    gain, shift = theano.shared(np.arange(1., 5.)), theano.shared(np.ones(4))
    l = weight_norm(dense(), g=T.sqr(gain), b=3 * shift)
    before = run(l)
    V = l.input_layer.W_param.get_value()
    fold(l)
    close(l.input_layer.W.get_value(), np.arange(1., 5.) ** 2 * V /
          np.sqrt(1e-6 + np.sum(V ** 2, axis=0)))
    assert (l.input_layer.b.get_value() == 3).all()
    loads(l, dense(), before)


class Tied(DenseLayer):
    """A weight that is an expression, on Lasagne 0.1 too."""
    def __init__(self, incoming, units, V, **kwargs):
        super(Tied, self).__init__(incoming, units, **kwargs)
        del self.params[self.W]
        self.W = V


def test_V_that_is_an_expression():
    below = dense(4)
    V = below.W
    twin = dense(5, incoming=dense(4, W=V, b=below.b))
    if EXPRESSIONS:
        d = DenseLayer(below, 5, W=V.T)
    else:
        d = Tied(below, 5, V.T)
    l = weight_norm(d)
    before = run(l)
    fold(l)
    assert below.W is V and d.W is not V
    assert isinstance(d.W, theano.compile.SharedVariable)
    assert [p for p in get_all_params(l)] == [V, below.b, d.W, d.b]
    assert list(d.params)[0] is d.W
    assert d.params[d.W] == {'trainable', 'regularizable'}
    d.W.name = 'W'
    loads(l, twin, before)


def test_fixed_weight_that_is_no_parameter():
    d = dense()
    W = d.W
    d.params.pop(W)
    l = weight_norm(d)
    before = run(l)
    fold(l)
    close(run(l), before)
    assert get_all_params(l) == [d.b] and d.W is not W


# --- biases -----------------------------------------------------------------

def test_names_and_tags_come_back():
    def make():
        d = dense(name='inner')
        b = theano.shared(np.ones(4), 'mine')
        d.params = type(d.params)([(b, {'odd', 'trainable'}),
                                   (d.W, d.params[d.W])])
        d.b = b
        d.params[d.add_param(Constant(0.), (2,), name='more')] = {'more'}
        return d
    l = weight_norm(make(), name='outer')
    randomize(l)
    before = run(l)
    fold(l)
    assert [p.name for p in get_all_params(l)] == ['mine', 'inner.W',
                                                   'inner.more']
    loads(l, make(), before)


def test_layer_that_had_no_bias():
    l = weight_norm(dense(b=None, name='d'))
    randomize(l)
    before = run(l)
    fold(l)
    assert l.input_layer.b.name == 'd.b'
    loads(l, dense(name='d'), before)
    l = weight_norm(dense(b=None), b=None)
    before = run(l)
    fold(l)
    assert l.input_layer.b is None
    loads(l, dense(b=None), before)


def test_wrapped_without_the_bias_that_was():
    l = weight_norm(dense(b=Constant(7.)), b=None)
    before = run(l)
    fold(l)
    assert (l.input_layer.b.get_value() == 0).all()
    loads(l, dense(), before)


def untied(**kwargs):
    l = InputLayer((None, 2, 4, 4), T.tensor4('x'))
    return dnn.Conv2DDNNLayer(l, 3, 2, untie_biases=True, **kwargs)


@pytest.mark.parametrize('b', [Constant(0.), None])
@pytest.mark.parametrize('had', [Constant(1.), None])
def test_untied_bias(had, b):
    l = weight_norm(untied(b=had), b=b)
    randomize(l)
    before = run(l)
    assert fold(l).kept == ()
    loads(l, untied(b=None if had is b is None else Constant(0.)), before)


def test_untied_bias_of_unknown_size():
    l_in = InputLayer((None, 2, None, 4), T.tensor4('x'))
    l = weight_norm(dnn.Conv2DDNNLayer(l_in, 3, 2, untie_biases=True, b=None))
    before = state(l)
    report = fold(l)
    assert 'positions' in report.kept[0].reason
    assert same(state(l), before)


def test_bias_that_the_layer_has_kept():
    d = dense(nonlinearity=None, b=Constant(3.))
    b, tags = d.b, d.params[d.b]
    l = WeightNormLayer(d, b=Constant(1.), nonlinearity=tanh)
    before = run(l)
    fold(l)
    assert (d.b.get_value() == 4).all() and (b.get_value() == 3).all()
    assert d.params[d.b] == tags and b not in d.params
    loads(l, dense(nonlinearity=tanh), before)
    d = dense(nonlinearity=None, b=b)
    l = WeightNormLayer(d, b=None)
    before = run(l)
    fold(l)
    close(run(l), before)
    assert d.b is b and d.nonlinearity is wnorm.layers.relu


@pytest.mark.parametrize('b', [theano.shared(3.), 3.], ids=str)
def test_scalar_bias(b):
    for wrap in (weight_norm, lambda d: WeightNormLayer(d, nonlinearity=None)):
        d = dense(nonlinearity=None)
        d.params.pop(d.b)
        d.b = b
        l = wrap(d)
        l.b.set_value(np.arange(4.))
        assert fold(l).kept == ()
        added = 0 if wrap is weight_norm else 3
        assert (d.b.get_value() == np.arange(4) + added).all()
        assert [p.name for p in l.input_layer.get_params()] == ['W', 'b']


def test_wrapper_survives_pickle_before_folding():
    l = weight_norm(dense(name='d'))
    before = run(randomize(l))
    for twin in (pickle.loads(pickle.dumps(l)), copy.deepcopy(l)):
        fold(twin)
        loads(twin, dense(name='d'), before)
        for again in (pickle.loads(pickle.dumps(twin)), copy.deepcopy(twin)):
            close(run(again), before)
            assert fold(again).already


# --- in place ---------------------------------------------------------------

def test_identity_without_parameters():
    l = weight_norm(dense(nonlinearity=tanh), train_g=True)
    get_output(l, init=True)
    d, x = l.input_layer, T.matrix()
    fold(l)
    assert d.nonlinearity is tanh and l.nonlinearity is identity
    assert l.params == {} and l.get_params() == []
    assert l.b is l.g is l.g_param is l.gain is None
    assert l.get_output_for(x) is x and l.get_output_for(x, init=True) is x
    assert l.get_output_for(x, deterministic=True, other=3) is x
    assert l.folded and not hasattr(l, 'init_updates')
    assert not hasattr(d, 'W_param') and not all_records([d])
    assert l.output_shape == d.output_shape
    assert repr(l) == 'FoldedLayer(DenseLayer (None, 4))'
    get_output(l, init=True)  # no warning of an unused argument


def test_network(floatX):
    net = randomize(residual())
    layers, before = get_all_layers(net), run(net)
    report = fold(net)
    assert get_all_layers(net) == layers  # the graph is what it was
    loads(net, residual(lambda layer: layer), before)
    assert isinstance(report, FoldReport) and isinstance(report, tuple)
    assert [type(row) for row in report] == [LayerFold] * 3
    assert report.folded == report and report.kept == report.already == ()


def test_twice():
    net = randomize(residual())
    fold(net)
    before = state(net)
    report = fold(net)
    assert same(state(net), before)
    assert report.already == report and len(report) == 3
    assert {row.reason for row in report} == {ALREADY}
    assert str(report).count('folded already') == 3


def test_report_prints():
    net = residual()
    below = net[0].input_layer.input_layer.input_layers[1].input_layer
    net.append(below.input_layer)  # now 'first' is an output itself
    report = fold(net)
    lines = str(report).splitlines()
    assert repr(report) == str(report) and len(lines) == 4
    assert lines[0].split() == ['layer', 'parameters', 'outcome']
    assert lines[1].startswith("DenseLayer 'first' (None, 4)  W, b        not")
    assert lines[2].split()[-1] == 'folded'


def test_who_shares_V_keeps_it():
    V = theano.shared(rng().randn(5, 4), 'V')
    l_in = InputLayer((None, 5), T.matrix('x'))
    plain = DenseLayer(l_in, 4, W=V)
    a, b = [weight_norm(DenseLayer(l_in, 4, W=V)) for _ in range(2)]
    net = [plain, a, b]
    randomize(net)
    before, values = run(net), V.get_value()
    fold(net, only=a)
    assert plain.W is V and b.input_layer.W_param is V
    assert a.input_layer.W is not V and a.input_layer.W.name == 'V'
    close(run(net), before)
    fold(net)
    assert plain.W is V and b.input_layer.W is not a.input_layer.W
    assert (V.get_value() == values).all()
    close(run(net), before)


def test_shared_layers_share_afterwards():
    # Siamese networks: the same V, g and b
    def make(wrap):
        x1, x2 = [InputLayer((None, 5), T.matrix(n)) for n in ('x', 'y')]
        x2.input_var = x1.input_var + 1
        a = DenseLayer(x1, 4)
        b = DenseLayer(x2, 4, W=a.W, b=a.b)
        if wrap:
            a = weight_norm(a)
            b = weight_norm(b, g=a.g, b=a.b)
        return [a, b]
    net = randomize(make(True))
    before = run(net)
    fold(net)
    assert net[0].input_layer.W is net[1].input_layer.W
    assert net[0].input_layer.b is net[1].input_layer.b
    loads(net, make(False), before)


def test_expressions_of_W_follow():
    def make(wrap):
        below = wrap(dense(4))
        layer = below if wrap is plain else below.input_layer
        if EXPRESSIONS:
            return DenseLayer(below, 5, W=layer.W.T)
        return Tied(below, 5, layer.W.T)

    def plain(layer):
        return layer
    net = randomize(make(weight_norm))
    inner = net.input_layer.input_layer
    before, old = run(net), net.W
    old.name = 'tied'
    fold(net)
    close(run(net), before)
    assert net.W is not old and net.W.name == 'tied'
    assert theano.gof.graph.inputs([net.W]) == [inner.W]
    assert get_all_params(net) == [inner.W, inner.b, net.b]
    twin = make(plain)
    set_all_param_values(twin, get_all_param_values(net))
    close(run(twin), before)


def test_normalized_expression_of_a_folded_W():
    below = weight_norm(dense(4))
    d = Tied(below, 5, below.input_layer.W.T)
    top = weight_norm(d)
    before = run(top)
    fold(top, only=below)
    close(run(top), before)
    W = below.input_layer.W
    assert W in theano.gof.graph.inputs([d.W_param])
    assert d.W_param is d.normalized_params['W'].V
    assert fold(top).folded[0].layer is d
    close(run(top), before)


def test_parameter_that_is_an_expression_of_a_folded_W():
    below = weight_norm(dense())
    top = weight_norm(DenseLayer(below, 4), b=T.sum(below.input_layer.W, 0))
    before = run(top)
    fold(top, only=below)
    assert list(top.params)[0] is top.b
    assert below.input_layer.W in theano.gof.graph.inputs([top.b])
    close(run(top), before)


def test_alias_of_W():
    l = weight_norm(dense())
    l.input_layer.same = l.input_layer.W
    fold(l)
    assert l.input_layer.same is l.input_layer.W
    assert isinstance(l.input_layer.W, theano.compile.SharedVariable)


def test_normalized_again():
    net = randomize(weight_norm(dense(3, incoming=weight_norm(dense()))))
    before = run(net)
    fold(net)
    below = net.input_layer.input_layer
    again = weight_norm(below.input_layer, g='norm')
    below.input_layer = again  # the identity stays on top
    report = fold(net)
    assert [row.layer for row in report.folded] == [again.input_layer]
    assert [row.layer for row in report.already] == [net.input_layer]
    close(run(net), before)
    loads(net, dense(3, incoming=dense()), before)
    assert fold(below, only=below).already


def test_initialization_leaves_folded_layers_alone():
    net = randomize(weight_norm(dense(3, incoming=weight_norm(dense()))))
    fold(net, only=net.input_layer.input_layer)
    W = net.input_layer.input_layer.input_layer.W.get_value()
    try:
        report = initialize(net, rng().randn(20, 5))
    except UserWarning:  # b and g were changed
        net.remember()
        report = initialize(net, rng().randn(20, 5))
    assert [row.layer for row in report] == [net]
    assert (net.input_layer.input_layer.input_layer.W.get_value() == W).all()
    fold(net)
    with pytest.raises(ValueError, match='no layer of this network is weight'):
        initialize(net, rng().randn(20, 5))


def test_compiled_functions_go_on():
    l = weight_norm(dense())
    x = l.input_layer.input_layer.input_var
    f, data = theano.function([x], get_output(l)), rng().randn(3, 5)
    before = f(data)
    fold(l)
    assert (f(data) == before).all()


# --- one layer --------------------------------------------------------------

def test_only():
    net = randomize(residual())
    first, second, third = [l for l in get_all_layers(net)
                            if isinstance(l, WeightNormLayer)]
    before = run(net)
    report = fold(net, only=second)
    assert [row.layer for row in report] == [second.input_layer]
    assert second.folded and not first.folded and not third.folded
    close(run(net), before)
    assert [row.layer for row in fold(net, only=[first.input_layer, second])
            ] == [first.input_layer, second.input_layer]
    assert not third.folded
    fold(third, only=third)
    close(run(net), before)
    loads(net, residual(lambda layer: layer), before)


def test_only_of_a_copy():
    net = randomize(residual())
    third = net[0]
    plain = fold(net, copy=True, only=third)
    assert [type(l) for l in get_all_layers(plain)].count(
        WeightNormLayer) == 2
    assert type(plain[0]) is DenseLayer and not third.folded
    close(run(plain), run(net))


@pytest.mark.parametrize('only, error, words', [
    (3, TypeError, 'only is a layer or a list of layers, got 3'),
    ([], ValueError, 'only is empty'),
    ([3], TypeError, 'got a list with 3'),
    ('other', ValueError, "DenseLayer 'other' .* is no layer of this net"),
    ('plain', ValueError, 'ElemwiseSumLayer .* was never weight-normalized'),
])
def test_only_what(only, error, words):
    net = residual()
    if only == 'other':
        only = [dense(name='other')]
    elif only == 'plain':
        only = [net[0], net[1]]
    before = state(net)
    with pytest.raises(error, match=words):
        fold(net, only=only)
    assert same(state(net), before)


# --- parameters of layers themselves ----------------------------------------

def sequences():
    return InputLayer((2, 3, 5), T.tensor3('x'))


@pytest.mark.parametrize('cls, g', [
    (LSTMLayer, 'norm'), (GRULayer, 'exp'), (RecurrentLayer, 'norm'),
    (RecurrentLayer, 'exp'), (RecurrentLayer, None)])
def test_recurrent(cls, g):
    l = weight_norm(cls(sequences(), 4), g=g)
    randomize(l)
    names = [record.label for record in all_records(with_inner_layers([l]))]
    before = run(l)
    report = fold(l)
    assert report == ((l, tuple(names), None),)
    for layer in with_inner_layers([l]):
        assert 'get_output_for' not in vars(layer)
        assert not [name for name in vars(layer) if name[:2] in ('g_', 's_')
                    or name.endswith('_param')]
    for name in names:
        assert getattr(l, name) in get_all_params(l)
    assert signature(l) == signature(cls(sequences(), 4))
    assert fold(l) == ((l, tuple(names), ALREADY),)
    weight_norm(l)
    fold(l)
    loads(l, cls(sequences(), 4), before)


def custom():
    def inner(size, **kwargs):
        l = DenseLayer(InputLayer((None, size)), 4, name='a', **kwargs)
        return DenseLayer(l, 4, nonlinearity=None, name='b', **kwargs)
    return CustomRecurrentLayer(sequences(), inner(5), inner(4, b=None))


def test_custom_recurrent():
    l = weight_norm(custom())
    randomize(l)
    before = run(l)
    fold(l)
    assert l.W_in_to_hid_1 is l.input_to_hidden.input_layer.W
    assert l.W_hid_to_hid_2 is l.hidden_to_hidden.W
    loads(l, custom(), before)


def test_some_of_an_inner_net():
    l = weight_norm(custom())
    randomize(l)
    before = run(l)
    inner = l.hidden_to_hidden
    assert fold(l, only=inner) == ((l, ('W_hid_to_hid_2',), None),)
    close(run(l), before)
    assert fold(l, only=inner) == ((l, ('W_hid_to_hid_2',), ALREADY),)
    assert 'get_output_for' in vars(l) and 'g_W_hid_to_hid_1' in vars(l)
    report = fold(l, only=l)
    assert report.folded[0].params == ('W_in_to_hid_1', 'W_in_to_hid_2',
                                       'W_hid_to_hid_1')
    assert report.already[0].params == ('W_hid_to_hid_2',)
    loads(l, custom(), before)


def test_weight_norm_layers_inside():
    def make(wrap):
        return CustomRecurrentLayer(
            sequences(),
            wrap(DenseLayer(InputLayer((None, 5)), 4, name='i')),
            wrap(DenseLayer(InputLayer((None, 4)), 4, name='h')))
    for fold_it in (fold, lambda net: fold(net, only=net),
                    lambda net: fold(net, copy=True)):
        l = randomize(make(weight_norm))
        before = run(l)
        result = fold_it(l)
        if isinstance(result, Layer):
            l = result
            assert type(l.hidden_to_hidden) is DenseLayer
            loads(l, make(lambda layer: layer), before)


def test_mean_only_inside():
    def make(wrap):
        return CustomRecurrentLayer(
            sequences(), wrap(DenseLayer(InputLayer((None, 5)), 4)),
            DenseLayer(InputLayer((None, 4)), 4))
    l = weight_norm(make(lambda layer: mean_only_batch_norm(
        layer, weight_norm=False)), params=['W_hid_to_hid'])
    randomize(l)
    before = run(l)
    assert fold(l).folded == ((l.input_to_hidden.input_layer, ('b',), None),
                              (l, ('W_hid_to_hid',), None))
    loads(l, make(lambda layer: layer), before)


def test_inner_layer_that_is_used_twice():
    h = DenseLayer(InputLayer((None, 5)), 5)
    l = CustomRecurrentLayer(sequences(), weight_norm(h), h)
    before = state(l)
    report = fold(l)
    assert 'CustomRecurrentLayer' in report.kept[0].reason
    assert same(state(l), before)


class Several(Layer):
    """A layer with three weights."""
    def __init__(self, incoming, shared=False, **kwargs):
        super(Several, self).__init__(incoming, **kwargs)
        self.U = self.add_param(Normal(1.), (5, 4), name='U')
        self.scale = self.add_param(Constant(1.), (4,), name='scale')
        self.W = self.add_param(self.U if shared else Normal(1.), (5, 4),
                                name='W')
        self.Y = self.add_param(Normal(1.), (5, 4), name='Y')

    def get_output_shape_for(self, input_shape):
        return (input_shape[0], 4)

    def get_output_for(self, input, **kwargs):
        return T.dot(input, self.U) * T.dot(input, self.W) + T.dot(
            input, self.Y) * self.scale


def several(**kwargs):
    return Several(InputLayer((None, 5), T.matrix('x')), **kwargs)


@pytest.mark.parametrize('g', ['norm', 'exp', None], ids=str)
def test_normalize_param(g):
    l = several()
    for name in ('Y', 'U'):
        normalize_param(l, name, axis=1, g=g)
    randomize(l)
    before = run(l)
    assert fold(l).folded == ((l, ('Y', 'U'), None),)
    loads(l, several(), before)
    assert not all_records([l])
    assert fold(l).already == ((l, ('Y', 'U'), ALREADY),)


def test_params_that_share_V():
    for shares in (['U', 'W'], ['U']):
        l = several(shared=True)
        V = l.U
        for name in shares:
            normalize_param(l, name, axis=1)
        randomize(l)
        before = run(l)
        fold(l)
        close(run(l), before)
        new = [l.U, l.W] if len(shares) == 2 else [l.U, V]
        assert l.get_params() == new + [l.scale, l.Y]


@pytest.mark.parametrize('own', [False, True])
def test_gain_of_normalize_param_that_is_an_expression(own):
    l = several()
    root = l.scale if own else theano.shared(np.ones(4), 'root')
    normalize_param(l, 'U', axis=1, g=T.sqr(root))
    normalize_param(l, 'Y', axis=1, g=T.sqr(root))
    randomize(l)
    before = run(l)
    fold(l, only=l)
    loads(l, several(), before)


def test_parameter_and_weight_of_one_layer():
    class Both(DenseLayer):
        def __init__(self, incoming, num_units, **kwargs):
            super(Both, self).__init__(incoming, num_units, **kwargs)
            self.U = self.add_param(Normal(1.), (5, 4), name='U')

        def get_output_for(self, input, **kwargs):
            t = T.dot(input, self.W) * T.dot(input, self.U)
            return self.nonlinearity(t if self.b is None else t + self.b)
    x = InputLayer((None, 5), T.matrix('x'))
    l = weight_norm(normalize_param(Both(x, 4), 'U', axis=1))
    randomize(l)
    before = run(l)
    assert fold(l).folded == ((l.input_layer, ('U', 'W', 'b'), None),)
    loads(l, Both(x, 4), before)


# --- mean-only batch normalization -------------------------------------------

@pytest.mark.parametrize('b', [Constant(1.), None])
@pytest.mark.parametrize('weight', [True, False])
def test_mean_only(weight, b, floatX):
    for make in (dense, untied, lambda: dense(b=None)):
        l = mean_only_batch_norm(make(), weight_norm=weight, b=b)
        randomize(l)
        layer, mean = l.input_layer, l.mean.get_value()
        get_output(l)  # so that it has bn_updates
        bias = 0 if b is None else l.b.get_value()
        W, before = layer.W, run(l)
        report = fold(l)
        assert report.folded[0].params == (('W', 'b') if weight else ('b',))
        expected = bias - mean.reshape((-1,) + (1,) * (
            layer.b.ndim - 1)) + np.zeros(layer.b.get_value().shape)
        close(layer.b.get_value(), expected.astype(floatX), floatX)
        assert (layer.W is W) == (not weight)
        for name in ('bn_updates', 'mean'):
            assert not hasattr(l, name)
        assert type(l) is FoldedLayer and isinstance(
            l, WeightNormLayer)
        loads(l, untied() if make is untied else dense(), before,
              atol=1e-5 * (floatX == 'float32'))
        assert fold(l).already


def test_mean_only_with_the_bias_below():
    d = dense(nonlinearity=None, b=Constant(3.))
    l = MeanOnlyBatchNormLayer(d, mean=Constant(2.), b=Constant(5.))
    before = run(l)
    fold(l)
    close(run(l), before)
    assert (d.b.get_value() == 6).all()


def test_mean_only_of_an_embedding():
    x = EMBEDDING.data(rng())
    l = mean_only_batch_norm(EMBEDDING.layer(), b=None)
    randomize(l)
    before = run(l, x)
    assert fold(l).kept == ()
    close(run(l, x), before)
    l = mean_only_batch_norm(EMBEDDING.layer(), weight_norm=False)
    assert fold(l).kept[0].reason == 'its class has no bias'


# --- what cannot be folded --------------------------------------------------

def kept(net, layer, words, others=0):
    """Folding `net` names `layer`, with `words`, and leaves it as it was."""
    output, before = run(net), state(net)
    wrappers = [l for l in get_all_layers(net)
                if isinstance(l, WeightNormLayer) and l.input_layer is layer]
    mine = [thing for thing in before if thing[0] in [layer] + wrappers]
    report = fold(net)
    assert [row.layer for row in report.kept] == [layer], report
    assert words in report.kept[0].reason, report
    assert len(report.folded) == others
    after = [thing for thing in state(net) if thing[0] in [layer] + wrappers]
    assert same(mine, after)
    close(run(net), output)
    return report


def test_layer_that_feeds_others():
    d = dense(name='d')
    l = weight_norm(d)
    merged = ConcatLayer([l, d])
    top = weight_norm(DenseLayer(merged, 2))
    report = kept(top, d, 'others than its weight normalization use it, and '
                  'would see its bias and nonlinearity: ConcatLayer (None, 8)',
                  1)
    assert 'not folded: others' in str(report)


def test_layer_that_feeds_others_but_there_is_nothing_to_see():
    d = dense(nonlinearity=None, b=None)
    net = ConcatLayer([weight_norm(d, b=None), d])
    before = run(net)
    assert fold(net).kept == ()
    close(run(net), before)


def test_layer_that_is_an_output():
    l = weight_norm(dense(), b=None)
    kept([l, l.input_layer], l.input_layer,
         'would see its nonlinearity: an output of the network')


def test_without_its_weight_norm_layer():
    l = weight_norm(dense())
    kept(l.input_layer, l.input_layer, 'fold the one that it belongs to')


def test_nonlinearity_below():
    d = dense(nonlinearity=tanh)
    l = WeightNormLayer(d, nonlinearity=None)
    kept(l, d, 'a nonlinearity of its own below the bias')
    l = WeightNormLayer(dense(nonlinearity=tanh), b=None)
    kept(l, l.input_layer, 'below the nonlinearity')
    # with neither above it there is nothing in the way
    l = WeightNormLayer(dense(nonlinearity=tanh, b=None), b=None,
                        nonlinearity=None)
    before = run(l)
    fold(l)
    loads(l, dense(nonlinearity=tanh, b=None), before)


def test_embedding_with_nonlinearity():
    l_in = InputLayer((2, 3), T.imatrix('x'))
    for b in (Constant(0.), None):
        d = EmbeddingLayer(l_in, 6, 4)
        l = WeightNormLayer(d, nonlinearity=tanh, b=b)
        before = state(l)
        report = fold(l)
        assert report.kept == ((d, ('W', 'b') if b else ('W',), (
            'its class has no nonlinearity to take tanh')),)
        assert same(state(l), before)


class NoBias(Layer):
    filter_axis = 1

    def __init__(self, incoming, **kwargs):
        super(NoBias, self).__init__(incoming, **kwargs)
        self.W = self.add_param(Normal(1.), (5, 4), name='W')

    def get_output_shape_for(self, input_shape):
        return (input_shape[0], 4)

    def get_output_for(self, input, **kwargs):
        return T.dot(input, self.W)


def test_class_without_bias():
    def make():
        return NoBias(InputLayer((None, 5), T.matrix('x')))
    l = weight_norm(make())
    kept(l, l.input_layer, 'its class has no bias')
    l = weight_norm(make(), b=None)
    before = run(l)
    assert fold(l).kept == ()
    loads(l, make(), before)


def test_free_variables():
    free = T.dvector('free')
    for option in ({'g': free}, {'b': 2 * free}):
        l = weight_norm(dense(), **option)
        top = weight_norm(DenseLayer(l, 2))
        before = state(top)
        report = fold(top)
        assert [row.layer for row in report.kept] == [l.input_layer]
        assert '%s depends on free' % list(option)[0] in report.kept[0].reason
        assert [row.layer for row in report.folded] == [top.input_layer]
        mine = (l, l.input_layer)
        assert same([t for t in state(top) if t[0] in mine],
                    [t for t in before if t[0] in mine])
        get_output(top).eval({
            free: np.ones(4),
            l.input_layer.input_layer.input_var: np.ones((2, 5))})
        with pytest.warns(UserWarning, match='not folded: W, b of DenseLayer '
                          r'\(None, 4\): . depends on free'):
            plain = fold(top, copy=True)
        # of the same variables
        get_output(plain).eval({
            free: np.ones(4),
            l.input_layer.input_layer.input_var: np.ones((2, 5))})
        assert plain.fold_report.kept and plain.fold_report.already
    l = normalize_param(several(), 'U', axis=1, g=free)
    before = state(l)
    assert fold(l).kept == ((l, ('U',), (
        'g depends on free, so it has no value of its own')),)
    assert same(state(l), before)


def test_random_expressions():
    noise = MRG_RandomStreams(1).normal((4,), dtype='float64')
    l = weight_norm(dense(), g=1 + noise)
    before = state(l)
    assert 'changes whenever it is computed' in fold(l).kept[0].reason
    assert same(state(l), before)


def test_class_of_ones_own():
    class Mine(WeightNormLayer):
        def get_output_for(self, input, **kwargs):
            return 2 * super(Mine, self).get_output_for(input, **kwargs)
    d = dense(nonlinearity=None, b=None)
    kept(Mine(d), d, 'of the class Mine, which computes something of its own')


def test_two_normalizations_of_one_layer():
    l = weight_norm(dense())
    other = weight_norm(dense())
    other.input_layer = l.input_layer
    report = fold([l, other])
    assert len(report) == 2 and len(report.kept) == 2


def test_layer_in_between():
    l = weight_norm(dense())
    middle = DropoutLayer(l.input_layer)
    l.input_layer = middle
    kept(l, middle, 'not the layer for which the normalization above it')


# --- copies -----------------------------------------------------------------

def test_copy(floatX):
    net = randomize(residual())
    before, out = state(net), run(net)
    plain = fold(net, copy=True)
    assert same(state(net), before)
    assert isinstance(plain, list) and len(plain) == 2
    twin = residual(lambda layer: layer)
    assert [type(layer) for layer in get_all_layers(plain)] == [
        type(layer) for layer in get_all_layers(twin)]
    loads(plain, twin, out)
    assert not set(get_all_layers(plain)) & set(get_all_layers(net))
    assert not set(get_all_params(plain)) & set(get_all_params(net))
    x = get_all_layers(net)[0].input_var
    assert get_all_layers(plain)[0].input_var is x
    for param in get_all_params(plain):  # it is independent
        param.set_value(0 * param.get_value())
    close(run(net), out, floatX)
    for layer in plain:
        assert layer.fold_report is plain[0].fold_report
    assert [row.layer.name for row in plain[0].fold_report.folded] == [
        'first', None, 'out']
    assert set(row.layer for row in plain[0].fold_report) < set(
        get_all_layers(plain))
    assert fold(plain).already


def test_copy_of_one_output():
    l = randomize(weight_norm(dense(name='d')))
    get_output(l, init=True)
    plain = fold(l, copy=True)
    assert type(plain) is DenseLayer and plain.name == 'd'
    assert hasattr(l, 'init_updates') and not l.folded
    close(run(plain), run(l))
    again = pickle.loads(pickle.dumps(plain))
    close(run(again), run(l))
    assert again.fold_report.folded[0].layer is again
    # of one that is folded already
    fold(l)
    close(run(fold(l, copy=True)), run(l))


@pytest.mark.parametrize('cls', [LSTMLayer, RecurrentLayer])
def test_copy_of_recurrent(cls):
    l = randomize(weight_norm(cls(sequences(), 4)))
    before, out = state(l), run(l)
    plain = fold(l, copy=True)
    assert same(state(l), before)
    loads(plain, cls(sequences(), 4), out)


def test_copy_with_noise_as_input():
    noise = MRG_RandomStreams(1).normal((3, 5), dtype='float64')
    l = weight_norm(DenseLayer(InputLayer((3, 5), noise), 4))
    plain = fold(l, copy=True)
    assert plain.input_layer.input_var is noise
    a, b = theano.function([], get_output([l, plain]))()
    close(a, b)


def test_deep_copy_does_not_recur():
    net = InputLayer((None, 3), T.matrix('x'))
    for _ in range(150):
        net = weight_norm(DenseLayer(net, 3))
    plain = fold(net, copy=True)
    assert len(get_all_layers(plain)) == 151
    assert len(plain.fold_report.folded) == 150


class Locked(DenseLayer):
    def __deepcopy__(self, memo):
        raise RuntimeError('it is locked')


def test_layer_that_cannot_be_copied():
    l = weight_norm(Locked(InputLayer((None, 5)), 4))
    before = state(l)
    with pytest.raises(TypeError, match=r'Locked \(None, 4\) cannot be copied:'
                       ' it is locked'):
        fold(l, copy=True)
    assert same(state(l), before)


# --- bad input --------------------------------------------------------------

@pytest.mark.parametrize('copy', [False, True])
def test_never_wrapped(copy):
    net = dense()
    before = state(net)
    with pytest.raises(ValueError, match='no layer of this network was ever '
                       r'weight-normalized \(last layer: DenseLayer'):
        fold(net, copy=copy)
    assert same(state(net), before)


@pytest.mark.parametrize('net, error', [
    (3, TypeError), ([], ValueError), ([3], TypeError), (None, TypeError)])
def test_no_network(net, error):
    with pytest.raises(error, match='a network is a layer or a list'):
        fold(net)


class Guarded(DenseLayer):
    armed = False

    def __setattr__(self, name, value):
        if self.armed and name == 'nonlinearity':
            raise RuntimeError('guarded')
        super(Guarded, self).__setattr__(name, value)


def test_all_or_nothing():
    net = weight_norm(custom())
    net = weight_norm(dense(4, incoming=net))
    net = weight_norm(Guarded(net, 3))
    randomize(net)
    net.input_layer.armed = True
    before, out = state(net), run(net)
    with pytest.raises(RuntimeError, match='guarded'):
        fold(net)
    assert same(state(net), before)
    close(run(net), out)
    net.input_layer.armed = False
    fold(net)
    close(run(net), out)
    assert net.input_layer.nonlinearity is rectify
    assert len(lasagne.layers.get_all_params(net)) == 13 - 2
