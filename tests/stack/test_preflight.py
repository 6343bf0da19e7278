import os
import sys
import sysconfig

import pytest

from running import python
from wnorm.stack import preflight

VERSION = '%d.%d' % sys.version_info[:2]


@pytest.fixture
def no_programs(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    return tmp_path


@pytest.fixture
def headers(monkeypatch, tmp_path):
    """Folders for headers, both empty."""
    folders = {'include': tmp_path / 'any', 'platinclude': tmp_path / 'this'}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setattr(sysconfig, 'get_paths', lambda: {
        name: str(folder) for name, folder in folders.items()})
    return folders


def program(path, mode=0o755):
    path.write_text('#!/bin/sh\n')
    path.chmod(mode)


def test_nothing_is_missing_here():
    assert preflight.problems() == []
    assert preflight.main([]) == 0


@pytest.mark.parametrize('version, works', [
    ((2, 7), False), ((3, 7), False), ((3, 8), True), ((3, 11), True),
    ((3, 12), False), ((3, 13), False), ((4, 0), False)])
def test_python_versions(monkeypatch, version, works):
    monkeypatch.setattr(sys, 'version_info', version + (1, 'final', 0))
    problem = preflight.python_problem()
    assert (problem is None) == works
    if not works:
        assert problem == (
            'Python %d.%d does not work here: use CPython 3.8 to 3.11 '
            '(Theano 1.0.5 cannot be built on 3.12 or later), for instance: '
            'make PYTHON=python3.11' % version)


def test_python_implementation(monkeypatch):
    monkeypatch.setattr(sys.implementation, 'name', 'pypy')
    assert preflight.python_problem().startswith(
        "pypy's Python %s does not work here: use CPython" % VERSION)


@pytest.mark.parametrize('module', ['ensurepip', 'venv'])
def test_venv(monkeypatch, module):
    assert preflight.venv_problem() is None
    monkeypatch.setitem(sys.modules, module, None)
    assert preflight.venv_problem() == (
        "Python's venv module is missing: install it (Debian, Ubuntu: "
        'apt-get install python%s-venv)' % VERSION)


def test_headers(headers):
    assert preflight.header_problem() == (
        "Python.h, Python's C header, is missing from %s: install it "
        '(Debian, Ubuntu: apt-get install python%s-dev)'
        % (headers['include'], VERSION))


@pytest.mark.parametrize('folder', ['include', 'platinclude'])
def test_headers_in_either_folder(headers, folder):
    (headers[folder] / 'Python.h').write_text('')
    assert preflight.header_problem() is None


def test_compiler(no_programs):
    assert preflight.compiler_problem() == (
        'g++ is missing: install it (Debian, Ubuntu: apt-get install g++)')
    program(no_programs / 'g++', mode=0o644)  # it cannot be executed
    (no_programs / 'clang++').mkdir()
    assert preflight.compiler() is None
    (no_programs / 'g++').chmod(0o755)
    assert preflight.compiler_problem() is None
    assert preflight.compiler() == str(no_programs / 'g++')


def test_compiler_on_a_mac(no_programs, monkeypatch):
    monkeypatch.setattr(sys, 'platform', 'darwin')
    assert preflight.compiler_problem() == (
        'clang++ is missing: install it (xcode-select --install)')
    program(no_programs / 'clang++')
    assert preflight.compiler() == str(no_programs / 'clang++')


def test_the_default_path_is_searched_where_none_is_set(monkeypatch, tmp_path):
    monkeypatch.delenv('PATH')
    monkeypatch.setattr(os, 'defpath', str(tmp_path))
    assert preflight.compiler() is None
    program(tmp_path / 'g++')
    assert preflight.compiler() == str(tmp_path / 'g++')


def test_all_problems_are_named(no_programs, headers, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'ensurepip', None)
    assert preflight.main([]) == 1
    out, err = capsys.readouterr()
    assert out == ''
    assert [line.split()[0] for line in err.splitlines()] == [
        'g++', 'Python.h,', "Python's"]
    assert preflight.main(['--without', 'venv', '--without=headers']) == 1
    assert capsys.readouterr().err.splitlines() == [
        'g++ is missing: install it (Debian, Ubuntu: apt-get install g++)']


def test_a_wrong_python_needs_no_headers(headers, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ensurepip', None)
    monkeypatch.setattr(sys, 'version_info', (3, 12, 1, 'final', 0))
    assert [problem[:11] for problem in preflight.problems()] == [
        'Python 3.12']


def test_script(tmp_path):
    script = preflight.__file__
    done = python(script, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
    done = python(script, '--without', 'venv', cwd=tmp_path, PATH=tmp_path)
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr == (
        'g++ is missing: install it (Debian, Ubuntu: apt-get install g++)\n')
    done = python(script, '--without', 'everything', cwd=tmp_path)
    assert done.returncode == 2


def test_any_python_can_read_it():
    """No syntax that Python 2.7 or 3.5 lacks, nothing beyond the library."""
    import ast
    with open(preflight.__file__) as file:
        tree = ast.parse(file.read(), feature_version=(3, 4))
    for node in ast.walk(tree):
        assert not isinstance(node, (
            ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.Starred,
            ast.AsyncFunctionDef, ast.YieldFrom, ast.Nonlocal))
        if isinstance(node, ast.FunctionDef):
            assert not node.args.kwonlyargs and not node.returns
        if isinstance(node, ast.ImportFrom):
            assert node.module == '__future__'
        if isinstance(node, ast.Import):
            assert node.names[0].name in (
                'argparse', 'os', 'sys', 'sysconfig', 'ensurepip', 'venv')
