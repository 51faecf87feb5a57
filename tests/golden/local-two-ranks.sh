#!/bin/bash
# Runs on this machine under hpcsynapse's local scheduler.

# Rendered by hpcsynapse 0.1.0; the description is run.toml beside this file.
cd '/home/me/my project' || exit 1
hpcs_run_dir=/scratch/runs/local-two-ranks
hpcs_started=$(date +%s.%N)
HPCSYNAPSE_LOCAL_JOB="$$-$(date +%s%N)"
export HPCSYNAPSE_JOB_PID=$$
hpcs_hosts=localhost
hpcs_path=$PATH
# Of several jobs that were queued for this run by mistake, only the first one may write here.
hpcs_job="$HOSTNAME:$$"
if ! (set -C; printf '%s\n' "$hpcs_job" > "$hpcs_run_dir/.owner") 2> /dev/null; then
  hpcs_owner=$(cat "$hpcs_run_dir/.owner" 2> /dev/null)
  if [ -n "$hpcs_owner" ] && [ "$hpcs_owner" != "$hpcs_job" ]; then
    echo "hpcsynapse: job $hpcs_job does nothing: this run belongs to job $hpcs_owner"
    exit 1
  fi
fi
export HPCSYNAPSE_RUN_DIR="$hpcs_run_dir"
export HPCSYNAPSE_ATTEMPT="${HPCSYNAPSE_LOCAL_JOB}"
rm -f "$hpcs_run_dir/exit.json" "$hpcs_run_dir/status.json" "$hpcs_run_dir"/.exit.json.*  # of an earlier start
printf '{"event": "allocated", "attempt": "%s", "time": %s, "hosts": "%s"}\n' "$HPCSYNAPSE_ATTEMPT" "$hpcs_started" \
  "${hpcs_hosts//[[:space:]]/ }" 2> /dev/null >> "$hpcs_run_dir/starts.jsonl"
# A stop that an earlier start of this job asked of itself before its time limit; a user's own stop stays.
if grep -qs '^signal ' "$hpcs_run_dir/stop"; then rm -f "$hpcs_run_dir/stop"; fi

# Whatever happens, the exit code reaches exit.json: the truth about this run once the queue has forgotten it. Its space
# is taken now, since the disk may be full by then, which is said where the run failed.
hpcs_exit=$hpcs_run_dir/.exit.json.$$
printf '%1000s\n' '' > "$hpcs_exit"
finish() {
  local code=$? PATH=$hpcs_path disk= now
  now=$(date +%s.%N)
  printf '{"event": "released", "attempt": "%s", "time": %s, "code": %d, "signal": "%s"}\n' \
    "${HPCSYNAPSE_ATTEMPT%+*}" "$now" "$code" "${hpcs_caught:-}" 2> /dev/null >> "$hpcs_run_dir/starts.jsonl"
  if [ "$code" != 0 ]; then
    disk=$(export LC_ALL=C; { printf '%4096s' '' > "$hpcs_exit.disk"; } 2>&1)
    rm -f "$hpcs_exit.disk"
    disk=${disk##*: } disk=${disk//[^A-Za-z -]/}
  fi
  printf '{"exit_code": %d, "start": %s, "time": %s, "attempt": "%s", "signal": "%s", "disk": "%s"}\n' \
    "$code" "$hpcs_started" "$now" "$HPCSYNAPSE_ATTEMPT" "${hpcs_caught:-}" "$disk" 1<> "$hpcs_exit" &&
    mv "$hpcs_exit" "$hpcs_run_dir/exit.json"
  exit "$code"
}
trap finish EXIT

export OMP_NUM_THREADS=1

[ -n "$hpcs_hosts" ] || { echo "hpcsynapse: which nodes this job has is not known"; exit 1; }
hpcs_first_host=${hpcs_hosts%%[[:space:]]*}
export MASTER_ADDR="127.0.0.1"
MASTER_PORT=$(/opt/hpcsynapse/bin/python -EP -m hpcsynapse.job ports $$ "$HPCSYNAPSE_ATTEMPT" 20000 10000) || exit 1
export MASTER_PORT

hpcs_caught=
# In the background, so that a signal is acted on at once and not after the ranks have ended.
timeout --kill-after=18 5400 /opt/hpcsynapse/bin/python -EP -m hpcsynapse.job local-launch 2 /opt/hpcsynapse/bin/python -EP -m hpcsynapse.job rank /scratch/runs/local-two-ranks -- /opt/hpcsynapse/bin/python -EP -m hpcsynapse.job train /scratch/runs/local-two-ranks &
hpcs_launcher=$!
trap 'hpcs_caught=TERM; kill -TERM "$hpcs_launcher" 2>/dev/null' TERM INT
while wait "$hpcs_launcher"; code=$?; kill -0 "$hpcs_launcher" 2>/dev/null; do :; done
trap '' TERM INT
if [ -z "${hpcs_caught:-}" ]; then
  timeout 120 /opt/hpcsynapse/bin/python -EP -m hpcsynapse.job merge-records /scratch/runs/local-two-ranks/timings || echo "hpcsynapse: step records were not merged"
  if [[ $code = 124 || $code = 137 ]] && [ "$SECONDS" -ge 5400 ]; then hpcs_caught=TIMEOUT; fi
fi
if [ -z "${hpcs_caught:-}" ]; then
  # The exit code of the rank that failed first; launchers return the highest one, or always 1, or a false 0.
  code=$(timeout 60 /opt/hpcsynapse/bin/python -EP -m hpcsynapse.job exit-code /scratch/runs/local-two-ranks "$HPCSYNAPSE_ATTEMPT" "$code" || echo "$code")
fi
exit "$code"
