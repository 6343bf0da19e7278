import os
import signal
import subprocess
import sys
import time

import pytest

from wnorm.__main__ import main
from wnorm.stack.gpu import check, debian, libraries, prepare, survey
from wnorm.stack.rows import problem, row
from . import fake

needs_debian = pytest.mark.skipif(
    not debian.available(), reason='there is no apt-get and dpkg-deb')

#: Puts archives where apt-get is told to download to, after its first call
#: has failed, as it does without lists.
APT_GET = """#!/bin/sh
echo "$@" >> %(log)s
case "$*" in
*update*) exit 0;;
*Dir::State*download*) cp %(archives)s/*.deb .; exit 0;;
esac
echo 'E: no lists'; exit 100
"""


@pytest.fixture
def apt(machine, tmp_path, monkeypatch):
    """A repository with pygpu for this Python, or for what is given."""
    def make(suffix=None):
        root = fake.pygpu(tmp_path / 'package', suffix=suffix)
        packages = root / 'usr/lib/python3/dist-packages'
        packages.mkdir(parents=True)
        (root / 'python/pygpu').rename(packages / 'pygpu')
        (root / 'lib/libgpuarray.so').rename(
            root / 'usr/lib/libgpuarray.so.3')
        (root / 'usr/lib/libgpuarray.so').symlink_to('libgpuarray.so.3')
        (root / 'include').rename(root / 'usr/include')
        for name in ('python', 'lib'):
            (root / name).rmdir()
        (root / 'DEBIAN').mkdir()
        (root / 'DEBIAN/control').write_text(
            'Package: all\nVersion: 1\nArchitecture: all\n'
            'Maintainer: none\nDescription: none\n')
        archives = tmp_path / 'archives'
        archives.mkdir()
        subprocess.run(['dpkg-deb', '-b', str(root), str(archives)],
                       check=True, stdout=subprocess.DEVNULL)
        program('apt-get', APT_GET % {
            'log': tmp_path / 'log', 'archives': archives})
        return tmp_path / 'log'

    def program(name, text):
        path = tmp_path / 'bin' / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        monkeypatch.setenv('PATH', '%s:%s' % (path.parent,
                                              os.environ['PATH']))
        return path

    make.program = program
    monkeypatch.setattr(prepare, 'pip', lambda target, *packages: [
        os.makedirs(os.path.join(target, name)) for name in packages])
    return make


@pytest.fixture
def works(monkeypatch):
    """Spares the tests the computation on a device that is not there."""
    monkeypatch.setattr(check, 'run', lambda variables, time_limit: row(
        check.NAME, 'fake: right'))


def left():
    return sorted(os.listdir(libraries.home()))


# --- pygpu ----------------------------------------------------------------

@needs_debian
def test_pygpu(apt, capsys):
    log = apt()
    prepare.prepare_pygpu()
    assert left() == ['include', 'lib', 'python']
    assert [found['status'] for found in survey.pygpu_rows('')] == [
        'ok', 'ok']
    assert sorted(os.listdir(os.path.join(libraries.home(), 'python'))) == [
        'mako', 'markupsafe', 'pygpu']
    # the system's lists, then our own
    first, update, second = log.read_text().splitlines()
    assert 'Dir::State' not in first
    assert 'Dir::State::Lists=' + libraries.home() in update
    assert second.endswith('download python3-pygpu libgpuarray3 '
                           'libgpuarray-dev')
    prepare.prepare_pygpu()
    assert len(log.read_text().splitlines()) == 3
    assert 'there already' in capsys.readouterr().out


@needs_debian
def test_broken_pygpu_is_replaced(apt, tmp_path):
    apt()
    fake.pygpu(tmp_path / 'home', '0.5')
    prepare.prepare_pygpu()
    assert left() == ['include', 'lib', 'python']
    assert survey.pygpu_rows('')[0]['status'] == 'ok'


@needs_debian
def test_pygpu_for_another_python(apt, capsys):
    apt('.cpython-27.so')
    assert main(['gpu-setup']) == 1
    err = capsys.readouterr().err
    assert ("this system's python3-pygpu is compiled for another Python "
            '(gpuarray.cpython-27.so): CPython %d.%d needs another'
            % sys.version_info[:2]) in err
    assert 'conda-forge' in err and 'Debian 12' in err
    assert left() == []


@needs_debian
def test_no_such_package(apt, capsys):
    apt.program('apt-get', '#!/bin/sh\necho "E: Unable to locate"; exit 1\n')
    assert main(['gpu-setup']) == 1
    assert ('OSError: apt-get cannot download python3-pygpu, libgpuarray3, '
            'libgpuarray-dev: E: Unable to locate') in capsys.readouterr().err
    assert left() == []


def test_no_debian(machine, monkeypatch, capsys):
    monkeypatch.setattr(debian.shutil, 'which', lambda name: None)
    assert main(['gpu-setup']) == 1
    err = capsys.readouterr().err
    assert 'pygpu is on no PyPI, and this system has no apt-get' in err
    assert 'conda install -c conda-forge pygpu' in err


def test_a_folder_that_cannot_be_written(machine, tmp_path, capsys,
                                         monkeypatch):
    monkeypatch.setattr(debian, 'available', lambda: True)
    (tmp_path / 'home').write_text('')
    assert main(['gpu-setup']) == 1
    assert 'use a virtual environment' in capsys.readouterr().err


def test_what_a_killed_run_left_is_removed(machine, tmp_path):
    (tmp_path / 'home' / 'scratch-abc' / 'cuda').mkdir(parents=True)
    with prepare.scratch_folder():
        assert len(left()) == 1
    assert left() == []


# --- NVIDIA's libraries ---------------------------------------------------

def test_all_is_there(complete, works, capsys):
    assert main(['gpu-setup']) == 0
    out = capsys.readouterr().out
    assert out.count('there already') == 2
    assert 'NVIDIA Fake, compute capability 9.0' in out
    assert out.endswith('wnorm gpu-setup: works: fake: right\n')


def test_it_does_not_work(complete, monkeypatch, capsys):
    monkeypatch.setattr(check, 'run', lambda variables, time_limit: problem(
        check.NAME, 'computes wrong', 'do this'))
    assert main(['gpu-setup']) == 1
    assert ('GPU test: computes wrong\n    -> do this'
            in capsys.readouterr().err)


def test_it_works_with_advice(complete, monkeypatch, capsys):
    monkeypatch.setattr(check, 'run', lambda variables, time_limit: row(
        check.NAME, 'slow', 'warning', 'do this'))
    assert main(['gpu-setup']) == 0
    assert 'do this' in capsys.readouterr().out


def test_no_gpu(machine, tmp_path, capsys):
    fake.pygpu(tmp_path / 'home')
    assert main(['gpu-setup']) == 1
    assert 'GPU: none found' in capsys.readouterr().err


@pytest.fixture
def bare(machine, tmp_path, monkeypatch):
    """A machine with a driver and pygpu; PyPI has a complete set."""
    fake.pygpu(tmp_path / 'home')
    fake.library('driver', machine / 'libcuda.so.1', (12, 4))
    asked = []

    def pip(target, *packages):
        asked.extend(packages)
        from pathlib import Path
        fake.wheels(Path(target))

    monkeypatch.setattr(prepare, 'pip', pip)
    return asked


def test_libraries(bare, works):
    assert main(['gpu-setup']) == 0
    assert bare == ['nvidia-cuda-nvrtc-cu12<12.5', 'nvidia-cublas-cu12<12.5',
                    'nvidia-cuda-runtime-cu12<12.5',
                    'nvidia-cuda-nvcc-cu12<12.5',
                    'nvidia-cudnn-cu12>=8.9,<10']
    assert left() == ['cuda', 'include', 'lib', 'python']


@pytest.mark.parametrize('version, capability, below, cudnn', [
    ((13, 0), (9, 0), '13.0', '10'), ((12, 9), (7, 0), '12.10', '9.11')])
def test_libraries_that_fit(bare, machine, works, version, capability, below,
                            cudnn):
    fake.library('driver', machine / 'libcuda.so.1', version,
                 capability=capability)
    assert main(['gpu-setup']) == 0
    assert bare[0] == 'nvidia-cuda-nvrtc-cu12<' + below
    assert bare[-1] == 'nvidia-cudnn-cu12>=8.9,<' + cudnn


def test_libraries_for_a_new_header(bare, complete, works):
    fake.header(complete / 'nvidia/cudnn/include', (9, 0, 0))
    assert main(['gpu-setup']) == 0
    assert len(bare) == 5


def test_cudnn_is_not_wanted(bare, complete, works, monkeypatch):
    monkeypatch.setenv('THEANO_FLAGS', os.environ['THEANO_FLAGS'] +
                       ',dnn.enabled=False')
    (complete / 'nvidia/cudnn/lib/libcudnn.so.9').unlink()
    assert main(['gpu-setup']) == 0
    assert bare == []


def test_driver_too_old(bare, machine, capsys):
    fake.library('driver', machine / 'libcuda.so.1', (11, 4))
    assert main(['gpu-setup']) == 1
    assert 'the driver is for CUDA 11.4, PyPI has' in capsys.readouterr().err
    assert bare == []


@pytest.mark.parametrize('gone', [True, False])
def test_gpu_lost_during_the_download(bare, machine, monkeypatch, capsys,
                                      gone):
    def pip(target, *packages):
        os.makedirs(target)
        if gone:
            (machine / 'libcuda.so.1').unlink()
        else:
            fake.library('driver', machine / 'libcuda.so.1', (12, 4),
                         status=999)

    monkeypatch.setattr(prepare, 'pip', pip)
    assert main(['gpu-setup']) == 1
    err = capsys.readouterr().err
    assert 'the GPU was there when this began, and now is not (' in err
    assert ('no driver' if gone else 'error 999') in err
    assert left() == ['include', 'lib', 'python']


def test_pip_fails(machine, tmp_path, capfd):
    with pytest.raises(prepare.Failure, match='pip cannot install ./nothing'):
        prepare.pip(str(tmp_path / 'there'), './nothing')


# --- interrupted ----------------------------------------------------------

@needs_debian
@pytest.mark.parametrize('number, status', [
    (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(apt, tmp_path, number, status):
    apt.program('apt-get', '#!/bin/sh\necho > %s\nexec sleep 60\n'
                % (tmp_path / 'started'))
    code = """if True:
        import sys
        from wnorm.stack.gpu import libraries
        libraries.home = lambda: sys.argv[1]
        libraries.SYSTEM = []
        from wnorm.__main__ import main
        sys.exit(main(['gpu-setup']))"""
    child = subprocess.Popen(
        [sys.executable, '-c', code, libraries.home()],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(
            os.path.dirname(os.path.dirname(prepare.__file__))))))
    end = time.time() + 60
    while not (tmp_path / 'started').exists():
        assert time.time() < end
        time.sleep(.05)
    child.send_signal(number)
    out, err = child.communicate(timeout=300)
    assert child.returncode == status, err
    assert left() == []
    if number == signal.SIGINT:
        assert b'interrupted: what was complete stays' in err


# --- OpenCL ---------------------------------------------------------------

@pytest.fixture
def opencl(machine, tmp_path, works, monkeypatch):
    """pygpu without OpenCL; apt-get, which installs it for root."""
    fake.pygpu(tmp_path / 'home')
    monkeypatch.setattr(debian, 'available', lambda: True)
    monkeypatch.setattr(os, 'geteuid', lambda: 0)
    calls = []

    def run(command, **options):
        if command[0] != 'apt-get':
            return call(command, **options)
        calls.append(command[1])
        if command[1] == 'install' and 'fails' not in calls:
            fake.library('opencl', machine / 'libOpenCL.so.1')
            fake.library('clblast', machine / 'libclblast.so.1')
        return subprocess.CompletedProcess(command, 'fails' in calls)

    call = subprocess.run
    monkeypatch.setattr(prepare.subprocess, 'run', run)
    return calls


def test_opencl(opencl):
    assert main(['gpu-setup', '--opencl']) == 0
    assert opencl == ['update', 'install']
    assert main(['gpu-setup', '--opencl']) == 0
    assert opencl == ['update', 'install']


def test_opencl_without_root(opencl, monkeypatch, capsys):
    monkeypatch.setattr(os, 'geteuid', lambda: 1000)
    assert main(['gpu-setup', '--opencl']) == 1
    assert ('OpenCL and CLBlast must be installed, and this takes root: sudo '
            'apt-get install') in capsys.readouterr().err
    assert opencl == []


def test_opencl_without_apt(opencl, monkeypatch, capsys):
    monkeypatch.setattr(debian, 'available', lambda: False)
    assert main(['gpu-setup', '--opencl']) == 1
    assert 'this system has no apt-get' in capsys.readouterr().err


def test_opencl_that_apt_cannot_install(opencl, capsys):
    opencl.append('fails')
    assert main(['gpu-setup', '--opencl']) == 1
    assert 'apt-get cannot install pocl-opencl-icd' in capsys.readouterr().err
