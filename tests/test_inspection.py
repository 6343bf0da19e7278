"""summary and plot_gains."""
import io
import sys

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.init import Constant
from lasagne.layers import (
    CustomRecurrentLayer, DenseLayer, InputLayer, LSTMLayer,
    NonlinearityLayer, count_params, dnn)

import own_layers
from wnorm import Gain, weight_norm
from wnorm.inspection import plot_gains, summary


def rng():
    return np.random.RandomState(0)


def inputs(*shape):
    return InputLayer((None,) + shape)


def table(net):
    """The lines of the summary, each cut into cells."""
    out = io.StringIO()
    assert summary(net, file=out) is None
    lines = out.getvalue().splitlines()
    head = lines[0].split('  ')
    assert [cell.strip() for cell in head if cell] == [
        'layer', 'output', 'parameters', 'trainable', 'V', 'axis', 'g',
        '||V||', 'values of g']
    return [[cell.strip() for cell in line.split('  ') if cell.strip()]
            for line in lines[1:]]


# --- summary -----------------------------------------------------------------

def test_dense(capsys):
    V = rng().randn(4, 3)
    l = weight_norm(DenseLayer(inputs(4), 3, W=V, name='fc'), train_g=True,
                    g=np.array([1., -2., 3.]), eps=0.)
    norms = np.sqrt((V ** 2).sum(axis=0))
    expected = [
        ['InputLayer', '(None, 4)', '0', '0'],
        ["DenseLayer 'fc'", '(None, 3)', '12', '12', '(4, 3)', '1',
         'per filter, trained', '%.3g .. %.3g' % (norms.min(), norms.max()),
         '-2 .. 3'],
        ['WeightNormLayer', '(None, 3)', '6', '6'],
        ['total', '18', '18']]
    assert table(l) == expected
    summary(l)
    assert capsys.readouterr().out.splitlines()[-1].split() == expected[-1]


def test_plain_layers():
    l = DenseLayer(inputs(4), 3)
    assert table(NonlinearityLayer(l))[1:] == [
        ['DenseLayer', '(None, 3)', '15', '15'],
        ['NonlinearityLayer', '(None, 3)', '0', '0'], ['total', '15', '15']]


def test_parameters_that_are_shared_count_once():
    x = inputs(4)
    one, other = DenseLayer(x, 4), DenseLayer(x, 4)
    other.params[one.W] = other.params.pop(other.W)
    other.W = one.W
    net = [weight_norm(one), weight_norm(other)]
    rows = table(net)
    assert [row[2] for row in rows[:-1]] == ['0', '16', '8', '16', '8']
    # one V, two b; the two g are not trainable
    assert rows[-1] == ['total', '32', '24']
    assert count_params(net) == 32


@pytest.mark.parametrize('g, form, values', [
    ('exp', 'exp(s), per filter, fixed', '1 .. 1'),
    (Gain(2., per='layer', exp=True), 'exp(s), per layer, fixed', '2 .. 2'),
    (Gain(.5, per=2), '2 groups, fixed', '0.5 .. 0.5'),
    (Gain(.5, per=1), '1 group, fixed', '0.5 .. 0.5'),
    (None, 'none', None),
    (2 * theano.shared(np.arange(4.)), 'per filter, expression', '0 .. 6'),
    (T.vector('h', 'float64'), 'per filter, expression', 'expression'),
])
def test_forms_of_g(g, form, values):
    row = table(weight_norm(DenseLayer(inputs(3), 4), g=g))[1]
    assert row[6] == form
    assert row[8:] == ([] if values is None else [values])


def test_g_of_every_position():
    layer = getattr(lasagne.layers, 'LocallyConnected2DLayer',
                    own_layers.LocallyConnected2DLayer)
    l = layer(inputs(2, 3, 3), 4, 3)
    V = l.W.get_value()
    norms = np.sqrt(1e-6 + (V ** 2).sum(axis=(1, 2, 3)))
    row = table(weight_norm(l, g='norm'))[1]
    assert row[4:7] == [str(V.shape), '0', 'per filter and position, fixed']
    assert row[7] == row[8] == '%.3g .. %.3g' % (norms.min(), norms.max())


def test_axis():
    l = weight_norm(dnn.Conv2DDNNLayer(inputs(3, 4, 4), 2, 2))
    assert table(l)[1][4:6] == ['(2, 3, 2, 2)', '0']


def test_V_that_is_an_expression():
    encoder = DenseLayer(inputs(4), 3)
    decoder = DenseLayer(encoder, 4)
    free = DenseLayer(encoder, 4)
    decoder.W, free.W = encoder.W.T, T.matrix('W', 'float64')
    rows = table([weight_norm(decoder), weight_norm(free)])
    norms = np.sqrt((encoder.W.get_value() ** 2).sum(axis=1))
    assert rows[2][4] == '(3, 4)'
    assert rows[2][7] == '%.3g .. %.3g' % (norms.min(), norms.max())
    assert rows[4][4] == rows[4][7] == 'expression'


def test_values_that_are_not_finite():
    l = DenseLayer(inputs(3), 2, W=Constant(np.nan))
    assert table(weight_norm(l))[1][7] == 'nan .. nan'
    l.W_param.set_value(np.full((3, 2), np.inf))
    assert 'nan' in table(l)[1][7]


def test_recurrent():
    l = LSTMLayer(inputs(5, 4), 3, name='lstm')
    rows = table(weight_norm(l, train_g=True,
                             params=['W_in_to_cell', 'W_hid_to_cell']))
    number = 4 * (4 + 3 + 1) * 3 + 3 * 3 + 2 * 3  # and peepholes, h0, c0
    assert rows[1] == ["LSTMLayer 'lstm'", '(None, 5, 3)',
                       str(number + 6), str(number)]
    assert [row[:4] for row in rows[2:-1]] == [
        ['W_in_to_cell', '(4, 3)', '1', 'per filter, trained'],
        ['W_hid_to_cell', '(3, 3)', '1', 'per filter, trained']]


def custom():
    hid = DenseLayer(DenseLayer(inputs(2), 2, name='first'), 2)
    l = CustomRecurrentLayer(
        inputs(5, 4), weight_norm(DenseLayer(inputs(4), 2, name='in')), hid)
    return weight_norm(l, params=['W_hid_to_hid_1'])


def test_nets_inside_recurrent_layers():
    rows = table(custom())
    assert [row[0] for row in rows] == [
        'InputLayer', 'CustomRecurrentLayer', "W of DenseLayer 'in'",
        'W_hid_to_hid_1', 'total']
    assert [row[1] for row in rows[2:4]] == ['(4, 2)', '(2, 2)']
    # in: V, b, g; first: V, b, g; then W, b; h0
    assert rows[1][2] == str(8 + 4 + 4 + 4 + 4 + 2 + 2) == rows[-1][1]


@pytest.mark.parametrize('look', [summary, plot_gains])
def test_no_network(look):
    with pytest.raises(TypeError, match='a network is a layer or a list'):
        look('net')


# --- plot_gains --------------------------------------------------------------

@pytest.fixture
def axes():
    figure = pytest.importorskip('matplotlib.figure').Figure()
    return figure.add_subplot(111)


def box(ax, name, number):
    """Quartiles of a box, through its lines on the axes."""
    handles = ax.get_legend().get_lines()
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    colour = handles[names.index(name)].get_color()
    boxes = [line for line in ax.lines if line.get_color() == colour and
             len(line.get_xdata()) == 5]
    y = boxes[number].get_ydata()
    return min(y), max(y), np.mean(boxes[number].get_xdata()[:2])


def test_boxes(axes):
    l = DenseLayer(inputs(6), 9, W=rng().randn(6, 9), name='fc1')
    first = weight_norm(l, g='exp')
    first.g_param.set_value(rng().randn(9))
    net = weight_norm(DenseLayer(NonlinearityLayer(first), 3, name='fc2'),
                      g=Gain(2.))
    assert plot_gains(net, axes) is axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "DenseLayer 'fc1'", "DenseLayer 'fc2'"]
    for number, layer in enumerate([first, net]):
        V = layer.input_layer.W_param.get_value()
        for name, values in (('g', layer.g.eval()), ('||V||', np.sqrt(
                1e-6 + (V ** 2).sum(axis=0)))):
            low, high, x = box(axes, name, number)
            np.testing.assert_allclose([low, high],
                                       np.percentile(values, [25, 75]))
            # g on the left, the norms on the right
            assert (x < number) == (name == 'g') and abs(x - number) < .5


def test_what_has_no_values_has_no_box(axes):
    l = weight_norm(DenseLayer(inputs(6), 9), g=None)
    l = weight_norm(DenseLayer(l, 3), g=T.vector('h', 'float64'))
    plot_gains(l, axes)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        '||V||']
    assert len(axes.get_xticklabels()) == 2
    plain = DenseLayer(inputs(6), 9)
    plain.W = T.matrix('W', 'float64')
    axes.clear()
    plot_gains(weight_norm(plain, g=None), axes)
    assert not axes.lines and axes.get_legend() is None


def test_matrices_are_named(axes):
    lstm = weight_norm(LSTMLayer(inputs(5, 4), 3, name='lstm'),
                       params=['W_in_to_cell'])
    plot_gains([lstm, custom()], axes)
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "LSTMLayer 'lstm' W_in_to_cell",
        "CustomRecurrentLayer W of DenseLayer 'in'",
        'CustomRecurrentLayer W_hid_to_hid_1']


def test_a_new_figure():
    matplotlib = pytest.importorskip('matplotlib')
    backend = matplotlib.get_backend()
    ax = plot_gains(weight_norm(DenseLayer(inputs(3), 2)))
    assert matplotlib.get_backend() == backend
    with io.BytesIO() as file:
        ax.figure.savefig(file, format='png')
        assert file.getvalue()[:4] == b'\x89PNG'


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    with pytest.raises(ImportError, match=(
            r"a picture needs matplotlib: pip install 'wnorm\[examples\]'")):
        plot_gains(weight_norm(DenseLayer(inputs(3), 2)))


def test_bad_axes():
    with pytest.raises(TypeError, match='ax must be the axes of a figure'):
        plot_gains(weight_norm(DenseLayer(inputs(3), 2)), 3)


def test_nothing_to_draw(axes):
    with pytest.raises(ValueError, match='no layer of this network is weight'):
        plot_gains(DenseLayer(inputs(3), 2), axes)
    assert not axes.lines
