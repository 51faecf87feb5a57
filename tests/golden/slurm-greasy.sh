#!/bin/bash
#SBATCH --job-name=slurm-greasy
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=6
#SBATCH --gpus-per-node=2
#SBATCH --time=01:00:00
#SBATCH --output=/scratch/runs/slurm-greasy/logs/job.log
#SBATCH --open-mode=append
#SBATCH --chdir="/home/me/my project"

# Rendered by hpcsynapse 0.1.0; the description is run.toml beside this file.
cd '/home/me/my project' || exit 1
hpcs_run_dir=/scratch/runs/slurm-greasy
hpcs_started=$(date +%s.%N)
# Since Slurm 22.05 srun does not inherit --cpus-per-task.
export SRUN_CPUS_PER_TASK=6
# At sites where jobs get nothing of the submitting shell, srun would pass nothing on to the ranks (srun(1)).
export SLURM_EXPORT_ENV=ALL
# It chose the cluster; in the job srun would ask slurmdbd for it, which nodes need not reach (srun(1), input environment).
unset SLURM_CLUSTERS
# Anything that a user's shell set for an earlier job would bind this one's tasks (SLURM_CPU_BIND above all).
unset SLURM_CPU_BIND SLURM_CPU_BIND_LIST SLURM_CPU_BIND_TYPE SLURM_CPU_BIND_VERBOSE SLURM_MEM_BIND
hpcs_hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST" 2>/dev/null || /opt/hpcsynapse/bin/python -EP -m hpcsynapse.job hostlist "$SLURM_JOB_NODELIST")
hpcs_path=$PATH
# Of several jobs that were queued for this run by mistake, only the first one may write here.
hpcs_job="${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
if ! (set -C; printf '%s\n' "$hpcs_job" > "$hpcs_run_dir/.owner") 2> /dev/null; then
  hpcs_owner=$(cat "$hpcs_run_dir/.owner" 2> /dev/null)
  if [ -n "$hpcs_owner" ] && [ "$hpcs_owner" != "$hpcs_job" ]; then
    echo "hpcsynapse: job $hpcs_job does nothing: this run belongs to job $hpcs_owner"
    exit 1
  fi
fi
export HPCSYNAPSE_RUN_DIR="$hpcs_run_dir"
export HPCSYNAPSE_ATTEMPT="${SLURM_JOB_ID}.${SLURM_RESTART_COUNT:-0}"
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

export OMP_NUM_THREADS=3

[ -n "$hpcs_hosts" ] || { echo "hpcsynapse: which nodes this job has is not known"; exit 1; }
hpcs_first_host=${hpcs_hosts%%[[:space:]]*}
export MASTER_ADDR="$hpcs_first_host"
# Another host of the job, for the first one to see which of its interfaces leads there.
hpcs_last_host=${hpcs_hosts##*[[:space:]]}
export HPCSYNAPSE_PEER="$hpcs_last_host"
MASTER_PORT=$(/opt/hpcsynapse/bin/python -EP -m hpcsynapse.job ports $$ "$HPCSYNAPSE_ATTEMPT" 20000 10000) || exit 1
export MASTER_PORT

hpcs_caught=
# In the background, so that a signal is acted on at once and not after the ranks have ended.
/opt/hpcsynapse/bin/python -EP -m hpcsynapse.job greasy /scratch/runs/slurm-greasy /opt/hpcsynapse/bin/python -EP -m hpcsynapse.job rank /scratch/runs/slurm-greasy -- /opt/hpcsynapse/bin/python -EP -m hpcsynapse.job train /scratch/runs/slurm-greasy &
hpcs_launcher=$!
trap 'hpcs_caught=TERM; kill -TERM "$hpcs_launcher" 2>/dev/null' TERM INT
while wait "$hpcs_launcher"; code=$?; kill -0 "$hpcs_launcher" 2>/dev/null; do :; done
trap '' TERM INT
if [ -z "${hpcs_caught:-}" ]; then
  timeout 120 /opt/hpcsynapse/bin/python -EP -m hpcsynapse.job merge-records /scratch/runs/slurm-greasy/timings || echo "hpcsynapse: step records were not merged"
  # The exit code of the rank that failed first; launchers return the highest one, or always 1, or a false 0.
  code=$(timeout 60 /opt/hpcsynapse/bin/python -EP -m hpcsynapse.job exit-code /scratch/runs/slurm-greasy "$HPCSYNAPSE_ATTEMPT" "$code" || echo "$code")
fi
# Whether it was told to end because a job of higher priority needs its nodes: the queue says it no longer afterwards.
if [ "$code" != 0 ] || [ -n "${hpcs_caught:-}" ] || grep -qs '"STOPPED"' "$hpcs_run_dir/status.json"; then
  case $(timeout 5 squeue --noheader --jobs="$SLURM_JOB_ID" --Format=PreemptTime 2> /dev/null) in *[0-9]*) hpcs_caught=PREEMPTED ;; esac
fi
exit "$code"
