"""The import hook: remedies are loaded when Theano or Lasagne is imported.

A ``.pth`` file in site-packages imports this module at every start of the
interpreter, so it must cost next to nothing: no import of its own beyond
``os`` and ``sys``, which the interpreter has loaded already.

Set the environment variable ``WNORM_STACK=0`` to switch the hook off.
"""
import os
import sys

#: Modules whose import calls for a remedy.
TRIGGERS = frozenset([
    'theano',
    'theano.gof.cc',
    'theano.tensor.blas',
    'theano.tensor.io',
    'theano.sparse.opt',
    'theano.tensor.signal.downsample',
    'theano.tensor.signal.pool',
    'lasagne',
    'lasagne.layers.dnn',
    'lasagne.layers.special',
    'theano.gpuarray.linalg',
    'theano.gpuarray.opt',
])


class Finder(object):
    """Lets :mod:`wnorm.stack.remedies` act just before a module is found."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in TRIGGERS:
            return None
        from wnorm.stack import remedies
        return remedies.before_import(name, path)


def enabled():
    return os.environ.get('WNORM_STACK', '1').lower() not in (
        '0', 'no', 'off', 'false')


def armed():
    return any(getattr(finder, '__module__', None) == __name__
               for finder in sys.meta_path)


def arm():
    """Put the finder first on ``sys.meta_path``, once."""
    if enabled() and not armed():
        sys.meta_path.insert(0, Finder)


arm()
