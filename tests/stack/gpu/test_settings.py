import ctypes
import os
import subprocess
import sys

import pytest

from wnorm.stack import preflight
from wnorm.stack.gpu import libraries, settings, survey
from . import fake


def variables(kind='cuda', **options):
    return settings.environment(survey.look(kind), **options)


def flags(variables):
    """THEANO_FLAGS as Theano reads them: the last of a name counts."""
    return dict(flag.split('=', 1)
                for flag in variables['THEANO_FLAGS'].split(','))


def test_cuda(complete, tmp_path):
    found = variables()
    runtime = found['WNORM_GPU_RUNTIME']
    assert os.path.dirname(runtime) == str(tmp_path / 'compiled')
    assert os.path.basename(runtime).startswith('wnorm-cuda12.4-cudnn9.1.0-')
    assert {name: os.readlink(os.path.join(runtime, name))
            for name in os.listdir(runtime)} == {
        'libcuda.so': str(complete / 'libcuda.so.1'),
        'libnvrtc.so': str(
            complete / 'nvidia/cuda_nvrtc/lib/libnvrtc.so.12'),
        'libcublas.so': str(complete / 'nvidia/cublas/lib/libcublas.so.12'),
        'libcudnn.so': str(complete / 'nvidia/cudnn/lib/libcudnn.so.9')}
    key = os.path.basename(runtime)[len('wnorm-'):]
    assert flags(found) == {
        'device': 'cuda0', 'floatX': 'float32',
        'compiledir_format': 'compiledir_%(short_platform)s-%(processor)s-'
                             '%(python_version)s-%(python_bitwidth)s-' + key,
        'dnn.include_path': settings.HEADER,
        'cuda.include_path': str(complete / 'nvidia/cudnn/include'),
        'dnn.library_path': runtime, 'dnn.bin_path': runtime,
        'base_compiledir': str(tmp_path / 'compiled')}
    home = libraries.home()
    assert found['LD_LIBRARY_PATH'].split(os.pathsep) == [
        runtime, home + '/lib', str(complete)] + [
        str(complete / 'nvidia' / name / 'lib')
        for name in ('cuda_nvrtc', 'cublas', 'cudnn')]
    assert found['LIBRARY_PATH'].startswith(found['LD_LIBRARY_PATH'])
    assert found['CPATH'].split(os.pathsep)[:2] == [
        home + '/include', str(complete / 'nvidia/cuda_runtime/include')]
    assert found['PYTHONPATH'] == home + '/python'
    assert found['PATH'].startswith(os.path.dirname(sys.executable))
    assert found['NVIDIA_TF32_OVERRIDE'] == '0'


def test_theano_takes_the_flags(complete, tmp_path):
    # on a device that Theano does not know: its own error names it
    code = ('import theano; print(theano.config.floatX, '
            'theano.config.dnn.library_path, theano.config.deterministic, '
            'theano.config.dnn.conv.algo_bwd_data, theano.config.compiledir)')
    found = dict(variables(deterministic=True))
    found['THEANO_FLAGS'] = found['THEANO_FLAGS'].replace('cuda0', 'cpu')
    done = subprocess.run(
        [sys.executable, '-c', code], stdout=subprocess.PIPE, check=True,
        env=dict(os.environ, PATH=found['PATH'], WNORM_STACK='1',
                 THEANO_FLAGS=found['THEANO_FLAGS']))
    floatX, folder, deterministic, algorithm, compiledir = (
        done.stdout.decode().split())
    assert (floatX, deterministic, algorithm) == (
        'float32', 'more', 'deterministic')
    assert folder == found['WNORM_GPU_RUNTIME']
    assert compiledir.endswith(folder.split('wnorm-')[1])


def test_again(complete):
    assert variables() == variables()


def test_the_key_follows_the_libraries(complete):
    before = variables()['WNORM_GPU_RUNTIME']
    fake.library('cudnn', complete / 'nvidia/cudnn/lib/libcudnn.so.9',
                 (9, 1, 1))
    fake.header(complete / 'nvidia/cudnn/include', (9, 1, 1))
    after = variables()['WNORM_GPU_RUNTIME']
    assert before != after and 'cudnn9.1.1' in after


def test_without_cudnn(complete):
    (complete / 'nvidia/cudnn/lib/libcudnn.so.9').unlink()
    found = variables()
    assert flags(found)['dnn.enabled'] == 'False'
    assert 'wnorm-cuda12.4-' in found['WNORM_GPU_RUNTIME']


def test_the_user_has_the_last_word(complete, tmp_path, monkeypatch):
    monkeypatch.setenv('THEANO_FLAGS', 'device=cuda1,floatX=float16,'
                       'base_compiledir=%s' % (tmp_path / 'elsewhere'))
    monkeypatch.setenv('NVIDIA_TF32_OVERRIDE', '1')
    monkeypatch.setenv('LD_LIBRARY_PATH', '/theirs')
    found = variables()
    assert flags(found)['device'] == 'cuda1'
    assert flags(found)['floatX'] == 'float16'
    assert found['WNORM_GPU_RUNTIME'].startswith(str(tmp_path / 'elsewhere'))
    assert found['NVIDIA_TF32_OVERRIDE'] == '1'
    assert found['LD_LIBRARY_PATH'].endswith(':/theirs')
    # but it is the GPU that they ask for
    monkeypatch.setenv('THEANO_FLAGS', 'device=cpu')
    assert flags(variables())['device'] == 'cuda0'


def test_what_the_linker_finds_by_itself_is_left_out():
    assert all(settings.re.match(settings.FOUND_BY_ITSELF, folder)
               for folder in ('/usr/lib/x86_64-linux-gnu', '/lib',
                              '/usr/lib64', '/usr/lib'))
    assert not settings.re.match(settings.FOUND_BY_ITSELF,
                                 '/usr/lib/cuda-linux-gnu/more')


def test_opencl(machine, tmp_path, monkeypatch):
    fake.pygpu(tmp_path / 'home')
    fake.library('opencl', machine / 'libOpenCL.so.1')
    fake.library('clblast', machine / 'libclblast.so.1')
    monkeypatch.setenv('THEANO_FLAGS', 'optimizer_excluding=fusion,'
                       'base_compiledir=%s' % tmp_path)
    found = variables('opencl')
    assert flags(found)['device'] == 'opencl0:0'
    assert flags(found)['optimizer_excluding'].split(':') == [
        'fusion'] + settings.NOT_ON_OPENCL
    assert sorted(os.listdir(found['WNORM_GPU_RUNTIME'])) == [
        'libOpenCL.so', 'libclblast.so']


# --- a compute capability of three digits ----------------------------------

@pytest.mark.parametrize('capability', [(10, 3), (12, 0), (9, 0)])
def test_capability(complete, capability):
    fake.library('driver', complete / 'libcuda.so.1', (12, 4),
                 capability=capability)
    runtime = variables()['WNORM_GPU_RUNTIME']
    path = os.path.join(runtime, 'libcuda.so')
    assert os.path.islink(path) == (capability == (9, 0))
    # as libgpuarray asks: by name, from the library that it opens
    code = """if True:
        import ctypes, sys
        library, value = ctypes.CDLL(sys.argv[1]), ctypes.c_int()
        for attribute in 75, 76, 40:
            assert not library.cuDeviceGetAttribute(
                ctypes.byref(value), attribute, 0)
            print(value.value)
        print(library.cuInit(0))"""
    done = subprocess.run(
        [sys.executable, '-c', code, path], stdout=subprocess.PIPE,
        check=True, env=dict(os.environ, LD_LIBRARY_PATH=str(complete)))
    assert done.stdout.decode().split() == ['9', '0', '40', '0']


def test_capability_without_a_compiler(complete, monkeypatch):
    fake.library('driver', complete / 'libcuda.so.1', (12, 4),
                 capability=(10, 0))
    monkeypatch.setattr(preflight, 'compiler', lambda: None)
    with pytest.raises(OSError, match=r'g\+\+ is missing'):
        variables()
    # nothing half-made is left
    assert os.listdir(settings.base_compiledir()) == []


def test_two_processes_at_once(complete, monkeypatch):
    folder = variables()['WNORM_GPU_RUNTIME']
    monkeypatch.setattr(settings.os.path, 'isdir', late(os.path.isdir))
    assert variables()['WNORM_GPU_RUNTIME'] == folder
    assert os.listdir(os.path.dirname(folder)) == [os.path.basename(folder)]


def late(isdir):
    """Sees no folder of ours the first time."""
    seen = []

    def answer(path):
        if 'wnorm-' in os.path.basename(str(path)) and not seen:
            seen.append(path)
            return False
        return isdir(path)
    return answer


def test_a_folder_that_cannot_be_made(complete, monkeypatch):
    def rename(old, new):
        raise PermissionError(13, 'Permission denied')
    monkeypatch.setattr(settings.os, 'rename', rename)
    with pytest.raises(PermissionError):
        variables()
    assert os.listdir(settings.base_compiledir()) == []


def test_no_library_is_opened_twice_by_its_names(complete):
    # the link and what it leads to are one library to the linker
    path = os.path.join(variables()['WNORM_GPU_RUNTIME'], 'libcudnn.so')
    assert ctypes.CDLL(path).cudnnGetVersion() == 90100
