#!/bin/bash
# Node 0 of 2: its parameter servers and workers, each with its own device. See roles.sh.
. "${BASH_SOURCE[0]%/*}/roles.sh"
node 0 nvb1
start ps 0 none
start worker 0 0
start worker 1 2
await
