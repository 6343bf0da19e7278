import pytest

from port.old import lines, port, port_one, rows
from wnorm.port.text import CAUTION, HAND, WRITE

NUMPY = 'import numpy as np\n'

#: Divisions of whole numbers, which the place shows them to be.
DIVISIONS = [
    ('for i in range(a / b): pass\n', 'for i in range(a // b): pass\n'),
    ('for i in range(0, (a + 1) / b - 1): pass\n',
     'for i in range(0, (a + 1) // b - 1): pass\n'),
    ('for i in range(a  # all / all\n               / b): pass\n',
     'for i in range(a  # all / all\n               // b): pass\n'),
    ('for i in range(-(a / b / c)): pass\n',
     'for i in range(-(a // b // c)): pass\n'),
    ('n = a / b\nfor i in range(n - 1): pass\n',
     'n = a // b\nfor i in range(n - 1): pass\n'),
    ('x = y[a / 2:, 3]\n', 'x = y[a // 2:, 3]\n'),
    ('x = y.reshape((a / 2, 2))\n', 'x = y.reshape((a // 2, 2))\n'),
    (NUMPY + 'x = np.zeros([a / 2, 2], "f")\n',
     NUMPY + 'x = np.zeros([a // 2, 2], "f")\n'),
    ('x = f(y, num_units=a / 2)\n', 'x = f(y, num_units=a // 2)\n'),
]

#: Others.
NOT_CERTAIN = [
    'x = a / b\n',
    'for i in range(int(a / b)): pass\n',
    NUMPY + 'for i in range(int(np.ceil(a / 2.))): pass\n',
    'from __future__ import division\nx = f(range(a / b))\n',
    'x = y[a / b]\n',
    'x = y[a / 2.:]\n',
    'n = a / b\nn = int(n)\nfor i in range(n): pass\n',
    'n = a / b\ndef f(n):\n    return range(n)\n',
    NUMPY + 'x = np.zeros(3, a / b)\n',
    'x = range(3)\nx = a / b\n',
]


@pytest.mark.parametrize('old, new', DIVISIONS)
def test_divisions(tmp_path, old, new):
    one = port_one(tmp_path, old)
    assert one.text == new
    assert len(rows(one)) == new.count('//')
    assert lines(one, WRITE) == lines(one)
    assert rows(port_one(tmp_path, new)) == []


@pytest.mark.parametrize('text', NOT_CERTAIN)
def test_other_divisions(tmp_path, text):
    one = port_one(tmp_path, text)
    assert (one.text, rows(one)) == (text, [])


@pytest.mark.parametrize('division, doubtful', [
    ('x.shape[0] / 2', True), ('len(x) / batch_size', True),
    ('(n + 1) / 2', True), ('args.count / 2', True),
    ('x / y', False), ('len(x) / 2.', False), ('int(n / 2)', False),
    ('total / n', False), ('(len(x) / 2) / z', True), ('x[0] / 2', False),
])
def test_doubtful_divisions(tmp_path, division, doubtful):
    """Mentioned where the file is Python 2, and left alone."""
    text = 'y = %s\n' % division
    assert rows(port_one(tmp_path, text)) == []
    one = port_one(tmp_path, text + 'print "a"\n')
    assert one.text == text + 'print("a")\n'
    assert lines(one, CAUTION) == [1] * doubtful
    one = port_one(tmp_path, 'from __future__ import division\n' + text +
                   'print "a"\n')
    assert lines(one, CAUTION) == []


PICKLES = [
    ('import pickle\nx = pickle.load(f)\n',
     "import pickle\nx = pickle.load(f, encoding='latin1')\n"),
    ('import pickle\nx = pickle.loads(f,\n    )\n',
     "import pickle\nx = pickle.loads(f,\n     encoding='latin1')\n"),
    ('from pickle import load\nx = load(open("é"))\n',
     'from pickle import load\nx = load(open("é", \'rb\'), '
     "encoding='latin1')\n"),
    ('import pickle\npickle.dump(x, open(p, "w"))\n',
     "import pickle\npickle.dump(x, open(p, 'wb'))\n"),
    ('import pickle\npickle.dump(x, open(p, mode="w"))\n',
     "import pickle\npickle.dump(x, open(p, mode='wb'))\n"),
    ('import pickle\nwith open(p) as f:\n'
     "    x = pickle.load(f, encoding='bytes')\n",
     "import pickle\nwith open(p, 'rb') as f:\n"
     "    x = pickle.load(f, encoding='bytes')\n"),
    ('import pickle\ndef g(p):\n    f = open(p, "rU")\n'
     '    pickle.dump(3, f)\n    f.close()\n',
     "import pickle\ndef g(p):\n    f = open(p, 'rb')\n"
     '    pickle.dump(3, f)\n    f.close()\n'),
    ('import cPickle\nx = cPickle.load(f)\n',
     "import pickle\nx = pickle.load(f, encoding='latin1')\n"),
    ('from six.moves import cPickle\nx = cPickle.load(f)\n',
     "from six.moves import cPickle\nx = cPickle.load(f, "
     "encoding='latin1')\n"),
]

NO_PICKLES = [
    'import json\nx = json.load(open(p))\n',
    'import pickle\nx = pickle.load(f, **options)\n',
    "import pickle\nx = pickle.load(open(p, 'rb'), encoding='latin1')\n",
    "import pickle\npickle.dump(x, open(p, 'wb'))\n",
    'import pickle\npickle.dump(x, open(p, mode))\n',
    # the file is used otherwise, too: nobody knows
    'import pickle\nf = open(p, "w")\nf.write("a")\npickle.dump(x, f)\n',
    'import pickle\nfrom io import open\npickle.dump(x, open(p, "w"))\n',
    'import pickle\npickle.dump(x, self.file)\n',
    'def load(f): pass\nx = load(open(p))\n',
]


@pytest.mark.parametrize('old, new', PICKLES)
def test_pickles(tmp_path, old, new):
    one = port_one(tmp_path, old)
    assert one.text == new
    assert lines(one, WRITE) == lines(one) != []
    assert rows(port_one(tmp_path, new)) == []


@pytest.mark.parametrize('text', NO_PICKLES)
def test_no_pickles(tmp_path, text):
    one = port_one(tmp_path, text)
    assert (one.text, rows(one)) == (text, [])


@pytest.mark.parametrize('call, wanted', [
    ('np.load(p).item()', [2]), ('np.load(p, allow_pickle=True).item()', []),
    ('np.load(p)', []), ('other.load(p).item()', []), ('x.item()', []),
])
def test_saved_objects(tmp_path, call, wanted):
    one = port_one(tmp_path, NUMPY + 'y = %s\n' % call)
    assert lines(one) == lines(one, HAND) == wanted


@pytest.mark.parametrize('option, remedy', [
    ("'--seed', default=1", 'type=int'),
    ("'--rate', default=-0.5", 'type=float'),
    ("'--quick', default=False", "action='store_true'"),
    ("'--slow', default=True", "action='store_false'"),
    ("'--seed', default=1, type=int", None),
    ("'--quick', default=False, action='store_true'", None),
    ("'--name', default='a'", None),
    ("'--name'", None),
    ("'--name', **options", None),
    ("name, default=1", None),
])
def test_options(tmp_path, option, remedy):
    text = 'import argparse\np = argparse.ArgumentParser()\n' \
        'p.add_argument(%s)\n' % option
    one = port_one(tmp_path, text)
    assert one.text == text
    assert rows(one) == ([] if remedy is None else [
        (3, CAUTION, '%s, where it is given, is a string' %
         option.split("'")[1], remedy)])


@pytest.mark.parametrize('path, found', [
    ('/home/somebody/data', True), ('~/nobody/has/it', True),
    ('/media/disk/x.npz', True), ('C:\\\\data', True), ('~nobody/', True),
    ('/train.npz', False), ('data/train.npz', False), ('/', False),
    ('/tmp/out/x', False), ('~', False), ('http://a.b/c', False),
    ('a / b', False),
])
def test_paths(tmp_path, path, found):
    text = "x = '%s'\n" % path
    one = port_one(tmp_path, text)
    assert one.text == text
    assert lines(one) == lines(one, HAND) == [1] * found


def test_paths_of_options_and_parts(tmp_path):
    text = ('"""/home/somebody/data"""\np.add_argument("--data", '
            'default="/home/somebody/data")\nx = y + "/a/b.npz"\n'
            'x = f"{y}/a/b.npz"\nx = f"/home/somebody/{y}"\n'
            'x = %r + "/c/d"\n' % str(tmp_path / 'a.py'))
    assert rows(port_one(tmp_path, text)) == [
        (2, HAND, "a path that is not on this machine: "
         "'/home/somebody/data'", 'give --data'),
        (5, HAND, "a path that is not on this machine: '/home/somebody/'",
         "your data's path")]


def test_devices(tmp_path):
    files = {
        'a.py': 'import os\n# device=gpu1 is fine\n'
                "os.environ['THEANO_FLAGS'] = 'device=gpu,floatX=float32'\n"
                "f(device='gpu')\n",
        'run.sh': 'THEANO_FLAGS=init_gpu_device=gpu0 python a.py\n',
        '.theanorc': '[global]\ndevice = gpu\n',
        'notes.txt': 'device=gpu\n',
    }
    ported = port(tmp_path, files)
    assert sorted(ported) == ['.theanorc', 'a.py', 'run.sh']
    assert ported['run.sh'].text == (
        'THEANO_FLAGS=init_gpu_device=cuda0 python a.py\n')
    assert ported['.theanorc'].text == '[global]\ndevice = cuda\n'
    assert ported['a.py'].text == files['a.py'].replace(
        'device=gpu', 'device=cuda')
    assert [lines(ported[name], WRITE) for name in sorted(ported)] == [
        [2], [2, 3], [1]]
