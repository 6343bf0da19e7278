"""Stands in for ``theano.tensor.signal.downsample``, gone since Theano 0.9.

Lasagne 0.1 imports it for its pooling layers.
"""
from theano.tensor.signal import pool


def max_pool_2d(input, ds, ignore_border=None, st=None, padding=(0, 0),
                mode='max'):
    """:func:`theano.tensor.signal.pool.pool_2d` under its former names."""
    if ignore_border is None:
        ignore_border = False  # the former default
    return pool.pool_2d(input, ws=ds, ignore_border=ignore_border, stride=st,
                        pad=padding, mode=mode)
