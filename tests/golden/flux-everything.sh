#!/bin/bash
#flux: --job-name=flux-everything
#flux: -N 2
#flux: -n 2
#flux: -c 8
#flux: -g 2
#flux: -t 88200s
#flux: -q batch
#flux: -B bank
#flux: --requires="v100 and ib and -host:n1 and -host:n2"
#flux: --dependency=afterok:f12
#flux: --dependency=afterok:f13
#flux: --output=/dev/null
#flux: --setattr=project=x

exec >> /scratch/runs/flux-everything/logs/job.log 2>&1

# Rendered by hpcsynapse 0.1.0; the description is run.toml beside this file.
cd '/home/me/my project' || exit 1
hpcs_run_dir=/scratch/runs/flux-everything
hpcs_started=$(date +%s.%N)
HPCSYNAPSE_JOB_HOSTS=$(flux hostlist -e local | tr ' ' '\n')
export HPCSYNAPSE_JOB_HOSTS
hpcs_hosts=$(/opt/hpcsynapse/bin/python -EP -m hpcsynapse.job hosts flux)
# How Open MPI and hydra reach other nodes without ssh: called as ssh would be. Brokers are numbered as hosts are listed.
cat > "$hpcs_run_dir/agent.sh" <<'AGENT'
#!/bin/bash
while [ "${1#-}" != "$1" ]; do shift; done
line=$(grep -n -x -m 1 -- "$1" <<< "$HPCSYNAPSE_JOB_HOSTS") || { echo "host $1 is not of this job" >&2; exit 255; }
shift
exec flux exec -r $((${line%%:*} - 1)) /bin/bash -c "$*"
AGENT
chmod +x "$hpcs_run_dir/agent.sh"
export OMPI_MCA_plm_rsh_agent="${OMPI_MCA_plm_rsh_agent:-$hpcs_run_dir/agent.sh}"
export PRTE_MCA_plm_ssh_agent="${PRTE_MCA_plm_ssh_agent:-$hpcs_run_dir/agent.sh}"
export HYDRA_LAUNCHER_EXEC="${HYDRA_LAUNCHER_EXEC:-$hpcs_run_dir/agent.sh}"
hpcs_path=$PATH
# Of several jobs that were queued for this run by mistake, only the first one may write here.
hpcs_job="${FLUX_ENCLOSING_ID}"
if ! (set -C; printf '%s\n' "$hpcs_job" > "$hpcs_run_dir/.owner") 2> /dev/null; then
  hpcs_owner=$(cat "$hpcs_run_dir/.owner" 2> /dev/null)
  if [ -n "$hpcs_owner" ] && [ "$hpcs_owner" != "$hpcs_job" ]; then
    echo "hpcsynapse: job $hpcs_job does nothing: this run belongs to job $hpcs_owner"
    exit 1
  fi
fi
export HPCSYNAPSE_RUN_DIR="$hpcs_run_dir"
export HPCSYNAPSE_ATTEMPT="${FLUX_ENCLOSING_ID}"
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

export OMP_NUM_THREADS=4

[ -n "$hpcs_hosts" ] || { echo "hpcsynapse: which nodes this job has is not known"; exit 1; }
hpcs_first_host=${hpcs_hosts%%[[:space:]]*}
export MASTER_ADDR="$hpcs_first_host"
# Another host of the job, for the first one to see which of its interfaces leads there.
hpcs_last_host=${hpcs_hosts##*[[:space:]]}
export HPCSYNAPSE_PEER="$hpcs_last_host"
MASTER_PORT=$(/opt/hpcsynapse/bin/python -EP -m hpcsynapse.job ports $$ "$HPCSYNAPSE_ATTEMPT" 20000 10000) || exit 1
export MASTER_PORT
HPCSYNAPSE_HOST_SLOTS=
for hpcs_host in $hpcs_hosts; do HPCSYNAPSE_HOST_SLOTS+="${HPCSYNAPSE_HOST_SLOTS:+,}$hpcs_host:2"; done
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi

hpcs_caught=
# The queue sends these to every process of a job that shall end; this script alone acts on them.
trap '' HUP ALRM
export HPCSYNAPSE_LEFT_TO_SCRIPT="HUP ALRM"
# In the background, so that a signal is acted on at once and not after the ranks have ended.
mpirun -np 4 --map-by ppr:2:node --host "$HPCSYNAPSE_HOST_SLOTS" -x PATH -x LD_LIBRARY_PATH -x HPCSYNAPSE_RUN_DIR -x HPCSYNAPSE_ATTEMPT -x MASTER_ADDR -x MASTER_PORT -x HPCSYNAPSE_PEER -x OMP_NUM_THREADS -x HPCSYNAPSE_LEFT_TO_SCRIPT --bind-to none /opt/hpcsynapse/bin/python -EP -m hpcsynapse.job rank /scratch/runs/flux-everything -- /opt/hpcsynapse/bin/python -EP -m hpcsynapse.job train /scratch/runs/flux-everything &
hpcs_launcher=$!
# Told to end, this launcher would kill the ranks before they have saved: their wrappers pass the signal on.
trap 'hpcs_caught=TERM; echo TERM >> "$hpcs_run_dir/.signal.$HPCSYNAPSE_ATTEMPT"' TERM INT HUP ALRM
trap 'echo "signal USR1 before the time limit" > "$hpcs_run_dir/stop"' USR1
# This queue sends no signal before the time limit.
( trap 'kill $!' TERM; sleep 88080 & wait $! && kill -USR1 $$ ) &
hpcs_timer=$!
while wait "$hpcs_launcher"; code=$?; kill -0 "$hpcs_launcher" 2>/dev/null; do
  if [ -n "$hpcs_caught" ]; then
    for ((hpcs_left = 140; hpcs_left; hpcs_left--)); do kill -0 "$hpcs_launcher" 2>/dev/null || break; sleep 0.1; done
    kill -TERM "$hpcs_launcher" 2>/dev/null
  fi
done
trap '' TERM INT HUP ALRM
kill -TERM "$hpcs_timer" 2>/dev/null
if [ -z "${hpcs_caught:-}" ]; then
  timeout 120 /opt/hpcsynapse/bin/python -EP -m hpcsynapse.job merge-records /scratch/runs/flux-everything/timings || echo "hpcsynapse: step records were not merged"
  # The exit code of the rank that failed first; launchers return the highest one, or always 1, or a false 0.
  code=$(timeout 60 /opt/hpcsynapse/bin/python -EP -m hpcsynapse.job exit-code /scratch/runs/flux-everything "$HPCSYNAPSE_ATTEMPT" "$code" || echo "$code")
fi
exit "$code"
