"""Writing a file, whole or not at all; reading one that nobody trusts."""
import errno
import json
import math
import os
import shutil
import uuid
import zipfile
from collections import OrderedDict, namedtuple
from contextlib import contextmanager

import numpy as np

from ..filters import Layout
from ..forms import Form

FORMAT = 1

#: No table is larger, in bytes: that of 10000 layers takes 10 million.
LARGEST_TABLE = 1 << 28


class Array(namedtuple('Array', 'shape dtype read')):
    """An array of which the values are read when they are asked for."""
    __slots__ = ()

    @classmethod
    def of(cls, values):
        return cls(values.shape, values.dtype, lambda: values)


#: What a file has for one layer: a class; {name: Array}; {name: names of the
#: variables of an expression}; {name: Form}.
Stored = namedtuple('Stored', 'class_name arrays derived forms')


def write(path, arrays):
    """Write an npz file: the new one or the old one is there, whole."""
    path = os.path.realpath(path)  # a link stays one
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EINVAL, 'no regular file', path)
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, 'no such folder', folder)
    part = os.path.join(folder,
                        '.wnorm-%s.part' % uuid.uuid4().hex)
    try:
        with open(part, 'xb') as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(path):
            shutil.copymode(path, part)
        os.replace(part, path)
    except BaseException:  # an interruption as well
        if os.path.exists(part):
            os.remove(part)
        raise


@contextmanager
def _refusing(path, what):
    """Damaged files fail in many ways; all of them are one error."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (
                None, errno.EINVAL):
            raise  # that is the disk
        raise ValueError('%s: %s (%s: %s)' % (
            path, what, type(error).__name__, error))


@contextmanager
def opened(path):
    with open(path, 'rb') as file:
        if file.read(2) != b'PK':
            raise ValueError('%s is no npz file: it does not start like a zip '
                             'archive' % path)
        with _refusing(path, 'truncated or damaged, or no npz file'):
            archive = zipfile.ZipFile(file)
        with archive:
            yield _File(path, archive)


class _File(object):
    """An npz file that someone may have made to do harm.

    Only headers are read at first; an array is read when its shape and kind
    are known to be right.
    """
    def __init__(self, path, archive):
        self.path = path
        self.archive = archive
        self.arrays = OrderedDict()
        for info in archive.infolist():
            key = info.filename[:-4]
            if not info.filename.endswith('.npy') or key in self.arrays:
                raise ValueError(
                    '%s: %s: an npz file has arrays, each once'
                    % (path, info.filename))
            self.arrays[key] = self._header(key, info)
        self.is_positional = bool(self.arrays) and set(self.arrays) == set(
            'arr_%d' % i for i in range(len(self.arrays)))

    def _header(self, key, info):
        with _refusing(self.path, '%s is damaged' % key):
            with self.archive.open(info) as member:
                version = np.lib.format.read_magic(member)
                if version != (1, 0):  # longer headers, which no number needs
                    raise ValueError('version %d.%d of the npy format'
                                     % version)
                try:
                    shape, _, dtype = np.lib.format.read_array_header_1_0(
                        member)
                except MemoryError:  # of Python's parser: a header is short
                    raise ValueError('its header is nested too deeply')
                if any(n < 0 for n in shape):
                    raise ValueError('shape %s' % (shape,))
                start = member.tell()
        if dtype.hasobject:
            raise ValueError('%s: %s contains pickled objects, which could '
                             'run any code; it is not loaded. Save arrays of '
                             'numbers' % (self.path, key))
        size = dtype.itemsize
        for n in shape:  # in Python's integers
            size *= n
        if start + size != info.file_size:
            raise ValueError('%s: %s is damaged: %d bytes for shape %s of %s'
                             % (self.path, key, info.file_size - start, shape,
                                dtype))
        return Array(shape, dtype, lambda: self._read(key, info))

    def _read(self, key, info):
        with _refusing(self.path, '%s is damaged' % key):
            with self.archive.open(info) as member:
                return np.lib.format.read_array(member, allow_pickle=False)

    def table(self):
        """``{key of a layer: Stored}``, if format and table are right."""
        missing = [key for key in ('format', 'layers')
                   if key not in self.arrays]
        if missing:
            raise ValueError(
                '%s is no checkpoint of wnorm.save, nor of numpy.savez('
                '*get_all_param_values(net)): it has no %s, but %s' % (
                    self.path, ' and no '.join(missing),
                    ', '.join(map(repr, self.arrays)) or 'nothing'))
        number = self.arrays['format']
        if number.shape != () or number.dtype.kind not in 'iu':
            raise ValueError('%s: the number of its format is of shape %s and '
                             'dtype %s, must be one integer' % (
                                 self.path, number.shape, number.dtype))
        number = int(number.read())
        if number > FORMAT:
            raise ValueError('%s has format %d, this version of wnorm knows '
                             '%d: a later version wrote it; install that'
                             % (self.path, number, FORMAT))
        if number != FORMAT:
            raise ValueError('%s has format %d, which does not exist'
                             % (self.path, number))
        text = self.arrays['layers']
        if text.shape != () or text.dtype.kind != 'U' or (
                text.dtype.itemsize > LARGEST_TABLE):
            raise ValueError('%s: its layer table is of shape %s and dtype '
                             '%s, must be one string' % (
                                 self.path, text.shape, text.dtype))
        with _refusing(self.path, 'its layer table is damaged'):
            rows = json.loads(str(text.read()))
            stored = OrderedDict()
            for row in _checked(rows, list):
                key = _checked(_checked(row, dict)['key'], str)
                if key in stored:
                    raise ValueError('two layers %r' % key)
                stored[key] = self._stored(key, row)
        known = set('%s/%s' % (key, name) for key, layer in stored.items()
                    for name in layer.arrays)
        unknown = [key for key in self.arrays if key not in known and
                   key not in ('format', 'layers')]
        if unknown:
            raise ValueError('%s has arrays of which its layer table does not '
                             'know: %s' % (self.path, ', '.join(unknown)))
        return stored

    def _stored(self, key, row):
        params = _names(row['params'])
        derived = OrderedDict(
            (_one_of(name, params), [_one_of(leaf, params) for leaf in
                                     _names(leaves)])
            for name, leaves in _checked(row['derived'], dict).items())
        forms = OrderedDict(
            (_one_of(name, params), _form(_checked(form, dict), params))
            for name, form in _checked(row['normalized'], dict).items())
        arrays = OrderedDict()
        for name in params:
            if '%s/%s' % (key, name) in self.arrays:
                arrays[name] = self.arrays['%s/%s' % (key, name)]
            elif name not in derived:  # these need not have a value
                raise ValueError('%s/%s is missing' % (key, name))
        return Stored(_checked(row['class'], str), arrays, derived, forms)


def _checked(value, *types):
    """`value`, of one of `types`; True is no number."""
    if type(value) not in types:
        raise ValueError('%.40r is no %s' % (value, types[-1].__name__))
    return value


def _names(value):
    names = [_checked(name, str) for name in _checked(value, list)]
    if len(set(names)) < len(names):
        raise ValueError('a name twice in %.40r' % names)
    return names


def _one_of(value, known):
    if value not in known:
        raise ValueError('%.40r is not among %.40r' % (value, known))
    return value


def _axis(value):
    if _checked(value, int) < 0:
        raise ValueError('axis %d' % value)
    return value


def _form(row, params):
    """The :class:`Form` that a row of the table means."""
    layout = Layout(_axis(row['filter_axis']), tuple(
        map(_axis, _checked(row['position_axes'], list))), 0)
    eps = float(_checked(row['eps'], int, float))
    if not (0 <= eps < math.inf):
        raise ValueError('eps %r' % eps)
    gain = _checked(row['gain'], type(None), dict)
    if gain is None:
        return Form(layout, eps, None, None, False)
    per = _checked(gain['per'], str, int)
    if per not in ('filter', 'layer') and not (
            isinstance(per, int) and per > 0):
        raise ValueError('one g per %.40r' % per)
    return Form(layout, eps, _one_of(gain['param'], params), per,
                _checked(gain['exp'], bool))
