"""Data-parallel training: one network, several processes, through MPI.

    mpiexec -n 4 python train.py

Import it at the beginning of the program: from then on a process that fails
ends the others, too. Without mpiexec there is one process, and all works the
same; mpi4py is then not needed.
"""
from .gradients import grads
from .initialization import initialize
from .sharding import minibatches, shard
from .values import broadcast, check
from .joining import rank, size, world
from .peers import AgreedError

__all__ = ['AgreedError', 'broadcast', 'check', 'grads', 'initialize',
           'minibatches', 'rank', 'shard', 'size']

world()  # joins the others
