"""Libraries that answer as NVIDIA's do, and do nothing else."""
import functools
import os
import subprocess
import tempfile

SOURCES = {
    'driver': r"""
#include <stddef.h>
#include <string.h>
extern "C" {
int cuInit(unsigned) { return STATUS; }
int cuDriverGetVersion(int *value) {
    *value = MAJOR * 1000 + MINOR * 10; return 0; }
int cuDeviceGetCount(int *value) { *value = DEVICES; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int size, int) {
    strncpy(name, "NVIDIA Fake", size); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int) {
    *bytes = (size_t)8 << 30; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int) {
    *value = attribute == 75 ? CAPABILITY_MAJOR :
             attribute == 76 ? CAPABILITY_MINOR : attribute;
    return 0; }
}""",
    'nvrtc': r"""
extern "C" int nvrtcVersion(int *major, int *minor) {
    *major = MAJOR; *minor = MINOR; return STATUS; }""",
    'cublas': r"""
extern "C" int cublasGetProperty(int part, int *value) {
    *value = part == 0 ? MAJOR : part == 1 ? MINOR : PATCH; return 0; }""",
    'cudnn': r"""
#include <stddef.h>
extern "C" {
size_t cudnnGetVersion() {
    return MAJOR * (MAJOR < 9 ? 1000 : 10000) + MINOR * 100 + PATCH; }
size_t cudnnGetCudartVersion() { return CUDA * 1000; }
}""",
    'opencl': r"""
extern "C" int clGetPlatformIDs(unsigned, void *, unsigned *count) {
    *count = DEVICES; return DEVICES ? 0 : -1001; }""",
    'clblast': 'extern "C" int CLBlastClearCache() { return 0; }',
    'crash': '__attribute__((constructor)) void crash() { __builtin_trap(); }',
}


@functools.lru_cache(maxsize=None)
def compiled(kind, **values):
    """The library as bytes."""
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, 'source.cpp')
        with open(source, 'w') as file:
            file.write(SOURCES[kind])
        target = os.path.join(folder, 'library')
        subprocess.run(
            ['g++', '-shared', '-fPIC', '-o', target, source] +
            ['-D%s=%s' % value for value in sorted(values.items())],
            check=True)
        with open(target, 'rb') as file:
            return file.read()


def library(kind, path, version=(0, 0), status=0, devices=1,
            capability=(9, 0), cuda=12):
    """Write the library of a kind to `path`, a pathlib.Path."""
    major, minor, patch = tuple(version) + (0,) * (3 - len(version))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(compiled(
        kind, MAJOR=major, MINOR=minor, PATCH=patch, STATUS=status,
        DEVICES=devices, CAPABILITY_MAJOR=capability[0],
        CAPABILITY_MINOR=capability[1], CUDA=cuda))
    return path


def header(folder, version=(9, 1, 0), name='cudnn_version.h'):
    """Write cuDNN's header, of which the version is all that is read."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'cudnn.h').write_text('#include "cudnn_version.h"\n')
    (folder / name).write_text(''.join(
        '#define CUDNN_%s %d\n' % pair for pair in zip(
            ('MAJOR', 'MINOR', 'PATCHLEVEL'), version)))
    return folder


def cuda_headers(folder):
    (folder / 'crt').mkdir(parents=True, exist_ok=True)
    (folder / 'crt' / 'host_defines.h').write_text('')
    (folder / 'cuda_runtime_api.h').write_text('')


def wheels(folder, cuda=(12, 4), cudnn=(9, 1, 0)):
    """A complete set, laid out as NVIDIA's wheels are."""
    for name, kind, version in (('cuda_nvrtc', 'nvrtc', cuda),
                                ('cublas', 'cublas', cuda + (5,)),
                                ('cudnn', 'cudnn', cudnn)):
        library(kind, folder / 'nvidia' / name / 'lib' / (
            'lib%s.so.%d' % (kind, version[0])), version, cuda=cuda[0])
    header(folder / 'nvidia' / 'cudnn' / 'include', cudnn)
    cuda_headers(folder / 'nvidia' / 'cuda_runtime' / 'include')
    return folder


def pygpu(home, version='0.7.6', suffix=None):
    """What gpu-setup unpacks, as far as it is looked at."""
    import sysconfig
    package = home / 'python' / 'pygpu'
    package.mkdir(parents=True, exist_ok=True)
    (package / '_version.py').write_text('{"version": "%s"}' % version)
    (package / ('gpuarray' + (
        suffix or sysconfig.get_config_var('EXT_SUFFIX')))).write_text('')
    (home / 'lib').mkdir(exist_ok=True)
    (home / 'lib' / 'libgpuarray.so').write_text('')
    (home / 'include' / 'gpuarray').mkdir(parents=True, exist_ok=True)
    (home / 'include' / 'gpuarray' / 'array.h').write_text('')
    return home
