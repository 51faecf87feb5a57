# Sourced by up, down, status and node: one lab's name, places and processes.
# shellcheck shell=bash disable=SC2034  # what is set here is used by the scripts that source it
#
# LAB names the lab; several may live on one machine. The name shows in everything a lab makes:
#   run folder  ${TMPDIR:-/tmp}/slurm-lab-LAB      (configuration, logs, state, keys)
#   nodes       LAB1 LAB2 ...                      (also the names of their network namespaces)
#   links       LAB-br, LAB-v1, LAB-v2, ...        (interface names may have 15 characters)

lab_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf 'slurm-lab: %s\n' "$*" >&2; }

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
  run_folder=${TMPDIR:-/tmp}/slurm-lab-$lab
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
