"""save and load."""
import io
import json
import os
import signal
import stat
import subprocess
import sys
import warnings
import zipfile

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.init import Constant, Normal
from lasagne.layers import (
    ConcatLayer, CustomRecurrentLayer, DenseLayer, DropoutLayer,
    ElemwiseSumLayer, InputLayer, Layer, LSTMLayer, NINLayer,
    RecurrentLayer, dnn, get_all_layers, get_all_param_values, get_all_params,
    get_output)
from lasagne.nonlinearities import tanh
from theano.sandbox.rng_mrg import MRG_RandomStreams

import wnorm
from layouts import every_layout
from wnorm import Gain, WeightNormLayer, normalize_param, weight_norm
from wnorm.checkpoints import load, save
from wnorm.folding import fold


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'net.npz')


def randomize(net, seed=0):
    """Other values than the initial ones, for all parameters."""
    random = np.random.RandomState(seed)
    for param in get_all_params(net):
        value = param.get_value()
        param.set_value(np.asarray(random.randn(*value.shape) + .1,
                                   value.dtype))
    return net


def output(net, *shape):
    """The output for random input: layers' own variables, any number."""
    inputs = [layer for layer in get_all_layers(net)
              if isinstance(layer, InputLayer)]
    random = np.random.RandomState(1)
    data = [random.randn(*[n or 3 for n in layer.output_shape]).astype(
        layer.input_var.dtype) for layer in inputs]
    function = theano.function([layer.input_var for layer in inputs],
                               get_output(net, deterministic=True))
    return function(*data)


def same(net, values):
    """Whether the parameters of `net` have these values, bit for bit."""
    return all(np.array_equal(one, other, equal_nan=True) for one, other in
               zip(get_all_param_values(net), values))


def refused(net, path, error=ValueError, names_file=True):
    """The message of an error, after which nothing has changed."""
    before = get_all_param_values(net)
    with pytest.raises(error) as caught:
        load(net, path)
    assert same(net, before)
    assert not names_file or str(path) in str(caught.value)
    return str(caught.value)


def tolerance(floatX):
    return dict(float64=1e-12, float32=1e-6)[floatX]


def dense(**kwargs):
    return DenseLayer(InputLayer((None, 4)), 3, **kwargs)


def conv(**kwargs):
    return dnn.Conv2DDNNLayer(InputLayer((None, 2, 4, 4)), 3, 2, **kwargs)


def keys(path):
    with np.load(path) as file:
        return sorted(set(file) - {'format', 'layers'})


def table(path):
    with np.load(path) as file:
        return {row['key']: row for row in json.loads(str(file['layers']))}


# --- what is in the file -----------------------------------------------------

def test_the_file_can_be_read_without_wnorm(path):
    net = randomize(weight_norm(dense(name='fc1'), eps=1e-3, g='exp'))
    assert save(net, path) is None
    with np.load(path, allow_pickle=False) as file:
        assert sorted(file) == ['fc1/W', 'fc1/b', 'fc1/s', 'format', 'layers']
        assert file['format'] == 1
        V, s = file['fc1/W'], file['fc1/s']
        row = json.loads(str(file['layers']))[1]
        np.testing.assert_array_equal(file['fc1/b'], net.b.get_value())
    assert row == {
        'key': 'fc1', 'class': 'DenseLayer', 'name': 'fc1',
        'shape': [None, 3], 'params': ['W', 's', 'b'], 'derived': {},
        'normalized': {'W': {
            'filter_axis': 1, 'position_axes': [], 'eps': 1e-3,
            'gain': {'param': 's', 'exp': True, 'per': 'filter'}}}}
    # from the file alone, what the layer computes
    norm = np.sqrt(row['normalized']['W']['eps'] + (V ** 2).sum(axis=0))
    np.testing.assert_allclose(np.exp(s) * V / norm,
                               net.input_layer.W.eval(), rtol=1e-12)


def big():
    l = InputLayer((None, 2, 4, 4))
    l = weight_norm(dnn.Conv2DDNNLayer(l, 3, 2, name='conv'))
    l = weight_norm(NINLayer(l, 4), name='own name', g=None)
    a = weight_norm(DenseLayer(l, 5), g=Gain(1., per='layer'))
    b = DenseLayer(l, 5, name='twice')
    l = ElemwiseSumLayer([a, DenseLayer(b, 5, name='twice')])
    return DenseLayer(l, 2, name='DenseLayer_1')


def test_keys(path):
    save(big(), path)
    assert keys(path) == [
        'DenseLayer_1/W', 'DenseLayer_1/b', 'DenseLayer_1/g',
        'DenseLayer_2/W', 'DenseLayer_2/b', 'DenseLayer_3/W',
        'DenseLayer_3/b', 'DenseLayer_4/W', 'DenseLayer_4/b',
        'NINLayer_1/W', 'NINLayer_1/b', 'conv/W', 'conv/b', 'conv/g']
    # the shape of an untied gain, a wrapper's place
    rows = table(path)
    assert 'WeightNormLayer_1' not in rows
    assert rows['NINLayer_1']['normalized']['W']['gain'] is None
    assert rows['DenseLayer_1']['normalized']['W']['gain']['per'] == 'layer'


def test_keys_are_the_same_in_every_process(path, tmp_path):
    save(big(), path)
    other = str(tmp_path / 'other.npz')
    program = (
        'import sys; sys.path[:0] = [%r]\n'
        'from test_checkpoints import big, save\n'
        'save(big(), %r)' % (os.path.dirname(__file__), other))
    subprocess.run([sys.executable, '-W', 'ignore', '-c', program],
                   check=True, env=dict(os.environ, PYTHONHASHSEED='7'))
    assert keys(path) == keys(other)
    assert table(path) == table(other)


def test_a_plain_net_has_the_same_keys(path):
    save(dense(), path)
    plain = keys(path)
    save(weight_norm(dense()), path)
    assert sorted(plain + ['DenseLayer_1/g']) == keys(path)


def test_a_folded_network_is_a_plain_one(path):
    net = randomize(network(lambda layer: weight_norm(layer, g='norm')))
    fold(net)
    save(net, path)
    plain = network(lambda layer: layer)
    report = load(plain, path)
    assert report.converted == ()
    assert same(plain, get_all_param_values(net))
    assert not any(row['normalized'] for row in table(path).values())
    save(randomize(plain, 3), path)
    load(net, path)
    assert same(net, get_all_param_values(plain))
    # and where it is normalized again
    net = weight_norm(DenseLayer(net, 2))
    fold(net)
    net = weight_norm(net.input_layer)
    save(net, path)
    assert {'DenseLayer_2/b', 'DenseLayer_2/g'} < set(keys(path))


class Wild(Layer):
    """Parameters of all kinds, in a list, under other names, or nameless."""

    def __init__(self, incoming, **kwargs):
        super(Wild, self).__init__(incoming, **kwargs)
        self.hidden = [self.add_param(Normal(), (2,), name='p%d' % i)
                       for i in range(2)]
        self.count = self.add_param(theano.shared(np.arange(3)), (3,),
                                    trainable=False, name='steps')
        self.add_param(theano.shared(np.ones(2)), (2,))
        self.elsewhere = [theano.shared(np.zeros(1), 'elsewhere')]

    def get_params(self, **tags):
        return super(Wild, self).get_params(**tags) + self.elsewhere

    def get_output_for(self, input, **kwargs):
        return input


def test_parameters_without_an_attribute(path):
    net = Wild(InputLayer((None, 3)), name='wild')
    for param in get_all_params(net):
        param.set_value(param.get_value() + 1)
    save(net, path)
    assert keys(path) == ['wild/count', 'wild/elsewhere', 'wild/p0',
                          'wild/p1', 'wild/param_4']
    other = Wild(InputLayer((None, 3)), name='wild')
    load(other, path)
    assert same(other, get_all_param_values(net))
    assert other.count.dtype == net.count.dtype


def test_batch_normalization(path):
    if not hasattr(lasagne.layers, 'BatchNormLayer'):
        pytest.skip('the installed Lasagne lacks BatchNormLayer')
    make = lasagne.layers.BatchNormLayer
    net = randomize(make(weight_norm(dense(), b=None)))
    save(net, path)
    assert 'BatchNormLayer_1/inv_std' in keys(path)
    other = make(weight_norm(dense(), b=None))
    load(other, path)
    assert same(other, get_all_param_values(net))


def test_mean_only_batch_normalization(path):
    from wnorm.mean_only import mean_only_batch_norm
    for weight in (True, False):
        net = randomize(mean_only_batch_norm(dense(), weight_norm=weight))
        save(net, path)
        assert 'DenseLayer_1/mean' in keys(path)
        other = mean_only_batch_norm(dense(), weight_norm=weight)
        load(other, path)
        assert same(other, get_all_param_values(net))
    assert ('DenseLayer_1/mean: in the file, not in the network'
            in refused(dense(), path))


def test_recurrent_layers_and_the_nets_inside(path):
    def make():
        l = InputLayer((None, 4, 3))
        l = weight_norm(RecurrentLayer(l, 5, name='rnn'), g='exp')
        inner = weight_norm(DenseLayer(InputLayer((None, 5)), 4, name='in'))
        state = DenseLayer(InputLayer((None, 4)), 4)
        return CustomRecurrentLayer(l, inner, state)
    net = randomize(make())
    save(net, path)
    assert keys(path) == [
        'CustomRecurrentLayer_1/DenseLayer_2/W',
        'CustomRecurrentLayer_1/DenseLayer_2/b',
        'CustomRecurrentLayer_1/hid_init',
        'CustomRecurrentLayer_1/in/W', 'CustomRecurrentLayer_1/in/b',
        'CustomRecurrentLayer_1/in/g',
        'rnn/DenseLayer_1/W', 'rnn/DenseLayer_1/b', 'rnn/DenseLayer_1/s_W',
        'rnn/DenseLayer_2/W', 'rnn/DenseLayer_2/s_W', 'rnn/hid_init']
    other = make()
    load(other, path)
    assert same(other, get_all_param_values(net))


def test_several_outputs_and_no_ending(tmp_path):
    a, b = weight_norm(dense()), NINLayer(InputLayer((None, 2, 3)), 2)
    path = tmp_path / 'no ending'  # an os.PathLike
    save([a, b], path)
    before = get_all_param_values([a, b])
    randomize([a, b])
    load([a, b], path)
    assert same([a, b], before)
    assert os.listdir(str(tmp_path)) == ['no ending']


def test_two_parameters_of_one_key_are_refused(path):
    l = RecurrentLayer(InputLayer((None, 4, 3)), 5)
    l = DenseLayer(l, 2, name='RecurrentLayer_1/DenseLayer_1')
    with pytest.raises(ValueError, match='DenseLayer .*another name'):
        save(l, path)
    assert not os.path.exists(path)


# --- written whole or not at all ---------------------------------------------

def contents(folder):
    return {name: (folder / name).read_bytes()
            for name in os.listdir(str(folder))}


@pytest.mark.parametrize('error', [OSError('disk full'), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file(path, tmp_path, monkeypatch, error):
    net = weight_norm(dense())
    save(net, path)
    before = contents(tmp_path)
    randomize(net)

    def fail(file, array, *args, **kwargs):
        file.write(b'half an array')
        raise error
    monkeypatch.setattr(np.lib.format, 'write_array', fail)
    with pytest.raises(type(error)):
        save(net, path)
    assert contents(tmp_path) == before


def test_a_killed_process_leaves_the_old_file(path, tmp_path):
    net = weight_norm(dense())
    save(net, path)
    before = contents(tmp_path)
    randomize(net)
    child = os.fork()
    if not child:  # pragma: no cover (killed)
        os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
        save(net, path)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    after = contents(tmp_path)
    assert len(after) == 2  # the new file had been written, not renamed
    assert after['net.npz'] == before['net.npz']


def test_permissions_and_links_stay(path, tmp_path):
    save(dense(), path)
    os.chmod(path, 0o640)
    link = str(tmp_path / 'link')
    os.symlink(path, link)
    net = randomize(dense())
    save(net, link)
    assert os.path.islink(link)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
    other = dense()
    load(other, path)
    assert same(other, get_all_param_values(net))


def test_where_no_file_can_be_written(tmp_path):
    for path in (str(tmp_path), str(tmp_path / 'no folder' / 'net.npz')):
        with pytest.raises(OSError):
            save(dense(), path)
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize('function', [save, load])
def test_arguments_of_other_types(function, path):
    with pytest.raises(TypeError, match='os.PathLike'):
        function(dense(), 3)
    with pytest.raises(TypeError, match='a network is a layer'):
        function('net', path)
    with pytest.raises(ValueError, match='empty list'):
        function([], path)


def test_what_is_no_number_is_not_saved(path):
    l = dense(name='fc1')
    l.params[theano.shared(np.random.RandomState(0), 'state')] = set()
    with pytest.raises(ValueError, match="DenseLayer 'fc1'.*: state has dtype "
                       'object: only numbers'):
        save(l, path)
    assert not os.path.exists(path)


# --- the same network --------------------------------------------------------

FORMS = [dict(), dict(train_g=True, b=None), dict(g=None), dict(g='exp'),
         dict(g='norm', eps=0.), dict(g=Gain(2., per='layer', exp=True)),
         dict(g=Gain(1., per=3))]


@pytest.mark.parametrize('options', FORMS, ids=repr)
def test_round_trip(path, options, floatX):
    def make():
        return weight_norm(dense(), **options)
    net = randomize(make())
    save(net, path)
    other = make()
    report = load(other, path)
    assert same(other, get_all_param_values(net))
    np.testing.assert_array_equal(output(other), output(net))
    assert report.converted == report.notes == ()
    assert sorted(report.loaded) == keys(path)


@every_layout
def test_round_trip_and_to_plain_and_back(case, path):
    net = randomize(weight_norm(case.layer()))
    save(net, path)
    other = weight_norm(case.layer())
    load(other, path)
    assert same(other, get_all_param_values(net))
    plain = case.layer()
    if getattr(plain, 'b', None) is None:  # an embedding
        assert 'b: a bias that is not 0' in refused(plain, path)
        net.b.set_value(0 * net.b.get_value())
        save(net, path)
    report = load(plain, path)
    V, g = net.input_layer.W_param.get_value(), net.g.get_value()
    np.testing.assert_allclose(plain.W.get_value(), case.W(V, g), rtol=1e-10,
                               atol=1e-12)
    assert 'W: normalized in the file' in str(report)
    # positions have norms of their own there, which g='norm' can hold
    back = weight_norm(case.layer(), g='norm', b=Constant(7.))
    save(plain, path)
    report = load(back, path)
    assert 'W: plain in the file' in str(report)
    np.testing.assert_array_equal(back.input_layer.W_param.get_value(),
                                  plain.W.get_value())
    np.testing.assert_allclose(back.input_layer.W.eval(), plain.W.get_value(),
                               rtol=1e-12)
    np.testing.assert_array_equal(back.b.get_value(), net.b.get_value())


@pytest.mark.parametrize('dtypes', [('float32', 'float64'),
                                    ('float64', 'float32')])
def test_precisions(path, dtypes, monkeypatch):
    monkeypatch.setattr(theano.config, 'floatX', dtypes[0])
    net = randomize(weight_norm(dense()))
    save(net, path)
    monkeypatch.setattr(theano.config, 'floatX', dtypes[1])
    other = weight_norm(dense())
    load(other, path)
    for ours, theirs in zip(get_all_params(other), get_all_params(net)):
        assert ours.get_value().dtype == dtypes[1]
        np.testing.assert_array_equal(
            ours.get_value(), theirs.get_value().astype(dtypes[1]))


def test_layers_without_parameters_and_output_shapes_may_differ(path):
    save(weight_norm(dense()), path)
    net = DropoutLayer(weight_norm(DenseLayer(DropoutLayer(
        InputLayer((9, 4))), 3)))
    assert len(load(net, path).loaded) == 3


def test_every_difference_is_listed(path):
    def make(units, kind, *more):
        l = weight_norm(DenseLayer(InputLayer((None, 4)), units, name='a'))
        l = kind(l, 3, name='b')
        for name in more:
            l = DenseLayer(l, 2, name=name)
        return l

    class Other(DenseLayer):
        pass
    save(make(5, DenseLayer, 'c', 'd'), path)
    assert refused(make(6, Other, 'c', 'e'), path).split('\n  ') == [
        path + ' does not fit the network; nothing has been changed:',
        'a/W: shape (4, 5) in the file, (4, 6) in the network',
        'a/g: shape (5,) in the file, (6,) in the network',
        'a/b: shape (5,) in the file, (6,) in the network',
        'b: a DenseLayer in the file, a Other in the network',
        'b/W: shape (5, 3) in the file, (6, 3) in the network',
        'd: a DenseLayer with W, b in the file, not in the network',
        'e: a DenseLayer with W, b in the network, not in the file']


def test_names_and_kinds_of_parameters(path):
    save(weight_norm(dense(), b=None), path)
    assert ('DenseLayer_1/b: in the network, not in the file'
            in refused(weight_norm(dense()), path))
    save(weight_norm(dense()), path)
    assert ('DenseLayer_1/b: in the file, not in the network'
            in refused(weight_norm(dense(), b=None), path))
    net = Wild(InputLayer((None, 3)))
    net.count.set_value(np.array([1, 2, 3]))
    save(net, path)
    edit(path, **{'Wild_1/count': np.ones(3),
                  'Wild_1/p0': np.ones(2, int)})
    message = refused(net, path)
    assert ('Wild_1/count: dtype float64 in the file, int64 in the network'
            in message)
    assert 'Wild_1/p0: dtype int64 in the file, float64 in the' in message


@pytest.mark.parametrize('options, difference', [
    (dict(eps=1e-5), 'eps: 1e-06 in the file, 1e-05 in the network'),
    (dict(g=None), 'form of g: g, one per filter in the file, g=None in'),
    (dict(g='exp'), 'g, one per filter in the file, g = exp(s), one per fil'),
    (dict(g=Gain(1., per='layer')), 'in the file, g, one per layer in'),
    (dict(g=Gain(1., per=3)), 'in the file, g, one per group, 3 groups in')])
def test_another_form(path, options, difference):
    save(weight_norm(dense()), path)
    message = refused(weight_norm(dense(), **options), path)
    assert difference in message
    assert message.count('\n') == 1


def test_other_axes(path):
    save(normalize_param(dense(), axis=1), path)
    message = refused(normalize_param(dense(), axis=0), path)
    assert 'filter axis: 1 in the file, 0 in the network' in message
    # an axis may be counted from the end
    load(normalize_param(dense(), axis=-1), path)


def test_values_that_do_not_fit_the_type(path):
    net = Wild(InputLayer((None, 3)))
    net.count = net.add_param(theano.shared(np.zeros(3, 'int8')), (3,))
    net.single = net.add_param(theano.shared(np.zeros(2, 'float32')), (2,))
    save(net, path)
    edit(path, **{'Wild_1/count': np.array([1, 2, 300])})
    assert 'Wild_1/count: values that int8 cannot' in refused(net, path)
    save(net, path)
    edit(path, **{'Wild_1/single': np.array([1., 1e300])})
    assert 'Wild_1/single: values that float32 cannot' in refused(net, path)


def test_values_that_are_not_finite_are_loaded_with_a_warning(path):
    net = weight_norm(dense(name='fc1'))
    net.g.set_value(np.array([1., np.nan, np.inf]))
    save(net, path)
    other = weight_norm(dense(name='fc1'))
    assert refused(other, path, UserWarning).endswith(
        'NaN or infinite: fc1/g')  # here warnings are errors
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        report = load(other, path)
    assert [w.filename for w in caught] == [__file__]
    assert same(other, get_all_param_values(net))
    assert 'NaN or infinite: fc1/g' in str(report)
    # in a conversion too
    for options in ({}, {'g': None}):
        plain = dense(name='fc1')
        plain.W.set_value(np.full((4, 3), np.nan))
        save(plain, path)
        with pytest.raises((UserWarning, ValueError), match='fc1/W'):
            load(weight_norm(dense(name='fc1'), **options), path)


def test_all_or_nothing(path, monkeypatch):
    net = weight_norm(dense())
    save(randomize(weight_norm(dense())), path)
    before = get_all_param_values(net)

    def interrupted(value, borrow=False, calls=[]):
        calls.append(value)
        if len(calls) == 1:
            raise KeyboardInterrupt
        type(net.b).set_value(net.b, value)
    monkeypatch.setattr(net.b, 'set_value', interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(net, path)
    assert same(net, before)


def test_the_report(path):
    save(dense(name='fc1'), path)
    report = load(weight_norm(dense(name='fc1'), g='exp'), path)
    assert repr(report) == (
        '%s: 3 parameters of 1 layer\n  fc1/W: plain in the file: V = W, '
        'g = exp(s) = sqrt(eps + ||W||^2)' % path)
    assert report.path == path
    assert report.loaded == ('fc1/W', 'fc1/s', 'fc1/b')


def test_loaded_values_are_known_to_be_someone_s(path):
    net = weight_norm(dense())
    save(randomize(weight_norm(dense())), path)
    load(net, path)
    assert net.changed()  # so that initialize() warns


# --- from plain to normalized and back ---------------------------------------

def network(wrap):
    """A convolution of untied biases, a sum, all sorts of recurrent ones."""
    l = InputLayer((None, 2, 4, 4))
    l = wrap(dnn.Conv2DDNNLayer(l, 3, 2, untie_biases=True, b=Normal(),
                                nonlinearity=tanh))
    l = wrap(dnn.Conv2DDNNLayer(l, 4, 2, b=None))
    l = ElemwiseSumLayer([wrap(NINLayer(l, 6)), NINLayer(l, 6)])
    l = lasagne.layers.FlattenLayer(l, 3)
    l = wrap(LSTMLayer(l, 3))
    l = wrap(RecurrentLayer(l, 3, name='rnn', nonlinearity=tanh))
    return wrap(DenseLayer(l, 2, name='out', nonlinearity=tanh))


def norm(W, axes, eps=1e-6):
    return np.sqrt(eps + np.sum(W ** 2, axis=axes))


@pytest.mark.parametrize('floatX, g', [
    ('float32', 'norm'), ('float64', 'exp')], indirect=['floatX'])
def test_a_network_there_and_back(path, floatX, g):
    plain = randomize(network(lambda layer: layer))
    save(plain, path)
    net = network(lambda layer: weight_norm(layer, g=g))
    report = load(net, path)
    np.testing.assert_allclose(output(net), output(plain), rtol=0,
                               atol=tolerance(floatX))
    # g='norm' has a bias where there was one, g='exp' always
    assert len(report.converted) == 4 + 8 + 2 + (g == 'exp')
    first = get_all_layers(net)[1]
    np.testing.assert_array_equal(
        first.W_param.get_value(), get_all_params(plain)[0].get_value())
    gain = get_all_layers(net)[2].g.eval()
    np.testing.assert_allclose(gain, norm(first.W_param.get_value(),
                                          (1, 2, 3)), rtol=1e-6)
    # trained, and back
    randomize(net, 3)
    b = get_all_layers(net)[4].b  # which the plain one has not
    if b is not None:
        b.set_value(0 * b.get_value())
    save(net, path)
    load(plain, path)
    np.testing.assert_allclose(output(net), output(plain), rtol=0,
                               atol=tolerance(floatX))
    V, gain = first.W_param.get_value(), get_all_layers(net)[2].g.eval()
    np.testing.assert_allclose(
        get_all_params(plain)[0].get_value(),
        V * (gain / norm(V, (1, 2, 3)))[:, None, None, None], rtol=1e-5)


@pytest.mark.parametrize('options', FORMS + [
    dict(g=Gain(2., per=3, exp=True)), dict(g=Gain(2., per='layer'), eps=0.),
    dict(g=None, eps=0.), dict(g=Gain(1., per='layer'), eps=.1)], ids=repr)
def test_to_plain_and_back(path, options, floatX):
    # in every form, whatever its norms are up to eps
    net = randomize(weight_norm(conv(), **options))
    V = net.input_layer.W_param
    V.set_value(V.get_value() * np.array(
        [1, 10, 100], V.dtype)[:, None, None, None])
    V.set_value(V.get_value() * 1000)
    save(net, path)
    plain = conv(b=None if 'b' in options else Constant(0.))
    load(plain, path)
    g = net.g.eval() if net.g is not None else np.ones(())
    values = V.get_value().astype('float64')
    expected = values * (g / norm(values, (1, 2, 3), net.eps))[
        :, None, None, None]
    np.testing.assert_allclose(plain.W.get_value(), expected,
                               rtol=tolerance(floatX))
    np.testing.assert_allclose(output(net), output(plain),
                               atol=tolerance(floatX))
    # one g for several filters has the sign that their norms have
    if net.g_param is not None and net.g_param.name == 'g':
        net.g_param.set_value(abs(net.g_param.get_value()))
    save(net, path)
    load(plain, path)
    save(plain, path)
    back = weight_norm(conv(b=None if 'b' in options else Constant(0.)),
                       **options)
    report = load(back, path)
    np.testing.assert_allclose(output(back), output(plain), rtol=0,
                               atol=3 * tolerance(floatX))
    assert 'plain in the file' in str(report)


@pytest.mark.parametrize('g, per', [(None, 1), (Gain(2., per='layer'), 1),
                                    (Gain(2., per=2, exp=True), 2)])
def test_small_norms_where_eps_counts(path, floatX, g, per):
    # ||V|| from .03 to 10: W's norms differ by up to 5e-4
    net = weight_norm(DenseLayer(InputLayer((None, 5)), 4), g=g)
    V = net.input_layer.W_param
    randomize(V_only(V))
    value = V.get_value()
    value *= np.array([.03, .3, 1, 10]) / np.sqrt((value ** 2).sum(axis=0))
    V.set_value(value.astype(V.dtype))
    save(net, path)
    plain = DenseLayer(InputLayer((None, 5)), 4)
    load(plain, path)
    save(plain, path)
    back = weight_norm(DenseLayer(InputLayer((None, 5)), 4), g=g)
    randomize(V_only(back.input_layer.W_param), 5)
    report = load(back, path)
    assert 'V = c W, with a c for each filter' in str(report)
    np.testing.assert_allclose(
        back.input_layer.W.eval(), plain.W.get_value(),
        rtol=tolerance(floatX) * 2)


def V_only(V):
    """A network whose only parameter is V."""
    l = InputLayer((None, 1))
    l.params[V] = set()
    return l


@pytest.mark.parametrize('options, message', [
    (dict(g=None), 'norms from 1 to 3: cannot be written with g=None'),
    (dict(g=None, eps=0.), 'norms from 1 to 3: cannot be written with g=None'),
    (dict(g=Gain(1., per='layer')), 'written with g, one per layer'),
    (dict(g=Gain(1., per=2, exp=True)), 'written with g = exp(s), one per gr'),
    (dict(g=Gain(1., per='layer'), eps=0.), 'norms from 1 to 3')])
def test_norms_that_one_gain_cannot_have(path, options, message):
    plain = DenseLayer(InputLayer((None, 4)), 4)
    plain.W.set_value(np.diag([1., 2., 3., 2.]))
    save(plain, path)
    net = weight_norm(DenseLayer(InputLayer((None, 4)), 4), **options)
    found = refused(net, path)
    assert 'DenseLayer_1/W: plain in the file, with norms from 1 to 3' in found
    assert message in found
    # equal ones it can, and those of a filter of zeros
    equal = 3. if net.g is not None else 1.
    plain.W.set_value(np.diag([equal, 0., equal, equal]))
    save(plain, path)
    load(net, path)
    np.testing.assert_allclose(net.input_layer.W.eval(),
                               plain.W.get_value(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('options', [
    {}, dict(eps=0.), dict(eps=0., g='exp'), dict(
        eps=0., g=Gain(1., per='layer')), dict(g=None)], ids=repr)
def test_filters_of_zeros(path, options):
    plain = dense()
    plain.W.set_value(np.zeros((4, 3)))
    save(plain, path)
    net = randomize(weight_norm(dense(), **options))
    load(net, path)
    np.testing.assert_array_equal(net.input_layer.W.eval(), np.zeros((4, 3)))
    if net.g_param is not None:
        assert np.isfinite(net.g_param.get_value()).all()
    save(net, path)
    load(randomize(plain), path)
    np.testing.assert_array_equal(plain.W.get_value(), np.zeros((4, 3)))


def test_biases_of_one_side_only(path):
    # a bias of 0 is none
    save(randomize(dense(b=None)), path)
    net = randomize(weight_norm(dense()))
    report = load(net, path)
    assert 'DenseLayer_1/b: none in the file: 0' in report.converted
    np.testing.assert_array_equal(net.b.get_value(), np.zeros(3))
    save(net, path)
    report = load(dense(b=None), path)
    assert ('DenseLayer_1/b: 0 in the file, none in the network'
            in report.converted)
    # another one cannot be left out
    message = 'DenseLayer_1/b: a bias that is not 0 in the file, none in'
    save(randomize(net), path)
    assert message in refused(dense(b=None), path)
    save(randomize(dense()), path)
    assert message in refused(weight_norm(dense(), b=None), path)
    edit(path, **{'DenseLayer_1/b': np.zeros((1000, 1000))})
    assert message in refused(weight_norm(dense(), b=None), path)


def test_a_bias_on_both_sides_of_the_normalization(path):
    def make():
        return WeightNormLayer(dense(nonlinearity=None), b=Constant(1.))
    net = randomize(make())
    save(net, path)
    assert keys(path) == ['DenseLayer_1/' + name
                          for name in ["W", "b", "b'", "g"]]
    other = make()
    load(other, path)
    assert same(other, get_all_param_values(net))
    assert "b': a bias that is not 0" in refused(dense(), path)
    save(randomize(dense()), path)
    load(other, path)
    np.testing.assert_array_equal(other.b.get_value(), np.zeros(3))


def test_from_float64_to_float32_and_the_reverse(path, monkeypatch):
    for kinds in (('float64', 'float32'), ('float32', 'float64')):
        monkeypatch.setattr(theano.config, 'floatX', kinds[0])
        plain = randomize(dense())
        plain.W.set_value(plain.W.get_value() / np.sqrt(np.sum(
            plain.W.get_value() ** 2, axis=0)))
        save(plain, path)
        monkeypatch.setattr(theano.config, 'floatX', kinds[1])
        for g in ('norm', None, Gain(1., per='layer')):
            net = weight_norm(dense(), g=g)
            load(net, path)
            np.testing.assert_allclose(net.input_layer.W.eval(),
                                       plain.W.get_value(), rtol=1e-6)


def test_conversions_check_shapes_and_kinds(path):
    save(DenseLayer(InputLayer((None, 4)), 5), path)
    assert 'W: shape (4, 5) in the file' in refused(weight_norm(dense()), path)
    save(weight_norm(DenseLayer(InputLayer((None, 4)), 5)), path)
    assert 'W: shape (4, 5) in the file' in refused(dense(), path)
    # a gain that is none
    for g in (np.ones(4), np.ones((4, 3)), np.array(1.), np.ones(3, int)):
        save(weight_norm(dense()), path)
        edit(path, **{'DenseLayer_1/g': g})
        assert 'axes and its gain do not fit' in refused(dense(), path)
    for axes in (dict(filter_axis=2), dict(position_axes=[1])):
        save(weight_norm(dense()), path)
        edit_table(path, lambda row: row['normalized']['W'].update(axes))
        assert 'axes and its gain do not fit' in refused(dense(), path)


# --- shared parameters and expressions ---------------------------------------

def siamese(wrap, tied=True):
    a = DenseLayer(InputLayer((None, 4)), 3, name='a')
    b = DenseLayer(InputLayer((None, 4)), 3, name='b',
                   **(dict(W=a.W, b=a.b) if tied else {}))
    return ConcatLayer([wrap(a), wrap(b)])


def test_shared_parameters(path):
    net = randomize(siamese(lambda layer: layer))
    save(net, path)
    with np.load(path) as file:
        np.testing.assert_array_equal(file['a/W'], file['b/W'])
    untied = siamese(lambda layer: layer, tied=False)
    load(untied, path)
    np.testing.assert_array_equal(output(untied), output(net))
    # and the reverse, where they are equal
    save(untied, path)
    load(net, path)
    save(randomize(untied), path)
    message = refused(net, path)
    for name in 'Wb':
        assert ('b/%s: other values in the file than for a/%s, with which '
                'the network shares it' % (name, name)) in message


def test_a_shared_weight_with_gains_of_its_own(path):
    net = siamese(weight_norm)
    plain = siamese(lambda layer: layer)
    save(net, path)
    load(plain, path)  # the gains are equal yet
    np.testing.assert_allclose(output(plain), output(net), rtol=1e-12)
    randomize(net)
    save(net, path)
    assert 'b/W: other values in the file than for a/W' in refused(plain, path)
    load(siamese(lambda layer: layer, tied=False), path)
    save(randomize(plain), path)
    load(net, path)
    np.testing.assert_allclose(output(plain), output(net), rtol=1e-12)


class Tied(Layer):
    """A decoder, whose W is an expression on any Lasagne."""

    filter_axis = 1

    def __init__(self, incoming, W, **kwargs):
        super(Tied, self).__init__(incoming, **kwargs)
        self.W = W
        self.num_units = 4

    def get_output_shape_for(self, input_shape):
        return (input_shape[0], 4)

    def get_output_for(self, input, **kwargs):
        return T.dot(input, self.W)


def autoencoder(wrap, encoder=True):
    a = dense(name='a')
    W = a.W.T
    return wrap(Tied(wrap(a) if encoder else a, W, name='b'))


def test_an_expression_of_another_layer_s_weight(path):
    net = randomize(autoencoder(weight_norm))
    save(net, path)
    with np.load(path) as file:
        np.testing.assert_array_equal(file['a/W'].T, file['b/W'])
    assert table(path)['b']['derived'] == {'W': []}
    other = autoencoder(weight_norm)
    load(other, path)
    assert same(other, get_all_param_values(net))
    # b's W is no transpose of a's
    net.b.set_value(np.zeros(4))
    save(net, path)
    plain = autoencoder(lambda layer: layer)
    assert ('b/W: an expression in the network, which computes other values '
            'than the file has') in refused(plain, path)


@pytest.mark.parametrize('positional', [False, True])
def test_a_plain_network_with_an_expression(path, positional):
    plain = autoencoder(lambda layer: layer)
    if positional:
        values = [np.random.RandomState(0).randn(4, 3), np.arange(3.)]
        for param, value in zip(plain.input_layer.get_params(), values):
            param.set_value(value)
        b = np.zeros(4)
        np.savez(path, *(values + [b]))
    else:
        randomize(plain.input_layer)
        save(plain, path)
    net = autoencoder(weight_norm)
    load(net, path)
    W = plain.input_layer.W.get_value()
    np.testing.assert_allclose(net.input_layer.W.eval(), W.T, rtol=1e-12)
    np.testing.assert_allclose(net.g.get_value(), norm(W.T, 0), rtol=1e-12)
    np.testing.assert_allclose(output(net), output(plain), rtol=1e-10)


def with_expression(g=None, eps=1e-6):
    """g is an expression of a variable, and b of two, one of them a's."""
    a = weight_norm(dense(name='a'))
    l = DenseLayer(a, 3, name='fc1')
    size = theano.shared(np.ones(3), 'size')
    shift = theano.shared(np.ones(3), 'shift')
    return weight_norm(l, g=T.sqr(size) + 1 if g is None else g(size),
                       b=a.b + shift, eps=eps)


def test_expressions_of_variables(path):
    net = randomize(with_expression())
    save(net, path)
    assert keys(path) == ['a/W', 'a/b', 'a/g', 'fc1/W', 'fc1/b', 'fc1/b.2',
                          'fc1/g', 'fc1/g.1']
    assert table(path)['fc1']['derived'] == {'g': ['g.1'], 'b': ['b.2']}
    other = with_expression()
    load(other, path)
    assert same(other, get_all_param_values(net))
    # what they compute is enough for others
    plain = DenseLayer(dense(name='a'), 3, name='fc1')
    load(plain, path)
    np.testing.assert_allclose(output(plain), output(net), rtol=1e-10)
    l = weight_norm(DenseLayer(weight_norm(dense(name='a')), 3, name='fc1'))
    load(l, path)
    np.testing.assert_allclose(output(l), output(net), rtol=1e-10)
    # other code computes other values
    refused_ = refused(with_expression(g=lambda size: T.exp(size)), path)
    assert 'fc1/g: an expression in the network, which comp' in refused_
    # nor can it be set from a plain network's
    save(randomize(plain), path)
    assert 'fc1/g.1: in the network, not in the file' in refused(other, path)


def test_expressions_of_float32_files(path, monkeypatch):
    monkeypatch.setattr(theano.config, 'floatX', 'float32')
    net = randomize(with_expression())
    save(net, path)
    monkeypatch.setattr(theano.config, 'floatX', 'float64')
    load(with_expression(), path)


def test_expressions_of_normalize_param(path):
    # Lasagne 0.1 and later versions keep these differently
    def make():
        return normalize_param(dense(), axis=1, g=T.sqr(theano.shared(
            np.arange(3.), 'root')))
    net = randomize(make())
    save(net, path)
    assert keys(path) == ['DenseLayer_1/' + name for name in [
        'W', 'b', 'g_W', 'g_W.1']]
    other = make()
    load(other, path)
    assert same(other, get_all_param_values(net))


def test_expressions_of_other_inputs(path):
    def make():
        return weight_norm(dense(), g=T.vector('given'))
    net = randomize(make())
    save(net, path)
    assert keys(path) == ['DenseLayer_1/W', 'DenseLayer_1/b']
    other = make()
    load(other, path)
    assert same(other, get_all_param_values(net))
    assert ('W: normalized in the file, with a gain that is an expression '
            'without a value') in refused(dense(), path)
    save(dense(), path)
    assert ('W: plain in the file, but its gain in the network depends on '
            'inputs') in refused(other, path)


def test_constants_can_be_met(path):
    plain = dense()
    plain.W.set_value(np.diag([3., 3., 3., 0.])[:, :3])
    save(plain, path)
    for g in (3., 2.):
        net = weight_norm(dense(), g=T.constant(np.full(3, g)), eps=0.)
        if g == 3:
            load(net, path)
            np.testing.assert_allclose(net.input_layer.W.eval(),
                                       plain.W.get_value())
        else:
            assert 'g: an expression' in refused(net, path)


# --- positional files --------------------------------------------------------

def save_positional(net, path):
    np.savez(path, *get_all_param_values(net))


def test_positional_of_the_same_network(path):
    net = randomize(big())
    save_positional(net, path)
    other = big()
    report = load(other, path)
    assert same(other, get_all_param_values(net))
    assert report.converted == ()
    assert len(report.loaded) == len(get_all_params(net))


def test_positional_of_a_network_with_shared_parameters(path):
    net = randomize(siamese(weight_norm))
    save_positional(net, path)
    other = siamese(weight_norm)
    load(other, path)
    assert same(other, get_all_param_values(net))
    plain = randomize(siamese(lambda layer: layer))
    save_positional(plain, path)
    other = siamese(lambda layer: layer)
    load(other, path)
    assert same(other, get_all_param_values(plain))


def test_positional_of_the_plain_network(path):
    plain = randomize(network(lambda layer: layer))
    plain_b = get_all_layers(plain)[2]
    # where there was no bias, there is none
    assert plain_b.b is None
    save_positional(plain, path)
    net = network(lambda layer: weight_norm(layer, g='norm', **(
        {'b': None} if getattr(layer, 'num_filters', 0) == 4 else {})))
    report = load(net, path)
    np.testing.assert_allclose(output(net), output(plain), rtol=0,
                               atol=1e-12)
    assert len(report.converted) == 4 + 8 + 2


def test_positional_compressed(path):
    net = randomize(weight_norm(dense()))
    np.savez_compressed(path, *get_all_param_values(net))
    other = weight_norm(dense())
    load(other, path)
    assert same(other, get_all_param_values(net))


def test_positional_that_does_not_fit(path):
    net = weight_norm(dense())
    save_positional(DenseLayer(dense(), 5), path)
    assert refused(net, path).endswith(
        'arr_0 to arr_3: 4 arrays without names in the file, 3 parameters in '
        'the network, 2 as a plain one. Build the network as it was saved, '
        'biases and gains included')
    assert 'file, 2 parameters in the network. Build' in refused(dense(), path)
    save_positional(DenseLayer(InputLayer((None, 4)), 5), path)
    assert refused(net, path).split('\n  ')[1:] == [
        'arr_0, DenseLayer_1/W: shape (4, 5) in the file, (4, 3) in the '
        'network',
        'arr_1, DenseLayer_1/b: shape (5,) in the file, (3,) in the network']
    np.savez(path, np.ones((4, 3)), np.ones(3, int), np.ones(4))
    assert refused(net, path).split('\n  ')[1:] == [
        'arr_1, DenseLayer_1/b: dtype int64 in the file, float64 in the '
        'network',
        'arr_2, DenseLayer_1/g: shape (4,) in the file, (3,) in the network']
    # a plain network's that its gain cannot hold
    save_positional(randomize(dense()), path)
    assert 'cannot be written with g, one per layer' in refused(
        weight_norm(dense(), eps=0., g=Gain(1., per='layer')), path)


def test_positional_without_gains_to_tell_by(tmp_path):
    path = tmp_path / 'net.npz'
    save_positional(randomize(dense()), path)
    report = load(weight_norm(dense(), g=None), path)
    assert 'taken for one of this normalized network' in str(report)


def test_keys_that_no_file_can_have(tmp_path):
    inner = [DenseLayer(InputLayer((None, 3)), 3) for _ in range(2)]
    rnn = CustomRecurrentLayer(InputLayer((None, 2, 3)), *inner)
    for net in (dense(name='a\0b'), DenseLayer(
            rnn, 4, name='CustomRecurrentLayer_1/DenseLayer_1')):
        with pytest.raises(ValueError, match='give it another name'):
            save(net, tmp_path / 'net.npz')
    assert list(tmp_path.iterdir()) == []


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere'):
        save(dense(), tmp_path / 'nowhere' / 'net.npz')


def test_saving_draws_no_random_numbers(tmp_path):
    noise = MRG_RandomStreams(1).normal((3,))
    net = weight_norm(dense(), g=T.ones(3) + noise)
    state = [leaf for leaf in theano.gof.graph.inputs([noise])
             if isinstance(leaf, theano.compile.SharedVariable)][0]
    before = state.get_value()
    save(net, tmp_path / 'net.npz')
    wnorm.summary(net, file=io.StringIO())
    assert (state.get_value() == before).all()
    load(net, tmp_path / 'net.npz')


def test_a_header_nested_too_deeply(tmp_path):
    path = tmp_path / 'net.npz'
    header = ('-' * 9000 + '1').encode()
    with zipfile.ZipFile(str(path), 'w') as archive:
        archive.writestr('format.npy', b'\x93NUMPY\x01\x00' + len(
            header).to_bytes(2, 'little') + header)
    assert 'format is damaged' in refused(dense(), path)


# --- hostile files -----------------------------------------------------------

def edit(path, remove=(), **arrays):
    """Replace, add and remove arrays of a file."""
    with np.load(path) as file:
        found = dict(file)
    found.update(arrays)
    for key in remove:
        del found[key]
    with open(path, 'wb') as file:
        np.savez(file, **found)


def edit_table(path, change):
    """Change the row of the only layer that has parameters, in place."""
    with np.load(path) as file:
        rows = json.loads(str(file['layers']))
    change(rows[-1])
    edit(path, layers=np.array(json.dumps(rows)))


@pytest.fixture
def saved(path):
    """A file that fits :func:`target`."""
    save(randomize(target()), path)
    return path


def target():
    return weight_norm(dense(name='fc1'))


def test_no_file(path):
    refused(target(), path, IOError)
    refused(target(), os.path.dirname(path), IOError)


@pytest.mark.parametrize('content', [
    b'', b'P', b'a text', b'\x80\x02]q\x00.', b'\x93NUMPY\x01\x00'])
def test_no_npz_file(path, content):
    with open(path, 'wb') as file:
        file.write(content)
    assert 'is no npz file' in refused(target(), path)


def test_truncated(saved):
    with open(saved, 'rb') as file:
        content = file.read()
    for length in range(2, len(content), 61):
        with open(saved, 'wb') as file:
            file.write(content[:length])
        assert 'truncated or damaged' in refused(target(), saved)


def test_damaged_anywhere(saved):
    good = target()
    load(good, saved)
    with open(saved, 'rb') as file:
        content = file.read()
    random = np.random.RandomState(0)
    refusals = 0
    for place in random.choice(len(content), 150, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= 1 << random.randint(8)
        with open(saved, 'wb') as file:
            file.write(damaged)
        net = target()
        before = get_all_param_values(net)
        try:
            load(net, saved)
        except ValueError as error:
            assert saved in str(error)
            assert same(net, before)
            refusals += 1
        else:  # a date or the like
            assert same(net, get_all_param_values(good))
    assert refusals > 100


class Bomb(object):
    def __reduce__(self):
        return os.mkdir, ('/tmp/wnorm-was-here',)


def test_pickled_objects_are_not_loaded(saved):
    objects = np.empty(1, object)
    objects[0] = Bomb()
    for key in ('fc1/W', 'layers', 'format'):
        save(target(), saved)
        edit(saved, **{key: objects})
        assert ('%s contains pickled objects, which could run any code; it '
                'is not loaded' % key) in refused(target(), saved)
    np.savez(saved, objects)
    assert 'arr_0 contains pickled objects' in refused(target(), saved)
    assert not os.path.exists('/tmp/wnorm-was-here')


def test_other_formats(saved):
    for number, message in [
            (2, 'has format 2, this version of wnorm knows 1: a later '
             'version'), (0, 'has format 0, which does not exist'),
            (1., 'dtype float64, must be one integer'),
            ([1], r'shape \(1,\) and'), ('1', 'must be one integer')]:
        edit(saved, format=np.array(number))
        assert message.replace('\\', '') in refused(target(), saved)


def test_missing_parts(saved):
    edit(saved, remove=['fc1/W'])
    assert "fc1/W is missing" in refused(target(), saved)
    for remove, message in [
            (['layers'], 'it has no layers, but'),
            (['format'], 'it has no format and no layers, but')]:
        edit(saved, remove=remove)
        assert message in refused(target(), saved)
    np.savez(saved, W=np.ones((4, 3)))
    assert "it has no format and no layers, but 'W'" in refused(
        target(), saved)
    np.savez(saved, **{'arr_0': np.ones((4, 3)), 'epoch': np.array(3)})
    assert "but 'arr_0', 'epoch'" in refused(target(), saved)
    zipfile.ZipFile(saved, 'w').close()
    assert 'no format and no layers, but nothing' in refused(target(), saved)


def test_unknown_arrays(saved):
    edit(saved, **{'fc1/theta': np.ones(3), 'epoch': np.ones(1)})
    assert ('has arrays of which its layer table does not know: fc1/theta, '
            'epoch') in refused(target(), saved)


@pytest.mark.parametrize('text', [
    '', '[', '{}', '3', 'null', '[3]', '[{}]', '[{"key": 3}]',
    '[' * 100000, '[{"key": "fc1"}]', '["fc1"]'])
def test_a_table_that_is_none(saved, text):
    edit(saved, layers=np.array(text))
    assert 'its layer table is damaged' in refused(target(), saved)


@pytest.mark.parametrize('values', [
    np.array(['[]']), np.array(b'[]'), np.array(1.)])
def test_a_table_of_another_type(saved, values):
    edit(saved, layers=values)
    assert 'must be one string' in refused(target(), saved)


def test_a_table_that_is_too_large(saved, monkeypatch):
    monkeypatch.setattr('wnorm.checkpoints.files.LARGEST_TABLE', 100)
    assert 'must be one string' in refused(target(), saved)


W = ('normalized', 'W')


@pytest.mark.parametrize('where, value', [
    (('class',), 3), (('params',), 'W'), (('params',), ['W', 'W', 'g', 'b']),
    (('params',), [['W'], 'g', 'b']), (('derived',), []),
    (('derived',), {'theta': []}), (('derived',), {'W': ['theta']}),
    (('derived',), {'W': 3}), (('normalized',), None),
    (('normalized',), {'theta': {}}), (W, 3), (W, {}),
    (W + ('filter_axis',), True), (W + ('filter_axis',), -1),
    (W + ('filter_axis',), 1.), (W + ('position_axes',), 1),
    (W + ('position_axes',), ['1']), (W + ('eps',), '1e-6'),
    (W + ('eps',), -1.), (W + ('eps',), float('nan')),
    (W + ('eps',), float('inf')), (W + ('eps',), 10 ** 400),
    (W + ('eps',), True), (W + ('gain',), 1.), (W + ('gain',), {}),
    (W + ('gain', 'param'), 'theta'), (W + ('gain', 'param'), ['g']),
    (W + ('gain', 'exp'), 1), (W + ('gain', 'per'), 'unit'),
    (W + ('gain', 'per'), 0), (W + ('gain', 'per'), True),
    (W + ('gain', 'per'), None)])
def test_a_table_with_other_types(saved, where, value):
    def change(row):
        for key in where[:-1]:
            row = row[key]
        row[where[-1]] = value
    edit_table(saved, change)
    assert 'its layer table is damaged' in refused(target(), saved)


def test_two_layers_of_one_key(saved):
    with np.load(saved) as file:
        rows = json.loads(str(file['layers']))
    edit(saved, layers=np.array(json.dumps(rows + rows[-1:])))
    assert "two layers 'fc1'" in refused(target(), saved)


def npy(header, data=b'', version=b'\x01\x00'):
    text = header.encode('latin1') + b'\n'
    return (b'\x93NUMPY' + version + len(text).to_bytes(
        2 if version == b'\x01\x00' else 4, 'little') + text + data)


@pytest.mark.parametrize('member, message', [
    (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9%s,)}"
         % ('9' * 18)), '0 bytes for shape'),
    (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4, 3)}",
         b'abc'), '3 bytes for shape'),
    (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"),
     'damaged'),
    (npy("__import__('os').mkdir('/tmp/wnorm-was-here')"), 'damaged'),
    (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4, 3)}",
         version=b'\x02\x00'), 'version 2.0'),
    (b'no array', 'fc1/W is damaged')])
def test_arrays_that_are_none(saved, member, message):
    with zipfile.ZipFile(saved) as file:
        members = {name: file.read(name) for name in file.namelist()}
    members['fc1/W.npy'] = member
    with zipfile.ZipFile(saved, 'w') as file:
        for name, content in members.items():
            file.writestr(name, content)
    assert message in refused(target(), saved)
    assert not os.path.exists('/tmp/wnorm-was-here')


def test_members_that_are_no_arrays(saved):
    with zipfile.ZipFile(saved, 'a') as file:
        file.writestr('../../evil.sh', 'rm -rf')
    assert '../../evil.sh: an npz file has arrays' in refused(target(), saved)


def test_an_array_twice(saved):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with zipfile.ZipFile(saved, 'a') as file:
            file.writestr('fc1/W.npy', file.read('fc1/W.npy'))
    assert 'fc1/W.npy: an npz file has arrays, each' in refused(
        target(), saved)


def test_nothing_is_unpacked_that_does_not_fit(path):
    # 80 MB in 80 KB: refused by its header
    np.savez_compressed(path, np.zeros((4, 3)), np.zeros(10 ** 7),
                        np.zeros(3))
    import tracemalloc
    net = target()
    tracemalloc.start()
    try:
        refused(net, path)
        assert tracemalloc.get_traced_memory()[1] < 10 ** 7
    finally:
        tracemalloc.stop()


def test_failures_of_disk_and_memory_are_what_they_are(saved, monkeypatch):
    for error in (OSError(5, 'Input/output error'), MemoryError()):
        def fail(*args, **kwargs):
            raise error
        monkeypatch.setattr(np.lib.format, 'read_array', fail)
        refused(target(), saved, type(error), names_file=False)
