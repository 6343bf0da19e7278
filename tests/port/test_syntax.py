import builtins
import sys

import pytest

from port.old import lines, port_one, rows
from wnorm.port import syntax
from wnorm.port.module import DoesNotParse, parse
from wnorm.port.text import HAND, WRITE

#: Python 2, and the same in Python 3.
PAIRS = [
    ('print "a", x\n', 'print("a", x)\n'),
    ('print\n', 'print()\n'),
    ('if x: print; y = 1\n', 'if x: print(); y = 1\n'),
    ('print >>f, x\n', 'print(x, file=f)\n'),
    ('print "a", x,\n', 'print("a", x, end=\' \')\n'),
    ('exec "x = 1"\n', 'exec("x = 1")\n'),
    ('try:\n    f()\nexcept IOError, e:\n    pass\n',
     'try:\n    f()\nexcept IOError as e:\n    pass\n'),
    ('raise ValueError, "no"\n', 'raise ValueError("no")\n'),
    ('x = `y`\n', 'x = repr(y)\n'),
    ('x = y <> z\n', 'x = y != z\n'),
    ('x = 0777 + 10L\n', 'x = 0o777 + 10\n'),
    ('def f(a, (b, c)):\n    return b\n',
     'def f(a, xxx_todo_changeme):\n    (b, c) = xxx_todo_changeme\n'
     '    return b\n'),
    ('for i in xrange(3): pass\n', 'for i in range(3): pass\n'),
    ('for k, v in d.iteritems(): pass\n', 'for k, v in d.items(): pass\n'),
    ('x = d.has_key(1)\n', 'x = 1 in d\n'),
    ('import cPickle\nx = cPickle.dumps(3)\n',
     'import pickle\nx = pickle.dumps(3)\n'),
    ('import cPickle as pkl\n', 'import pickle as pkl\n'),
    ('import urllib2\nf = urllib2.urlopen(u)\n',
     'import urllib.request, urllib.error, urllib.parse\n'
     'f = urllib.request.urlopen(u)\n'),
    ('from StringIO import StringIO\n', 'from io import StringIO\n'),
    ('x = raw_input()\n', 'x = input()\n'),
    ('x = reduce(f, y)\n',
     'from functools import reduce\nx = reduce(f, y)\n'),
    ('x = isinstance(y, basestring)\n', 'x = isinstance(y, str)\n'),
    ('x = unicode(y) + unichr(3)\n', 'x = str(y) + chr(3)\n'),
    ('x = isinstance(y, long)\n', 'x = isinstance(y, int)\n'),
    ('class A:\n    def __nonzero__(self): return 1\n',
     'class A:\n    def __bool__(self): return 1\n'),
    ('x = it.next()\n', 'x = next(it)\n'),
    ('import sys\nx = sys.maxint\n', 'import sys\nx = sys.maxsize\n'),
]

#: Right in Python 3, and left as it is.
MODERN = [
    '',
    'print("a", x)',
    'print()\n',
    'from __future__ import print_function\nprint(1, 2)\n',
    'import urllib.request\nurllib.request.urlopen(u)\n',
    'from functools import reduce\nx = reduce(f, y)\n',
    'from six.moves import xrange\nfor i in xrange(3): pass\n',
    'try:\n    import cPickle as pickle\nexcept ImportError:\n'
    '    import pickle\n',
    'try:\n    text = unicode\nexcept NameError:\n    text = str\n',
    'import sys\nif sys.version_info[0] < 3:\n    import cPickle\nelse:\n'
    '    import pickle\n',
    'import sys\ntext = unicode if sys.version_info[0] < 3 else str\n',
    'def unicode(x):\n    return x\ny = unicode(3)\n',
    'x = map(f, y)\nfor z in zip(x, range(3)): pass\n',
    'for k in d.keys(): print(k)\n',
    'x = range(3)[1]\n',
    'x = f"{y!r:>{w}}"\n',
    'if (n := len(x)) > 3: pass\n',
    'def f(a, /, b): return a\n',
    'x = u"a" + "\\d"\n',
    'class A:\n    x: int = 3\n',
    # names of its own
    'def km(lat, long):\n    return lat * long\n',
    'for lat, long in pts:\n    x = long\n',
    'with f() as (reload, intern):\n    reload(x), intern("a")\n',
    'x = [long + 1 for long in y]\nf = lambda apply: apply(g, y)\n',
    'def f(apply, *intern, **reload):\n    apply(x), intern(x), reload(x)\n',
    'try:\n    f()\nexcept E as long:\n    print(long)\n',
    'def izip(x):\n    return x\ny = izip(x)\n',
    'class Node:\n    def step(self):\n        self.next = 3\n'
    '        x = self.next\n        return self.next.value\n',
    'class A:\n    def next(self): return 1\n'
    '    def __next__(self): return self\n',
    'class A:\n    def __bool__(self): return True\n'
    '    def __nonzero__(self): return self.__bool__()\n',
    'def next(x):\n    return x\ny = next(3)\n',
]

#: What may be right in Python 3, too: left as it is, and told.
DOUBTFUL = [
    ('x = args.func_name\n', 1), ('self.im_self = 1\n', 1),
    ('class A:\n    def next(self, n=5): pass\nx = it.next()\n', 3),
    ('class A:\n    def __next__(self): pass\n    def next(self): pass\n'
     'x = it.next()\n', 4),
    ('f = it.next\n', 1),
    ('class A:\n    def has_key(self, k): pass\nx = a.has_key(1)\n', 3),
    ('class A:\n    def iteritems(self): pass\nx = a.iteritems()\n', 3),
]

#: What Python 2 made a list of: used as one.
LISTS = [
    ('x = map(f, y)[0]\n', 'x = list(map(f, y))[0]\n'),
    ('x = d.keys()[0]\n', 'x = list(d.keys())[0]\n'),
    ('n = len(filter(f, y))\n', 'n = len(list(filter(f, y)))\n'),
    ('x = range(3)\nrng.shuffle(x)\n', 'x = list(range(3))\nrng.shuffle(x)\n'),
    ('x = range(3) + [1]\n', 'x = list(range(3)) + [1]\n'),
    ('x = range(3)\nx[0] = 1\n', 'x = list(range(3))\nx[0] = 1\n'),
    ('x = zip(y, z)\nx.sort()\n', 'x = list(zip(y, z))\nx.sort()\n'),
    # shown to be Python 2 by something else
    ('x = zip(y, z)\nprint "a"\n', 'x = list(zip(y, z))\nprint("a")\n'),
    ('for k in d.keys():\n    del d[k]\nprint "a"\n',
     'for k in list(d.keys()):\n    del d[k]\nprint("a")\n'),
    ('for k in d.keys():\n    print k\n',
     'for k in d.keys():\n    print(k)\n'),
    ('x = 1 in d.keys()\nprint x\n', 'x = 1 in d.keys()\nprint(x)\n'),
    ('print len(d.keys())\n', 'print(len(d.keys()))\n'),
    ('from six.moves import zip\nx = zip(y, z)\nprint "a"\n',
     'from six.moves import zip\nx = zip(y, z)\nprint("a")\n'),
]


@pytest.mark.parametrize('old, new', PAIRS + LISTS)
def test_converted(tmp_path, old, new):
    one = port_one(tmp_path, old)
    assert one.text == new
    compile(one.text, 'a', 'exec')
    assert lines(one, WRITE) and lines(one, HAND) == []
    # once more, there is nothing to do
    again = port_one(tmp_path, new)
    assert (again.text, rows(again)) == (new, [])


@pytest.mark.parametrize('text', MODERN)
def test_modern_code_is_left_alone(tmp_path, text):
    one = port_one(tmp_path, text)
    assert (one.text, rows(one)) == (text, [])


@pytest.mark.parametrize('text, line', DOUBTFUL)
def test_doubtful(tmp_path, text, line):
    one = port_one(tmp_path, text)
    assert one.text == text
    assert lines(one) == lines(one, HAND) == [line]
    text += 'y = zip(x, x)\n'
    assert port_one(tmp_path, text).text == text


def test_keys_of_a_class_of_the_file(tmp_path):
    text = 'class A:\n    def keys(self): pass\nx = a.keys()\n'
    one = port_one(tmp_path, text + 'print 1\n')
    assert one.text == text + 'print(1)\n'
    assert lines(one, HAND) == [3]
    assert rows(port_one(tmp_path, text)) == []


def test_what_does_not_show_python_2(tmp_path):
    text = 'x = it.next(), d.has_key(1), d.iteritems()\ny = zip(x, x)\n'
    assert port_one(tmp_path, text).text == (
        'x = next(it), 1 in d, iter(d.items())\ny = zip(x, x)\n')


def test_print_with_brackets_is_not_made_a_tuple(tmp_path):
    one = port_one(tmp_path, 'print("a", 1)\nfor i in xrange(3): pass\n')
    assert one.text == 'print("a", 1)\nfor i in range(3): pass\n'
    # but it is one, where print is a statement
    one = port_one(tmp_path, 'print("a", 1)\nprint "b"\n')
    assert one.text == 'print(("a", 1))\nprint("b")\n'


def test_lines_are_those_of_the_file(tmp_path):
    text = ('# a\nimport cPickle\n\n\ndef f((a, b), c):\n    print a\n'
            '    try:\n        g()\n    except IOError, e:\n'
            '        raise\n    print unicode(c)\n')
    one = port_one(tmp_path, text)
    assert sorted(set(lines(one))) == [2, 5, 6, 9, 11]
    assert (9, WRITE, 'except with a comma: except IOError, e:',
            'except IOError as e:') in rows(one)
    assert (2, WRITE, 'a module that has another name: import cPickle',
            'import pickle') in rows(one)


@pytest.mark.parametrize('text, wanted', [
    ('if x:\n\ty = 1\n        z = 2\n',
     'if x:\n        y = 1\n        z = 2\n'),
    ('if x:\n\ty = """\n\ta"""\n        z = 2\n',
     'if x:\n        y = """\n\ta"""\n        z = 2\n'),
    ('if x:\n\tprint "a"\n        y = 2\n',
     'if x:\n        print("a")\n        y = 2\n'),
    ('if x:\n\ty = long(1)\n        z = 2\n',
     'if x:\n        y = int(1)\n        z = 2\n'),
])
def test_tabs(tmp_path, text, wanted):
    one = port_one(tmp_path, text)
    assert one.text == wanted
    assert (3 + text.count('"""') // 2, WRITE, 'tabs and spaces mixed',
            'spaces, a tab up to the next column that 8 divides') in rows(one)
    # tabs alone are right
    assert rows(port_one(tmp_path, 'if x:\n\ty = 1\n\tz = 2\n')) == []


@pytest.mark.parametrize('text', ['x = (\n', 'def\n', 'print "a\n',
                                  'x = = 2\n', 'if x:\n\ty\n  \tz\n w\n'])
def test_no_python(text):
    with pytest.raises(DoesNotParse):
        syntax.convert(text)


def test_too_deep():
    text = 'x = ' + '-' * 20000 + '1\n'
    for function in (parse, syntax.convert):
        with pytest.raises(DoesNotParse):
            function(text)


def test_python_that_fissix_cannot_read(tmp_path):
    """It is Python 3, and stays as it is."""
    text = 'with (open(a) as f, open(b) as g):\n    pass\n'
    if sys.version_info < (3, 9):
        pytest.skip('no Python 3 yet')
    one = port_one(tmp_path, text)
    assert (one.text, rows(one)) == (text, [])


def test_what_cannot_be_converted(tmp_path):
    one = port_one(tmp_path, 'raise "a string"\nx = {}.has_key\n')
    assert lines(one, HAND) == [1, 2]
    one = port_one(tmp_path, 'print "a"\nx = input("n")\n')
    assert rows(one)[-1] == (2, 'caution', 'input("n"): Python 2 evaluated it',
                             'int(...) or so, if a number was meant')
    one = port_one(tmp_path, 'x = raw_input("n")\ny = input("m")\n')
    assert lines(one, 'caution') == [2] and lines(one, WRITE) == [1]


def test_without_fissix(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith('fissix'):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', missing)
    with pytest.raises(syntax.NoConverter,
                       match=r"pip install 'wnorm\[port\]'"):
        syntax.load()
