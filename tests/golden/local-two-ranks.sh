#!/bin/bash
# Runs on this machine under hpcsynapse's local scheduler.

# Rendered by hpcsynapse 0.1.0; the description is run.toml beside this file.
cd '/home/me/my project' || exit 1
run_dir=/scratch/runs/local-two-ranks
started=$(date +%s.%N)
HPCSYNAPSE_LOCAL_JOB="$$-$(date +%s%N)"
hosts=localhost
export HPCSYNAPSE_RUN_DIR="$run_dir"
export HPCSYNAPSE_ATTEMPT="${HPCSYNAPSE_LOCAL_JOB}"
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

export OMP_NUM_THREADS=1

[ -n "$hosts" ] || { echo "hpcsynapse: which nodes this job has is not known"; exit 1; }
first_host=${hosts%%[[:space:]]*}
export MASTER_ADDR="127.0.0.1"
MASTER_PORT=$(/opt/hpcsynapse/bin/python -m hpcsynapse.ports "$HPCSYNAPSE_ATTEMPT" 20000 10000) || exit 1
export MASTER_PORT

# In the background, so that a signal is acted on at once and not after the ranks have ended.
timeout --kill-after=30 5400 /opt/hpcsynapse/bin/python -m hpcsynapse.local_launcher 2 /opt/hpcsynapse/bin/python -m hpcsynapse.rank /scratch/runs/local-two-ranks -- /opt/hpcsynapse/bin/python -m hpcsynapse.trainer.run /scratch/runs/local-two-ranks &
launcher=$!
trap 'caught=TERM; kill -TERM "$launcher" 2>/dev/null' TERM INT
while wait "$launcher"; code=$?; kill -0 "$launcher" 2>/dev/null; do :; done
trap '' TERM INT
if [ -z "${caught:-}" ]; then
  timeout 120 /opt/hpcsynapse/bin/python -m hpcsynapse.records /scratch/runs/local-two-ranks/timings || echo "hpcsynapse: step records were not merged"
  if [[ $code = 124 || $code = 137 ]] && [ "$SECONDS" -ge 5400 ]; then caught=TIMEOUT; fi
fi
if [ -z "${caught:-}" ]; then
  # The exit code of the rank that failed first; launchers return the highest one, or always 1, or a false 0.
  code=$(timeout 60 /opt/hpcsynapse/bin/python -m hpcsynapse.failure /scratch/runs/local-two-ranks "$HPCSYNAPSE_ATTEMPT" "$code" || echo "$code")
fi
exit "$code"
