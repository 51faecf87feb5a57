# Sourced by up, down, node and login: what a lab of machines with ssh has beside those of any lab (../slurm-lab/lab.bash).
# shellcheck shell=bash disable=SC2034  # what is set here is used by the scripts that source it
kind=ssh-lab
# shellcheck source=scripts/slurm-lab/lab.bash
. "$(dirname "${BASH_SOURCE[0]}")/../slurm-lab/lab.bash"

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
first_port=25000  # none is taken; make_bridge looks whether it is free

use_ssh() {
  use_lab "$1"
  unset SLURM_CONF
  manager=${lab}m  # the machine itself, where users are
  if [ -e "$run_folder/parameters" ]; then nodes=$(parameter nodes); fi
}

# What is different inside: NAME RUN-FOLDER COMMAND...: names, and the lab's own keys and settings of ssh instead of
# the machine's. No file of any user is changed.
# shellcheck disable=SC2016  # the variables are the inner shell's
enter='hostname "$1"; mount --bind "$2/hosts" /etc/hosts; mount --bind "$2/ssh_config" /etc/ssh/ssh_config; exec "${@:3}"'

# at_login COMMAND...: runs it where the names of the lab are known and its machines let it in.
at_login() { PATH=$run_folder/bin:$PATH unshare --uts --mount bash -c "$enter" login "$manager" "$run_folder" "$@"; }

missing_programs() {
  local c
  [ -x /usr/sbin/sshd ] || echo "sshd (scripts/setup test installs it)"
  for c in ssh ssh-keygen ip ss nsenter unshare; do command -v "$c" >/dev/null || echo "$c"; done
}
