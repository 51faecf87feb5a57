#!/bin/bash
#$ -l rt_F=4
#$ -l h_rt=1:00:00
#$ -j y
#$ -t 1-5
#$ -tc 2
source /etc/profile.d/modules.sh
mpirun --hostfile $SGE_JOB_HOSTLIST -np 16 -npernode 4 python train.py --part $SGE_TASK_ID
