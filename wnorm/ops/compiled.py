"""What the Ops share as C code: the loops, and the threads of the BLAS."""
import os
import zlib

from theano.gof import Op
from theano.tensor.blas import ldflags


def source(name):
    """The text of a file beside this one."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)),
                           name)) as file:
        return file.read()


def blas_threads():
    """Whether the threads of Theano's BLAS can be had for other work."""
    return any(name.startswith('wnorm_openblas') for name in ldflags())


class CompiledOp(Op):
    """An Op whose C code uses what `support` defines."""

    support = source('kernels.hpp')

    def c_code_cache_version(self):
        # Theano keeps compiled modules: what changed must not meet an old one
        return (4, zlib.crc32(self.support.encode('utf-8')), blas_threads())

    def c_support_code(self):
        return self.support

    def c_compile_args(self):
        return (ldflags(libs=False, flags=True) +
                # a product and a sum may be one instruction
                ['-ffp-contract=fast'] +
                ['-DWNORM_THREADS'] * blas_threads())

    def c_libraries(self):
        return ldflags()

    def c_lib_dirs(self):
        return ldflags(libs=False, libs_dir=True)
