"""The ten lines of the README."""
import lasagne
import numpy as np
from lasagne.layers import DenseLayer, InputLayer, dnn
from wnorm import initialize, weight_norm

net = InputLayer((None, 1, 8, 8))
net = weight_norm(dnn.Conv2DDNNLayer(net, num_filters=16, filter_size=3))
net = weight_norm(DenseLayer(net, num_units=32), train_g=True)
net = weight_norm(DenseLayer(net, 10, nonlinearity=lasagne.nonlinearities.softmax))
print(initialize(net, np.random.rand(100, 1, 8, 8)))  # a batch of real data
