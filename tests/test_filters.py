import lasagne
import numpy as np
import pytest
from lasagne.layers import DenseLayer, InputLayer, Layer

import wnorm
from layouts import every_layout
from wnorm import Layout, filters


class Unknown(Layer):
    """A layer with a W that no table knows."""

    def __init__(self, incoming, units=3, **kwargs):
        super(Unknown, self).__init__(incoming, **kwargs)
        self.units = units
        self.W = self.add_param(lasagne.init.Normal(),
                                (units, self.input_shape[1]), name='W')

    def get_output_shape_for(self, input_shape):
        return (input_shape[0], self.units)


@pytest.fixture
def Mine():
    """A fresh class for each test: registrations are for good."""
    class Mine(Unknown):
        pass
    return Mine


INPUT = InputLayer((None, 5))


@every_layout
def test_table(case):
    layer = case.layer()
    layout = filters.layout(layer)
    assert layout.filter_axis == case.filter_axis
    ndim = layer.W.ndim
    axes = case.norm_axes if isinstance(case.norm_axes, tuple) else (0,)
    assert layout.norm_axes(ndim) == axes
    assert (layout.output_axis % len(layer.output_shape) ==
            case.unit_axis % len(layer.output_shape))


def test_subclasses_are_included():
    class MyDense(DenseLayer):
        pass
    assert filters.layout(MyDense(INPUT, 3)) == filters.layout(
        DenseLayer(INPUT, 3))


def test_a_class_of_the_same_name_is_not():
    mine = type('DenseLayer', (Unknown,), {})
    with pytest.raises(TypeError, match='DenseLayer'):
        filters.layout(mine(INPUT))


def test_unknown_class_says_how_to_register():
    with pytest.raises(TypeError) as error:
        filters.layout(Unknown(INPUT, name='mine'))
    message = str(error.value)
    assert "Unknown 'mine' (None, 3)" in message
    assert 'wnorm.register(Unknown, W=axis)' in message


def test_register(Mine):
    wnorm.register(Mine, W=0)
    assert filters.layout(Mine(INPUT)) == Layout(0)
    wnorm.register(Mine, U=1)  # adds
    assert filters.layout(Mine(INPUT)) == Layout(0)
    assert filters.layout(Mine(INPUT), 'U') == Layout(1)
    # a subclass may differ
    Sub = type('Sub', (Mine,), {})
    assert filters.layout(Sub(INPUT)) == Layout(0)
    wnorm.register(Sub, W=Layout(1, output_axis=-1))
    assert filters.layout(Sub(INPUT)) == Layout(1, (), -1)
    assert filters.layout(Mine(INPUT)) == Layout(0)


@pytest.mark.parametrize('declared', [0, Layout(0), {'W': 0}, {'W': Layout(0)}])
def test_attribute(Mine, declared):
    Mine.filter_axis = declared
    assert filters.layout(Mine(INPUT)) == Layout(0)
    assert filters.layout(type('Sub', (Mine,), {})(INPUT)) == Layout(0)


def test_register_for_a_class_of_lasagne(monkeypatch):
    monkeypatch.setattr(filters, '_registered', {})
    wnorm.register(DenseLayer, W=0)
    assert filters.layout(DenseLayer(INPUT, 3)) == Layout(0, output_axis=-1)


def test_a_mere_axis_inherits_that_of_the_output(Mine):
    # a dense layer has its units on the last axis, however many there are
    class MyDense(DenseLayer):
        filter_axis = 1
    assert filters.layout(MyDense(INPUT, 3)) == Layout(1, output_axis=-1)
    wnorm.register(MyDense, W=0)
    assert filters.layout(MyDense(INPUT, 3)) == Layout(0, output_axis=-1)
    wnorm.register(MyDense, W=Layout(0))
    assert filters.layout(MyDense(INPUT, 3)) == Layout(0, output_axis=1)


def test_bad_registrations(Mine):
    with pytest.raises(TypeError, match='layer class'):
        wnorm.register(Mine(INPUT), W=0)
    with pytest.raises(TypeError, match='at least one parameter'):
        wnorm.register(Mine)
    for axis in ('0', 1.5, None, True):
        with pytest.raises(TypeError, match='an axis is an integer, got'):
            wnorm.register(Mine, V=0, W=axis)
    with pytest.raises(TypeError):
        Layout(0, -1)
    assert Layout(np.int64(1)) == Layout(1)
    assert filters.find(Mine(INPUT), 'V') is None  # nothing was registered


def test_bad_attribute_names_the_layer(Mine):
    Mine.filter_axis = '0'
    with pytest.raises(TypeError, match=r"Mine 'm' .* integer, got '0'"):
        filters.layout(Mine(INPUT, name='m'))
