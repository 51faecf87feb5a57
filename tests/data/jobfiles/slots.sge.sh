#!/bin/bash -l
#$ -S /bin/bash
#$ -N bert
#$ -cwd -V
#$ -pe mpi-4 8
#$ -l h_rt=12:0:0,gpu=4
#$ -l mem_free=4G
#$ -l gpu_type=V100 # or P100
#$ -j y
#$ -o logs/$JOB_NAME.$JOB_ID.out
#$ -m bea -M someone@example.org
#$ -hold_jid 4711
mpirun -np $NSLOTS python train.py --hosts $PE_HOSTFILE
#$ -q gpu.q
