import warnings

import numpy as np
import pytest

from port.old import lines, port_one, rows
from wnorm.port import names
from wnorm.port.text import HAND, WRITE

RENAMED = [
    ('import numpy as np\nx = np.asscalar(y[0])\n',
     'import numpy as np\nx = np.asarray(y[0]).item()\n'),
    ('import numpy\nx = numpy.rank(y)\n', 'import numpy\nx = numpy.ndim(y)\n'),
    ('import numpy as np\nx = np.long(3)\n',
     'import numpy as np\nx = int(3)\n'),
    ('from numpy import rank\nx = rank(y)\n',
     'from numpy import ndim as rank\nx = rank(y)\n'),
    ('from numpy import zeros, rank as r\n',
     'from numpy import zeros\nfrom numpy import ndim as r\n'),
    ('def f():\n    from numpy import zeros, rank as r\n',
     'def f():\n    from numpy import zeros\n'
     '    from numpy import ndim as r\n'),
    ('x = 1; from numpy import zeros, rank as r\n',
     'x = 1; from numpy import zeros; from numpy import ndim as r\n'),
    ('from scipy.misc import logsumexp\n',
     'from scipy.special import logsumexp\n'),
    ('import scipy.misc\nx = scipy.misc.comb(3, 2)\n',
     'import scipy.misc\nx = scipy.special.comb(3, 2)\n'),
    ('import time\nx = time.clock()\n',
     'import time\nx = time.process_time()\n'),
    ('from time import clock\nx = clock()\n',
     'from time import process_time as clock\nx = clock()\n'),
    ('from collections import Iterable, OrderedDict\n',
     'from collections.abc import Iterable\n'
     'from collections import OrderedDict\n'),
    ('from sklearn.externals import joblib\n', 'import joblib\n'),
    ('from sklearn.externals import joblib as j\n', 'import joblib as j\n'),
    ('import sklearn.grid_search\nx = sklearn.grid_search.GridSearchCV\n',
     'import sklearn.model_selection\n'
     'x = sklearn.model_selection.GridSearchCV\n'),
    ('from sklearn.cross_validation import train_test_split\n',
     'from sklearn.model_selection import train_test_split\n'),
    ('import Image\nx = y.resize(s, Image.ANTIALIAS)\n',
     'from PIL import Image\nx = y.resize(s, Image.LANCZOS)\n'),
    ('from theano.compat.python2x import OrderedDict\n',
     'from collections import OrderedDict\n'),
    ('import theano.sandbox.gpuarray as g\n',
     'from theano import gpuarray as g\n'),
    ('from theano.sandbox.cuda.dnn import dnn_conv\nx = 1\n', 'x = 1\n'),
    ('import theano.sandbox.cuda as c\nx = 1\n', 'x = 1\n'),
    ('import theano.sandbox.cuda\nx = theano.shared(1)\n',
     'import theano\nx = theano.shared(1)\n'),
    ('if x:\n    import theano.sandbox.cuda as c\n', 'if x:\n    pass\n'),
    ('y = 2; import theano.sandbox.cuda as c\n', 'y = 2; pass\n'),
    ('def f():\n    y = 2\n    import theano.sandbox.cuda as c\n',
     'def f():\n    y = 2\n'),
    ('import scipy, numpy\nx = scipy.randn(3)\n',
     'import scipy, numpy\nx = numpy.random.randn(3)\n'),
    ('from scipy import log, sqrt as root\n',
     'from numpy.lib.scimath import log\n'
     'from numpy.lib.scimath import sqrt as root\n'),
    ('import scipy, numpy as np\nx = scipy.sqrt(y) + scipy.cos(y)\n',
     'import scipy, numpy as np\n'
     'x = np.lib.scimath.sqrt(y) + np.cos(y)\n'),
    ('import scipy.misc as m, os\nx = m.factorial(3)\n', None),
]

BY_HAND = [
    ('from theano.sandbox.cuda.dnn import dnn_conv\nx = dnn_conv(y)\n', [1]),
    ('from theano.sandbox.cuda import *\n', [1]),
    ('from theano.sandbox.cuda import dnn\nx = dnn.dnn_conv(y)\n', [1, 2]),
    ('import theano.sandbox.cuda\ntheano.sandbox.cuda.use("gpu0")\n', [1, 2]),
    ('import pylearn2.datasets\n', [1]),
    ('from scipy.misc import imread\nx = imread(y)\n', [1]),
    ('import scipy.misc\nscipy.misc.imsave(y, x)\n', [2]),
    ('from scipy import misc\nmisc.imresize(x, 3)\n', [2]),
    ('from sklearn import cross_validation as c\nc.KFold(3)\n', [1, 2]),
    ('from sklearn.datasets import fetch_mldata\n', [1]),
    ('from numpy import asscalar\n', [1]),
    ('from numpy import long\n', [1]),
    ('import numpy as np\nx = map(np.asscalar, y)\n', [2]),
    ('import scipy\nx = scipy.randn(3)\n', [2]),
    ('import inspect\nx = inspect.getargspec(f)\n', [2]),
    ('x = file("a")\n', [1]),
    ('x = buffer(y)\nz = cmp(x, y)\na = coerce(1, 2.)\n', [1, 2, 3]),
    ('import string\nx = string.join(string.letters, ",")\n', [2, 2]),
    ('from string import maketrans\n', [1]),
    ('import sys\nreload(sys)\nsys.setdefaultencoding("utf8")\n', [2, 3]),
    ('import sklearn.externals\nx = sklearn.externals.joblib.load(y)\n', [2]),
]

FINE = [
    'import numpy as np\nx = np.zeros(3, np.bool) + np.product(y)\n',
    'import numpy as np\nx = np.cast["int32"](np.float(3))\n',
    'from theano.sandbox.rng_mrg import MRG_RandomStreams\n',
    'from theano.tensor.signal.downsample import max_pool_2d\n',
    'from theano.tensor.shared_randomstreams import RandomStreams\n',
    'import scipy.misc\nimport scipy.io\nx = scipy.io.loadmat(y)\n',
    'try:\n    from scipy.misc import imread\nexcept ImportError:\n'
    '    from imageio import imread\n',
    'rank = 3\nx = rank\n',
    'import string\nx = string.ascii_letters\n',
    'for file in y:\n    x = file\n',
    'def f(buffer, cmp=None):\n    return buffer, cmp, x.coerce(3)\n',
    'class A:\n    def __iter__(self): return x.file\n',
    'class A(object):\n    clock = 2\nx = A.clock\n',
    'from . import misc\nmisc.imread(x)\n',
    'from .theano.sandbox import cuda\n',
]


@pytest.mark.parametrize('old, new', RENAMED)
def test_renamed(tmp_path, old, new):
    one = port_one(tmp_path, old)
    if new is None:
        assert lines(one) == [2] and lines(one, HAND) == [2]
        return
    assert one.text == new
    assert lines(one, WRITE)
    again = port_one(tmp_path, new)
    assert (again.text, lines(again, WRITE)) == (new, [])


@pytest.mark.parametrize('text, wanted', BY_HAND)
def test_by_hand(tmp_path, text, wanted):
    one = port_one(tmp_path, text)
    assert lines(one, HAND) == wanted
    assert one.text == text
    assert all(remedy for _, _, _, remedy in rows(one))


@pytest.mark.parametrize('text', FINE)
def test_not_gone(tmp_path, text):
    one = port_one(tmp_path, text)
    assert (one.text, rows(one)) == (text, [])


def test_rules_are_right(tmp_path):
    """NumPy lacks what is said to be gone, and has what is said to be new."""
    warnings.simplefilter('ignore')  # NumPy's about such names
    for old, rule in names.RULES.items():
        parent, _, name = old.rpartition('.')
        if parent == 'numpy':
            assert not hasattr(np, name), name
        if rule.now and rule.now.startswith('numpy.'):
            value = np
            for part in rule.now.split('.')[1:]:
                value = getattr(value, part)
        assert rule.now or rule.advice
    assert np.lib.scimath.sqrt(-1) == 1j
    exec(port_one(tmp_path, 'from scipy import log2, power\n').text)
    assert np.array_equal(np.asarray(np.float32(3)).item(), 3.)
