"""Theano's GPU backend on today's cards and libraries.

===========  ===============================================================
libraries    where driver, NVRTC, cuBLAS, cuDNN and pygpu lie; which versions
probe        asks one library for its version, in a process of its own
settings     the environment in which Theano uses them
setup        ``python -m wnorm gpu-setup``: fetches what is missing
command      ``python -m wnorm gpu -- PROGRAM``
check        compares a device's results with the CPU's
cudnn/       the header that gives cuDNN 8 and 9 the calls that Theano makes
capability.c a libcuda.so for cards that libgpuarray does not know
===========  ===============================================================

Nothing here imports Theano, but for ``check``.
"""
