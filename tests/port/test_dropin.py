"""On fingerprints of files in the words of these tests, and the real ones."""
import textwrap

import pytest

import wnorm.nn
import wnorm.nn.weightnorm
from port.old import lines, port, rows
from wnorm.port import dropin
from wnorm.port.text import HAND, WRITE

HEAD = 'import lasagne\nimport theano.tensor as T\n\n'

RELU = 'def relu(x):\n    return T.maximum(x, 0)\n'
LRELU = 'def lrelu(x, a=0.2):\n    return T.maximum(x, a*x)\n'

LAYER = '''
# scales
class WeightNormLayer(lasagne.layers.Layer):
    """A layer."""
    def get_output_for(self, input, act=relu):
        # by rows
        y = input * 1.
        return act(y)
'''
WRAP = '''
def weight_norm(layer):
    return WeightNormLayer(layer)
'''
ZCA = '''
class ZCA(object):
    def apply(self, x):
        return x
'''
MINE = '''
# my own
class Mine(lasagne.layers.Layer):
    pass
'''


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """Two originals, as short as they can be."""
    one = dropin.fingerprints(HEAD + RELU + LRELU + LAYER + WRAP)
    other = dropin.fingerprints(HEAD + RELU + LRELU.replace('0.2', '0.1') +
                                LAYER.replace('rows', 'x') + ZCA)
    for name, prints in (('wnorm.nn', one), ('wnorm.nn.weightnorm', other)):
        monkeypatch.setitem(dropin.FLAVOURS, name, prints)
        monkeypatch.setitem(dropin.DEFINES, name, {
            definition: 'as told' for definition in prints})


def nn(tmp_path, text, **others):
    files = {name + '.py': other for name, other in others.items()}
    return port(tmp_path, dict(files, **{'nn.py': text}))['nn.py']


def test_names_are_those_of_wnorm(monkeypatch):
    monkeypatch.undo()
    for module in (wnorm.nn, wnorm.nn.weightnorm):
        assert set(dropin.DEFINES[module.__name__]) == set(module.__all__)
        assert set(dropin.FLAVOURS[module.__name__]) <= set(module.__all__)


def test_the_real_ones(monkeypatch):
    monkeypatch.undo()
    prints = dropin.fingerprints(HEAD + RELU + LRELU)
    known = dropin.FLAVOURS['wnorm.nn']
    assert prints == {name: known[name] for name in ('relu', 'lrelu')}
    assert prints['relu'] == dropin.FLAVOURS['wnorm.nn.weightnorm']['relu']
    assert prints['lrelu'] != dropin.FLAVOURS['wnorm.nn.weightnorm']['lrelu']


@pytest.mark.parametrize('text, flavour', [
    (HEAD + RELU + LRELU + LAYER + WRAP, 'wnorm.nn'),
    (HEAD + RELU + LRELU.replace('0.2', '0.1') + LAYER + ZCA,
     'wnorm.nn.weightnorm'),
    # layout, comments, documentation, spelling
    ('"""Mine."""\n' + HEAD + RELU + LRELU.replace(
        '0.2', '.2').replace('a*x', 'a * x') + LAYER.replace(
            '1.', '1.0  # one').replace('"""A layer."""', '') + WRAP +
     '\n\n\n', 'wnorm.nn'),
])
def test_whole_copies_become_one_line(tmp_path, text, flavour):
    one = nn(tmp_path, text)
    line = 'from %s import *' % flavour
    assert one.text == line + '\n'
    (number, kind, what, remedy), = rows(one)
    assert (number, kind, remedy) == (1, WRITE, line)
    assert what == 'a copy of %s: 4 of its 4 definitions are the same there' \
        % dropin.ORIGINS[flavour]
    # done: nothing is left to be found
    assert rows(nn(tmp_path, one.text)) == []


def test_what_was_added_stays(tmp_path):
    text = ('#!/usr/bin/env python\n"""Layers."""\nimport os\n' + HEAD + RELU +
            LRELU + LAYER + MINE + WRAP + 'scale = 2\n' + ZCA)
    one = nn(tmp_path, text)
    assert one.text == textwrap.dedent('''\
        #!/usr/bin/env python
        """Layers."""
        import lasagne
        from wnorm.nn import *
        from wnorm.nn.weightnorm import ZCA

        # my own
        class Mine(lasagne.layers.Layer):
            pass

        scale = 2

        ''')
    assert [row[1] for row in rows(one)] == [WRITE]
    assert rows(nn(tmp_path, one.text)) == []


def test_what_differs_stays_with_what_uses_it(tmp_path):
    text = HEAD + RELU + LRELU + LAYER.replace('* 1.', '* 2.').replace(
        '        return', '        y = y + 1\n        return') + WRAP
    one = nn(tmp_path, text)
    first = text.split('\n').index('class WeightNormLayer(lasagne.layers.Layer'
                                   '):') + 1
    (_, kind, what, remedy), layer, wrap = rows(one)
    assert (kind, remedy) == (WRITE, 'from wnorm.nn import *')
    assert what.endswith('2 of its 4 definitions are the same there')
    assert layer == (
        first, HAND, "WeightNormLayer: differs from improved-gan's nn.py on "
        'lines %d-%d' % (first + 4, first + 5),
        'stays; without it wnorm.nn.WeightNormLayer: as told')
    assert wrap[1:] == (
        HAND, "weight_norm: as in improved-gan's nn.py, but what it uses is "
        'not: WeightNormLayer', 'stays')
    assert one.text == 'import lasagne\nfrom wnorm.nn import *\n\n' + text[
        text.index('# scales'):]
    # it goes on to be said, and there is nothing to write
    again = nn(tmp_path, one.text)
    assert again.text == one.text
    assert [row[1] for row in rows(again)] == [HAND, HAND]


def test_what_uses_a_layer_of_the_other_file_stays(tmp_path):
    """``weight_norm`` reads the same in both, and wraps in its own file's."""
    layer = LAYER.replace('rows', 'x').replace('* 1.', '* 3.')
    for name, text in (('wnorm.nn', LAYER), ('wnorm.nn.weightnorm', layer)):
        dropin.FLAVOURS[name].update(dropin.fingerprints(text + WRAP))
        dropin.DEFINES[name].update(weight_norm='as told')
    more = ''.join('def more_%d(x):\n    return x\n' % i for i in range(9))
    dropin.FLAVOURS['wnorm.nn'].update(dropin.fingerprints(more))
    head = HEAD + more + RELU + LRELU
    one = nn(tmp_path, head + WRAP + layer)
    assert one.text.rstrip() == (
        'from wnorm.nn import *\n'
        'from wnorm.nn.weightnorm import WeightNormLayer\n' + WRAP).rstrip()
    assert rows(one)[0][2] == (
        "a copy of improved-gan's nn.py: 11 of its 13 definitions are the "
        "same there, 1 in weightnorm's nn.py")
    again = nn(tmp_path, one.text)
    assert again.text == one.text
    assert [row[2] for row in rows(again)] == [row[2] for row in rows(one)[1:]]
    # and so does what is the other's, and uses what is not
    one = nn(tmp_path, head + LAYER + ZCA)
    assert 'class' not in one.text
    zca = ZCA.replace('return x', 'return lrelu(x)')
    dropin.FLAVOURS['wnorm.nn.weightnorm'].update(dropin.fingerprints(zca))
    one = nn(tmp_path, head + LAYER + zca)
    assert one.text.endswith(zca) and 'import ZCA' not in one.text
    assert rows(one)[-1][2] == (
        "ZCA: as in weightnorm's nn.py, but what it uses is not: lrelu")


def test_the_real_layer_of_the_other_file(tmp_path, monkeypatch):
    """By the fingerprints: what is said to be same is, in these words."""
    monkeypatch.undo()
    one, other = dropin.FLAVOURS.values()
    assert one['weight_norm'] == other['weight_norm']
    assert one['WeightNormLayer'] != other['WeightNormLayer']
    prints = dict(one, WeightNormLayer=other['WeightNormLayer'])
    monkeypatch.setattr(dropin, 'fingerprint',
                        lambda module, node: prints[node.name])
    text = HEAD + LAYER + WRAP + ''.join(
        '\ndef %s(x):\n    return x\n' % name for name in sorted(prints)
        if name not in ('WeightNormLayer', 'weight_norm'))
    found = nn(tmp_path, text)
    assert found.text.rstrip() == (
        'from wnorm.nn import *\n'
        'from wnorm.nn.weightnorm import WeightNormLayer\n\n' + WRAP).rstrip()
    assert lines(found, HAND) == [text.split('\n').index(
        'def weight_norm(layer):') + 1]


@pytest.mark.parametrize('head', [
    '#!/usr/bin/env python\n', '# Copyright 2016\n# All rights\n',
    '# coding: utf-8\n\n# MIT License\n\n', '"""Layers. (c) me."""\n'])
def test_licences_stay(tmp_path, head):
    one = nn(tmp_path, head + HEAD + RELU + LRELU + LAYER + WRAP)
    assert one.text.rstrip('\n').split('\n') == [
        line for line in head.rstrip('\n').split('\n')] + [
            'from wnorm.nn import *']
    assert rows(nn(tmp_path, one.text)) == []


def test_code_that_is_commented_out_stays(tmp_path):
    one = nn(tmp_path, HEAD + RELU + '# a leak\n' + LRELU + LAYER +
             '\n# def weight_norm(layer):\n#     return layer\n' +
             WRAP.lstrip())
    assert one.text == (
        '# def weight_norm(layer):\n#     return layer\n'
        'from wnorm.nn import *\n')


def test_lines_that_are_missing(tmp_path):
    one = nn(tmp_path, HEAD + RELU + LRELU + WRAP + LAYER.replace(
        '        y = input * 1.\n', ''))
    assert any('on line 15' in row[2] for row in rows(one)), rows(one)


def test_what_is_bound_otherwise_is_not_the_originals(tmp_path):
    head = HEAD + 'relu = lasagne.nonlinearities.rectify\n'
    one = nn(tmp_path, head + LRELU + LAYER + WRAP)
    assert 'class WeightNormLayer' in one.text and 'def lrelu' not in one.text
    # all of wnorm's would hide that relu, or be hidden by it
    assert 'from wnorm.nn import lrelu\n' in one.text
    head = 'from other import relu\n' + HEAD
    one = nn(tmp_path, head + LRELU + LAYER + WRAP)
    assert 'class WeightNormLayer' in one.text
    assert 'from other import relu\n' in one.text


def test_a_part_brings_no_names_that_were_not_there(tmp_path):
    one = nn(tmp_path, HEAD + LAYER + WRAP + LRELU)
    assert one.text == 'from wnorm.nn import WeightNormLayer, lrelu, ' \
        'weight_norm\n'


def test_long_imports(tmp_path, monkeypatch):
    text = HEAD + LAYER + WRAP + ''.join(
        '\ndef a_rather_long_name_%d(x):\n    return x\n' % i
        for i in range(4))
    for name, prints in dropin.fingerprints(text).items():
        monkeypatch.setitem(dropin.FLAVOURS['wnorm.nn'], name, prints)
        monkeypatch.setitem(dropin.DEFINES['wnorm.nn'], name, '')
    one = nn(tmp_path, text)
    assert one.text.startswith('from wnorm.nn import (\n    WeightNormLayer,')
    assert max(map(len, one.text.split('\n'))) < 80
    compile(one.text, 'nn', 'exec')


def test_imports_that_others_use_stay(tmp_path):
    text = HEAD + RELU + LRELU + LAYER + WRAP
    one = nn(tmp_path, text, train='import nn\nx = nn.T.dot(y, z)\n')
    assert one.text == ('import theano.tensor as T\nfrom wnorm.nn import *\n'
                        '\n')
    one = nn(tmp_path, text, train='from nn import *\n')
    assert one.text == HEAD.rstrip() + '\nfrom wnorm.nn import *\n\n'
    one = nn(tmp_path, 'from __future__ import division\n' + text,
             train='from nn import relu\n')
    assert one.text == ('from __future__ import division\n'
                        'from wnorm.nn import *\n\n')


def test_twice_defined(tmp_path):
    one = nn(tmp_path, HEAD + RELU.replace('0', '1') + LRELU + LAYER + WRAP +
             RELU)
    assert one.text == 'from wnorm.nn import *\n'


def test_decorated_differs(tmp_path):
    one = nn(tmp_path, HEAD + RELU + '@lasagne.f\n' + LRELU + LAYER + WRAP)
    assert lines(one, HAND) == [6] and '@lasagne.f\ndef lrelu' in one.text


@pytest.mark.parametrize('text', [
    RELU + LRELU + LAYER + WRAP,          # nothing of Lasagne
    HEAD + RELU + LRELU + MINE,           # names that anybody uses
    HEAD + RELU + 'class ZCA(object):\n    pass\n',
])
def test_other_files(tmp_path, text):
    one = nn(tmp_path, text)
    assert (one.text, rows(one)) == (text, [])


def test_uses_of_what_is_not_there(tmp_path):
    ported = port(tmp_path, {
        'nn.py': HEAD + RELU + LRELU + LAYER + WRAP + MINE,
        'lib/__init__.py': '',
        'lib/other.py': 'x = 1\n',
        'lib/b.py': 'import other\nimport os\n',
        'a.py': 'import nn\nimport wnorm.nn\nimport lib.other as o\n'
                'x = nn.relu, nn.Mine, nn.T, nn.__file__, o.y\n'
                'y = nn.ZCA\nfrom nn import nothing\n'
                'z = wnorm.nn.ZCA, wnorm.nn.relu, wnorm.nn.weightnorm.ZCA\n',
    })
    assert rows(ported['a.py']) == [
        (5, HAND, 'nn.ZCA: not there', 'wnorm.nn.weightnorm.ZCA'),
        (6, HAND, 'nn.nothing: not there', 'define it'),
        (7, HAND, 'wnorm.nn.ZCA: not there', 'wnorm.nn.weightnorm.ZCA')]
    assert rows(ported['lib/b.py']) == [
        (1, HAND, 'other: in a package, Python 3 does not look beside the '
         'file', 'from . import other, unless it is run as a script')]


@pytest.mark.parametrize('used, remedy', [
    ('nn.weight_norm', 'from wnorm import nn'),
    ('nn.ZCA', 'from wnorm.nn import weightnorm as nn'),
    ('nn.relu', 'from wnorm import nn or from wnorm.nn import weightnorm as '
     'nn'),
    ('nn.Other', 'no file of wnorm has all of Other'),
])
def test_no_nn(tmp_path, used, remedy):
    one = port(tmp_path, {'a.py': 'import nn\nx = %s\n' % used})['a.py']
    assert rows(one) == [(1, HAND, 'nn: there is no nn.py', remedy)]


def test_no_imports_left(tmp_path):
    one = nn(tmp_path, '# coding: utf-8\n# mine\n' + HEAD + RELU + LRELU +
             LAYER + WRAP + 'scale = f"{2}"\n')
    assert one.text == ('# coding: utf-8\n# mine\nfrom wnorm.nn import *\n\n'
                        'scale = f"{2}"\n')


def test_formatted_strings_differ(tmp_path):
    def text(string):
        return RELU.replace('T.', 'f(%s) + T.' % string)

    prints = [dropin.fingerprints(text(string))['relu']
              for string in ('f"{x}"', "f'{x}'", '"a"', "'a'")]
    assert len(set(prints)) == 3 and prints[2] == prints[3]
