"""What makes Theano 1.0.5 and Lasagne run on today's machines.

This package knows nothing of weight normalization.

==============  ============================================================
hook            the import hook that every interpreter start arms
remedies        what is done before Theano or Lasagne is imported, and why
downsample      stands in for ``theano.tensor.signal.downsample``
blas            NumPy's BLAS for Theano, with blas.cpp
dnn             stands in for ``lasagne.layers.dnn`` on a CPU
mpi             which MPI there is, and who can start it
pkg_resources   stands in for the module of setuptools that setuptools removed
preflight       what must be on the machine before anything is installed
doctor          ``python -m wnorm doctor``
==============  ============================================================
"""
