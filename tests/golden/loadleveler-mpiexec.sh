#!/bin/bash
# @ job_name = loadleveler-mpiexec
# @ job_type = MPICH
# @ node = 2
# @ tasks_per_node = 2
# @ wall_clock_limit = 01:00:00
# @ class = parallel
# @ account_no = proj-1
# @ resources = ConsumableCpus(4) ConsumableMemory(32768 mb)
# @ node_usage = shared
# @ notification = always
# @ notify_user = me@site.org
# @ restart = yes
# @ comment = a "quoted" #comment; $HOME
# @ environment = COPY_ALL
# @ initialdir = /scratch/runs/loadleveler-mpiexec
# @ output = logs/job.log
# @ error = logs/job.log
# @ rset = rset_mcm_affinity
# @ queue

# Rendered by hpcsynapse 0.1.0; the description is run.toml beside this file.
cd '/home/me/my project' || exit 1
run_dir=/scratch/runs/loadleveler-mpiexec
started=$(date +%s.%N)
# The nodes in the order of their tasks; the first of them is this one.
hosts=$(/opt/hpcsynapse/bin/python -m hpcsynapse.task_hosts | awk '!seen[$0]++')
export HPCSYNAPSE_RUN_DIR="$run_dir"
export HPCSYNAPSE_ATTEMPT="${LOADL_STEP_ID}.$(date +%s)"
rm -f "$run_dir/exit.json" "$run_dir/status.json"  # of an earlier start
# A stop that an earlier start of this job asked of itself before its time limit; a user's own stop stays.
if grep -qs '^signal ' "$run_dir/stop"; then rm -f "$run_dir/stop"; fi

# Whatever happens, the exit code reaches exit.json: the truth about this run once the queue has forgotten it.
finish() {
  local code=$?
  printf '{"exit_code": %d, "start": %s, "time": %s, "attempt": "%s", "signal": "%s"}\n' \
    "$code" "$started" "$(date +%s.%N)" "$HPCSYNAPSE_ATTEMPT" "${caught:-}" > "$run_dir/.exit.json.$$" &&
    mv "$run_dir/.exit.json.$$" "$run_dir/exit.json"
  exit "$code"
}
trap finish EXIT

export OMP_NUM_THREADS=4

[ -n "$hosts" ] || { echo "hpcsynapse: which nodes this job has is not known"; exit 1; }
first_host=${hosts%%[[:space:]]*}
export MASTER_ADDR="$first_host"
# Another host of the job, for the first one to see which of its interfaces leads there.
last_host=${hosts##*[[:space:]]}
export HPCSYNAPSE_PEER="$last_host"
MASTER_PORT=$(/opt/hpcsynapse/bin/python -m hpcsynapse.ports "$HPCSYNAPSE_ATTEMPT" 20000 10000) || exit 1
export MASTER_PORT
HPCSYNAPSE_MPIEXEC=$(command -v mpiexec.hydra || command -v mpiexec) || { echo "hpcsynapse: no mpiexec on the PATH"; exit 127; }
HPCSYNAPSE_HOSTFILE="$run_dir/hosts.$HPCSYNAPSE_ATTEMPT"
for host in $hosts; do echo "$host:2"; done > "$HPCSYNAPSE_HOSTFILE"
export HYDRA_LAUNCHER="${HYDRA_LAUNCHER:-ssh}"

# In the background, so that a signal is acted on at once and not after the ranks have ended.
"$HPCSYNAPSE_MPIEXEC" -f "$HPCSYNAPSE_HOSTFILE" -n 4 /opt/hpcsynapse/bin/python -m hpcsynapse.rank /scratch/runs/loadleveler-mpiexec -- /opt/hpcsynapse/bin/python -m hpcsynapse.trainer.run /scratch/runs/loadleveler-mpiexec &
launcher=$!
trap 'caught=TERM; kill -TERM "$launcher" 2>/dev/null' TERM INT
while wait "$launcher"; code=$?; kill -0 "$launcher" 2>/dev/null; do :; done
trap '' TERM INT
if [ -z "${caught:-}" ]; then
  timeout 120 /opt/hpcsynapse/bin/python -m hpcsynapse.records /scratch/runs/loadleveler-mpiexec/timings || echo "hpcsynapse: step records were not merged"
  # The exit code of the rank that failed first; launchers return the highest one, or always 1, or a false 0.
  code=$(timeout 60 /opt/hpcsynapse/bin/python -m hpcsynapse.failure /scratch/runs/loadleveler-mpiexec "$HPCSYNAPSE_ATTEMPT" "$code" || echo "$code")
fi
exit "$code"
