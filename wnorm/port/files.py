"""Finds, reads and replaces the files of a folder."""
import difflib
import os
import re
import shutil
import stat
import subprocess
import tempfile
import tokenize
from io import BytesIO

#: Not Python, and still with settings of Theano in it.
SETTINGS = ('.sh', '.bash', '.theanorc')


class Unreadable(Exception):
    """A file that is no text that could be ported."""


class Changed(Exception):
    """A file that is not what it was when it was read."""


class File(object):
    """
    wnorm.port.files.File(path, name)

    A text file: what it says, and how it says it.

    Attributes
    ----------
    path, name : str
        Where it is, and what it is called in the report.
    text : str
        Its text, lines ended by newlines.
    is_python : bool
        Whether it is Python code.
    """

    def __init__(self, path, name):
        self.path, self.name = path, name
        self.is_python = not name.endswith(SETTINGS)
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise Unreadable('not a regular file')
            with open(path, 'rb') as f:
                data = self._data = f.read()
        except OSError as error:
            raise Unreadable(error.strerror)
        if b'\0' in data:
            raise Unreadable('binary')
        try:
            self.encoding = tokenize.detect_encoding(
                BytesIO(data).readline)[0]
            raw = data.decode(self.encoding)
        except (SyntaxError, UnicodeDecodeError) as error:
            raise Unreadable('its encoding: %s' % error)
        self._lines = _lines(raw)
        self.text = ''.join(line + ('\n' if end else '')
                            for line, end in self._lines)

    def encoded(self, text):
        """A new text as bytes, with the line ends of the old one."""
        ends = [end for _, end in self._lines if end] or ['\n']
        usual = max(sorted(set(ends)), key=ends.count)
        old = [line for line, _ in self._lines]
        new = text.split('\n')
        result = [usual] * len(new)
        for tag, i, i_end, j, j_end in difflib.SequenceMatcher(
                None, old, new, autojunk=False).get_opcodes():
            for k in range(min(i_end - i, j_end - j)):
                result[j + k] = self._lines[i + k][1] or usual
        result[-1] = ''
        return ''.join(map(''.join, zip(new, result))).encode(self.encoding)

    def check(self):
        """Raises Changed if somebody has changed the file meanwhile."""
        with open(self.path, 'rb') as f:
            if f.read() != self._data:
                raise Changed('%s: changed since it was read: run the '
                              'command again' % self.name)

    def replace(self, text):
        """Write a new text in the place of the old one, or leave that whole.

        The old one is kept under ``.orig``, unless there is one, or git has
        it.
        """
        self.check()
        data = self.encoded(text)
        path = os.path.realpath(self.path)
        if not os.path.lexists(path + '.orig') and not in_git(path):
            shutil.copy2(path, path + '.orig')
        folder, name = os.path.split(path)
        handle, beside = tempfile.mkstemp(prefix='.' + name, dir=folder)
        try:
            with open(handle, 'wb') as f:
                f.write(data)
            shutil.copymode(path, beside)
            os.replace(beside, path)
        except BaseException:
            os.unlink(beside)
            raise


def _lines(text):
    """Pairs of a line and its end, the last one without.

    The lines are Python's: str.splitlines knows more ends.
    """
    parts = re.split('(\r\n|\n|\r)', text)
    return list(zip(parts[::2], parts[1::2] + ['']))


def under(folder):
    """Paths of files to read, and what could not be listed.

    Links are not followed: what they lead to is found where it is, or is not
    part of the folder. Hidden folders and virtual environments are left out.

    Returns
    -------
    (list of (str, str), list of (str, str))
        Paths with names relative to `folder`; names with reasons.
    """
    found, skipped = [], []

    def unlisted(error):
        skipped.append((os.path.relpath(error.filename, folder) + os.sep,
                        error.strerror))

    for parent, folders, names in os.walk(folder, onerror=unlisted):
        folders[:] = sorted(
            name for name in folders
            if not name.startswith('.') and name != '__pycache__' and
            not os.path.exists(os.path.join(parent, name, 'pyvenv.cfg')))
        for name in sorted(names):
            path = os.path.join(parent, name)
            if name.endswith(('.py',) + SETTINGS) and (
                    not os.path.islink(path) or not os.path.exists(path)):
                found.append((path, os.path.relpath(path, folder)))
    return found, skipped


def in_git(path):
    """Whether git has a file as it is."""
    folder, name = os.path.split(path)
    # nothing that the repository tells git to run is run
    git = ['git', '-c', 'core.fsmonitor=false', '-C', folder]
    try:
        subprocess.check_output(
            git + ['ls-files', '--error-unmatch', '--', name],
            stderr=subprocess.DEVNULL)
        return not subprocess.check_output(
            git + ['status', '--porcelain', '--', name],
            stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return False
