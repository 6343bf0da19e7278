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
    ('x = f(shape=(a / 2, b))\n', 'x = f(shape=(a // 2, b))\n'),
    ('x = rng.uniform(size=a / 2)\n', 'x = rng.uniform(size=a // 2)\n'),
    (NUMPY + 'x = np.zeros(shape=a / 2)\n',
     NUMPY + 'x = np.zeros(shape=a // 2)\n'),
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
    NUMPY + 'x = np.random.gamma(shape=k / theta)\n',
    NUMPY + 'x = np.random.gamma(shape=(k / theta, 2))\n',
    NUMPY + 'x = np.random.permutation(x / y)\n',
    'import theano.tensor as T\nx = T.reshape(x / y, (2, z))\n',
    'def range(x): return x\nx = range(y / z)\n',
    'plt.text(x, y, s, size=w / 2)\n',
]


@pytest.mark.parametrize('old, new', DIVISIONS)
def test_divisions(tmp_path, old, new):
    one = port_one(tmp_path, old + 'print "a"\n')
    assert one.text == new + 'print("a")\n'
    assert len(rows(one)) == new.count('//') + 1
    assert lines(one, WRITE) == lines(one)
    assert rows(port_one(tmp_path, new)) == []
    # where nothing else shows Python 2, a float may be meant
    one = port_one(tmp_path, old)
    certain = 'range(' in old and 'range(n' not in old
    assert one.text == (new if certain else old)
    assert lines(one, WRITE if certain else CAUTION) == lines(one) != []


@pytest.mark.parametrize('text', NOT_CERTAIN)
def test_other_divisions(tmp_path, text):
    one = port_one(tmp_path, text)
    assert (one.text, rows(one)) == (text, [])
    # in Python 2 too
    assert '//' not in port_one(tmp_path, text + 'x = 1L\n').text


def test_a_division_does_not_show_python_2(tmp_path):
    text = 'for i in range(a / b): pass\nx = zip(y, z)\n'
    assert port_one(tmp_path, text).text == text.replace('/', '//')
    assert 'list(zip' in port_one(tmp_path, text + 'print 1\n').text


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
     "import pickle\nx = pickle.loads(f, encoding='latin1',\n    )\n"),
    ("import pickle\nx = pickle.load(open('a', 'rb'), # weights (all)\n)\n",
     "import pickle\nx = pickle.load(open('a', 'rb'), encoding='latin1', "
     '# weights (all)\n)\n'),
    ('import pickle\nx = pickle.load((f)  # f)\n)\n',
     "import pickle\nx = pickle.load((f), encoding='latin1'  # f)\n)\n"),
    ('import pickle\npickle.load(open((p)), fix_imports=True)\n',
     "import pickle\npickle.load(open((p), 'rb'), fix_imports=True, "
     "encoding='latin1')\n"),
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
    "import pickle\npickle.dump(x, open(p, encoding='utf8'))\n",
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
                "f(device='gpu')\ndevice = gpu\nrun(device=gpu)\n"
                "x = '--device=gpu0', 'f(device=gpu_id)'\n",
        'run.sh': 'THEANO_FLAGS=init_gpu_device=gpu0 python a.py\n'
                  'python a.py --device=gpu0\ndevice=gpu\n',
        '.theanorc': '[global]\ndevice = gpu\n',
        'notes.txt': 'device=gpu\n',
    }
    ported = port(tmp_path, files)
    assert sorted(ported) == ['.theanorc', 'a.py', 'run.sh']
    assert ported['run.sh'].text == (
        'THEANO_FLAGS=init_gpu_device=cuda0 python a.py\n'
        'python a.py --device=gpu0\ndevice=gpu\n')
    assert ported['.theanorc'].text == '[global]\ndevice = cuda\n'
    assert ported['a.py'].text == files['a.py'].replace(
        'device=gpu,', 'device=cuda,')
    assert [lines(ported[name], WRITE) for name in sorted(ported)] == [
        [2], [3], [1]]


@pytest.mark.parametrize('call, found', [
    ('sorted(x, cmp=f)', True), ('sorted(x, lambda a, b: a - b)', True),
    ('x.sort(cmp=f)', True), ('x.sort(lambda a, b: a - b)', True),
    ('sorted(x, key=f)', False), ('x.sort(0)', False), ('f(cmp=3)', False),
    ('"61".decode("hex")', True), ('x.encode("zlib")', True),
    ('x.decode("utf8")', False), ('x.decode()', False),
    ('hexed("hex")', False),
])
def test_calls(tmp_path, call, found):
    text = 'y = %s\n' % call
    one = port_one(tmp_path, text)
    assert one.text == text
    assert lines(one, HAND) == lines(one) == [1] * found
    for text in ('def sorted(x, f, cmp=None): pass\ny = sorted(x, f)\n',
                 'try:\n    y = %s\nexcept NameError:\n    y = 3\n' % call):
        assert rows(port_one(tmp_path, text)) == []
