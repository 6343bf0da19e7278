"""All rewrites together: optimizers, regularizers, what users do, any net."""
import os
import pickle
from collections import OrderedDict

import hypothesis
import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from hypothesis import strategies as st
from lasagne.layers import DenseLayer, InputLayer, get_all_params, get_output
from lasagne.regularization import (apply_penalty, l1, l2,
                                    regularize_layer_params_weighted,
                                    regularize_network_params)

import running
from . import nets
from .nets import NETS, Training, counts, printed

# Theano's own product of scalars, in Python
pytestmark = pytest.mark.filterwarnings('ignore:`product` is deprecated')


# --- optimizers --------------------------------------------------------------

def by_name(name, **kwargs):
    """One of Lasagne's."""
    return lambda net: getattr(lasagne.updates, name)(
        net.cost, net.params, **kwargs)


#: Linear in the gradient.
STEPS = {
    'sgd': by_name('sgd', learning_rate=.1),
    'momentum': by_name('momentum', learning_rate=.05),
    'nesterov_momentum': by_name('nesterov_momentum', learning_rate=.05)}
#: What divides by a size of the gradient.
ADAPTIVE = {name: by_name(name, learning_rate=.01)
            for name in ('adagrad', 'rmsprop', 'adadelta', 'adam', 'adamax',
                         'amsgrad') if hasattr(lasagne.updates, name)}


def norm_constraint(net):
    """Filters of limited norm, after the step."""
    updates = STEPS['sgd'](net)
    for param in net.params:
        if param.ndim == 2:
            updates[param] = lasagne.updates.norm_constraint(
                updates[param], .5)
    return updates


def total_norm_constraint(net):
    """A gradient of limited norm."""
    return lasagne.updates.sgd(lasagne.updates.total_norm_constraint(
        T.grad(net.cost, net.params), .05), net.params, .1)


def decay(net):
    """Updates that do not come of a gradient alone."""
    updates = STEPS['momentum'](net)
    return OrderedDict((v, new * .99 if v.ndim == 2 else new)
                       for v, new in updates.items())


def averages(net):
    """Polyak's, beside the parameters themselves."""
    updates = ADAPTIVE['adam'](net)
    for param in net.params:
        mean = theano.shared(param.get_value(),
                             broadcastable=param.broadcastable)
        updates[mean] = .9 * mean + .1 * updates[param]
    return updates


STEPS.update((rule.__name__, rule) for rule in (
    norm_constraint, total_norm_constraint, decay))
ADAPTIVE['averages'] = averages
RULES = dict(STEPS, **ADAPTIVE)

with_and_without = pytest.mark.parametrize('excluding', [[], ['wnorm']],
                                           ids=['rewritten', 'as it is'])


@with_and_without
@pytest.mark.parametrize('name', list(RULES))
def test_optimizer(name, excluding):
    training = Training(NETS['dense'], RULES[name],
                        mode=nets.python(*excluding))
    reference = Training(NETS['dense'], RULES[name], nets.by_formula)
    nets.check(training, reference, 1e-12)
    nets.check(training, reference, 1e-8, 20, same_state=False)


@pytest.mark.slow
@with_and_without
@pytest.mark.parametrize('name', list(RULES))
def test_optimizer_float32(name, excluding):
    training = Training(NETS['dense'], RULES[name], dtype='float32',
                        mode=nets.python(*excluding))
    reference = Training(NETS['dense'], RULES[name], nets.by_formula)
    if name in STEPS:
        nets.check(training, reference, 1e-5, 20, same_state=False)
    else:
        nets.check(training, reference, 1e-5)


# --- regularizers ------------------------------------------------------------

#: Functions of the layers of a net.
PENALTIES = {
    'l2 of V': lambda layers: regularize_network_params(layers[-1], l2),
    'l1 of V': lambda layers: regularize_network_params(layers[-1], l1),
    'l2 of V, by layer': lambda layers: regularize_layer_params_weighted(
        OrderedDict([(layers[1].input_layer, .5),
                     (layers[2].input_layer, 2.)]), l2),
    'l2 of all': lambda layers: apply_penalty(
        get_all_params(layers[-1], trainable=True), l2),
    'l2 of W': lambda layers: apply_penalty(
        [layer.input_layer.W for layer in layers[1:]], l2),
    'l1 of W': lambda layers: apply_penalty(
        [layer.input_layer.W for layer in layers[1:]], l1),
    'l2 of one W': lambda layers: l2(layers[1].input_layer.W),
    'norms of W': lambda layers: T.sum(T.sqr(T.sqrt(T.sum(T.sqr(
        layers[1].input_layer.W), axis=0)) - 1))}
#: The Ops that are left of the weights of two layers.
FACTORED = {'FilterScale': 2, 'FactoredGradient': 2, 'ProductEpilogue': 2}
LEFT = {name: FACTORED if name in (
    'l2 of V', 'l1 of V', 'l2 of V, by layer', 'l2 of all') else {
        'NormalizedWeight': 2, 'NormalizedWeightGrad': 2}
    for name in PENALTIES}
for name in ('l2 of one W', 'norms of W'):
    LEFT[name] = {'FilterScale': 1, 'FactoredGradient': 1,
                  'ProductEpilogue': 1, 'NormalizedWeight': 1,
                  'NormalizedWeightGrad': 1}


def regularized(penalty):
    def build(weight):
        layers = nets.mlp(weight)
        return nets.trained(layers, nets.squares(get_output(layers[-1])) +
                            .01 * PENALTIES[penalty](layers))
    return build


@with_and_without
@pytest.mark.parametrize('name', [
    pytest.param('sgd', marks=pytest.mark.slow),
    pytest.param('momentum', marks=pytest.mark.slow), 'adam'])
@pytest.mark.parametrize('penalty', list(PENALTIES))
def test_regularizer(penalty, name, excluding):
    training = Training(regularized(penalty), RULES[name],
                        mode=nets.python(*excluding))
    reference = Training(regularized(penalty), RULES[name], nets.by_formula)
    nets.check(training, reference, 1e-12)
    nets.check(training, reference, 1e-8, 20, same_state=False)
    if not excluding:
        assert counts(training.function) == LEFT[penalty]


@pytest.mark.slow
@with_and_without
@pytest.mark.parametrize('penalty', list(PENALTIES))
def test_regularizer_float32(penalty, excluding):
    reference = Training(regularized(penalty), nets.gradients,
                         nets.by_formula)
    training = Training(regularized(penalty), nets.gradients, dtype='float32',
                        mode=nets.python(*excluding))
    nets.check(training, reference, 1e-5)
    reference = Training(regularized(penalty), RULES['momentum'],
                         nets.by_formula)
    training = Training(regularized(penalty), RULES['momentum'],
                        dtype='float32', mode=nets.python(*excluding))
    nets.check(training, reference, 1e-5, 20, same_state=False)


# --- what users do -----------------------------------------------------------

def test_updates_in_two_functions():
    # a generator's and a discriminator's, in turn
    def functions(weight, mode):
        lasagne.random.set_rng(np.random.RandomState(5))
        net = NETS['two networks'](weight)
        half = len(net.params) // 2
        made = [theano.function(net.inputs, net.cost, updates=RULES[name](
            net._replace(params=params)), mode=mode) for name, params in (
                ('adam', net.params[:half]), ('sgd', net.params[half:]))]
        for step in range(6):
            rng = np.random.RandomState(step)
            made[step % 2](*[rng.uniform(-1, 1, s) for s in net.shapes])
        return [param.get_value() for param in net.params]

    nets.same(functions(nets.by_op, nets.python()),
              functions(nets.by_formula, None), 1e-10)


def test_averages_as_givens():
    # the network with Polyak's averages in place of its parameters
    results = []
    for weight, mode in ((nets.by_op, nets.python()),
                         (nets.by_formula, None)):
        lasagne.random.set_rng(np.random.RandomState(5))
        layers = nets.mlp(weight)
        params = get_all_params(layers[-1])
        means = [theano.shared(param.get_value() * .9 + .1)
                 for param in params]
        cost = nets.squares(get_output(layers[-1]))
        f = theano.function([layers[0].input_var], [cost] + T.grad(
            cost, params), givens=list(zip(params, means)), mode=mode)
        results.append(f(np.random.RandomState(1).randn(6, 5)))
        if mode:
            assert counts(f) == {'FilterScale': 2, 'FactoredGradient': 2,
                                 'ProductEpilogue': 2}
    nets.same(results[0], results[1], 1e-12)


@pytest.mark.filterwarnings('ignore::DeprecationWarning:theano')
def test_training_in_scan():
    # the layer is applied to each step of a sequence; its weight goes round
    # the loop, not through it
    def build(weight):
        sequence = T.tensor3('sequence')
        layer = InputLayer((None, 4), T.matrix('x'))
        layer = nets.wrap(DenseLayer(layer, 4, nonlinearity=T.tanh), weight,
                          train_g=True)
        outputs, _ = theano.scan(
            lambda x, h: get_output(layer, x + h), sequences=sequence,
            outputs_info=T.zeros_like(sequence[0]))
        return nets.Net([sequence], [(3, 2, 4)],
                        T.mean(T.sqr(outputs[-1] - .5)),
                        get_all_params(layer, trainable=True))

    training = Training(build, nets.gradient_descent, mode=nets.python())
    reference = Training(build, nets.gradient_descent, nets.by_formula)
    nets.check(training, reference, 1e-12)


def test_pickled_function():
    training = Training(NETS['dense'], RULES['adam'], mode=nets.python())
    again = pickle.loads(pickle.dumps(training.function))
    # with shared variables of its own
    values = [np.random.RandomState(n).randn(6, 5) for n in range(4)]
    for value in values:
        np.testing.assert_array_equal(again(value), training.function(value))
    assert counts(again) == FACTORED


@pytest.mark.parametrize('mode', [
    theano.Mode('py', optimizer=None), theano.Mode('py', 'merge'),
    theano.Mode('py', 'fast_compile')], ids=str)
def test_little_rewriting(mode):
    mode = mode.excluding(*theano.config.optimizer_excluding.split(':'))
    training = Training(NETS['dense'], RULES['adam'], mode=mode)
    reference = Training(NETS['dense'], RULES['adam'], nets.by_formula)
    nets.check(training, reference, 1e-12)
    assert counts(training.function) == {
        'NormalizedWeight': 2, 'NormalizedWeightGrad': 2}


def test_switched_off():
    # one at a time, too
    def ops(*excluding):
        return counts(Training(NETS['dense'], RULES['adam'], mode=nets.python(
            *excluding)).function)

    whole = {'NormalizedWeight': 2, 'NormalizedWeightGrad': 2}
    assert ops('wnorm') == whole
    assert ops('wnorm_factoring') == whole
    assert ops('wnorm_epilogue') == {'FilterScale': 2, 'FactoredGradient': 2}
    assert ops('wnorm_inplace') == FACTORED


SWITCHED_OFF = """
import theano
from ops import nets
from ops.nets import NETS, Training, counts
f = Training(NETS['dense'], nets.gradient_descent,
             mode=theano.Mode('py', 'fast_run').excluding(
                 *theano.config.optimizer_excluding.split(':'))).function
print(theano.config.optimizer_excluding.split(':')[-1],
      sorted(counts(f).items()))
"""


@pytest.mark.parametrize('flag, want', [
    (':wnorm', "wnorm [('NormalizedWeight', 2), ('NormalizedWeightGrad', 2)]"),
    ('', "local_conv3d_gradinputs_cpu [('FactoredGradient', 2), "
     "('FilterScale', 2), ('ProductEpilogue', 2)]")])
@pytest.mark.slow
def test_switched_off_by_a_flag(flag, want, tmp_path):
    path = tmp_path / 'program.py'
    path.write_text(SWITCHED_OFF)
    done = running.python(
        path, cwd=tmp_path, PYTHONPATH=running.first_on_path(
            os.path.dirname(running.__file__)),
        THEANO_FLAGS='%s,optimizer_excluding=%s%s' % (
            os.environ['THEANO_FLAGS'],
            theano.config.optimizer_excluding, flag))
    assert running.silent(done) == want + '\n'


def test_graphs_are_deterministic():
    # what is compiled once is found again
    first, second = [printed(Training(NETS['two networks'], RULES['adam'],
                                      mode=nets.python()).function)
                     for _ in range(2)]
    assert first == second


# --- strict checks -----------------------------------------------------------

@pytest.mark.slow
@pytest.mark.parametrize('name, floatX', [
    ('dense', 'float64'), ('tied weight', 'float64'),
    ('tied direction', 'float32')])
def test_debug_mode(name, floatX):
    # That each rewrite leaves the values, and each Op its inputs, alone, and
    # that C and Python agree. Not marked as compiled: the sanitizers would
    # spend half an hour on Theano's own Ops; test_compiled has the same ones
    # of ours.
    mode = theano.compile.DebugMode(
        optimizer='fast_run', stability_patience=2, check_py_code=True,
        check_c_code=True, check_isfinite=True, require_matching_strides=2,
        check_preallocated_output='ALL')
    training = Training(
        NETS[name], RULES['adam'], dtype=floatX, mode=mode.excluding(
            *theano.config.optimizer_excluding.split(':')))
    assert name != 'dense' or counts(training.function) == FACTORED
    reference = Training(NETS[name], RULES['adam'], nets.by_formula)
    nets.check(training, reference, 1e-12 if floatX == 'float64' else 1e-4, 2)


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize('name', ['dense', 'two applications'])
def test_compiled(name, floatX):
    mode = theano.Mode('cvm', 'fast_run').excluding(
        *theano.config.optimizer_excluding.split(':'))
    training = Training(NETS[name], RULES['adam'], dtype=floatX, mode=mode)
    assert counts(training.function)['ProductEpilogue'] == 2
    reference = Training(NETS[name], RULES['adam'], nets.by_formula)
    nets.check(training, reference, 1e-12 if floatX == 'float64' else 1e-5)


# --- any net -----------------------------------------------------------------

layers = st.fixed_dictionaries(dict(
    units=st.integers(1, 4),
    gain=st.sampled_from(['trained', 'fixed', None]),
    bias=st.booleans(),
    eps=st.sampled_from([1e-6, .1, 0.]),
    nonlinearity=st.sampled_from(['tanh', 'sigmoid', None]),
    # 'W' where the layer below has as many units as inputs
    tied=st.sampled_from([None, None, 'V', 'W'])))
any_net = st.fixed_dictionaries(dict(
    layers=st.lists(layers, min_size=1, max_size=3),
    inputs=st.integers(1, 4),
    rows=st.integers(1, 4),
    one_row=st.booleans(),
    # layers whose W, and whose gradient, are used otherwise
    penalties=st.dictionaries(st.integers(0, 2), st.sampled_from(
        ['V', 'W', 'W.T', 'dW']), max_size=2),
    applications=st.integers(1, 2),
    decoder=st.sampled_from([None, None, 'W', 'V']),
    outputs=st.sets(st.sampled_from(['W', 'V', 'dV', 'output'])),
    rule=st.sampled_from(['sgd', 'momentum', 'nesterov_momentum', 'adam',
                          'rmsprop', 'decay', 'total_norm_constraint',
                          'norm_constraint', 'some']),
    seed=st.integers(0, 5)))

# not adaptive where a gradient is but rounding
SOFT = dict(RULES, adam=by_name('adam', learning_rate=.01, epsilon=.1),
            rmsprop=by_name('rmsprop', learning_rate=.01, epsilon=.1),
            some=lambda net: lasagne.updates.momentum(
                net.cost, net.params[::2], .1))


def build(spec):
    """The net of a specification, and what it returns."""
    lasagne.random.set_rng(np.random.RandomState(spec['seed']))
    x = T.row('x') if spec['one_row'] else T.matrix('x')
    rows = 1 if spec['one_row'] else spec['rows']
    layer = first = InputLayer((1 if spec['one_row'] else None,
                                spec['inputs']), x)
    wrapped = []
    for options in spec['layers']:
        kwargs = dict(g=None) if options['gain'] is None else dict(
            train_g=options['gain'] == 'trained')
        if not options['bias']:
            kwargs['b'] = None
        made, units = {}, options['units']
        shape = (layer.output_shape[1], units)
        if wrapped and options['tied'] and (
                wrapped[-1].input_layer.W_param.get_value().shape == shape):
            made['W'] = wrapped[-1].input_layer.W_param
            if options['tied'] == 'W' and wrapped[-1].g is not None:
                kwargs.update(g=wrapped[-1].g, train_g=False)
                options = dict(options, eps=wrapped[-1].eps)
        nonlinearity = options['nonlinearity'] and getattr(
            lasagne.nonlinearities, options['nonlinearity'])
        layer = nets.wrap(
            DenseLayer(layer, units, nonlinearity=nonlinearity, **made),
            nets.by_op, eps=options['eps'], **kwargs)
        wrapped.append(layer)
    output = get_output(layer)
    if spec['decoder'] == 'W':
        output = T.tanh(T.dot(output, wrapped[-1].input_layer.W.T))
    elif spec['decoder'] == 'V':
        output = T.dot(output, nets.by_op(
            wrapped[-1].input_layer.W_param.T, T.constant(np.ones((1, 1))),
            (0,)))
    cost = T.mean(T.sqr(output - .3))
    inputs, shapes = [x], [(rows, spec['inputs'])]
    if spec['applications'] == 2:
        inputs.append(T.matrix('other'))
        shapes.append((3, spec['inputs']))
        cost += T.mean(T.sqr(get_output(layer, inputs[1]) + .2))
    params = get_all_params(layer, trainable=True)
    outputs = [cost]
    for n, kind in sorted(spec['penalties'].items()):
        below = wrapped[n % len(wrapped)].input_layer
        if kind == 'V':
            cost += .1 * T.sum(T.sqr(below.W_param))
        elif kind == 'W':
            cost += .1 * T.sum(abs(below.W + .1))
        elif kind == 'W.T':
            cost += .1 * T.sum(T.sqr(T.dot(below.W.T, below.W)))
        else:
            outputs.append(T.grad(cost, below.W))
    V = wrapped[0].input_layer.W_param
    outputs += {'W': [wrapped[0].input_layer.W], 'V': [V],
                'dV': [T.grad(cost, V)], 'output': [output]}.get(
                    (sorted(spec['outputs']) or [None])[0], [])
    return nets.Net(inputs, shapes, cost, params), outputs


def any_net_agrees(spec):
    net, outputs = build(spec)
    updates = SOFT[spec['rule']](net)
    start = [v.get_value() for v in updates]
    rewritten, plain = [theano.function(
        net.inputs, outputs, updates=updates, mode=mode)
        for mode in (nets.python(), nets.python('wnorm'))]
    rng = np.random.RandomState(spec['seed'])
    for _ in range(2):
        values = [rng.uniform(-1, 1, shape) for shape in net.shapes]
        results = []
        for function in (rewritten, plain):
            for v, value in zip(updates, start):
                v.set_value(value)
            results.append(function(*values))
            results[-1] += [v.get_value() for v in updates]
        for got, want in zip(*results):
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)
        start = results[1][len(outputs):]


@hypothesis.settings(deadline=None, derandomize=True, database=None,
                     max_examples=10)
@hypothesis.given(any_net)
def test_any_net(spec):
    any_net_agrees(spec)


@pytest.mark.slow
@hypothesis.settings(deadline=None, database=None, max_examples=150)
@hypothesis.given(any_net)
def test_many_nets(spec):
    any_net_agrees(spec)
