# Sourced by up, down and login: what a lab of Grid Engine has beside those of any lab (../slurm-lab/lab.bash).
# shellcheck shell=bash disable=SC2034  # what is set here is used by the scripts that source it
#
# The programs are Debian's, unpacked by scripts/setup and not installed: nothing of them starts by itself, and a
# machine whose own name is that of its loopback device does not keep them from it.
kind=gridengine-lab
# shellcheck source=scripts/slurm-lab/lab.bash
. "$(dirname "${BASH_SOURCE[0]}")/../slurm-lab/lab.bash"

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
gridengine_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.venv/gridengine
programs=$gridengine_folder/usr/lib/gridengine

# use_gridengine NAME: as use_lab, with the variables by which Grid Engine's programs find their cluster.
use_gridengine() {
  use_lab "$1"
  unset SLURM_CONF
  export SGE_ROOT=$run_folder/sge SGE_CELL=default
  manager=${lab}m  # the machine itself: qmaster, and where users are
  if [ -e "$run_folder/subnet" ]; then use_ports "$(<"$run_folder/subnet")"; fi
}

# use_ports SUBNET
use_ports() {
  export SGE_QMASTER_PORT=$((first_port + ${1##*.})) SGE_EXECD_PORT=$((first_port + 500 + ${1##*.}))
}

# Of qmaster; each lab adds the x of its subnet 10.77.x. Below the range of outgoing connections.
first_port=24000

# What at_login runs: NAME RUN-FOLDER PROGRAMS COMMAND...
# shellcheck disable=SC2016  # the variables are the inner shell's
enter='hostname "$1"; mount --bind "$2/hosts" /etc/hosts; mount --bind "$3" /usr/lib/gridengine; exec "${@:4}"'

# at_login COMMAND...: runs it where the names of the lab are known, under the name that its managers have.
at_login() { unshare --uts --mount bash -c "$enter" login "$manager" "$run_folder" "$programs" "$@"; }

missing_programs() {
  local c
  [ -x "$programs/sge_qmaster" ] || echo "Grid Engine in $gridengine_folder (scripts/setup test gets it)"
  for c in ip tc ss nsenter unshare; do command -v "$c" >/dev/null || echo "$c"; done
}
