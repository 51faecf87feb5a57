#!/bin/bash
#SBATCH --job-name=slurm-conda-no-memory
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --time=01:00:00
#SBATCH --output=/scratch/runs/slurm-conda-no-memory/logs/job.log
#SBATCH --open-mode=append
#SBATCH --chdir="/home/me/my project"

# Rendered by hpcsynapse 0.1.0; the description is run.toml beside this file.
cd '/home/me/my project' || exit 1
run_dir=/scratch/runs/slurm-conda-no-memory
started=$(date +%s.%N)
# Anything that a user's shell set for an earlier job would bind this one's tasks (SLURM_CPU_BIND above all).
unset SLURM_CPU_BIND SLURM_CPU_BIND_LIST SLURM_CPU_BIND_TYPE SLURM_CPU_BIND_VERBOSE SLURM_MEM_BIND
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST" 2>/dev/null || /opt/hpcsynapse/bin/python -m hpcsynapse.hostlist "$SLURM_JOB_NODELIST")
export HPCSYNAPSE_RUN_DIR="$run_dir"
export HPCSYNAPSE_ATTEMPT="${SLURM_JOB_ID}.${SLURM_RESTART_COUNT:-0}"
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

eval "$(conda shell.bash hook)" && conda activate torch || exit 1
export OMP_NUM_THREADS=1

[ -n "$hosts" ] || { echo "hpcsynapse: which nodes this job has is not known"; exit 1; }
first_host=${hosts%%[[:space:]]*}
export MASTER_ADDR="$first_host"
MASTER_PORT=$(/opt/hpcsynapse/bin/python -m hpcsynapse.ports "$HPCSYNAPSE_ATTEMPT" 20000 10000) || exit 1
export MASTER_PORT

# In the background, so that a signal is acted on at once and not after the ranks have ended.
srun --nodes=1 --ntasks=1 --ntasks-per-node=1 --kill-on-bad-exit=1 python3 -c 'import runpy, sys; sys.path.append(sys.argv.pop(1)); runpy.run_module('"'"'hpcsynapse.rank'"'"', None, '"'"'__main__'"'"', True)' /opt/hpcsynapse/lib /scratch/runs/slurm-conda-no-memory -- python train.py &
launcher=$!
trap 'caught=TERM; kill -TERM "$launcher" 2>/dev/null' TERM INT
while wait "$launcher"; code=$?; kill -0 "$launcher" 2>/dev/null; do :; done
trap '' TERM INT
if [ -z "${caught:-}" ]; then
  timeout 120 /opt/hpcsynapse/bin/python -m hpcsynapse.records /scratch/runs/slurm-conda-no-memory/timings || echo "hpcsynapse: step records were not merged"
  # The exit code of the rank that failed first; launchers return the highest one, or always 1, or a false 0.
  code=$(timeout 60 /opt/hpcsynapse/bin/python -m hpcsynapse.failure /scratch/runs/slurm-conda-no-memory "$HPCSYNAPSE_ATTEMPT" "$code" || echo "$code")
fi
exit "$code"
