"""The command, on files as they are on disks."""
import contextlib
import io
import os
import stat
import subprocess
import sys
import tempfile

import pytest
from hypothesis import given, strategies as st

from running import python, silent, write
from wnorm import __main__
from wnorm.port import checks, files, syntax
from wnorm.port.text import Edit

OLD = 'import cPickle\nprint "a"\n'
NEW = 'import pickle\nprint("a")\n'


def command(*arguments):
    return __main__.main(['port'] + [str(one) for one in arguments])


def test_report(tmp_path, capsys):
    write(tmp_path, {'a.py': OLD, 'sub/b.py': 'x = 1\n', 'c.txt': OLD,
                     '.hidden/d.py': OLD, '__pycache__/e.py': OLD,
                     'env/pyvenv.cfg': '', 'env/lib/f.py': OLD})
    assert command(tmp_path) == 1
    assert capsys.readouterr().out == (
        'a.py\n'
        '     1  write    a module that has another name: import cPickle  ->  '
        'import pickle\n'
        '     2  write    print statement: print "a"  ->  print("a")\n\n'
        '2 files read, 1 with something to do: 2 by --write, 0 by hand, 0 '
        'cautions.\n')
    assert (tmp_path / 'a.py').read_text() == OLD
    assert sorted(os.listdir(str(tmp_path / 'sub'))) == ['b.py']
    assert command(tmp_path / 'sub') == 0
    assert command(tmp_path / 'a.py') == 1


def test_many_of_a_kind_are_one_row(tmp_path, capsys):
    write(tmp_path, {'a.py': 'print 1\nprint 2\nx = 3\nprint x\n',
                     'b.py': 'print 1\nprint 2\n'})
    command(tmp_path)
    out = capsys.readouterr().out
    assert 'print 1  ->  print(1); so on lines 2, 4\n' in out
    assert 'print 1  ->  print(1); so on line 2\n' in out


def test_misuse(tmp_path, capsys, monkeypatch):
    assert command(tmp_path / 'none') == 2
    assert 'none: there is no such folder' in capsys.readouterr().err

    def load():
        raise syntax.NoConverter('no fissix')

    monkeypatch.setattr(syntax, 'load', load)
    write(tmp_path, {'a.py': OLD})
    assert command('--write', '--yes', tmp_path) == 2
    assert 'no fissix' in capsys.readouterr().err
    assert (tmp_path / 'a.py').read_text() == OLD


def test_interrupted(tmp_path, monkeypatch):
    def load():
        raise KeyboardInterrupt

    write(tmp_path, {'a.py': OLD})
    monkeypatch.setattr(files, 'under', lambda folder: load())
    monkeypatch.setattr('wnorm.port.project.under', lambda folder: load())
    assert command(tmp_path) == 130


@pytest.mark.parametrize('answer, written', [
    ('y\n', True), ('Yes\n', True), ('n\n', False), ('\n', False),
    ('', False)])
def test_write_shows_and_asks(tmp_path, capsys, monkeypatch, answer, written):
    write(tmp_path, {'a.py': OLD})
    monkeypatch.setattr(sys, 'stdin', io.StringIO(answer))
    assert command('--write', tmp_path) == (0 if written else 1)
    out = capsys.readouterr().out
    assert ('--- a.py\n+++ a.py (new)\n@@ -1,2 +1,2 @@\n'
            '-import cPickle\n') in out
    assert out.endswith('1 file written.\n' if written else
                        'Nothing written.\n')
    assert (tmp_path / 'a.py').read_text() == (NEW if written else OLD)
    assert (tmp_path / 'a.py.orig').exists() == written


def test_write_twice(tmp_path, capsys):
    write(tmp_path, {'a.py': OLD, 'b.py': 'x = open("/home/no/body")\n' + OLD,
                     'c.py': 'print 1'})
    assert command('--write', '--yes', tmp_path) == 1  # the path is left
    assert 'no newline at the end' in capsys.readouterr().out
    assert (tmp_path / 'a.py').read_text() == NEW
    assert (tmp_path / 'a.py.orig').read_text() == OLD
    assert (tmp_path / 'c.py').read_text() == 'print(1)'
    assert command('--write', '--yes', tmp_path) == 1
    assert capsys.readouterr().out.endswith('Nothing to write.\n')
    # the oldest is kept
    (tmp_path / 'a.py').write_text('print 3\n')
    assert command('--write', '--yes', tmp_path / 'a.py') == 0
    assert (tmp_path / 'a.py.orig').read_text() == OLD


def git(folder, *arguments):
    subprocess.check_call(
        ['git', '-c', 'user.name=a', '-c', 'user.email=a@b', '-C',
         str(folder)] + list(arguments), stdout=subprocess.DEVNULL)


def test_no_second_file_of_what_git_has(tmp_path, monkeypatch):
    files = {'sub/%s.py' % name: OLD for name in (
        'kept', 'changed', 'staged', 'untracked', 'ignored')}
    write(tmp_path, dict(files, **{'.gitignore': 'ignored.py\n'}))
    git(tmp_path, 'init', '-q')
    git(tmp_path, 'add', 'sub/kept.py', 'sub/changed.py')
    git(tmp_path, 'commit', '-q', '-m', 'a')
    git(tmp_path, 'add', 'sub/staged.py')
    with open(str(tmp_path / 'sub' / 'changed.py'), 'a') as f:
        f.write('print "b"\n')
    assert command('--write', '--yes', tmp_path / 'sub') == 0
    assert sorted(name for name in os.listdir(str(tmp_path / 'sub'))
                  if name.endswith('.orig')) == [
        '%s.py.orig' % name
        for name in ('changed', 'ignored', 'staged', 'untracked')]
    # no git, no help from it
    git(tmp_path, 'checkout', '-q', 'sub/kept.py')
    monkeypatch.setenv('PATH', str(tmp_path))
    assert command('--write', '--yes', tmp_path / 'sub' / 'kept.py') == 0
    assert (tmp_path / 'sub' / 'kept.py.orig').read_text() == OLD


def test_what_changed_while_it_asked_is_left(tmp_path, capsys, monkeypatch):
    class Editor(io.StringIO):
        def readline(self, *args):
            (tmp_path / 'b.py').write_text('mine = 1\n')
            return 'y\n'

    write(tmp_path, {'a.py': OLD, 'b.py': OLD})
    monkeypatch.setattr(sys, 'stdin', Editor())
    assert command('--write', tmp_path) == 2
    assert ('b.py: changed since it was read: run the command again'
            in capsys.readouterr().err)
    assert sorted(os.listdir(str(tmp_path))) == ['a.py', 'b.py']
    assert (tmp_path / 'a.py').read_text() == OLD
    assert (tmp_path / 'b.py').read_text() == 'mine = 1\n'


def test_a_link_stays_one(tmp_path):
    write(tmp_path, {'there/a.py': OLD})
    (tmp_path / 'b.py').symlink_to(tmp_path / 'there' / 'a.py')
    assert command('--write', '--yes', tmp_path / 'b.py') == 0
    assert (tmp_path / 'b.py').is_symlink()
    assert (tmp_path / 'there' / 'a.py').read_text() == NEW
    assert (tmp_path / 'there' / 'a.py.orig').read_text() == OLD


def test_what_would_not_parse_is_left(tmp_path, capsys, monkeypatch):
    """A mistake in one check is that of one file."""
    monkeypatch.setattr(checks, 'paths', lambda module: (
        [], [Edit(0, 0, '(')] * ('clock' in module.text)))
    write(tmp_path, {'a.py': OLD, 'b.py': 'clock = 1\nprint 1\n'})
    assert command('--write', '--yes', tmp_path) == 1
    assert ('b.py: skipped: left as it is, for what it would become does not '
            'parse' in capsys.readouterr().out)
    assert (tmp_path / 'a.py').read_text() == NEW
    assert (tmp_path / 'b.py').read_text() == 'clock = 1\nprint 1\n'


@pytest.mark.parametrize('old, new', [
    (b'print 1\r\nx = 2\r\n', b'print(1)\r\nx = 2\r\n'),
    (b'x = 2\r\nprint 1\ny = 3\r\n', b'x = 2\r\nprint(1)\ny = 3\r\n'),
    (b'print 1\rx = 2\r', b'print(1)\rx = 2\r'),
    (b'x = 2\x0c\nprint 1\n', b'x = 2\x0c\nprint(1)\n'),
    (b'\xef\xbb\xbfprint "\xc3\xa9"\n', b'\xef\xbb\xbfprint("\xc3\xa9")\n'),
    (b'# coding: latin-1\nprint "\xe9"\n',
     b'# coding: latin-1\nprint("\xe9")\n'),
])
def test_bytes(tmp_path, old, new):
    path = tmp_path / 'a.py'
    path.write_bytes(old)
    os.chmod(str(path), 0o750)
    assert command('--write', '--yes', tmp_path) == 0
    assert path.read_bytes() == new
    assert stat.S_IMODE(os.stat(str(path)).st_mode) == 0o750


@given(st.lists(st.tuples(
    st.sampled_from(['', 'x', 'y = 1', '\x0c', '\u2028']),
    st.sampled_from(['\n', '\r\n', '\r']))),
       st.sampled_from(['', 'z']))
def test_what_does_not_change_keeps_its_bytes(lines, last):
    data = ''.join(map(''.join, lines)) + last
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'a.py')
        with open(path, 'wb') as f:
            f.write(data.encode('utf-8'))
        file = files.File(path, 'a.py')
    assert '\r' not in file.text
    assert file.encoded(file.text) == data.encode('utf-8')


def test_what_is_skipped(tmp_path, capsys):
    write(tmp_path, {'a.py': OLD, 'bad.py': 'x = (\n'})
    (tmp_path / 'binary.py').write_bytes(b'x\0y')
    (tmp_path / 'latin.py').write_bytes(b'# \xe9\n')
    (tmp_path / 'coding.py').write_bytes(b'# coding: nothing\n')
    (tmp_path / 'gone.py').symlink_to(tmp_path / 'nowhere')
    (tmp_path / 'loop').symlink_to(tmp_path)
    (tmp_path / 'again.py').symlink_to(tmp_path / 'a.py')
    os.mkfifo(str(tmp_path / 'pipe.py'))
    (tmp_path / 'deep.py').write_text('x = ' + '-' * 20000 + '1\n')
    assert command('--write', '--yes', tmp_path) == 1
    out = capsys.readouterr().out
    for name, reason in [
            ('bad.py', 'neither Python 2 nor Python 3, line 1'),
            ('binary.py', 'binary'), ('latin.py', 'its encoding: '),
            ('coding.py', 'its encoding: unknown encoding: nothing'),
            ('gone.py', 'No such file or directory'),
            ('pipe.py', 'not a regular file'),
            ('deep.py', 'neither Python 2 nor Python 3')]:
        assert '%s: skipped: %s' % (name, reason) in out
    assert '1 file read' in out
    assert (tmp_path / 'a.py').read_text() == NEW
    assert (tmp_path / 'again.py').is_symlink()


@contextlib.contextmanager
def as_nobody():
    """Without root's rights."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_may_not_be_read_or_written(capsys):
    with as_nobody(), tempfile.TemporaryDirectory(dir='/tmp') as folder:
        for name in ('open', 'shut'):
            os.mkdir(os.path.join(folder, name))
        for name in ('a.py', 'open/b.py', 'open/c.py'):
            with open(os.path.join(folder, name), 'w') as f:
                f.write(OLD)
        os.chmod(os.path.join(folder, 'open', 'b.py'), 0)
        os.chmod(os.path.join(folder, 'shut'), 0)
        os.chmod(os.path.join(folder, 'open'), 0o500)
        try:
            assert command(folder) == 1
            out = capsys.readouterr().out
            assert 'shut/: skipped: Permission denied\n' in out
            assert 'open/b.py: skipped: Permission denied\n' in out
            assert command('--write', '--yes',
                           os.path.join(folder, 'open')) == 2
            assert 'Permission denied' in capsys.readouterr().err
        finally:
            for name in ('open', 'shut'):
                os.chmod(os.path.join(folder, name), 0o700)
        with open(os.path.join(folder, 'open', 'c.py')) as f:
            assert f.read() == OLD
        assert sorted(os.listdir(os.path.join(folder, 'open'))) == [
            'b.py', 'c.py']


def test_a_write_that_fails_leaves_the_file(tmp_path, monkeypatch):
    write(tmp_path, {'a.py': OLD})
    file = files.File(str(tmp_path / 'a.py'), 'a.py')

    def full(*args):
        raise OSError('No space left on device')

    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(OSError, match='No space'):
        file.replace(NEW)
    assert sorted(os.listdir(str(tmp_path))) == ['a.py', 'a.py.orig']
    assert (tmp_path / 'a.py').read_text() == OLD


def test_without_theano_and_lasagne(tmp_path):
    write(tmp_path, {'a.py': 'print "é"\n'})
    done = python('-c', 'import sys\nfrom wnorm.__main__ import main\n'
                  'main(["port", "."])\n'
                  'assert not {"theano", "lasagne", "numpy"} & '
                  'set(sys.modules)\n', cwd=tmp_path, PYTHONIOENCODING='ascii')
    assert 'print "\\xe9"' in silent(done)
