#!/bin/bash
# @ job_name = loadleveler-poe
# @ job_type = parallel
# @ node = 4
# @ tasks_per_node = 2
# @ wall_clock_limit = 48:30:00
# @ requirements = (Feature == "gpu") && (Feature == "k80")
# @ network.MPI = sn_all,not_shared,us
# @ node_usage = not_shared
# @ notification = never
# @ environment = COPY_ALL
# @ initialdir = /scratch/runs/loadleveler-poe
# @ output = logs/job.log
# @ error = logs/job.log
# @ queue

# Rendered by hpcsynapse 0.1.0; the description is run.toml beside this file.
cd '/home/me/my project' || exit 1
run_dir=/scratch/runs/loadleveler-poe
started=$(date +%s.%N)
# The nodes in the order of their tasks; the first of them is this one.
hosts=$(/opt/hpcsynapse/bin/python -m hpcsynapse.task_hosts | awk '!seen[$0]++')
cat > "$run_dir/rank.sh" <<'RANK'
#!/bin/bash
export MP_PROCS="${MP_PROCS:-$LOADL_TOTAL_TASKS}"
exec /opt/hpcsynapse/bin/python -m hpcsynapse.rank /scratch/runs/loadleveler-poe -- python train.py --data 'my data; $HOME'
RANK
chmod +x "$run_dir/rank.sh"
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

module load cuda/7.5 || exit 1
export OMP_NUM_THREADS=1

[ -n "$hosts" ] || { echo "hpcsynapse: which nodes this job has is not known"; exit 1; }
first_host=${hosts%%[[:space:]]*}
export MASTER_ADDR="$first_host"
# Another host of the job, for the first one to see which of its interfaces leads there.
last_host=${hosts##*[[:space:]]}
export HPCSYNAPSE_PEER="$last_host"
MASTER_PORT=$(/opt/hpcsynapse/bin/python -m hpcsynapse.ports "$HPCSYNAPSE_ATTEMPT" 20000 10000) || exit 1
export MASTER_PORT

# In the background, so that a signal is acted on at once and not after the ranks have ended.
poe /scratch/runs/loadleveler-poe/rank.sh &
launcher=$!
trap 'caught=TERM; kill -TERM "$launcher" 2>/dev/null' TERM INT
while wait "$launcher"; code=$?; kill -0 "$launcher" 2>/dev/null; do :; done
trap '' TERM INT
if [ -z "${caught:-}" ]; then
  timeout 120 /opt/hpcsynapse/bin/python -m hpcsynapse.records /scratch/runs/loadleveler-poe/timings || echo "hpcsynapse: step records were not merged"
  # The exit code of the rank that failed first; launchers return the highest one, or always 1, or a false 0.
  code=$(timeout 60 /opt/hpcsynapse/bin/python -m hpcsynapse.failure /scratch/runs/loadleveler-poe "$HPCSYNAPSE_ATTEMPT" "$code" || echo "$code")
fi
exit "$code"
