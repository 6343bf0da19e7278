import os
import stat
import sys

import pytest

from wnorm.stack.gpu import libraries, probe
from . import fake


@pytest.mark.parametrize('number, version', [
    (7605, [7, 6, 5]), (8907, [8, 9, 7]), (90100, [9, 1, 0]),
    (92800, [9, 28, 0])])
def test_version_of_cudnn(number, version):
    assert probe.cudnn_version(number) == version


# --- one library ----------------------------------------------------------

@pytest.mark.parametrize('kind, version', [
    ('nvrtc', (12, 9)), ('cublas', (12, 9, 3)), ('cudnn', (8, 9, 7)),
    ('cudnn', (9, 28, 1))])
def test_version(machine, kind, version):
    path = str(fake.library(kind, machine / 'library.so', version))
    library = libraries.examine(kind, path)
    assert (library.error, library.version, library.cuda) == (
        None, version, 12)
    assert str(library) == '%s (%s)' % ('.'.join(map(str, version)), path)
    assert library.folder == str(machine)


def test_driver(machine):
    path = fake.library('driver', machine / 'libcuda.so.1', (13, 2),
                        devices=2, capability=(8, 6))
    driver = libraries.find_driver()
    assert (driver.path, driver.version) == (str(path), (13, 2))
    assert driver.devices == 2 * [{
        'name': 'NVIDIA Fake', 'capability': [8, 6], 'memory': 2 ** 33}]
    assert libraries.capability(driver) == (8, 6)


@pytest.mark.parametrize('status, text', [
    (100, 'cuInit answers with error 100: the driver sees no GPU: is '
          'CUDA_VISIBLE_DEVICES set'),
    (77, 'cuInit answers with error 77')])
def test_driver_that_answers_with_an_error(machine, status, text):
    fake.library('driver', machine / 'libcuda.so.1', (13, 0), status=status)
    assert libraries.find_driver().error.startswith(text)


def test_driver_that_works_is_preferred(machine):
    fake.library('driver', machine / 'libcuda.so', (12, 0), status=100)
    fake.library('driver', machine / 'libcuda.so.1', (12, 0))
    assert libraries.find_driver().path.endswith('.so.1')


def test_no_driver(machine):
    assert libraries.find_driver() is None


def test_library_that_is_another(machine):
    path = fake.library('clblast', machine / 'libnvrtc.so')
    assert 'nvrtcVersion' in libraries.examine('nvrtc', str(path)).error


def test_library_that_is_none(machine):
    (machine / 'libcudnn.so.9').write_text('Not a library.')
    library = libraries.examine('cudnn', str(machine / 'libcudnn.so.9'))
    assert 'file too short' in library.error
    assert (library.version, library.cuda, library.devices) == ((), 0, [])


def test_library_that_crashes(machine):
    path = fake.library('crash', machine / 'libcudnn.so.9')
    assert libraries.examine('cudnn', str(path)).error == (
        'it ends the process that loads it')


def test_library_that_hangs(machine, monkeypatch):
    monkeypatch.setattr(libraries, 'PATIENCE', 0.)
    path = fake.library('nvrtc', machine / 'libnvrtc.so.12')
    assert libraries.examine('nvrtc', str(path)).error == (
        'it does not answer within 0 seconds')


def test_files_are_libraries_and_counted_once(machine):
    for name in ('libcudnn.so.9.1', 'libcudnn.so.txt', 'libcudnn_ops.so.9'):
        (machine / name).write_text('')
    (machine / 'libcudnn.so.9').symlink_to('libcudnn.so.9.1')
    assert libraries.files('cudnn', [str(machine)]) == [
        str(machine / 'libcudnn.so.9')]


# --- sets of them ---------------------------------------------------------

def kinds(found):
    return {kind: library and library.version
            for kind, library in found.libraries.items()}


def driver(version=(12, 4), **options):
    return libraries.Library('driver', 'libcuda.so', dict({
        'version': list(version), 'devices': [{'capability': [9, 0]}]},
        **options))


def test_nothing_found(machine):
    found = libraries.find(driver())
    assert kinds(found) == {'nvrtc': None, 'cublas': None, 'cudnn': None}
    assert (found.cudnn_header, found.cuda_headers, found.passed_over) == (
        None, [], [])


@pytest.mark.parametrize('limit', [None, driver(), driver(error='broken')])
def test_wheels(machine, limit, monkeypatch):
    monkeypatch.setattr(sys, 'path', [str(fake.wheels(machine))])
    found = libraries.find(limit)
    assert kinds(found) == {'nvrtc': (12, 4), 'cublas': (12, 4, 5),
                            'cudnn': (9, 1, 0)}
    assert found.cudnn_header == (
        str(machine / 'nvidia/cudnn/include'), (9, 1, 0))
    assert found.cuda_headers == [
        str(machine / 'nvidia/cuda_runtime/include')]


def test_wheels_of_another_python(machine, monkeypatch):
    other = str(fake.wheels(machine / 'other'))
    monkeypatch.setattr(libraries, 'from_other_pythons',
                        lambda: libraries.from_wheels([other]))
    assert None not in kinds(libraries.find(driver())).values()


def test_other_pythons_on_the_path(tmp_path, monkeypatch):
    def python(folder, text):
        path = tmp_path / folder / 'python3'
        path.parent.mkdir()
        path.write_text('#!/bin/sh\n' + text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path.parent)

    monkeypatch.setenv('PYTHONPATH', 'ours')
    monkeypatch.setenv('PATH', os.pathsep.join([
        os.path.dirname(sys.executable), str(tmp_path),
        python('a', 'echo "$PYTHONPATH"; echo /there'),
        python('b', 'exec no-such-program')]) + os.pathsep + str(
            tmp_path / 'a'))
    broken = tmp_path / 'c'
    broken.mkdir()
    (broken / 'python').write_text('#!/no/such/shell')
    (broken / 'python').chmod(0o755)
    monkeypatch.setenv('PATH', os.environ['PATH'] + ':' + str(broken))
    assert libraries.from_other_pythons() == ['/there/nvidia/*/lib']


def test_what_is_newer_than_the_driver_is_passed_over(machine, monkeypatch):
    old, new = fake.wheels(machine / 'old'), fake.wheels(
        machine / 'new', (12, 8), (9, 5, 0))
    monkeypatch.setattr(sys, 'path', [str(new), str(old)])
    found = libraries.find(driver((12, 4)))
    # of one major version, only NVRTC is bound to the driver's minor one
    assert kinds(found) == {'nvrtc': (12, 4), 'cublas': (12, 8, 5),
                            'cudnn': (9, 5, 0)}
    assert found.cudnn_header[1] == (9, 5, 0)
    (text,) = found.passed_over
    assert text == ('NVRTC 12.8 (%s) is newer than the driver, which is for '
                    'CUDA 12.4: update the driver, or install an older NVRTC'
                    % (new / 'nvidia/cuda_nvrtc/lib/libnvrtc.so.12'))


def test_what_is_broken_is_passed_over(machine, monkeypatch):
    broken = machine / 'libcublas.so.12'
    broken.write_text('')
    monkeypatch.setattr(sys, 'path', [str(fake.wheels(machine / 'more'))])
    found = libraries.find()
    assert kinds(found)['cublas'] == (12, 4, 5)
    assert found.passed_over == [
        'cuBLAS %s cannot be used: %s: file too short' % (broken, broken)]


def test_the_newest_cuda_that_is_complete(machine, monkeypatch):
    old = fake.wheels(machine / 'old', (12, 4), (8, 9, 7))
    new = fake.wheels(machine / 'new', (13, 0), (9, 13, 0))
    monkeypatch.setattr(sys, 'path', [str(old), str(new)])
    assert kinds(libraries.find(driver((13, 0))))['cudnn'] == (9, 13, 0)
    (new / 'nvidia/cublas/lib/libcublas.so.13').unlink()
    found = kinds(libraries.find(driver((13, 0))))
    assert found == {'nvrtc': (12, 4), 'cublas': (12, 4, 5),
                     'cudnn': (8, 9, 7)}
    assert libraries.find(driver((11, 8))).passed_over


@pytest.mark.parametrize('capability, cuda, cudnn, passed', [
    ((7, 0), (12, 9), (9, 10, 2), []),
    ((7, 0), (12, 9), (9, 11, 0), ['cuDNN']),
    ((7, 0), (13, 0), (9, 13, 0), ['NVRTC', 'cuBLAS', 'cuDNN']),
    ((7, 5), (13, 0), (9, 13, 0), [])])
def test_old_cards(machine, monkeypatch, capability, cuda, cudnn, passed):
    monkeypatch.setattr(sys, 'path', [str(fake.wheels(machine, cuda, cudnn))])
    found = libraries.find(driver(
        (13, 0), devices=[{'capability': list(capability)}]))
    assert [text.split()[0] for text in found.passed_over] == passed
    assert all('does not serve cards of compute capability 7.0 any more' in
               text for text in found.passed_over)


def test_folders_that_the_user_names(machine, monkeypatch):
    monkeypatch.setenv('CUDA_HOME', str(machine / 'cuda'))
    monkeypatch.setenv('WNORM_CUDA', 'a' + os.pathsep + 'b')
    monkeypatch.setenv('LD_LIBRARY_PATH', 'run' + os.pathsep + 'c')
    monkeypatch.setenv('WNORM_GPU_RUNTIME', 'run')
    assert libraries.from_environment() == ['a', 'b', 'c'] + [
        str(machine / 'cuda' / part)
        for part in ('lib64', 'lib', 'targets/*/lib')]


# --- headers --------------------------------------------------------------

def test_header_of_a_toolkit(machine, monkeypatch):
    fake.library('cudnn', machine / 'lib64/libcudnn.so.8', (8, 9, 7))
    fake.header(machine / 'include', (8, 9, 7))
    monkeypatch.setenv('WNORM_CUDA', str(machine / 'lib64'))
    assert libraries.find().cudnn_header == (
        str(machine / 'include'), (8, 9, 7))


def test_header_before_cudnn_8(machine):
    folder = fake.header(machine, (7, 6, 5), name='cudnn.h')
    assert libraries.header_version(str(folder)) == (7, 6, 5)
    (folder / 'cudnn.h').write_text('no version')
    assert libraries.header_version(str(folder)) is None
    assert libraries.header_version('nowhere') is None


def test_header_that_fits_is_preferred(machine, monkeypatch):
    fake.library('cudnn', machine / 'a/lib/libcudnn.so.9', (9, 1, 0))
    fake.header(machine / 'a/include', (9, 0, 0))
    fake.header(machine / 'b/include', (9, 1, 0))
    folders = [str(machine / 'a/lib'), str(machine / 'b/lib')]
    (machine / 'b/lib').mkdir()
    assert libraries.choose(folders, None).cudnn_header == (
        str(machine / 'b/include'), (9, 1, 0))
    assert libraries.choose(folders[:1], None).cudnn_header == (
        str(machine / 'a/include'), (9, 0, 0))


def test_cuda_headers_in_two_folders(machine, monkeypatch):
    fake.wheels(machine, (13, 0), (9, 13, 0))
    monkeypatch.setattr(sys, 'path', [str(machine)])
    runtime = machine / 'nvidia/cuda_runtime/include'
    (runtime / 'crt/host_defines.h').unlink()
    assert libraries.find().cuda_headers == []
    rest = machine / 'nvidia/cuda_nvcc/include'
    (rest / 'crt').mkdir(parents=True)
    (rest / 'crt/host_defines.h').write_text('')
    assert libraries.find().cuda_headers == [str(runtime), str(rest)]
    fake.cuda_headers(machine / 'nvidia/toolkit/include')
    assert libraries.find().cuda_headers == [
        str(machine / 'nvidia/toolkit/include')]


# --- OpenCL, pygpu --------------------------------------------------------

def test_opencl(machine):
    assert libraries.find_opencl() == {'opencl': None, 'clblast': None}
    opencl = fake.library('opencl', machine / 'libOpenCL.so.1', devices=0)
    clblast = fake.library('clblast', machine / 'libclblast.so.1')
    found = libraries.find_opencl()
    assert 'pocl-opencl-icd' in found['opencl'].error
    assert str(found['clblast']) == str(clblast)
    fake.library('opencl', opencl)
    assert libraries.find_opencl()['opencl'].error is None


def test_pygpu(machine, tmp_path):
    assert libraries.pygpu_folder() is None
    assert libraries.gpuarray_library() is None
    assert libraries.gpuarray_headers() is None
    home = fake.pygpu(tmp_path / 'home')
    folder = libraries.pygpu_folder()
    assert folder == str(home / 'python/pygpu')
    assert libraries.pygpu_fits(folder)
    assert libraries.pygpu_version(folder) == '0.7.6'
    assert libraries.gpuarray_library() == str(home / 'lib/libgpuarray.so')
    assert libraries.gpuarray_headers() == str(home / 'include')
    (home / 'python/pygpu/_version.py').write_text('version = "0.6.9"')
    assert libraries.pygpu_version(folder) == '0.6.9'
    (home / 'python/pygpu/_version.py').write_text('')
    assert libraries.pygpu_version(folder) == '?'
    (home / 'python/pygpu/_version.py').unlink()
    assert libraries.pygpu_version(folder) == '?'


def test_home_is_in_the_environment():
    assert libraries.home().startswith(sys.prefix + os.sep)
