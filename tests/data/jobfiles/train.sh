#!/bin/bash
#SBATCH --job-name=resnet
#SBATCH -N 4 --ntasks-per-node=4   # one task a GPU
#SBATCH --gres=gpu:h100:4
#SBATCH -c4
#SBATCH --time=1-12:00:00
#SBATCH --partition gpu
#SBATCH -A proj-1
#SBATCH --output=logs/%x-%j.out
#SBATCH --mem=0
#SBATCH --exclusive
#SBATCH --mail-type=END,FAIL
#SBATCH --mail-user=someone@example.org
#SBATCH --hint=nomultithread
##SBATCH --reservation=old
# SBATCH --qos=high

set -e
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
#SBATCH --account=ignored
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
srun -c "$SLURM_CPUS_PER_TASK" python train.py --nodes "$SLURM_JOB_NUM_NODES"
