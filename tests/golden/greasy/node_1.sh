#!/bin/bash
# Node 1 of 2: its parameter servers and workers (role:index:devices). See roles.sh.
. "${BASH_SOURCE[0]%/*}/roles.sh"
node 1 nvb2 worker:2:0 worker:3:2
