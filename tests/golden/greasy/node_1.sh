#!/bin/bash
# Node 1 of 2: its parameter servers and workers, each with its own device. See roles.sh.
. "${BASH_SOURCE[0]%/*}/roles.sh"
node 1 nvb2
start worker 2 0
start worker 3 2
await
