import sys

import pytest

from wnorm.stack.gpu import libraries, survey
from . import fake


def rows(kind='cuda'):
    return {row['name']: row for row in survey.rows(survey.look(kind))}


def problem(name, kind='cuda', status='problem'):
    """The only row that is not ok: its value and remedy."""
    found = rows(kind)
    assert [row['name'] for row in found.values()
            if row['status'] != 'ok'] == [name]
    assert found[name]['status'] == status
    return found[name]['value'], found[name]['remedy']


def test_all_is_there(complete):
    found = rows()
    assert tuple(found) == tuple(
        name for name in survey.NAMES
        if name not in ('OpenCL', 'CLBlast', 'GPU test'))
    assert {row['status'] for row in found.values()} == {'ok'}
    assert found['GPU']['value'] == (
        'NVIDIA Fake, compute capability 9.0, 8 GiB')
    assert found['NVIDIA driver']['value'].startswith('for CUDA 12.4 (')
    assert found['cuDNN header']['value'].startswith('9.1.0 (')


def test_no_driver(complete):
    (complete / 'libcuda.so.1').unlink()
    value, remedy = problem('GPU')
    assert value == 'none found: no NVIDIA driver (libcuda.so) is installed'
    assert remedy.endswith('python -m wnorm gpu-setup --opencl')


def test_driver_without_a_gpu(complete):
    fake.library('driver', complete / 'libcuda.so.1', (12, 4), devices=0)
    assert 'sees no GPU' in problem('GPU')[0]


def test_driver_that_does_not_work(complete):
    fake.library('driver', complete / 'libcuda.so.1', (12, 4), status=803)
    value, remedy = problem('GPU')
    assert 'does not work: cuInit answers with error 803' in value
    assert 'restart the machine' in value and 'nvidia-smi' in remedy


def test_capability_that_libgpuarray_would_cut_short(complete):
    fake.library('driver', complete / 'libcuda.so.1', (12, 8),
                 capability=(12, 0))
    found = rows()['GPU']
    assert found['status'] == 'ok'
    assert found['value'] == (
        'NVIDIA Fake, compute capability 12.0, 8 GiB (libgpuarray is told '
        '9.0, the last that it can name; the driver translates)')


def test_driver_older_than_nvrtc(complete):
    fake.library('driver', complete / 'libcuda.so.1', (12, 2))
    value, remedy = problem('NVRTC')
    assert 'is newer than the driver, which is for CUDA 12.2' in value
    assert 'gpu-setup fetches one that fits' in remedy


def test_cublas_missing(complete):
    (complete / 'nvidia/cublas/lib/libcublas.so.12').unlink()
    value, remedy = problem('cuBLAS')
    assert value == 'libcublas.so was not found'
    assert 'python -m wnorm gpu-setup' in remedy and 'WNORM_CUDA' in remedy


def test_cudnn_missing(complete):
    (complete / 'nvidia/cudnn/lib/libcudnn.so.9').unlink()
    assert problem('cuDNN', status='warning')[0] == (
        'libcudnn.so was not found')


def test_cudnn_of_the_future(complete):
    path = complete / 'nvidia/cudnn/lib/libcudnn.so.9'
    fake.library('cudnn', path, (10, 0, 0))
    value, remedy = problem('cuDNN')
    assert 'Theano can use versions 7 to 9' in value
    assert remedy == "pip install 'nvidia-cudnn-cu12<10'"


def test_cudnn_switched_off(complete, monkeypatch):
    monkeypatch.setenv('THEANO_FLAGS', 'dnn.enabled=False')
    assert problem('cuDNN', status='absent')[0] == (
        'switched off by dnn.enabled')


def test_header_of_another_version(complete):
    fake.header(complete / 'nvidia/cudnn/include', (9, 0, 0))
    value, remedy = problem('cuDNN header')
    assert value.startswith('9.0.0 (') and 'the library is 9.1.0' in value
    assert remedy == ('pip install nvidia-cudnn-cu12==9.1.0.*; or do '
                      'without: THEANO_FLAGS=dnn.enabled=False')


def test_header_missing(complete):
    (complete / 'nvidia/cudnn/include/cudnn.h').unlink()
    assert problem('cuDNN header')[0].startswith('cudnn.h was not found')


def test_cuda_headers_missing(complete):
    (complete / 'nvidia/cuda_runtime/include/cuda_runtime_api.h').unlink()
    value, remedy = problem('cuDNN header')
    assert "CUDA's own headers were not found" in value
    assert remedy.startswith('pip install nvidia-cuda-runtime-cu12')


# --- pygpu ----------------------------------------------------------------

def test_pygpu_missing(machine, tmp_path):
    assert survey.pygpu_rows('do this') == [
        survey.problem('pygpu', 'not found', 'do this')]


def test_pygpu_of_another_python(machine, tmp_path):
    fake.pygpu(tmp_path / 'home', suffix='.cpython-27.so')
    (found,) = survey.pygpu_rows('do this')
    assert found['value'].endswith(
        'was not compiled for cpython %d.%d' % sys.version_info[:2])


def test_pygpu_too_old(machine, tmp_path):
    fake.pygpu(tmp_path / 'home', '0.6.9')
    found = survey.pygpu_rows('do this')[0]
    assert found['status'] == 'problem'
    assert found['value'].endswith(': Theano needs 0.7')


@pytest.mark.parametrize('gone, text', [
    ('lib/libgpuarray.so', 'libgpuarray.so was not found, which pygpu loads'),
    ('include/gpuarray/array.h', 'but its headers (gpuarray/array.h) were '
                                 'not found')])
def test_libgpuarray_missing(machine, tmp_path, gone, text):
    (fake.pygpu(tmp_path / 'home') / gone).unlink()
    found = survey.pygpu_rows('do this')[1]
    assert (found['name'], found['status']) == ('libgpuarray', 'problem')
    assert text in found['value']


# --- OpenCL ---------------------------------------------------------------

def test_opencl(machine, tmp_path):
    fake.pygpu(tmp_path / 'home')
    found = rows('opencl')
    assert [row['value'] for row in found.values()][:2] == [
        'libOpenCL.so was not found', 'libclblast.so was not found']
    assert all('gpu-setup --opencl' in found[name]['remedy']
               for name in ('OpenCL', 'CLBlast'))
    fake.library('clblast', machine / 'libclblast.so.1')
    path = fake.library('opencl', machine / 'libOpenCL.so.1', devices=0)
    assert 'finds no platform' in problem('OpenCL', 'opencl')[0]
    fake.library('opencl', path)
    assert {row['status'] for row in rows('opencl').values()} == {'ok'}


def test_names_of_libraries():
    assert set(libraries.FILES) == set(libraries.TITLES)
