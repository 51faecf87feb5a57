# Sourced by up, down, status and node, and by the other labs: one lab's name, places, network and processes.
# shellcheck shell=bash disable=SC2034  # what is set here is used by the scripts that source it
#
# LAB names the lab; several may live on one machine. The name shows in everything a lab makes:
#   run folder  ${TMPDIR:-/tmp}/slurm-lab-LAB      (configuration, logs, state, keys)
#   nodes       LAB1 LAB2 ...                      (also the names of their network namespaces)
#   links       LAB-br, LAB-v1, LAB-v2, ...        (interface names may have 15 characters)

lab_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

kind=${kind:-slurm-lab}  # of lab

say() { printf '%s: %s\n' "$kind" "$*" >&2; }

die() { say "$*"; exit 1; }

# check_number WHAT VALUE LOWEST HIGHEST
check_number() {
  if [[ $2 =~ ^[1-9][0-9]{0,3}$|^0$ ]] && [ "$2" -ge "$3" ] && [ "$2" -le "$4" ]; then return 0; fi
  die "$1: \"$2\" is not a number from $3 to $4"
}

# Prints the comment at the head of a script as its help.
usage() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$1"; }

use_lab() {
  lab=$1
  # A digit at the end would make node 1 of "lab2" and node 21 of "lab" one and the same.
  [[ $lab =~ ^[a-z]([a-z0-9]{0,7}[a-z])?$ ]] \
    || die "lab name \"$lab\": 1 to 9 of a-z and 0-9, beginning and ending with a letter"
  run_folder=${TMPDIR:-/tmp}/$kind-$lab
  bridge=$lab-br
  export SLURM_CONF=$run_folder/slurm.conf
}

need_root_and_commands() {
  local c missing=()
  [ "$(id -u)" = 0 ] || die "needs root (network namespaces, device files)"
  for c in slurmctld slurmd sbatch munged ip tc nsenter unshare; do
    command -v "$c" >/dev/null || missing+=("$c")
  done
  [ "${#missing[@]}" = 0 ] || die "missing commands: ${missing[*]} (scripts/setup test installs them)"
}

# Processes are remembered as "pid start-time": a bare pid may belong to a stranger later.
start_time() {
  local -a stat
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  # The command's name, in brackets, may hold blanks: count the fields after it, proc(5).
  read -r -a stat <<<"${stat##*) }"
  [ "${stat[0]}" != Z ] && echo "${stat[19]}"
}

remember() { echo "$2 $(start_time "$2")" >"$run_folder/pids/$1"; }

# Prints the pid of a remembered process if it is still that process.
pid_of() {
  local pid started
  { read -r pid started <"$run_folder/pids/$1"; } 2>/dev/null || return 1
  [ "$(start_time "$pid")" = "$started" ] && echo "$pid"
}

# end_process NAME [SIGNAL]: signals, waits up to 5 s, then kills.
end_process() {
  local pid tries
  pid=$(pid_of "$1") || return 0
  kill "-${2:-TERM}" "$pid" 2>/dev/null || true
  for tries in {1..100}; do
    pid_of "$1" >/dev/null || return 0
    [ "$tries" != 99 ] || kill -KILL "$pid" 2>/dev/null || true
    sleep 0.05
  done
}

is_live() { pid_of slurmctld >/dev/null && pid_of munged >/dev/null; }

node_name() { echo "$lab$1"; }

# Prints the value of one of the parameters that the lab was brought up with.
parameter() { sed -n "s/^$1=//p" "$run_folder/parameters"; }

# wait_until SECONDS COMMAND...: until the command succeeds; fails when the seconds are over.
wait_until() {
  local end=$((SECONDS + $1))
  until "${@:2}"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.05
  done
}

# write_hosts NAME: names for the nodes, and NAME for the machine itself as they see it.
write_hosts() {
  local i
  {
    echo "127.0.0.1 localhost"
    echo "$subnet.254 $1"
    # The second form is what a program with an IPv6 socket looks up, torch's TCPStore among them.
    for ((i = 1; i <= nodes; i++)); do printf '%s\n' "$subnet.$i $(node_name "$i")" "::ffff:$subnet.$i $(node_name "$i")"; done
  } >"$run_folder/hosts"
}

# make_bridge X: sets subnet to the first 10.77.x from X on that no interface has, and takes it by making the bridge.
# Port first_port + X must be free too: a slurmctld that was killed leaves it occupied for a moment.
make_bridge() {
  local x
  # Labs that come up at the same moment take turns here, whatever their TMPDIR.
  exec 8</run
  flock 8
  for ((x = $1; x < 255; x++)); do
    # Not into grep -q: when that ends at its first match, ip dies of the closed pipe, and a taken subnet seems free.
    if [[ $(ip -o -4 addr show) == *" 10.77.$x."* ]]; then continue; fi
    if [ -n "$(ss -Hltn "sport = :$((first_port + x))")" ]; then continue; fi
    subnet=10.77.$x
    ip link add "$bridge" type bridge
    ip addr add "$subnet.254/24" dev "$bridge"
    ip link set "$bridge" up
    exec 8<&-
    return 0
  done
  die "all subnets 10.77.$1-254 are taken"
}

# make_link: the network of node $i, whose name is $node.
make_link() {
  local rate
  rate=$(parameter rate)
  [ ! -e "/run/netns/$node" ] || return 0
  ip netns add "$node"
  ip link add "$lab-v$i" type veth peer name eth0 netns "$node"
  ip link set "$lab-v$i" master "$bridge" up
  ip -n "$node" addr add "$(<"$run_folder/subnet").$i/24" dev eth0
  ip -n "$node" link set lo up
  ip -n "$node" link set eth0 up
  [ -n "$rate" ] || return 0
  # What the node sends is held at its eth0, what it receives at the bridge's end.
  tc -n "$node" qdisc add dev eth0 root tbf rate "$rate" burst 70kb latency 50ms
  tc qdisc add dev "$lab-v$i" root tbf rate "$rate" burst 70kb latency 50ms
}

remove_network() {
  local space
  for space in /run/netns/"$lab"[0-9]*; do
    # Nodes end in digits alone; the veth pair goes with its namespace.
    if [[ -e $space && ${space#/run/netns/"$lab"} =~ ^[0-9]+$ ]]; then ip netns del "${space##*/}"; fi
  done
  if [ -e "/sys/class/net/$bridge" ]; then ip link del "$bridge"; fi
}
