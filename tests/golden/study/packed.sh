#!/bin/bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --time=04:01:20
#SBATCH --partition=gpu
#SBATCH --chdir="/home/me/my project"
#SBATCH --hint=nomultithread
#SBATCH --job-name=mine
#SBATCH --output="/scratch/it's 100%% mine/mine/jobs/packed-1.log"
#SBATCH --open-mode=append

# Rendered by hpcsynapse 0.1.0: makes these runs of the study one after another, each on the first of the nodes.
exec /opt/hpcsynapse/bin/python -EP -m hpcsynapse.job packed '/scratch/it'"'"'s 100% mine/mine/points' 14480 << 'END'
run-2x4-r1
run-1x4-r1
run-2x4-r2
run-1x4-r2
END
