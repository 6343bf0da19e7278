"""Theano's GPU backend on today's cards and libraries.

===========  ===============================================================
libraries    where driver, NVRTC, cuBLAS, cuDNN and pygpu lie; which versions
probe        asks one library for its version, in a process of its own
survey       whether all that a device needs is there, as findings
settings     the environment in which Theano uses a device
command      ``python -m wnorm gpu -- PROGRAM``: runs in it
prepare      ``python -m wnorm gpu-setup``: fetches what is missing
debian       unpacks Debian's packages, without root
check        compares a device's results with the CPU's
rewrites     what is mended of Theano on a device
cudnn/       the header that gives cuDNN 8 and 9 the calls that Theano makes
capability   a libcuda.so (C++) for cards that libgpuarray does not know
===========  ===============================================================

Nothing here imports Theano, but for ``rewrites`` and, as a program of its
own, ``check``.
"""
