"""What initialize tells and draws."""
import copy
import pickle
import sys

import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import (
    DenseLayer, InputLayer, LSTMLayer, RecurrentLayer, SliceLayer)

from wnorm import Gain, initialize, weight_norm
from wnorm.report import LayerReport, Report


def data(n=40, *shape):
    return np.random.RandomState(0).randn(n, *(shape or (5,)))


def net(**kwargs):
    l = weight_norm(DenseLayer(InputLayer((None, 5)), 4, name='fc1'))
    return weight_norm(DenseLayer(l, 6, name='fc2'), **kwargs)


def test_without_notes_it_is_the_table_alone():
    report = initialize(net(), data())
    assert report.notes == [] and isinstance(report, tuple)
    assert isinstance(report[0], LayerReport)
    assert len(str(report).splitlines()) == 3


@pytest.mark.parametrize('many', [False, True])
@pytest.mark.parametrize('g, filters', [
    (Gain(per='layer'), 6), (Gain(per=2), 3), (Gain(per=6), None),
    (Gain(exp=True), None)])
def test_one_g_for_several_filters(g, filters, many):
    X = data()
    report = initialize(net(g=g), [X[:15], X[15:]] if many else X)
    assert report.notes == ([] if filters is None else [
        "DenseLayer 'fc2' (None, 6) has one g for %d filters: its deviations "
        'are init_stdv on average (root mean square).' % filters])
    assert str(report).splitlines()[3:] == report.notes
    std = report[1].std_after.reshape((-1, filters or 1))
    np.testing.assert_allclose(np.sqrt(np.mean(std ** 2, axis=1)), 1)


def test_g_that_is_an_expression():
    report = initialize(net(g=2. * theano.shared(np.ones(6))), data())
    assert report.notes == ["DenseLayer 'fc2' (None, 6): its g is an "
                            'expression and was not updated.']


def test_layers_that_are_left_as_they_are():
    X = data(6, 3, 5)
    l = weight_norm(LSTMLayer(InputLayer((None, 3, 5), T.tensor3()), 4,
                              name='lstm'), params=['W_in_to_cell'])
    l = weight_norm(RecurrentLayer(l, 3, name='rnn'))
    before = [p.get_value() for p in l.get_params()]
    for batch in (X, [X], None):  # nothing to initialize: not even looked at
        report = initialize(l, batch)
        assert len(report) == 0
        assert report.notes == [
            "LSTMLayer 'lstm' (None, 3, 4) has no weight normalization on "
            'top, but normalized parameters (W_in_to_cell): it is left as it '
            'is.',
            "RecurrentLayer 'rnn' (None, 3, 3) has no weight normalization on "
            'top, but normalized parameters (W_in_to_hid, W_hid_to_hid): it '
            'is left as it is.']
        assert str(report) == '\n'.join(report.notes)
    for old, p in zip(before, l.get_params()):
        np.testing.assert_array_equal(old, p.get_value())
    l = weight_norm(DenseLayer(SliceLayer(l, -1, 1), 4))
    for batch in (X, [X[:2], X[2:]]):
        report = initialize(l, batch)
        assert len(report) == 1 and len(report.notes) == 2


def test_not_exact_by_request():
    X = data()
    note, = initialize(net(), [X], deterministic=False).notes
    assert note.startswith('The statistics are not exact: with determin')
    assert not initialize(net(), [X], deterministic=True).notes
    assert not initialize(net(), X, deterministic=False).notes


def test_copies():
    report = initialize(net(g=Gain(per='layer')), data())
    for twin in (copy.copy(report), pickle.loads(pickle.dumps(report))):
        assert str(twin) == str(report) and twin.notes == report.notes


# --- drawn -----------------------------------------------------------------

def test_plot():
    pytest.importorskip('matplotlib')
    import matplotlib
    backend = matplotlib.rcParams['backend']
    X = data()
    X[:, 0] = 1.
    l = weight_norm(DenseLayer(InputLayer((None, 5)), 4, W=np.eye(5, 4),
                               name='fc1'))
    l = weight_norm(DenseLayer(l, 6, name='fc2'), init_stdv=3.)
    with pytest.warns(UserWarning, match='filters 0 are constant'):
        report = initialize(l, X)
    ax = report.plot()
    assert ax.get_xscale() == 'log'
    names = ["DenseLayer 'fc1' (None, 4)", "DenseLayer 'fc2' (None, 6)"]
    assert [label.get_text() for label in ax.get_yticklabels()] == names
    for line, name in zip(ax.lines, ('before', 'after')):
        assert line.get_label() == name
        std = np.concatenate([getattr(row, 'std_' + name) for row in report])
        np.testing.assert_array_equal(line.get_xdata(), std[std > 1e-9])
        layers = np.round(line.get_ydata())  # near the layer's tick
        np.testing.assert_array_equal(layers, [0] * 3 + [1] * 6)
    before, after = [line.get_ydata() for line in ax.lines]
    assert (before < after).all()
    assert len(set(before)) == len(before)  # no dot upon another
    assert matplotlib.rcParams['backend'] == backend
    from io import BytesIO
    file = BytesIO()
    ax.figure.savefig(file)
    assert file.getvalue()[1:4] == b'PNG'
    assert report.plot(ax) is ax and len(ax.lines) == 4


def test_plot_on_something_else():
    l = weight_norm(DenseLayer(InputLayer((None, 5)), 3))
    report = initialize(l, np.random.RandomState(0).randn(20, 5))
    with pytest.raises(TypeError, match='axes of a figure'):
        report.plot(5)


def test_plot_of_nothing():
    with pytest.raises(ValueError, match='nothing to draw'):
        Report((), ['a note']).plot()


def test_plot_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    report = initialize(net(), data())
    with pytest.raises(ImportError, match=r"pip install 'wnorm\[examples\]'"):
        report.plot()
