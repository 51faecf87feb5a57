#!/bin/sh
  #PBS -N lammps
#PBS -l nodes=2:ppn=8:gpus=2:ib,walltime=02:30:00,mem=64gb
#PBS -t 1-10%2
#PBS -o out.^array_index^ -e err.^array_index^
#PBS -V
#PBS -v MODEL=eam,STEPS="10,20"
cd $PBS_O_WORKDIR
mpirun -np $PBS_NP -machinefile $PBS_NODEFILE ./lmp -in in.$PBS_ARRAYID
