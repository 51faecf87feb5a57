#!/bin/bash
# @ job_name = tf
# @ initialdir = .
# @ output = tf_%j.out
# @ error = tf_%j.err
# @ total_tasks = 3
# @ gpus_per_node = 4
# @ cpus_per_task = 16
# @ wall_clock_limit = 00:15:00
# @ features = k80

module load K80 cuda/7.5 mkl/2017.0.098 CUDNN/5.1.3 python/3.5.2
srun hostname
python build_tasks.py $SLURM_JOB_NODELIST
