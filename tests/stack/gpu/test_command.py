import sys

import pytest

from running import python
from wnorm.__main__ import main
from . import fake


def test_settings_for_a_shell(complete, capsys):
    assert main(['gpu', '--print', '--deterministic']) == 0
    out, err = capsys.readouterr()
    assert err == ''
    lines = dict(line.split('=', 1) for line in out.splitlines())
    assert lines['export NVIDIA_TF32_OVERRIDE'] == '0'
    assert 'algo_bwd_data=deterministic' in lines['export THEANO_FLAGS']


@pytest.mark.parametrize('arguments', [[], ['--print', '--', 'python']])
def test_nothing_to_do(arguments, capsys):
    assert main(['gpu'] + arguments) == 2
    assert 'say which program' in capsys.readouterr().err


def test_no_gpu(machine, capsys):
    assert main(['gpu', '--', 'python']) == 1
    err = capsys.readouterr().err
    # one problem: without a GPU no other matters
    assert err.count('wnorm gpu: ') == 1
    assert 'wnorm gpu: GPU: none found' in err and '\n    -> ' in err


def test_several_problems(complete, tmp_path, capsys):
    (tmp_path / 'home/lib/libgpuarray.so').unlink()
    (complete / 'nvidia/cublas/lib/libcublas.so.12').unlink()
    assert main(['gpu', '--', 'python']) == 1
    err = capsys.readouterr().err
    assert 'libgpuarray: ' in err and 'cuBLAS: libcublas.so was not' in err


def test_a_program_that_is_not_there(complete, capsys):
    assert main(['gpu', '--', 'no-such-program']) == 127
    assert 'no-such-program is not found' in capsys.readouterr().err


def test_a_program(machine, tmp_path):
    """In a process of its own, as it does not return."""
    fake.pygpu(tmp_path / 'home')
    fake.library('driver', machine / 'libcuda.so.1', (12, 4))
    fake.wheels(machine)
    code = """if True:
        import sys
        from wnorm.stack.gpu import libraries
        libraries.home = lambda: sys.argv[1]
        from wnorm.__main__ import main
        sys.exit(main(['gpu', '--', 'python', '-c', '''if True:
            import os, sys
            print(sys.executable)
            print(sys.path[1])
            print(os.environ['WNORM_GPU_RUNTIME'])
            sys.exit(3)''']))"""
    done = python('-c', code, tmp_path / 'home', cwd=tmp_path,
                  WNORM_CUDA=':'.join([str(machine)] + [
                      str(machine / 'nvidia' / name / 'lib')
                      for name in ('cuda_nvrtc', 'cublas', 'cudnn')]))
    assert done.returncode == 3, done.stderr
    executable, path, runtime = done.stdout.split()
    assert executable == sys.executable
    assert path == str(tmp_path / 'home/python')
    assert runtime.startswith(str(tmp_path / 'compiled'))
