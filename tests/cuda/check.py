"""What can be said of cuDNN 8 and 9 without a GPU: ``make check-cudnn``.

Theano's operations on cuDNN are compiled through our header and linked, all
symbols bound, against the packages of PyPI; the kernels of a weight-normalized
train step are compiled by the real NVRTC. driver.cpp stands in for the rest,
so that nothing of it computes anything.
"""
import collections
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.path.join(os.path.dirname(os.path.dirname(HERE)), '.cache', 'cuda')

CUDA = ['nvidia-cuda-nvrtc-cu12==12.9.86', 'nvidia-cuda-nvcc-cu12==12.9.86',
        'nvidia-cuda-runtime-cu12==12.9.79']
CUDNN = ['nvidia-cudnn-cu12==8.9.7.29', 'nvidia-cudnn-cu12==9.28.0.42']
CAPABILITIES = ['80', '90']


def fetch(cudnn):
    """Unpack cuDNN, and CUDA, into a folder of its own, once."""
    folder = os.path.join(CACHE, cudnn)
    if not os.path.isdir(folder):
        scratch = folder + '.part'
        shutil.rmtree(scratch, ignore_errors=True)
        subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet',
                        '--no-deps', '--no-compile', '--target', scratch,
                        cudnn] + CUDA, check=True)
        os.rename(scratch, folder)
    return folder


def size(folder):
    return sum(os.path.getsize(os.path.join(where, name))
               for where, _, names in os.walk(folder) for name in names)


def stand_ins():
    """Folders with what stands in for driver and cuBLAS, and for cuDNN."""
    driver, cudnn = [os.path.join(CACHE, name) for name in (
        'driver', 'handle')]
    # not libcuda.so.1: NVRTC would open it, and expect much more of it
    for folder, names in ((driver, ['libcuda.so', 'libcublas.so.12']),
                          (cudnn, ['libcudnn.so'])):
        os.makedirs(folder, exist_ok=True)
        for name in names:
            subprocess.run(['g++', '-shared', '-fPIC', '-o', os.path.join(
                folder, name), os.path.join(HERE, 'driver.cpp')], check=True)
    return driver, cudnn


def run(cudnn, capability, driver, handle):
    """Compile everything; returns the numbers for a line of the table."""
    ptx = os.path.join(CACHE, 'ptx')
    compiledir = os.path.join(CACHE, 'theano-%s-%s' % (
        cudnn.split('==')[1], capability))
    for folder in (ptx, compiledir):
        shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(ptx)
    variables = dict(
        os.environ, WNORM_CAPABILITY=capability, WNORM_PTX=ptx,
        WNORM_CUDA=os.pathsep.join([driver] + glob.glob(os.path.join(
            fetch(cudnn), 'nvidia/*/lib'))),
        # asked for its handle before anything is compiled, and has no GPU
        THEANO_FLAGS='base_compiledir=%s,dnn.bin_path=%s' % (
            compiledir, handle),
        # a symbol that is missing is to be missed at once
        LD_BIND_NOW='1')
    start = time.time()
    done = subprocess.run(
        [sys.executable, '-m', 'wnorm', 'gpu', '--', 'python',
         os.path.join(HERE, 'operations.py')], env=variables,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    found = re.search(r'operations: (.*)', done.stdout.decode())
    if not found:
        sys.exit('%s%s\nended with status %d' % (
            done.stdout.decode(errors='replace'),
            done.stderr.decode(errors='replace'), done.returncode))
    answer = json.loads(found.group(1))
    answer['seconds'] = time.time() - start
    answer['ptx'] = collections.Counter(
        target for path in glob.glob(os.path.join(ptx, '*'))
        for target in re.findall(r'^\.target (\S+)', open(path).read(), re.M))
    return answer


def main():
    driver, handle = stand_ins()
    print('%.0f MB of packages' % (sum(map(size, map(fetch, CUDNN))) / 1e6))
    wrong = False
    for cudnn in CUDNN:
        for capability in CAPABILITIES:
            answer = run(cudnn, capability, driver, handle)
            print('\n%s, sm_%s: cuDNN says %d; %d operations of %d kinds '
                  'compiled and linked, %d not; kernels compiled: %s; %.0f s'
                  % (cudnn, capability, answer['cudnn'],
                     sum(answer['compiled'].values()),
                     len(answer['compiled']), len(answer['failed']),
                     dict(answer['ptx']), answer['seconds']))
            print('    ' + ', '.join('%s %d' % item for item in sorted(
                answer['compiled'].items())))
            for what, error in answer['failed'].items():
                print('    FAILED %s: %s' % (what, error))
            wrong = (wrong or bool(answer['failed']) or
                     list(answer['ptx']) != ['sm_' + capability])
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
