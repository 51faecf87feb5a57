"""Parameter servers: processes that hold the parameters and the optimizer's state, and workers that push gradients.

All trainable parameters form one vector of float32, divided evenly over the servers. A worker keeps one TCP connection
to every server. On each, server and worker first prove to one another that they know the run's key (`greeting`); then
the worker asks and the server answers (`frames`):

    PUSH a gradient      -> PARAMETERS, and how stale the gradient was or whether it was dropped
    PULL                 -> PARAMETERS
    GIVE parameters      -> OK; to a server that has none
    DONE, BYE            -> OK; the worker has made its last step, or leaves
    PING                 no answer; the worker is alive although it pushes nothing

Every answer also tells how far the run has come, which worker is its chief, and how many others are not done.
"""
