"""The ten lines of the README."""
import numpy as np
from lasagne.layers import DenseLayer, InputLayer, dnn
from lasagne.nonlinearities import softmax
from wnorm import initialize, weight_norm

net = InputLayer((None, 1, 8, 8))
net = weight_norm(dnn.Conv2DDNNLayer(net, 16, filter_size=3), train_g=True)
net = weight_norm(DenseLayer(net, num_units=32), train_g=True)
net = weight_norm(DenseLayer(net, 10, nonlinearity=softmax), train_g=True)
print(initialize(net, np.random.rand(100, 1, 8, 8)))  # a batch of real data
