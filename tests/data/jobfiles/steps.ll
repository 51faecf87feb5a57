#!/bin/bash
# @ job_name = climate
# @ output = logs/$(job_name).$(step_name).$(jobid)
# @ error = logs/$(job_name).$(step_name).$(jobid)
# @ environment = COPY_ALL; \
    MODEL=ocean; \
    LEVELS=40
# @ wall_clock_limit = 1800,1700
# @ step_name = prep
# @ job_type = serial
# @ class = serial
# @ queue
# @ step_name = run
# @ dependency = (prep == 0)
# @ job_type = parallel
# @ class = large
# @ task_geometry = {(0,1,2) (3,4)}
# @ wall_clock_limit = 12:00:00
# @ requirements = (Feature == "gpu") && (Feature == "ib")
# @ queue
## @ step_name = post
## @ queue

case $LOADL_STEP_NAME in
  prep) ./prepare $MODEL ;;
  run) poe ./model -levels $LEVELS ;;
esac
