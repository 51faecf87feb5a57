#!/bin/bash
#@ job_name = "my first job"
   # @ initialdir=.
#	@	output	=	out_%j.log
##@ error = nobody_%j.err
# @ total_tasks = 8        # all of two nodes
# @ tasks_per_node 4
# @ cpus-per-task= 4
# @ gpus_per_node =4 (K80)
# @ wall_clock_limit= 09:60:00
# @ features = k80
# @ clas = debug
#SBATCH --reservation=course --mail-user=someone@example.org
# @ notification = complete
#SBATCH -t 00:20:00

srun ./a.out
