"""initialize from many batches."""
import gc
import io
import sys
import warnings
import weakref

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.init import Constant, Normal
from lasagne.layers import (
    ConcatLayer, DenseLayer, DimshuffleLayer, DropoutLayer, ElemwiseSumLayer,
    GaussianNoiseLayer, InputLayer, Layer, MergeLayer, NINLayer,
    NonlinearityLayer, dnn, get_all_layers, get_output)
from lasagne.nonlinearities import rectify, tanh
from theano.gof.vm import VM_Linker
from theano.sandbox.rng_mrg import MRG_RandomStreams

from test_initialization import net, normalized, preactivations, values
from wnorm import Gain, initialize, weight_norm
from wnorm.initialization.moments import Moments
from wnorm.layers import WeightNormLayer
from wnorm.mean_only import MeanOnlyBatchNormLayer


def data(n=40, *shape):
    X = np.random.RandomState(0).randn(n, *(shape or (5,)))
    return X.astype(theano.config.floatX)


def parts(X, *sizes):
    """Batches of different lengths."""
    return np.split(X, np.cumsum(sizes or (7, 16)))


def branching_net():
    """Convolutions, two branches of different depth, several inits."""
    l = InputLayer((None, 2, 4, 4), T.tensor4('x'))
    l = weight_norm(dnn.Conv2DDNNLayer(l, 3, 3, name='conv'), init_stdv=.7)
    left = weight_norm(NINLayer(l, 2, nonlinearity=tanh), b=None)
    right = weight_norm(dnn.Conv2DDNNLayer(l, 2, 1, untie_biases=True))
    right = weight_norm(NINLayer(right, 2), g='exp')
    l = ConcatLayer([left, right, l])
    return weight_norm(DenseLayer(l, 3, nonlinearity=None),
                       init_stdv=np.array([1., 2., .5]))


def set_values(l, new):
    lasagne.layers.set_all_param_values(l, new)
    for layer in normalized(l):
        layer.remember()


# --- what it reaches -------------------------------------------------------

def check_row(row, t, before):
    """`t`, `before`: pre-activations of all the data at once."""
    axes = row.layer.axes_to_sum
    for got, expected in ((row.mean_before, before.mean(axis=axes)),
                          (row.std_before, before.std(axis=axes)),
                          (row.mean_after, t.mean(axis=axes)),
                          (row.std_after, t.std(axis=axes))):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


def test_statistics_of_the_concatenated_data():
    l = branching_net()
    X = data(9, 2, 4, 4) + 3.
    before = preactivations(l, X)
    report = initialize(l, parts(X, 2, 5))
    after = preactivations(l, X)
    for row, t, old in zip(report, after, before):
        check_row(row, t, old)
        np.testing.assert_allclose(row.std_after, row.layer.init_stdv *
                                   np.ones_like(row.std_after), rtol=1e-10)
    assert [row.layer for row in report] == normalized(l)


def test_as_from_one_batch():
    l = branching_net()
    start = values(l)
    X = data(7, 2, 4, 4)
    one = initialize(l, X, deterministic=True)
    expected = values(l)
    for batches in ([X], parts(X, 1)):
        set_values(l, start)
        many = initialize(l, batches)
        for a, b in zip(values(l), expected):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
        for row, other in zip(many, one):
            for a, b in zip(row[1:], other[1:]):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('offset', [1e6, -1e6])
def test_far_from_0(offset):
    X = data(300) + offset
    X[:100] += 1e3  # batches of different means
    l = weight_norm(DenseLayer(InputLayer((None, 5)), 4, W=np.eye(5, 4)),
                    eps=0., nonlinearity=None)
    row, = initialize(l, parts(X, 100, 130))
    exact = X[:, :4].astype('longdouble')
    mean, std = exact.mean(axis=0), exact.std(axis=0)
    np.testing.assert_allclose(row.mean_before, mean, rtol=1e-12)
    np.testing.assert_allclose(row.std_before, std, rtol=1e-10)
    np.testing.assert_allclose(l.g.get_value(), 1 / std, rtol=1e-10)
    np.testing.assert_allclose(l.b.get_value(), -mean / std, rtol=1e-10)


@pytest.mark.parametrize('scale', [1e-25, 1e20])
def test_float32(scale):
    # its statistics are taken in float64
    theano.config.floatX = 'float32'
    try:
        l = net(4, 3)
        X = data(200) * np.float32(scale)
        for row in initialize(l, parts(X, 50, 90)):
            np.testing.assert_allclose(row.std_after, 1, rtol=1e-12)
        for t in preactivations(l, X):
            np.testing.assert_allclose(t.std(axis=0), 1, rtol=1e-4)
        assert all(p.dtype == 'float32' for p in values(l))
    finally:
        theano.config.floatX = 'float64'


def test_moments_of_parts_are_those_of_the_whole():
    X = data(50, 3)
    X[:20] += 7.
    merged = Moments.of(X[:1])
    for part in (X[1:20], X[20:30], X[30:]):
        merged = merged.merge(Moments.of(part))
    assert merged.n == 50
    np.testing.assert_allclose(merged.mean, X.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(merged.std, X.std(axis=0), rtol=1e-13)
    np.testing.assert_allclose(merged.M2, 50 * X.var(axis=0), rtol=1e-13)
    # constant stays constant, to the last bit
    same = Moments.of([[.1]] * 3).merge(Moments.of([[.1]] * 4))
    assert same.mean == .1 and same.std == 0 and same.degenerate('float64')
    # where squares are 0 or infinity
    for scale in (1e-200, 1e200):
        m = Moments(1, [scale], [0.]).merge(Moments(1, [-scale], [0.]))
        np.testing.assert_allclose(m.std, scale)
        assert not m.degenerate('float64')


@pytest.mark.parametrize('form', [
    'norm', 'exp', Gain(per='layer'), Gain(per=2), Gain(per=2, exp=True)],
    ids=repr)
def test_forms_of_g(form):
    target = np.array([1., 2., .5, 3.])
    l = weight_norm(DenseLayer(net(6), 4, nonlinearity=None), g=form,
                    init_stdv=target)
    l.remember()  # no warning: nothing is lost here
    start = values(l)
    X = data()
    initialize(l, X)
    one = values(l)
    set_values(l, start)
    report = initialize(l, parts(X))
    for a, b in zip(values(l), one):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
    per = l.gain.per
    groups = {'filter': 4, 'layer': 1}.get(per, per)
    std = get_output(l, X).eval().std(axis=0)
    rms = [np.sqrt(np.mean(np.square(x).reshape((groups, -1)), axis=1))
           for x in (std, target)]
    np.testing.assert_allclose(rms[0], rms[1])
    np.testing.assert_allclose(report[1].std_after, std)


def test_what_is_not_updated():
    X = data(12, 2, 4, 4)
    l = InputLayer((None, 2, 4, 4), T.tensor4())
    # its bias varies over positions; neither it nor g are updated
    l = weight_norm(dnn.Conv2DDNNLayer(l, 3, 2, untie_biases=True),
                    b=2. * theano.shared(data(3, 3, 3)),
                    g=T.exp(theano.shared(np.zeros(3))))
    # the same, with a g that is
    l = weight_norm(dnn.Conv2DDNNLayer(l, 3, 1, untie_biases=True),
                    b=2. * theano.shared(data(3, 3, 3)))
    # a bias that the layer below has kept, of its own at each position
    below = dnn.Conv2DDNNLayer(l, 2, 1, untie_biases=True, nonlinearity=None,
                               b=data(2, 3, 3))
    l = WeightNormLayer(below)
    below = DenseLayer(l, 4, nonlinearity=None, b=np.arange(4.))
    l = WeightNormLayer(below)
    below = DenseLayer(l, 4, nonlinearity=None, b=np.arange(4.))
    l = WeightNormLayer(below, b=None, g=None)
    before = preactivations(l, X)
    report = initialize(l, parts(X, 5))
    for row, t, old in zip(report, preactivations(l, X), before):
        check_row(row, t, old)
    np.testing.assert_allclose(report[3].std_after, 1)
    np.testing.assert_allclose(report[3].mean_after, 0, atol=1e-10)


def test_several_inputs():
    a, b = InputLayer((None, 5), name='a'), InputLayer((None, 3), name='b')
    l = ElemwiseSumLayer([weight_norm(DenseLayer(a, 4)),
                          weight_norm(DenseLayer(b, 4))])
    l = weight_norm(DenseLayer(l, 3))
    X, Y = data(40), data(40, 3)
    batches = [{a: x, b: y} for x, y in zip(parts(X), parts(Y))]
    report = initialize(l, batches)
    t = get_output(l.input_layer, {a: X, b: Y}).eval() + l.b.get_value()
    np.testing.assert_allclose(t.std(axis=0), 1)
    np.testing.assert_allclose(report[2].std_after, 1)
    batches[1] = {a: X, b: Y[:, :2]}
    refused(ValueError, "batch 2: .*'b'.* has shape", l, batches)
    message = refused(ValueError, "batch 2: no data for InputLayer 'b'", l,
                      [batches[0], {a: X}])
    assert message.count('batch') == 2


def test_expression_that_only_some_batches_replace():
    a = InputLayer((None, 5), name='a')
    b = InputLayer((None, 5), theano.shared(data()), name='b')
    l = weight_norm(DenseLayer(ElemwiseSumLayer([a, b]), 3))
    X = data()
    for batches, where in (([{a: X}, {a: X, b: X}], 'this'),
                           ([{a: X, b: X}, {a: X}], 'the first')):
        refused(ValueError, "batch 2: there is data for InputLayer 'b' .* in "
                '%s batch only' % where, l, batches)


def test_degenerate_over_all_batches():
    l = net(4)
    l = weight_norm(DenseLayer(InputLayer((None, 5)), 5, W=np.eye(5),
                               name='fc'), g=Constant(2.), nonlinearity=None)
    X = data()
    X[:, 1] = .1
    X[:, 3] = np.repeat([0., 1.], 20)  # constant in each batch only
    with pytest.warns(UserWarning, match='filters 1 are constant') as record:
        report = initialize(l, parts(X, 20))
    assert len(record) == 1 and record[0].filename == __file__
    assert report[0].degenerate.tolist() == [False, True] + 3 * [False]
    assert l.g.get_value()[1] == 2.
    np.testing.assert_allclose(l.b.get_value()[1], -.2, rtol=1e-5)
    np.testing.assert_allclose(get_output(l, X).eval()[:, [0, 2, 3, 4]].std(
        axis=0), 1)


# --- how it gets there -----------------------------------------------------

class Counting(object):
    """Batches of which each must be dead when the next one is fetched."""

    def __init__(self, X, sizes=(7, 16)):
        self.X, self.sizes = X, sizes
        self.passes = 0
        self.refs = []

    def __iter__(self):
        self.passes += 1
        return Once(self, parts(self.X, *self.sizes))


class Once(object):
    def __init__(self, source, views):
        self.source, self.views = source, iter(views)

    def __iter__(self):
        return self

    def __next__(self):
        gc.collect()
        assert not any(ref() is not None for ref in self.source.refs)
        array = next(self.views).copy()
        self.source.refs.append(weakref.ref(array))
        return array


@pytest.mark.parametrize('depth', [1, 2, 4])
def test_one_pass_per_level_and_one_batch_in_memory(depth):
    batches = Counting(data())
    report = initialize(net(*[4] * depth), batches)
    assert batches.passes == depth
    assert len(batches.refs) == 3 * depth
    np.testing.assert_allclose(report[-1].std_after, 1)


def test_levels_go_by_the_longest_way():
    x = InputLayer((None, 5), T.matrix())
    one = weight_norm(DenseLayer(x, 4))
    two = weight_norm(DenseLayer(DropoutLayer(one), 4))
    top = [weight_norm(DenseLayer(ElemwiseSumLayer([one, two]), 3)),
           weight_norm(DenseLayer(x, 3))]
    batches = Counting(data())
    initialize(top, batches)
    assert batches.passes == 3


def test_compiles_as_many_functions_for_any_depth(monkeypatch):
    compiled = []
    function = theano.function

    def counting(*args, **kwargs):
        compiled.append(1)
        return function(*args, **kwargs)
    monkeypatch.setattr(theano, 'function', counting)
    counts = []
    for depth in (2, 6):
        del compiled[:]
        initialize(net(*[3] * depth), parts(data()))
        counts.append(len(compiled))
    assert counts == [3, 3]


def test_sources():
    X = data()

    class ByIndex(object):
        def __getitem__(self, number):
            return parts(X)[number]
    for source in (tuple(parts(X)), lambda: iter(parts(X)), Counting(X),
                   lambda: (part for part in parts(X)), ByIndex(),
                   lambda: parts(X)):
        report = initialize(net(), source)
        assert len(report) == 2
        np.testing.assert_allclose(report[1].std_after, 1)


def test_batch_is_still_the_keyword():
    assert len(initialize(net(), batch=parts(data()))) == 2
    assert len(initialize(net(), batch=data())) == 2


def test_one_shot():
    X = data()
    fetched = []

    def batches():
        for part in parts(X):
            fetched.append(part)
            yield part
    refused(ValueError, 'only once, .* takes 2 passes', net(), batches())
    assert not fetched
    report = initialize(net(4), batches())  # one level
    np.testing.assert_allclose(report[0].std_after, 1)


class Counted(Layer):
    """Counts how often it is computed."""

    def __init__(self, incoming, **kwargs):
        super(Counted, self).__init__(incoming, **kwargs)
        self.calls = []

    def get_output_for(self, input, **kwargs):
        @theano.compile.ops.as_op(itypes=[input.type], otypes=[input.type])
        def count(x):
            self.calls.append(1)
            return x.copy()
        return count(input)


@pytest.mark.parametrize('linker, calls', [
    (VM_Linker(use_cloop=True, c_thunks=False), 3 + 5 + 3),
    (VM_Linker(use_cloop=False, c_thunks=False), 3 * 3 + 5)],
    ids=['C', 'Python'])
def test_passes_compute_what_they_need(monkeypatch, linker, calls):
    # if Theano's loop in C runs the functions: the first pass, the search
    # for batch dependence, and the third pass. That in Python can't leave
    # anything out.
    monkeypatch.setattr(
        theano.compile.mode, 'instantiated_default_mode',
        theano.Mode(linker, theano.compile.mode.FAST_COMPILE.optimizer))
    counted = Counted(net(4, 3))
    l = weight_norm(DenseLayer(counted, 2))
    report = initialize(l, parts(data()))
    assert len(counted.calls) == calls
    monkeypatch.undo()
    for row, t in zip(report, preactivations(l, data())):
        np.testing.assert_allclose(row.std_after, t.std(axis=0), rtol=1e-10)
        np.testing.assert_allclose(t.mean(axis=0), 0, atol=1e-10)
        np.testing.assert_allclose(t.std(axis=0), 1, rtol=1e-10)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_bar(monkeypatch, capsys):
    pytest.importorskip('tqdm')
    initialize(net(), parts(data()))
    assert capsys.readouterr().err == ''  # no terminal
    shown = []
    for source in (parts(data()), lambda: parts(data())):
        monkeypatch.setattr(sys, 'stderr', Terminal())
        initialize(net(), source)
        shown.append(sys.stderr.getvalue())
        monkeypatch.undo()
    assert 'initialize: 100%' in shown[0] and '6/6' in shown[0]
    assert '6batch' in shown[1]
    assert capsys.readouterr().out == ''


def test_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tqdm', None)
    assert len(initialize(net(), parts(data()))) == 2


# --- bad input: an error, and nothing has changed --------------------------

def refused(error, match, network, batches, **kwargs):
    before = values(network)
    with pytest.raises(error, match=match) as info:
        initialize(network, batches, **kwargs)
    for a, b in zip(before, values(network)):
        np.testing.assert_array_equal(a, b)
    assert not any(layer.changed() for layer in normalized(network))
    return str(info.value)


def test_no_batches():
    for source in ([], (), iter([]), lambda: [], lambda: iter(())):
        refused(ValueError, 'there are no batches', net(4), source)


def test_function_that_returns_none():
    refused(TypeError, 'must return an iterable of batches, it returned None',
            net(), lambda: None)


def test_used_up_iterator():
    used = iter(parts(data()))
    message = refused(ValueError, 'pass 2 .*0 batches', net(), lambda: used)
    assert '3 with 40' in message and 'fresh iterator' in message


@pytest.mark.parametrize('second', [
    lambda X: parts(X)[:2], lambda X: parts(X) + [X],
    lambda X: parts(X)[:2] + [X]])
def test_other_batches_in_the_second_pass(second):
    X = data()
    passes = iter([parts(X), second(X)])
    refused(ValueError, r'pass 2 .* found \d batches with', net(),
            lambda: next(passes))


def test_trailing_shapes_that_differ():
    l = InputLayer((None, 2, None, None), T.tensor4(), name='x')
    l = weight_norm(dnn.Conv2DDNNLayer(l, 2, 2))
    message = refused(ValueError, "batch 2: .*'x'", l, [
        data(4, 2, 5, 5), data(4, 2, 5, 6)])
    assert '(2, 5, 6)' in message and '(2, 5, 5)' in message
    refused(ValueError, r"batch 3: .* has shape \(4, 4\), must have "
            r"\(None, 5\)", net(), [data(), data(), data(4, 4)])


def test_batches_that_are_none():
    X = data()
    bad = X.copy()
    bad[2, 2] = np.nan
    for wrong, error, match in [
            (bad, ValueError, 'contains NaN'), (X[:0], ValueError, 'is empty'),
            ('abc', TypeError, 'has dtype'), (None, ValueError, 'no data'),
            (X.tolist(), TypeError, 'got a list'),
            (T.matrix(), TypeError, 'must be an array')]:
        refused(error, '^batch 2: .*' + match, net(), [X, wrong])


def test_errors_of_a_pass_name_the_batch():
    l = NonlinearityLayer(net(4), T.log, name='log')
    l = weight_norm(DenseLayer(l, 2))
    refused(ValueError, "batch 1: the output of NonlinearityLayer 'log'", l,
            parts(data()))
    l = weight_norm(DenseLayer(NonlinearityLayer(
        InputLayer((None, 5), T.matrix()), lambda x: x + np.ones((3, 5))), 2))
    refused(ValueError, 'batch 2: ', l, [data(3), data(4)])


def test_activations_above_need_not_be_finite_before():
    # the layers below are not initialized yet
    theano.config.floatX = 'float32'
    try:
        l = net(4, 4, 4, g=Constant(1e15))
        report = initialize(l, parts(data()))
        np.testing.assert_allclose(report[2].std_after, 1)
        assert not np.isfinite(report[2].std_before).all()
        refused(ValueError, "initial value of g of .*'fc1'.* is not finite",
                net(3, g=Constant(1e20), eps=0.),
                parts(np.float32(1e-39) * data()))
    finally:
        theano.config.floatX = 'float64'


def test_free_variable():
    l = NonlinearityLayer(net(), lambda x: x * T.scalar('temperature'))
    l = weight_norm(DenseLayer(l, 2))
    refused(ValueError, 'depends on temperature', l, parts(data()))


def test_shared_between_two_layers():
    b = theano.shared(np.ones(5), name='b')
    l = weight_norm(DenseLayer(InputLayer((None, 5)), 5), b=b)
    l = weight_norm(DenseLayer(l, 5), b=b)
    refused(ValueError, 'share b', l, parts(data()))


class Scale(Layer):
    """A layer with a data-dependent initialization of its own."""

    def __init__(self, incoming, **kwargs):
        super(Scale, self).__init__(incoming, **kwargs)
        self.scale = self.add_param(Constant(1.), (), name='scale')

    def get_output_for(self, input, init=False, **kwargs):
        if init:
            self.init_updates = [(self.scale, 1 / T.std(input))]
            return input / T.std(input)
        return input * self.scale


def test_another_initialization():
    l = weight_norm(DenseLayer(Scale(net(4), name='other'), 3))
    refused(ValueError, "'other' .*a data-dependent initialization of its own",
            l, parts(data()))


@pytest.mark.parametrize('fault', [KeyboardInterrupt, IOError])
@pytest.mark.parametrize('at', [2, 5])
def test_interrupted(fault, at):
    count = []

    def batches():
        for part in parts(data()):
            count.append(1)
            if len(count) == at:
                raise fault('disk')
            yield part
    refused(fault, '^disk$', net(), batches)


def test_interrupted_while_it_writes():
    l = net(4, 3)

    class Failing(type(l.g)):
        def set_value(self, value, borrow=False):
            if fail:
                fail.pop()
                raise KeyboardInterrupt('now')
            super(Failing, self).set_value(value, borrow)
    fail = [1]
    l.g.__class__ = Failing
    refused(KeyboardInterrupt, 'now', l, parts(data()))
    assert not fail


@pytest.mark.parametrize('warning', ['overwrites b and g', 'are constant'])
def test_warning_as_an_error_changes_nothing(warning):
    l = net(4, 3)
    X = data()
    if 'constant' in warning:
        X[:] = 1.
        refused(UserWarning, warning, l, parts(X))
        return
    l.b.set_value(l.b.get_value() + 1)
    before = values(l)
    with pytest.raises(UserWarning, match=warning):
        initialize(l, parts(X))
    for a, b in zip(before, values(l)):
        np.testing.assert_array_equal(a, b)
    with pytest.warns(UserWarning, match=warning) as record:
        initialize(l, parts(X))
    assert len(record) == 1 and record[0].filename == __file__
    initialize(l, parts(X))  # and not again


class Huge(Layer):
    def get_output_for(self, input, **kwargs):
        return input + T.max(T.zeros((10 ** 9, 10 ** 9)) + input[0, 0])


def test_memory_is_exhausted():
    l = weight_norm(DenseLayer(Huge(InputLayer((None, 5), T.matrix())), 3))
    message = refused(MemoryError, '^batch 1: no memory', l, parts(data()))
    assert message.endswith('with a batch of 7 examples; nothing has been '
                            'changed. Initialize with smaller batches')


# --- noise, and batches in which examples see one another ------------------

class Noise(Layer):
    """Adds noise, with deterministic=True too."""

    def __init__(self, incoming, draw, **kwargs):
        super(Noise, self).__init__(incoming, **kwargs)
        self.draw = draw

    def get_output_for(self, input, **kwargs):
        return input + self.draw(input)


def in_a_loop(x):
    streams = MRG_RandomStreams(2)
    found, _ = theano.scan(
        lambda row: row + streams.normal((4,)), sequences=x)
    return found


@pytest.mark.parametrize('draw', [
    lambda x: MRG_RandomStreams(1).normal(x.shape),
    lambda x: T.shared_randomstreams.RandomStreams(1).normal(x.shape),
    in_a_loop], ids=['mrg', 'shared', 'loop'])
def test_noise(draw):
    l = weight_norm(DenseLayer(Noise(net(4), draw, name='noise'), 3))
    message = refused(ValueError, "the output of Noise 'noise' .* is random",
                      l, parts(data()))
    assert 'deterministic=False' in message
    # above what is initialized it does not matter
    initialize(Noise(net(4), draw), parts(data()))


def test_noise_by_request():
    l = GaussianNoiseLayer(net(4), 1.)
    l = weight_norm(DenseLayer(l, 3, nonlinearity=None))
    start = values(l)
    X = data()
    g = []
    for batches in ([X] * 16, [X] * 16):
        set_values(l, start)
        report = initialize(l, batches, deterministic=False)
        assert 'not exact' in report.notes[0]
        g.append(l.g.get_value())
    # noise is drawn anew for each batch: all of it averages out
    np.testing.assert_allclose(g[0], g[1], rtol=.06)
    assert not np.allclose(g[0], g[1], rtol=1e-10)
    set_values(l, start)
    initialize(l, [X])  # silent by default
    assert (l.g.get_value() > 1.05 * g[0]).all()


def test_noise_as_input():
    noise = MRG_RandomStreams(1).normal((50, 5))
    l = weight_norm(DenseLayer(InputLayer((50, 5), noise, name='z'), 3))
    refused(ValueError, "InputLayer 'z' .* is random", l, [None] * 2)
    initialize(l, [data(50)])  # replaced
    report = initialize(l, [None] * 20, deterministic=False)
    # which repeated noise would not reach
    np.testing.assert_allclose(report[0].std_before, 1, rtol=.2)
    std = get_output(l.input_layer, data(5000)).eval().std(axis=0)
    np.testing.assert_allclose(std, 1, rtol=.1)


class Centered(Layer):
    """Batch normalization, of the mean, whatever is said."""

    def get_output_for(self, input, **kwargs):
        return input - T.mean(input, axis=0)


class Scaled(Layer):
    """Batch normalization, of the deviation."""

    def get_output_for(self, input, **kwargs):
        return input / T.sqrt(T.var(input, axis=0) + 1e-4)


class Shuffled(Layer):
    """Each example gets a neighbour's activations."""

    def get_output_for(self, input, **kwargs):
        return input + T.roll(input, 1, axis=0)


class Minibatch(Layer):
    """Minibatch discrimination: how near the others are."""

    def get_output_for(self, input, **kwargs):
        distance = T.sum(abs(input.dimshuffle(0, 'x', 1) -
                             input.dimshuffle('x', 0, 1)), axis=2)
        near = T.sum(T.exp(-distance), axis=1, keepdims=True)
        return T.concatenate([input[:, :-1], near], axis=1)


@pytest.mark.parametrize('layer, n, floatX', [
    (Centered, 2, 'float64'), (Centered, 3, 'float32'),
    (Centered, 400, 'float32'), (Scaled, 2, 'float64'),
    (Scaled, 400, 'float32'), (Shuffled, 3, 'float64'),
    (Shuffled, 400, 'float32'), (Minibatch, 2, 'float32'),
    (Minibatch, 400, 'float32')], indirect=['floatX'])
def test_examples_that_see_one_another(layer, n, floatX):
    l = weight_norm(DenseLayer(layer(net(4), name='it'), 3))
    X = data(n + 11)
    # not in the first batch, which has one example only
    message = refused(ValueError, "^batch 2: the output of .* 'it' .* depends "
                      'on the other examples', l, parts(X, 1, n))
    assert 'deterministic=False' in message
    if n == 400:
        assert len(initialize(l, parts(X), deterministic=False)) == 2


@pytest.mark.parametrize('scale, offset', [
    (1., 0.), (1e-6, 0.), (1., 1e3), (1e6, 0.)])
def test_examples_that_do_not(scale, offset, floatX):
    # on whatever axis
    x = InputLayer((None, 3, 5), T.tensor3())
    l = DimshuffleLayer(x, (1, 0, 2))  # time first
    l = NonlinearityLayer(l, lambda x: T.cumsum(x, axis=0))
    l = DimshuffleLayer(l, (2, 1, 0))
    l = NonlinearityLayer(l, T.nnet.sigmoid)
    l = DimshuffleLayer(l, (1, 2, 0))
    l = weight_norm(DenseLayer(DropoutLayer(l), 4))
    l = weight_norm(DenseLayer(l, 3))
    X = data(60, 3, 5) * scale + offset
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', '.*are constant')
        initialize(l, parts(X.astype(floatX), 33))


def test_fixed_length_of_batches():
    l = weight_norm(DenseLayer(InputLayer((5, 5), T.matrix()), 3))
    X = data(10)
    initialize(l, [X[:5], X[5:]])
    np.testing.assert_allclose(get_output(l.input_layer, X[:10]).eval().std(
        axis=0), 1)
    refused(ValueError, r'batch 2: .* has shape \(4, 5\)', l, [X[:5], X[5:9]])


class PlusSum(MergeLayer):
    def get_output_shape_for(self, input_shapes):
        return input_shapes[0]

    def get_output_for(self, inputs, **kwargs):
        return inputs[0] + T.sum(inputs[1], axis=0)


def test_input_that_is_not_per_example():
    x = InputLayer((None, 5), T.matrix(), name='x')
    table = InputLayer((2, 5), T.matrix(), name='table')
    l = weight_norm(DenseLayer(PlusSum([x, table]), 3))
    X = data()
    initialize(l, [{x: part, table: X[:2]} for part in parts(X)])
    t = (X + X[:2].sum(axis=0)).dot(l.input_layer.W.eval())
    np.testing.assert_allclose(t.std(axis=0), 1)


# --- mean-only batch normalization -----------------------------------------

@pytest.mark.parametrize('weight', [True, False])
def test_running_mean(weight):
    l = net(4)
    l = MeanOnlyBatchNormLayer(
        DenseLayer(l, 3, nonlinearity=None, b=None), b=data(3)[:, 0],
        nonlinearity=rectify, weight_norm=weight)
    l = weight_norm(DenseLayer(l, 2))
    X = data() + 1.
    b = get_all_layers(l)[4].b.get_value()
    report = initialize(l, parts(X))
    inner = get_all_layers(l)[4]
    t = get_output(inner.input_layer, X, deterministic=True).eval()
    np.testing.assert_allclose(inner.mean.get_value(), t.mean(axis=0))
    np.testing.assert_array_equal(inner.b.get_value(), b)
    y = t - t.mean(axis=0) + b
    np.testing.assert_allclose(report[1].mean_after, y.mean(axis=0))
    np.testing.assert_allclose(report[1].std_after, y.std(axis=0))
    if weight:
        np.testing.assert_allclose(y.std(axis=0), 1)
    # the layer above saw what it will see
    np.testing.assert_allclose(get_output(
        l.input_layer, X, deterministic=True).eval().std(axis=0), 1)


@pytest.mark.parametrize('untied', [True, False])
def test_running_mean_above_a_bias(untied):
    # that the layer below has kept
    l = dnn.Conv2DDNNLayer(InputLayer((None, 2, 4, 4)), 3, 3, b=Normal(1.),
                           untie_biases=untied, nonlinearity=None)
    l = MeanOnlyBatchNormLayer(l)
    X = data(40, 2, 4, 4)
    initialize(l, parts(X))
    t = get_output(l.input_layer, X).eval()
    np.testing.assert_allclose(l.mean.get_value(), t.mean(axis=(0, 2, 3)))


def test_running_mean_that_is_an_expression():
    mean = theano.shared(data(3)[:, 0])
    l = MeanOnlyBatchNormLayer(DenseLayer(
        InputLayer((None, 5)), 3, nonlinearity=None, b=None), mean=2 * mean)
    initialize(l, parts(data()))
    np.testing.assert_array_equal(mean.get_value(), data(3)[:, 0])


def test_running_mean_of_two_layers():
    mean = theano.shared(np.zeros(3))
    l = InputLayer((None, 5))
    l = ConcatLayer([MeanOnlyBatchNormLayer(DenseLayer(
        l, 3, nonlinearity=None, b=None, name=name), mean=mean)
        for name in ('one', 'two')])
    with pytest.raises(ValueError, match="DenseLayer 'two'.* shares"):
        initialize(l, parts(data()))


def test_dictionaries_in_any_order():
    a, b = [InputLayer((None, 5), T.matrix(name), name=name) for name in 'ab']
    l = weight_norm(DenseLayer(ConcatLayer([a, b]), 3, nonlinearity=None))
    A, B = data(), np.exp(data()) + 1
    initialize(l, [{a: A[:20], b: B[:20]}, {b: B[20:], a: A[20:]}])
    out = get_output(l, {a: A, b: B}).eval()
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(out.std(axis=0), 1)


def test_one_batch_reports_what_it_computes():
    l = MeanOnlyBatchNormLayer(
        DenseLayer(InputLayer((None, 5)), 3, nonlinearity=None, b=None),
        b=data(3)[:, 0])
    report = initialize(l, data())
    np.testing.assert_allclose(report[0].mean_after, l.b.get_value())
    np.testing.assert_allclose(report[0].std_after, 1)
