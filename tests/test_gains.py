"""The forms of g."""
import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.init import Constant
from lasagne.layers import InputLayer, NINLayer, dnn
from lasagne.layers import get_all_params, get_output
from lasagne.nonlinearities import tanh
from theano.gradient import verify_grad

import own_layers
from layouts import CASES, every_layout
from test_layers import dense, refused, rng, tolerance, transpose_of
from wnorm import Gain, WeightNormLayer, weight_norm

BY_NAME = {case.name: case for case in CASES}


def groups(number):
    """So many groups of so many filters: two if that is possible."""
    return 2 if number % 2 == 0 else number


#: Of a number of filters: what is given as g. And the shape of the parameter,
#: whether it is a logarithm.
FORMS = {
    'fixed': (lambda n: Constant(1.5), 'filter', False),
    'number': (lambda n: Gain(2.5), 'filter', False),
    'array': (lambda n: np.linspace(-1, 1, n), 'filter', False),
    'exp': (lambda n: 'exp', 'filter', True),
    'exp of an array': (lambda n: Gain(np.arange(1, n + 1), exp=True),
                        'filter', True),
    'layer': (lambda n: Gain(per='layer'), 'layer', False),
    'exp, layer': (lambda n: Gain(3, per='layer', exp=True), 'layer', True),
    'groups': (lambda n: Gain(per=groups(n)), 'groups', False),
    'exp, groups': (lambda n: Gain(per=groups(n), exp=True), 'groups', True),
    'norm': (lambda n: 'norm', 'position', False),
    'exp, norm': (lambda n: Gain('norm', exp=True), 'position', True),
    'norm, layer': (lambda n: Gain('norm', per='layer'), 'layer', False),
    'norm, groups': (lambda n: Gain('norm', per=groups(n)), 'groups', False),
}
#: What differs in its gradients; what differs in its updates.
few_forms = pytest.mark.parametrize('form', [
    'exp', 'exp, groups', 'exp, layer', 'norm'])
some_forms = pytest.mark.parametrize('form', [
    'number', 'exp', 'layer', 'exp, layer', 'groups', 'exp, groups', 'norm',
    'exp, norm'])


def number_of(layer, case):
    return layer.W.get_value().shape[case.filter_axis]


def norms(case, V, eps):
    """sqrt(eps + sum V^2), with the dimensions of V."""
    return np.sqrt(eps + np.sum(np.square(V.astype('float64')),
                                axis=case.norm_axes, keepdims=True))


def effective(case, V, g, per, eps=1e-6):
    """The effective weight, in NumPy."""
    norm = norms(case, V, eps)
    n = V.shape[case.filter_axis]
    if per != 'position':
        g = np.repeat(g, n // np.size(g))
        shape = [1] * V.ndim
        shape[case.filter_axis] = n
    else:  # the positions, if any, come last in g and in V
        shape = norm.shape
    return np.reshape(g, shape) * V / norm


def expected_shape(case, V, per):
    n = V.shape[case.filter_axis]
    if per == 'position':
        return (n,) + (V.shape[-2:] if 'local' in case.name else ())
    return {'filter': (n,), 'layer': (), 'groups': (groups(n),)}[per]


def wrapped(case, form, **kwargs):
    """A layer of `case` with g of `form`."""
    make, per, exp = FORMS[form]
    layer = case.layer()
    n = number_of(layer, case)
    l = weight_norm(layer, **dict(dict(g=make(n)), **kwargs))
    return l, per, exp


# --- W -----------------------------------------------------------------------

@every_layout
def test_weight(case, floatX):
    weights = []
    for form in sorted(FORMS):
        l, per, exp = wrapped(case, form)
        V, param = l.input_layer.W_param, l.g_param
        random = rng()
        for variable in (V, param):
            variable.set_value(np.asarray(random.randn(
                *variable.get_value().shape), floatX))
        value = param.get_value().astype('float64')
        assert l.input_layer.W.dtype == param.dtype == l.g.dtype == floatX
        weights.append((l.input_layer.W, effective(
            case, V.get_value().astype('float64'),
            np.exp(value) if exp else value, per)))
    for got, (_, expected) in zip(theano.function([], [
            W for W, _ in weights])(), weights):
        np.testing.assert_allclose(got, expected, rtol=tolerance(floatX))


@every_layout
def test_parameter(case):
    for form in sorted(FORMS):
        train_g = 'o' in form  # some
        l, per, exp = wrapped(case, form, train_g=train_g)
        param = l.g_param
        assert param.name == ('s' if exp else 'g')
        assert param.get_value().shape == expected_shape(
            case, l.input_layer.W_param.get_value(), per)
        assert l.params[param] == ({'trainable'} if train_g else set())
        assert (l.g is param) == (not exp)
        assert get_all_params(l)[-1] is param


@every_layout
@few_forms
def test_gradients(case, form):
    l, _, _ = wrapped(case, form, train_g=True)
    V, param, W = l.input_layer.W_param, l.g_param, l.input_layer.W
    random = rng()
    verify_grad(lambda v, p: theano.clone(W, replace={V: v, param: p}),
                [random.randn(*V.get_value().shape),
                 random.randn(*param.get_value().shape)], rng=random)


@pytest.mark.parametrize('g, initial', [
    (Gain(), 1.), (Gain(2.5), 2.5), (Gain(-2), -2.), ('exp', 1.),
    (Gain(np.float32(.5), exp=True), .5), (Gain(np.arange(1, 5)), None),
    (Gain(np.arange(1., 5.), exp=True), None), (Gain(Constant(3.)), 3.),
    (Gain(lambda shape: np.arange(1., 5.), exp=True), None)])
def test_initial_values(g, initial, floatX):
    l = weight_norm(dense(), g=g)
    assert l.g_param.dtype == floatX and l.g.dtype == floatX
    np.testing.assert_allclose(
        l.g.eval(), np.arange(1, 5) if initial is None else [initial] * 4,
        rtol=1e-6)


def test_no_gain():
    l = weight_norm(dense(), g=None)
    assert l.g is None and l.g_param is None and l.gain is None
    assert l.get_params() == [l.b]


@pytest.mark.parametrize('per, shape', [
    ('filter', (4,)), ('layer', ()), (2, (2,))])
@pytest.mark.parametrize('exp', [False, True])
def test_variables(per, shape, exp):
    # a shared variable or an expression becomes the parameter itself
    value = np.arange(1., 1 + np.prod(shape)).reshape(shape)
    given = theano.shared(value, name='mine')
    for spec in (given, 2. * given, lambda shape: given):
        plain = dense()
        l = weight_norm(plain, g=Gain(spec, per=per, exp=exp), train_g=True)
        param = given if callable(spec) and spec not in (given,) and (
            not isinstance(spec, theano.Variable)) else spec
        assert l.g_param is param
        assert l.get_params(trainable=True) == [l.b, given]
        value = param.eval()
        np.testing.assert_allclose(plain.W.eval(), effective(
            BY_NAME['dense'], plain.W_param.get_value(),
            np.exp(value) if exp else value, per))


# --- norm --------------------------------------------------------------------

def output(layer, data):
    x = lasagne.layers.get_all_layers(layer)[0].input_var
    return theano.function([x], get_output(layer))(data)


def close(got, expected, floatX):
    assert got.dtype == expected.dtype == floatX
    np.testing.assert_allclose(
        got, expected, rtol=0, atol=dict(float32=1e-6, float64=1e-12)[floatX] *
        max(1, np.max(abs(expected))))


@every_layout
@pytest.mark.parametrize('eps', [1e-6, 0., 1e-2])
def test_norm_leaves_the_output(case, eps, floatX):
    for g in ('norm', Gain('norm', exp=True))[:1 if eps != 1e-6 else 2]:
        plain = case.layer(nonlinearity=tanh)
        data, b = case.data(rng()), getattr(plain, 'b', None)
        if b is not None:
            b.set_value(rng().randn(*b.get_value().shape).astype(floatX))
        expected = output(plain, data)
        W = plain.W.get_value()
        l = weight_norm(plain, g=g, eps=eps)
        np.testing.assert_allclose(
            l.g.eval(), norms(case, W, eps).reshape(l.g.eval().shape),
            rtol=dict(float32=1e-5, float64=1e-12)[floatX])
        if b is None:
            assert l.b is None
        else:
            assert l.b is not b and l.b.name == 'b'
            np.testing.assert_array_equal(l.b.get_value(), b.get_value())
        close(output(l, data), expected, floatX)


@pytest.mark.parametrize('make', [
    lambda **kw: dnn.Conv2DDNNLayer(InputLayer((None, 2, 4, 4)), 3, 2, **kw),
    lambda **kw: NINLayer(InputLayer((None, 2, 4, 3)), 3, **kw),
    lambda **kw: own_layers.LocallyConnected2DLayer(
        InputLayer((None, 2, 3, 3)), 3, 1, **kw)])
def test_norm_takes_over_untied_biases(make, floatX):
    plain = make(untie_biases=True, nonlinearity=tanh)
    plain.b.set_value(rng().randn(*plain.b.get_value().shape).astype(floatX))
    b = plain.b.get_value()
    assert b.ndim == 3
    data = rng().randn(*(5,) + plain.input_shape[1:]).astype(floatX)
    expected = output(plain, data)
    l = weight_norm(plain, g='norm')
    np.testing.assert_array_equal(l.b.get_value(), b)
    close(output(l, data), expected, floatX)


def test_norm_of_a_layer_without_bias(floatX):
    plain = dense(b=None)
    data = rng().randn(3, 5).astype(floatX)
    expected = output(plain, data)
    l = weight_norm(plain, g='norm')
    assert l.b is None and l.get_params() == [l.g]
    close(output(l, data), expected, floatX)


def test_given_bias_wins():
    for b, value in ((Constant(2.), [2.] * 4), (np.arange(4.), range(4))):
        l = weight_norm(dense(b=Constant(7.)), g='norm', b=b)
        np.testing.assert_array_equal(l.b.get_value(), list(value))
    assert weight_norm(dense(), g='norm', b=None).b is None


def test_bias_given_as_an_expression():
    plain = dense()
    plain.b = 2. * theano.shared(np.arange(4.))
    np.testing.assert_array_equal(
        weight_norm(plain, g='norm').b.get_value(), 2 * np.arange(4.))


def test_norm_of_a_new_weight(floatX):
    W = rng().randn(5, 4)
    for given in (W, lambda shape: W):
        plain = dense()
        l = weight_norm(plain, g='norm', W=given)
        np.testing.assert_allclose(plain.W_param.get_value(), W, rtol=1e-7)
        np.testing.assert_allclose(plain.W.eval(), W, rtol=1e-6)
        assert l.g.dtype == floatX


def test_norm_of_an_expression():
    encoder = dense()
    l = weight_norm(encoder)
    W = encoder.W.eval()
    decoder = weight_norm(transpose_of(l, encoder.W), g='norm')
    np.testing.assert_allclose(decoder.input_layer.W.eval(), W.T, rtol=1e-12)


@pytest.mark.parametrize('exp', [False, True])
@pytest.mark.parametrize('eps', [0., 1e-6])
def test_norm_of_zeros(eps, exp, floatX):
    # a filter of zeros, and a weight of zeros, as of some output layers
    for W in (np.ones((5, 4)) * [1, 0, 2, 0], np.zeros((5, 4)),
              np.full((5, 4), 1e-30)):
        plain = dense(W=W.astype(floatX))
        l = weight_norm(plain, g=Gain('norm', exp=exp), eps=eps)
        tiny = np.finfo(floatX).tiny if exp else 0
        np.testing.assert_allclose(
            l.g.eval(), np.maximum(norms(BY_NAME['dense'], W, eps)[0], tiny),
            rtol=1e-4)
        np.testing.assert_allclose(plain.W.eval(), W, rtol=1e-4)


def test_norm_of_large_and_small_weights():
    # whose squares are infinite, or 0
    for size in (1e200, 1e-200):
        plain = dense(W=size * rng().randn(5, 4))
        W = plain.W.get_value()
        for exp in (False, True):
            l = weight_norm(dense(W=W), g=Gain('norm', exp=exp), eps=0.)
            np.testing.assert_allclose(l.input_layer.W.eval(), W, rtol=1e-12)


@every_layout
@pytest.mark.parametrize('exp', [False, True])
def test_norm_of_several_filters(case, exp):
    # is the root mean square of theirs
    for per in ('layer', 'groups'):
        plain = case.layer()
        plain.W.set_value(rng().randn(*plain.W.get_value().shape))
        W = plain.W.get_value()
        number = 1 if per == 'layer' else groups(number_of(plain, case))
        l = weight_norm(plain, eps=1e-2, g=Gain(
            'norm', per if per == 'layer' else number, exp))
        squares = np.moveaxis(norms(case, W, 1e-2) ** 2, case.filter_axis, 0)
        np.testing.assert_allclose(l.g.eval().ravel(), np.sqrt(np.mean(
            squares.reshape((number, -1)), axis=1)), rtol=1e-12)


# --- data-dependent initialization -------------------------------------------

def factors(std, degenerate, init_stdv, per):
    """What g is multiplied by, per filter."""
    if per in ('filter', 'position'):
        return np.where(degenerate, 1, init_stdv /
                        np.where(degenerate, 1, std))
    number = 1 if per == 'layer' else groups(len(std))
    result = []
    for s, bad, wanted in zip(*[np.split(v * np.ones_like(std), number)
                                for v in (std, degenerate, init_stdv)]):
        good = bad == 0
        factor = (np.sqrt(np.mean(wanted[good] ** 2) / np.mean(s[good] ** 2))
                  if good.any() else 1)
        result += [factor] * len(s)
    return np.array(result)


def check_updates(l, per, exp, data, degenerate=0.):
    """One initializing pass against NumPy; the deviations after it."""
    l.g_param.set_value(np.asarray(
        rng().rand(*l.g_param.get_value().shape) + .5))
    x = lasagne.layers.get_all_layers(l)[0].input_var
    t = theano.function([x], get_output(l.input_layer))(data)
    axis = l.dimshuffle_args.index(0)
    t = np.moveaxis(t, axis, 0).reshape((t.shape[axis], -1))
    factor = factors(t.std(axis=1), degenerate, l.init_stdv, per)
    old = l.g_param.get_value()
    # one number per parameter
    each = (factor.reshape(old.shape + (-1,))[..., 0]
            if per != 'position' else
            factor.reshape((-1,) + (1,) * (old.ndim - 1)))
    result = theano.function([x], get_output(l, init=True),
                             updates=l.init_updates)(data)
    assert [param for param, _ in l.init_updates] == [l.b, l.g_param]
    np.testing.assert_allclose(
        l.g_param.get_value(), old + np.log(each) if exp else old * each,
        rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(l.b.get_value(), -t.mean(axis=1) * factor,
                               rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(theano.function([x], get_output(l))(data),
                               result, rtol=1e-9, atol=1e-9)
    return np.moveaxis(result, axis, 0).reshape((len(factor), -1)).std(axis=1)


@some_forms
@pytest.mark.parametrize('name', [
    'dense', 'dense, 2 leading axes', 'conv2d', 'local'])
def test_updates(name, form):
    case = BY_NAME[name]
    make, per, exp = FORMS[form]
    layer = case.layer(nonlinearity=None)
    n = number_of(layer, case)
    init_stdv = 2. if case.name == 'conv2d' else np.linspace(.5, 2, n)
    l = weight_norm(layer, g=make(n), init_stdv=init_stdv)
    std = check_updates(l, per, exp, case.data(rng()))
    # exactly, or on average
    wanted = init_stdv * np.ones(n)
    if per in ('layer', 'groups'):
        number = 1 if per == 'layer' else groups(n)
        std, wanted = [np.sqrt(np.mean(np.square(v).reshape(
            (number, -1)), axis=1)) for v in (std, wanted)]
    np.testing.assert_allclose(std, wanted, rtol=1e-9)


@some_forms
@pytest.mark.parametrize('constant', [(0,), (0, 1), (0, 1, 2, 3)])
def test_degenerate_filters(form, constant):
    # stay out of the average; where all are degenerate, g stays
    make, per, exp = FORMS[form]
    X = rng().randn(37, 5)
    X[:, list(constant)] = 1 / 3.
    l = weight_norm(dense(W=np.eye(5, 4), nonlinearity=None), eps=0.,
                    g=make(4))
    check_updates(l, per, exp, X, degenerate=np.isin(
        np.arange(4), constant).astype(float))


@pytest.mark.parametrize('per', ['filter', 'layer', 2])
def test_updates_of_small_and_large_deviations(per, floatX):
    # whose squares are 0 or infinite; of one layer even
    X = rng().randn(20, 5).astype(floatX) * np.array(
        [1e-25, 1e-25, 1e25, 1e25, 1], floatX)
    l = weight_norm(dense(W=np.eye(5, 4).astype(floatX), nonlinearity=None),
                    g=Gain(per=per), eps=0.)
    result = get_output(l, X, init=True).eval()
    std = result.astype('float64').std(axis=0)
    if per == 'filter':
        np.testing.assert_allclose(std, 1, rtol=1e-3)
    else:
        number = 1 if per == 'layer' else 2
        np.testing.assert_allclose(np.mean(
            std.reshape((number, -1)) ** 2, axis=1), 1, rtol=1e-3)


@pytest.mark.parametrize('per, shape', [
    ('filter', (4,)), ('layer', ()), (2, (2,))])
@pytest.mark.parametrize('exp', [False, True])
def test_an_expression_is_not_updated(per, shape, exp):
    X = rng().randn(9, 5)
    given = theano.shared(np.asarray(rng().rand(*shape) + .5))
    l = weight_norm(dense(nonlinearity=None),
                    g=Gain(1. * given, per=per, exp=exp))
    x = l.input_layer.input_layer.input_var
    result = theano.function([x], get_output(l, init=True),
                             updates=l.init_updates)(X)
    assert [param for param, _ in l.init_updates] == [l.b]
    np.testing.assert_allclose(result.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(output(l, X), result, rtol=1e-9, atol=1e-12)
    # a shared variable is
    l = weight_norm(dense(nonlinearity=None),
                    g=Gain(given, per=per, exp=exp))
    get_output(l, X, init=True)
    assert [param for param, _ in l.init_updates] == [l.b, given]


# --- repr --------------------------------------------------------------------

def test_no_gain_is_no_form():
    with pytest.raises(TypeError, match='g=None'):
        Gain(None)


def test_repr():
    for gain, text in ((Gain(), 'Gain()'), (Gain('norm'), "'norm'"),
                       (Gain(exp=True), "'exp'"), (Gain(2.), 'Gain(2.0)'),
                       (Gain(per=2), 'Gain(per=2)'),
                       (Gain('norm', 'layer', True),
                        "Gain('norm', per='layer', exp=True)")):
        assert repr(gain) == text
    assert "(None, 4), g='norm', " in repr(weight_norm(dense(), g='norm'))
    assert 'g=' not in repr(weight_norm(dense()))
    assert repr(WeightNormLayer(dense(b=None), g=Gain(2, 'layer'))) == (
        "WeightNormLayer(DenseLayer (None, 4), g=Gain(2, per='layer'))")


# --- bad input ---------------------------------------------------------------

@pytest.mark.parametrize('args, error', [
    (('nrom',), ValueError), (('norm', 'filters'), ValueError),
    (('norm', 0), ValueError), (('norm', -2), ValueError),
    (('norm', True), TypeError), (('norm', 2.), TypeError),
    (('norm', None), TypeError), (('norm', np.ones(2)), TypeError)])
def test_no_such_form(args, error):
    with pytest.raises(error) as info:
        Gain(*args)
    assert str(info.value).endswith('got %r' % args[-1])


def fails(name):
    def init(shape):
        raise AssertionError('no %s is drawn' % name)
    return init


def drawn(value):
    return lambda shape: np.full(shape, value)


@pytest.mark.parametrize('g, error, match', [
    ('nrom', ValueError, "form of g 'nrom' is unknown, there are 'exp', "
     "'norm' and Gain"),
    (2., TypeError, r"Gain\(2.0\); one g for the whole layer: "
     r"Gain\(2.0, per='layer'\)"),
    (True, TypeError, 'g must be an initializer'),
    (np.array(2.), ValueError, r"g has shape \(\), must have \(4,\). For one "
     r"g for the whole layer: Gain\(..., per='layer'\)"),
    (theano.shared(np.array(2.)), ValueError, r"shape \(\).*per='layer'"),
    (T.constant(2.), ValueError, r"shape \(\).*per='layer'"),
    (T.exp(theano.shared(np.array(2.))), ValueError, r"\(\).*per='layer'"),
    (Gain(np.array(2.)), ValueError, r"shape \(\).*per='layer'"),
    (Gain(np.ones(4), per='layer'), ValueError,
     r'g has shape \(4,\), must have \(\)'),
    (Gain(np.ones(4), per=2), ValueError,
     r'g has shape \(4,\), must have \(2,\)'),
    (Gain(np.ones(3), exp=True), ValueError,
     r's has shape \(3,\), must have \(4,\)'),
    (Gain(per=3), ValueError, '4 filters cannot be divided into 3 groups'),
    (Gain(per=8), ValueError, '4 filters cannot be divided into 8 groups'),
    (Gain([1., 2., 3., 4.]), TypeError, 'g must be an initializer'),
    (Gain({}), TypeError, 'g must be an initializer'),
    (Gain(np.array([1j] * 4)), TypeError, 'dtype complex128'),
    (Gain(theano.shared(np.arange(4))), TypeError, 'must be floating point'),
    (Gain(np.nan), ValueError, 'NaN'),
    (Gain(np.inf), ValueError, 'infinity'),
    (Gain(np.array([1, 2, np.nan, 4])), ValueError, 'NaN'),
    (Gain(drawn(np.nan)), ValueError, 'NaN'),
    (Gain(drawn(np.nan), exp=True), ValueError, 'NaN'),
    (Gain(0., exp=True), ValueError, 'cannot start from 0 or less'),
    (Gain(-1, 'layer', True), ValueError, 'cannot start from 0 or less'),
    (Gain(np.array([1., 0, 1, 1]), exp=True), ValueError, '0 or less'),
    (Gain(drawn(-1.), exp=True), ValueError, '0 or less'),
    (Gain(lambda shape: np.ones(3)), ValueError, r'must have \(4,\)'),
    (Gain(lambda shape: None), TypeError, 'initializer of g returned None'),
])
@pytest.mark.parametrize('wrapper', [weight_norm, WeightNormLayer])
def test_refused(g, error, match, wrapper):
    layer = dense(name='fc', b=Constant(3.))
    refused(error, match, layer, wrapper, g=g, W=fails('W'))
    assert layer.b.get_value().tolist() == [3.] * 4


def test_what_the_precision_cannot_hold(floatX):
    for value, exp in ((1e300, False), (1e300, True), (1e-50, True)):
        if floatX == 'float32':
            refused(ValueError, 'infinity|0 or less', g=Gain(value, exp=exp))
        else:
            g = weight_norm(dense(), g=Gain(value, exp=exp)).g
            np.testing.assert_allclose(g.eval(), value, rtol=1e-10)


def test_norm_of_NaN():
    W = np.ones((5, 4))
    W[1, 2] = np.nan
    refused(ValueError, 'W contains NaN', dense(name='fc', W=W), g='norm')


def test_norm_of_what_has_no_value():
    layer = dense(name='fc')
    layer.W = layer.W * T.scalar('z')
    refused(ValueError, 'W depends on z', layer, g='norm')
    layer = dense(name='fc')
    layer.b = layer.b * T.scalar('z')
    refused(ValueError, 'b depends on z', layer, g='norm')
