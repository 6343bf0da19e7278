import numpy as np, theano, lasagne, theano.tensor as T
from lasagne.layers import *
def test_a(floatX):

    l = InputLayer((None, 2, 6, 6)); l = Conv2DLayer(l, 3, 3, pad='same'); l = DenseLayer(l, 4)
    x = T.tensor4()
    f = theano.function([x], get_output(l, x))
    assert f(np.zeros((5,2,6,6), floatX)).dtype == floatX
    r = LSTMLayer((None, 5, 3), 4)
    x = T.tensor3()
    f = theano.function([x], get_output(r, {r.input_layer if r.input_layer else r: x}) if 0 else r.get_output_for([x]))
    f(np.zeros((2,5,3), floatX))
