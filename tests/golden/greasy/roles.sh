# What the scripts of all nodes share; each node_K.sh reads this file and names its processes. See roles.json.
# Written by hpcsynapse 0.1.0: parameter servers see no device, every worker its own of what was granted.
hpcs_dir=$(cd -- "${BASH_SOURCE[0]%/*}" && pwd) || exit 1
export HPCSYNAPSE_CLUSTER="$hpcs_dir/cluster.json"
export NCCL_DEBUG=INFO
export ODD='it'"'"'s a $VALUE'
ulimit -c 0

# node NUMBER HOST ROLE:INDEX:DEVICES...: starts the processes of a node, attends to them and records their ends.
node() { exec /opt/hpcsynapse/bin/python -EP -m hpcsynapse.job node "$hpcs_dir" "$@"; }
