"""A worker that is lost in the middle of a push: it sends half of a gradient and waits to be killed."""

import socket
import sys
import time

from hpcsynapse.trainer.parameter_server import frames, greeting
from hpcsynapse.trainer.parameter_server.frames import Frame, Kind

address, key, digest, elements, worker, workers = sys.argv[1:]
host, _, port = address.rpartition(":")
connection = socket.create_connection((host, int(port)))
frames.prepare(connection, 30.0)
mine = greeting.Greeting(
    digest=bytes.fromhex(digest), elements=int(elements), worker=int(worker), workers=int(workers), server=0, servers=1
)
welcome = greeting.ask(connection, bytes.fromhex(key), mine)
half = bytes(2 * int(elements))
frames.send(connection, Frame(Kind.PUSH, 4 * int(elements), version=welcome.version, rate=0.02, samples=16), half)
print("half is sent", flush=True)
time.sleep(60)
