"""The benchmarks: their arithmetic, what their sides compute, a tiny run."""
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from running import in_c

FOLDER = os.path.join(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))), 'benchmarks')


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)


@pytest.fixture
def harness():
    import harness
    return harness


@pytest.fixture
def nets():
    import nets
    import theano
    before = theano.config.floatX
    yield nets
    theano.config.floatX = before


# --- timing -----------------------------------------------------------------

@pytest.mark.parametrize('number', [2, 3, 5])
def test_every_side_is_in_every_place_equally_often(harness, number):
    sides = list('abcde')[:number]
    rounds = [harness.order(sides, i) for i in range(2 * number)]
    for place in zip(*rounds):
        assert sorted(place) == sorted(2 * sides)


class Clock(object):
    """Time that passes as the sides say."""

    def __init__(self):
        self.now, self.log = 0., ''

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.log += 'z' * (seconds > 0)

    def side(self, name, *seconds):
        def call():
            self.now += seconds[self.log.count(name) % len(seconds)]
            self.log += name
        return call


@pytest.fixture
def clock(harness, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(harness, 'time', clock)
    return clock


def test_in_turn(harness, clock):
    ticks = []
    times = harness.in_turn(
        {'a': clock.side('a', .25), 'b': clock.side('b', .5)}, rounds=3,
        seconds=5, tick=lambda: ticks.append(1))
    assert times == {'a': [.25] * 3, 'b': [.5] * 3}
    assert len(ticks) == 3
    # slices of 1 second, each after one call that is not counted
    expected = 'aaaabbbb'
    for number in range(3):
        for turn in range(harness.SLICES):
            for side in harness.order(['a', 'b'], number + turn):
                expected += {'a': 'aaaaa', 'b': 'bbb'}[side]
    assert clock.log == expected


def test_slow_calls(harness, clock):
    harness.in_turn({'s': clock.side('s', 9.), 'f': clock.side('f', .125)},
                    rounds=7, seconds=.25)
    assert clock.log.count('s') == 4 + 7 * 2
    assert clock.log.count('f') == 4 + 7 * 3


def test_a_pause_before_each_side(harness, clock):
    times = harness.in_turn(
        {'a': clock.side('a', .25), 'b': clock.side('b', .5)}, rounds=2,
        seconds=1, pause=4)
    assert times == {'a': [.25] * 2, 'b': [.5] * 2}
    assert clock.log == ('zaaaazbbbb' 'zaaaaazbbb' 'zbbbzaaaaa')


def test_a_disturbance_does_not_count(harness, clock):
    times = harness.in_turn(
        {'a': clock.side('a', 1., 1., 1., 1., 1., 1., 7.)}, 2, 8)
    assert times == {'a': [1., 1.]}


def test_ratio_and_noise(harness):
    times = {'plain': [1., 2., 4., 1., 10.],
             'plain again': [1.1, 2., 3.6, 1.2, 10.],
             'wnorm': [2., 2., 6., 5., 10.]}
    # by round: 1.1 1 .9 1.2 1, and 2 1 1.5 5 1
    np.testing.assert_allclose(harness.ratio(times, 'wnorm'), [1, 1.5, 2])
    np.testing.assert_allclose(
        harness.ratio(times, 'wnorm', 'plain again'),
        np.percentile([2 / 1.1, 1, 6 / 3.6, 5 / 1.2, 1], [25, 50, 75]))
    np.testing.assert_allclose(harness.noise(times), .05)


# --- tables -----------------------------------------------------------------

def test_figures(harness):
    assert harness.figure([.9, 1., 1.25]) == '1.00 (0.90-1.25)'
    assert harness.figure([.9, 1., 1.25], 1.) == '1.00 (0.90-1.25) <= 1.00'
    assert harness.figure([.9, 1.1, 1.25], 1.08) == (
        '1.10 (0.90-1.25) > 1.08 MISSED')
    assert harness.control([.9, 1.02, 1.25]) == '1.02 (0.90-1.25)'
    assert harness.control([.9, 1.04, 1.25]) == '1.04 (0.90-1.25) UNSTEADY'
    assert harness.control([.9, .96, 1.25]) == '0.96 (0.90-1.25) UNSTEADY'


def options(**kwargs):
    import argparse
    return argparse.Namespace(**dict(dict(
        nets=None, passes=None, sides=None, quick=False, rounds=3,
        seconds=.25), **kwargs))


def test_compare(harness, clock):
    durations = {'plain': .25, 'plain again': .25, 'wnorm': .5, 'formula': 1.}
    limits = []

    def make(net, side, what):
        assert (net, what) == ('some net', 'inference')
        return clock.side(str(list(durations).index(side)), durations[side])

    def limit(net, what, c):
        limits.append(c)
        return 1.5

    table = harness.compare(
        'Title', [('some net', 'inference')], make, list(durations), [
            harness.Column('wnorm', 'wnorm', 'plain', limit),
            harness.Column('to formula', 'wnorm', 'formula', None),
            harness.Column('absent', 'absent', 'plain', None)],
        options(), ['A note.'])
    assert limits == [0]
    assert table.records == [{
        'net': 'some net', 'pass': 'inference',
        'times': {side: [seconds] * 3
                  for side, seconds in durations.items()}}]
    lines = harness.markdown(table).splitlines()
    assert lines[0] == '## Title' and 'A note.' in lines
    assert len({len(line) for line in lines[2:5]}) == 1
    cells = [re.split(r' *\| *', line)[1:-1] for line in lines[2:5]]
    assert set(''.join(cells.pop(1))) == {'-'}
    assert cells == [
        ['net', 'pass', 'plain ms', 'A/A', 'wnorm', 'to formula'],
        ['some net', 'inference', '250.00', '1.00 (1.00-1.00)',
         '2.00 (2.00-2.00) > 1.50 MISSED', '0.50 (0.50-0.50)']]


def test_compare_without_a_control(harness, clock):
    table = harness.compare(
        'Title', [('net', 'pass')], lambda *_: clock.side('p', .25),
        ['plain'], [], options())
    assert table.rows == [['net', 'pass', '250.00']]


def test_machine(harness):
    import theano
    text = harness.machine()
    assert '%d cores' % len(os.sched_getaffinity(0)) in text
    for version in np.__version__, theano.__version__:
        assert version in text
    assert '/' not in text.split('BLAS')[1]  # no path


def test_chart(tmp_path):
    import chart
    times = {'plain': [1., 1.], 'wnorm': [1.1, 1.2], 'formula': [3., 2.]}
    (tmp_path / 'speed.json').write_text(json.dumps({'Speed': [
        {'net': 'dense 512 b128', 'pass': what, 'times': times}
        for what in ('train SGD', 'inference')]}))
    chart.main(str(tmp_path))
    assert (tmp_path / 'chart.png').read_bytes()[:4] == b'\x89PNG'


# --- nets -------------------------------------------------------------------

@pytest.mark.parametrize('text', [
    'dense 512 b128', 'conv 96 b1', 'lstm 256 b32 float64'])
def test_a_net_is_written_as_it_is_read(nets, text):
    assert str(nets.Net.parse(text)) == text


@pytest.mark.parametrize('text', ['dense 512', 'gru 5 b1', 'dense 5 b1 int8'])
def test_no_net(nets, text):
    with pytest.raises(ValueError, match='write such as .dense 512 b128'):
        nets.Net.parse(text)


def test_cases(nets):
    main = ['dense 512 b128', 'dense 1024 b64', 'conv 32 b1']

    def chosen(**kwargs):
        return [(str(net), what) for net, what in nets.cases(
            options(**kwargs), main, ['conv'], ['inference'])]

    assert chosen() == [(net, 'inference') for net in main]
    assert chosen(quick=True) == [('conv 32 b1', 'inference')]
    assert chosen(nets=['dense', 'lstm 4 b2'], passes=['train SGD']) == [
        (net, 'train SGD') for net in main[:2] + ['lstm 4 b2']]


def weights(layer):
    """Each weight that may be normalized, from the input on."""
    import lasagne
    return [getattr(below, name)
            for below in lasagne.layers.get_all_layers(layer)
            for name in sorted(vars(below))
            if name == 'W' or name.startswith(('W_in_to_', 'W_hid_to_'))
            and not name.endswith('_param')]


@pytest.mark.parametrize('side', ['formula', 'wnorm'])
@pytest.mark.parametrize('kind, number', [
    ('dense', 3), ('conv', 5), ('lstm', 9)])
def test_normalized_sides(nets, kind, number, side):
    net = nets.Net(kind, 4, 2, 'float64')
    normalized = weights(nets.build(net, side))
    plain = weights(nets.build(net, 'plain'))
    assert len(normalized) == len(plain) == number
    for W, V in zip(normalized, plain):
        V = V.get_value()
        axes = (1, 2, 3) if V.ndim == 4 else 0
        np.testing.assert_allclose(W.eval(), V / np.sqrt(
            1e-6 + np.sum(V ** 2, axis=axes, keepdims=True)))


def steps(nets, side, what, number=3):
    call = nets.call(nets.Net('dense', 5, 4, 'float64'), side, what)
    return [call() for _ in range(number)]


@pytest.mark.parametrize('optimizer', [
    'SGD', 'Adam', 'momentum', 'Nesterov', 'RMSprop', 'Adamax',
    'total_norm_constraint'])
def test_sides_train_alike(nets, optimizer, monkeypatch):
    monkeypatch.setattr(nets, 'RATE', .1)
    what = 'train ' + optimizer
    losses = steps(nets, 'wnorm', what)
    assert len(set(map(float, losses))) == 3
    np.testing.assert_allclose(losses, steps(nets, 'formula', what))


def test_plain_sides_train_alike(nets, monkeypatch):
    monkeypatch.setattr(nets, 'RATE', .1)
    losses = steps(nets, 'plain', 'train Adam')
    for side in 'plain again', 'same epilogue':
        np.testing.assert_allclose(losses, steps(nets, side, 'train Adam'))


def test_inference(nets):
    output, = steps(nets, 'wnorm', 'inference', 1)
    assert output.shape == (4, nets.CLASSES)
    np.testing.assert_allclose(output, steps(nets, 'formula', 'inference',
                                             1)[0])


def test_adamax(nets, floatX):
    import theano
    value = np.array([3., -1.], floatX)
    x, rate = theano.shared(value), np.asarray(.1, floatX)
    step = theano.function([], updates=nets.adamax(
        (x ** 2).sum(), [x], rate))
    m, u = np.zeros(2), np.zeros(2)
    for t in range(1, 4):
        step()
        m = .9 * m + .1 * 2 * value
        u = np.maximum(.999 * u, abs(2 * value))
        value = value - .1 / (1 - .9 ** t) * m / (u + 1e-8)
        np.testing.assert_allclose(x.get_value(), value, rtol=1e-6)


@pytest.mark.parametrize('kind', ['dense', 'conv'])
def test_pytorch(nets, kind, torch):
    import pytorch
    net = nets.Net(kind, 4, 3)
    for side in 'torch plain', 'torch weight_norm':
        output = pytorch.call(net, side, 'inference')().numpy()
        np.testing.assert_allclose(output.sum(axis=1), np.ones(3), rtol=1e-5)
        for what in 'train SGD', 'train Adam':
            assert np.isfinite(pytorch.call(net, side, what)())


# --- programs ---------------------------------------------------------------

def program(name, *arguments):
    run = subprocess.run(
        [sys.executable, os.path.join(FOLDER, name)] + list(arguments),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        universal_newlines=True,
        env=dict(os.environ, THEANO_FLAGS=in_c()))
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.slow
def test_memory(harness, monkeypatch):
    import memory
    monkeypatch.setenv('THEANO_FLAGS', in_c())
    plain, formula = [harness.in_child(
        'memory', 'peak', 'dense 1024 b4', side, 'inference',
        **memory.ENVIRONMENT) for side in ('plain', 'formula')]
    weight = 4 * 1024 ** 2
    assert plain < .1 * weight  # a few vectors
    assert formula > .9 * weight  # W


@pytest.mark.slow
def test_quick(tmp_path):
    # a net that nothing is promised of
    out = program('', '--quick', '--nets', 'dense 16 b4', '--passes',
                  'train momentum', '--parts', 'speed', 'sizes', 'optimizers',
                  'pytorch', 'folding', 'memory', 'compile_time',
                  '--out', str(tmp_path / 'bench'))
    for title in ('## Speed, with a BLAS', '## Sizes', '## Optimizers',
                  '## Peak memory', '## Compile time', '## Import'):
        assert title in out
    assert 'PyTorch' in out  # or that it is not installed
    assert out.count('| dense 16 b4 | train momentum |') >= 5
    files = {path.name for path in (tmp_path / 'bench').iterdir()}
    assert {'bench.md', 'chart.png', 'speed.json', 'speed.md',
            'memory.json'} < files
    text = (tmp_path / 'bench' / 'bench.md').read_text()
    assert text.count('wnorm / formula') == 2  # sizes and optimizers
    assert all(line in out for line in text.splitlines())
    (records,) = json.loads(
        (tmp_path / 'bench' / 'speed.json').read_text()).values()
    assert len(records[0]['times']) == 5
    assert all(len(times) == 7 for times in records[0]['times'].values())


# --- several processes -----------------------------------------------------

def test_fit():
    import mpi
    n = np.array([10, 10 ** 5, 10 ** 7])
    alpha, beta = mpi.fit(n, 2e-5 + n * 3e-10)
    np.testing.assert_allclose([alpha, beta], [2e-5, 3e-10])


def test_model():
    import mpi
    # one way for each half of two machines, and back: half the bytes each
    np.testing.assert_allclose(
        mpi.model(2, 1000., .25, 500., 0., 0.), 2.5)
    # three rounds each way; 7/8 of the message twice; and what it costs here
    np.testing.assert_allclose(
        mpi.model(8, 1000., .25, 500., 7., .002),
        7 + 1.5 + 3.5 + 2.)


@pytest.mark.slow
def test_distributed(tmp_path):
    pytest.importorskip('mpi4py', reason="mpi4py and mpich are not installed: "
                        "pip install 'wnorm[mpi]'")
    out = program('mpi.py', '--quick', '--processes', '1,2',
                  '--rounds', '1', '--seconds', '.01', '--nets',
                  'dense 16 b4', '--numbers', '1e2,1e3', '--out',
                  str(tmp_path / 'mpi'))
    rows = [[cell.strip() for cell in line.split('|')[1:-1]]
            for line in out.splitlines() if line.startswith('|')]
    one, two = [row for row in rows if row[0] == 'dense 16 b4']
    assert (one[2], one[-2:]) == ('1', ['0 %', '0.00 MB'])
    assert two[2] == '2' and two[1] == one[1] and two[-2] != '0 %'
    assert [row[:2] for row in rows if row[0] == '1e+03'] == [
        ['1e+03', '2'], ['1e+03', '10 Gbit/s'], ['1e+03', '100 Gbit/s']]
    assert 'MODEL, not measured' in out
    assert (tmp_path / 'mpi.json').exists()


@pytest.mark.slow
def test_program_by_itself():
    out = program('speed.py', '--nets', 'dense 16 b4', '--sides',
                  'plain, wnorm', '--passes', 'inference', '--rounds', '2',
                  '--seconds', '.01')
    rows = [line for line in out.splitlines() if line.startswith('|')]
    assert len(rows) == 3 and 'formula' not in rows[0]
    assert rows[2].startswith('| dense 16 b4 | inference |')
