import sys

import pytest

from running import python
from wnorm import __main__
from wnorm.stack import doctor


@pytest.mark.parametrize('arguments', [[], ['nurse']])
def test_usage(tmp_path, arguments):
    done = python('-m', 'wnorm', *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.startswith('usage: python -m wnorm [-h] COMMAND')
    assert 'Traceback' not in done.stderr


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        __main__.main(['--help'])
    assert stop.value.code == 0
    assert 'doctor' in capsys.readouterr().out


@pytest.mark.parametrize('ok', [True, False])
def test_doctor(monkeypatch, capsys, ok):
    limits = []
    monkeypatch.setattr(doctor, 'diagnose', lambda *given: limits.append(
        given) or {'ok': ok})
    monkeypatch.setattr(sys, 'argv', ['wnorm', 'doctor', '--json'])
    assert __main__.main() == (0 if ok else 1)
    assert __main__.main(['doctor', '--json', '--time-limit=3']) == (
        0 if ok else 1)
    assert limits == [(300, 'cuda', False), (3, 'cuda', False)]
    assert capsys.readouterr().out.count('"ok"') == 2
