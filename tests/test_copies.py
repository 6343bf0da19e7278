"""deepcopy, pickle, joblib, other processes: a network survives them all."""
import copy
import io
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import (
    ConcatLayer, CustomRecurrentLayer, DenseLayer, GRULayer, InputLayer,
    LSTMLayer, RecurrentLayer, dnn, get_all_layers,
    get_all_params, get_output)
from theano.compile import SharedVariable

from own_layers import LocallyConnected2DLayer
from wnorm import Gain, initialize, normalize_param, weight_norm
from wnorm.layers import WeightNormLayer
from wnorm.parameters import all_records, with_inner_layers
from wnorm.recurrent import OutsideScan


def rng():
    return np.random.RandomState(0)


# --- networks ----------------------------------------------------------------

def chain(*gains):
    l = InputLayer((None, 4), T.matrix('x'))
    for g in gains:
        l = weight_norm(DenseLayer(l, 4), g=g, train_g=True)
    return l


def known(net):
    """Values that :func:`initialize` overwrites without a warning."""
    for layer in get_all_layers(net):
        if isinstance(layer, WeightNormLayer):
            layer.remember()
    return net


def forms():
    """Every form of g that has values of its own."""
    return known(chain(None, Gain('norm', per='layer'), np.arange(1., 5.),
                       Gain(2., per=2, exp=True)))


def variables():
    """One g that is a variable, one that is an expression of it."""
    g = theano.shared(np.arange(1., 5.), 'shared')
    return chain(g, T.sqr(g) + 1, Gain(g / 2, exp=True))


def tied():
    """Weights that share V: as a variable, and as an expression."""
    x = InputLayer((None, 4), T.matrix('x'))
    first, same, transposed = [DenseLayer(x, 4) for _ in range(3)]
    for layer, W in (same, first.W), (transposed, first.W.T):
        layer.params[first.W] = layer.params.pop(layer.W)
        layer.W = W
    return ConcatLayer([weight_norm(layer, train_g=True)
                        for layer in (first, same, transposed)])


def positions():
    l = InputLayer((None, 2, 3, 3), T.tensor4('x'))
    l = weight_norm(dnn.Conv2DDNNLayer(l, 2, 3, pad=1, untie_biases=True))
    return known(weight_norm(LocallyConnected2DLayer(l, 2, 3), g='norm',
                             train_g=True))


def sequences():
    return InputLayer((None, 3, 4), T.tensor3('x'))


def lstm():
    l = weight_norm(LSTMLayer(sequences(), 2), train_g=True)
    return weight_norm(DenseLayer(l, 3))


def gru():
    return weight_norm(GRULayer(sequences(), 2), g='exp', train_g=True)


def recurrent():
    l = weight_norm(RecurrentLayer(sequences(), 2), train_g=True)
    return weight_norm(DenseLayer(l, 3))


def custom():
    inner = DenseLayer(DenseLayer(InputLayer((None, 4)), 3), 2)
    hidden = DenseLayer(InputLayer((None, 2)), 2)
    return weight_norm(CustomRecurrentLayer(sequences(), inner, hidden),
                       train_g=True)


def by_name():
    l = DenseLayer(InputLayer((None, 4), T.matrix('x')), 4)
    return ConcatLayer([normalize_param(l, train_g=True), normalize_param(
        DenseLayer(l, 3), g='exp', train_g=True)])


NETS = [forms, variables, tied, positions, lstm, gru, recurrent, custom,
        by_name]


# --- ways to copy ------------------------------------------------------------

def through_pickle(protocol):
    return lambda net: pickle.loads(pickle.dumps(net, protocol))


def through_joblib(net):
    joblib = pytest.importorskip('joblib', reason='joblib is not installed')
    file = io.BytesIO()
    joblib.dump(net, file)
    file.seek(0)
    return joblib.load(file)


COPIES = {'deepcopy': copy.deepcopy, 'pickle 2': through_pickle(2),
          'pickle': through_pickle(pickle.HIGHEST_PROTOCOL),
          'joblib': through_joblib}

every_copy = pytest.mark.parametrize(
    'duplicate', list(COPIES.values()), ids=list(COPIES))


# --- what must hold ----------------------------------------------------------

def inputs(net):
    return next(layer for layer in get_all_layers(net)
                if isinstance(layer, InputLayer))


def data(net):
    return rng().randn(6, *inputs(net).shape[1:])


def values(net):
    return [param.get_value() for param in get_all_params(net)]


def equal(some, others):
    return len(some) == len(others) and all(
        np.array_equal(a, b) for a, b in zip(some, others))


def shared(expression):
    return {leaf for leaf in theano.gof.graph.inputs([expression])
            if isinstance(leaf, SharedVariable)}


def check_records(original, duplicate):
    """The copy's records speak of the copy, and say the same."""
    layers = with_inner_layers(get_all_layers(duplicate))
    assert not set(layers) & set(with_inner_layers(get_all_layers(original)))
    params = set(get_all_params(duplicate))
    assert not params & set(get_all_params(original))
    before, after = [all_records(get_all_layers(net))
                     for net in (original, duplicate)]
    assert len(before) == len(after) > 0
    for old, new in zip(before, after):
        assert new.layer in layers and new.owner in layers
        assert type(new.owner) is type(old.owner)
        assert (new.name, new.label, new.layout, new.eps, new.num_filters,
                repr(new.gain)) == (old.name, old.label, old.layout, old.eps,
                                    old.num_filters, repr(old.gain))
        assert getattr(new.layer, new.name + '_param') is new.V
        assert new.W is getattr(new.layer, new.name)
        known = shared(new.V)
        if new.g is not None:
            assert shared(new.g) == shared(new.g_param)
            known |= shared(new.g)
        assert shared(new.W) == known <= params
        np.testing.assert_array_equal(new.norms(), old.norms())
    assert equal(values(duplicate), values(original))


def step(net):
    """A function: the output, and then a step of gradient descent."""
    output = get_output(net)
    updates = lasagne.updates.sgd(
        T.mean(T.sqr(output - 3)), get_all_params(net, trainable=True), .1)
    return theano.function([inputs(net).input_var], output, updates=updates)


@every_copy
@pytest.mark.parametrize('make', NETS)
def test_records(make, duplicate):
    net = make()
    check_records(net, duplicate(net))


@pytest.mark.parametrize('make', NETS)
def test_a_copy_trains_independently(make):
    net = make()
    copies = [copy.deepcopy(net), through_pickle(pickle.HIGHEST_PROTOCOL)(net)]
    nets = copies + [net]
    x, start, steps = data(net), values(net), [step(one) for one in nets]
    outputs = []
    for number, one in enumerate(nets):
        outputs.append(steps[number](x))
        moved = values(one)
        # neither those to come, nor those that have moved already
        assert all(equal(values(other), start) for other in nets[number + 1:])
        assert all(equal(values(other), moved) for other in nets[:number])
    trainable = get_all_params(copies[0], trainable=True)
    for old, new, param in zip(start, moved, get_all_params(copies[0])):
        assert np.array_equal(old, new) == (param not in trainable)
    # they computed the same, and now they compute something else
    assert equal(outputs, 3 * [outputs[0]])
    again = [function(x) for function in steps]
    assert equal(again, 3 * [again[0]]) and not equal(again, outputs)


@pytest.mark.parametrize('make', [forms, tied, positions])
def test_before_and_after_initialization(make):
    net = make()
    x, before = data(net), values(net)
    fresh = copy.deepcopy(net)
    initialize(fresh, x)
    assert equal(values(net), before) and not equal(values(fresh), before)
    initialize(net, x)
    assert equal(values(fresh), values(net))
    for duplicate in COPIES.values():
        other = duplicate(net)
        check_records(net, other)
        assert not any(layer.changed() for layer in get_all_layers(other)
                       if isinstance(layer, WeightNormLayer))


@every_copy
def test_a_copy_remembers_what_was_known(duplicate):
    # initialize() warns before it overwrites trained values
    net = duplicate(known(chain('norm')))
    x = data(net)
    initialize(net, x)  # without a warning
    net.g.set_value(2 * net.g.get_value())
    net = duplicate(net)
    with pytest.warns(UserWarning, match='have been changed since'):
        initialize(net, x)


@every_copy
def test_after_an_init_pass(duplicate):
    # with expressions of that pass in attributes
    net = known(chain('norm'))
    get_output(net, init=True)
    other = duplicate(net)
    assert [param for param, _ in other.init_updates] == [other.b, other.g]
    theano.function([inputs(other).input_var],
                    updates=other.init_updates)(data(net))
    initialize(net, data(net))
    for a, b in zip(values(other), values(net)):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@every_copy
def test_a_copy_normalizes_outside_the_scan(duplicate):
    net = duplicate(recurrent())
    layer = net.input_layer.input_layer
    assert isinstance(layer.get_output_for, OutsideScan)
    assert layer.get_output_for.layer is layer
    assert layer.W_hid_to_hid is layer.hidden_to_hidden.W
    assert layer.g_W_hid_to_hid is layer.hidden_to_hidden.g_W
    # the loop is given the effective weight
    scan, = [apply.op for apply in theano.gof.graph.io_toposort(
        [], [get_output(net)]) if type(apply.op).__name__ == 'Scan']
    inside = [type(apply.op).__name__ for apply in
              theano.gof.graph.io_toposort(scan.inputs, scan.outputs)]
    assert 'Dot' in inside and 'NormalizedWeight' not in inside


def test_what_is_copied_together_stays_together():
    net = tied()
    for net, hidden in (
            copy.deepcopy([net, net.input_layers[0]]),
            pickle.loads(pickle.dumps([net, net.input_layers[0]]))):
        assert net.input_layers[0] is hidden
        first, same, transposed = [l.input_layer for l in net.input_layers]
        assert first.W_param is same.W_param
        assert shared(transposed.W_param) == {first.W_param}


# --- other processes ---------------------------------------------------------

def in_the_other_process(net, x):
    """The output there, and the network after a step that is taken there."""
    return step(net)(x), net


def test_a_spawned_process():
    nets = [forms(), recurrent()]
    initialize(nets[0], data(nets[0]))
    with ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context('spawn')) as pool:
        runs = [pool.submit(in_the_other_process, net, data(net))
                for net in nets]
        for net, run in zip(nets, runs):
            before = values(net)
            output, trained = run.result(timeout=300)
            assert equal(values(net), before)
            assert not equal(values(trained), before)
            np.testing.assert_allclose(step(net)(data(net)), output,
                                       rtol=1e-12)
            check_records(net, trained)
