#!/bin/bash
# Node 0 of 2: its parameter servers and workers (role:index:devices). See roles.sh.
. "${BASH_SOURCE[0]%/*}/roles.sh"
node 0 nvb1 ps:0:none worker:0:0 worker:1:2
