from lasagne.layers import DenseLayer, InputLayer, Layer

from wnorm.naming import describe


def test_class_name_and_shape():
    l = InputLayer((None, 5), name='x')
    assert describe(l) == "InputLayer 'x' (None, 5)"
    assert describe(DenseLayer(l, 3)) == 'DenseLayer (None, 3)'


def test_a_layer_that_cannot_tell_its_shape():
    class Broken(Layer):
        def get_output_shape_for(self, input_shape):
            raise RuntimeError('not yet')
    assert describe(Broken((None, 5), name='b')) == "Broken 'b'"
