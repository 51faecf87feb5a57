#!/bin/bash
# A Navier-Stokes run on two nodes, as handed down from one student to the next.
#@ job_name         = cavity
#@ job_type         = parallel
#@ class            = parallel
#@ account_no       = fluid07
#@ node             = 2
#@ tasks_per_node   = 16
#@ resources        = ConsumableCpus(1) ConsumableMemory(900mb)
#@ network.MPI      = sn_all,not_shared,us
#@ wall_clock_limit = 02:30:00
#@ notification     = complete
#@ notify_user      = someone@example.org
#@ initialdir       = /home/someone/cavity
#@ output           = $(job_name).$(jobid).out
#@ error            = $(job_name).$(jobid).err
#@ environment      = COPY_ALL; OMP_NUM_THREADS=1; MP_SHARED_MEMORY=yes
#@ queue

module load intel
cd $LOADL_STEP_INITDIR
echo "job $LOADL_STEP_ID has $LOADL_TOTAL_TASKS tasks on: ${LOADL_PROCESSOR_LIST}"
mpiexec -n $LOADL_TOTAL_TASKS ./cavity input.dat
