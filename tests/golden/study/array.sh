#!/bin/bash
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --time=01:00:00
#SBATCH --partition=gpu
#SBATCH --chdir="/home/me/my project"
#SBATCH --hint=nomultithread
#SBATCH --job-name=mine
#SBATCH --array=0-1
#SBATCH --output="/scratch/it's 100%% mine/mine/jobs/array-1.log"
#SBATCH --open-mode=append

# Rendered by hpcsynapse 0.1.0: every task runs the job file of one run of the study.
hpcs_runs=(
  run-1x4-r1
  run-1x4-r2
)
hpcs_run_dir='/scratch/it'"'"'s 100% mine/mine/points'/${hpcs_runs[SLURM_ARRAY_TASK_ID]}
exec bash "$hpcs_run_dir/job.sh" >> "$hpcs_run_dir/logs/job.log" 2>&1
