"""Parameter servers average m of n gradients and update once; workers go from version to version together."""

from __future__ import annotations

from hpcsynapse.trainer.strategies.served import Served


class PsSync(Served):
    """R workers x batch B equal one rank x batch R*B when all are needed (m = n).

    With backup workers (m < n) the gradients that come after the m-th are dropped and counted, and the worker goes on
    with the step that the others are at. With several servers each takes the first m that reach it. A gradient whose
    server is lost before it answers is sent again: a server counts it once.
    """

    repeat = True
