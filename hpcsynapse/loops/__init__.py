"""What a training loop of one's own may call: a stop at a step boundary, a broadcast every so many steps, callbacks.

Nothing here imports torch, Horovod or mpi4py: what the program has imported already is used.
"""
