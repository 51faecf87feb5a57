# What the scripts of all nodes share; each node_K.sh reads this file, starts its processes and awaits them.
# Written by hpcsynapse 0.1.0: parameter servers see no device, every worker its own of what was granted.
set -u -m
dir=$(cd -- "${BASH_SOURCE[0]%/*}" && pwd) || exit 1
nodes=2
limit=0        # seconds for everything, 0 = until the job's own limit
patience=300  # seconds without a word from another node after which servers no longer wait for it
grace=10        # seconds between SIGTERM and SIGKILL
ps_hosts=nvb1-ib0:2220
worker_hosts=nvb1-ib0:2221,nvb1-ib0:2222,nvb2-ib0:2221,nvb2-ib0:2222
workdir='/work dir'
devices=0,1,2,3  # where the queue names none
flags=yes
ranks=0          # ranks of one training, 0 = workers of their own
together=rank  # who ends with a worker that is lost: ranks of the world, of its node, none
restarts=0       # times that a lost process is started again
command=(python train.py --data 'my data')
export HPCSYNAPSE_CLUSTER="$dir/cluster.json"
export NCCL_DEBUG=INFO
export ODD='it'"'"'s a $VALUE'
ulimit -c 0


now() { date +%s.%N; }
plain() { printf '%s' "${1//[^A-Za-z0-9:.,_\/-]/?}"; }
begin=$(now)
key=${HPCSYNAPSE_GREASY_RUN:-${SLURM_JOB_ID:-${LOADL_STEP_ID:-none}}}
beats=$dir/beats/${key//[^A-Za-z0-9._-]/_}
role=() index=() device=() pid=() code=() started=() ended=() stopped=()
given_as=() local=() again=()
first=0 caught= reason= beaten=-9

# node NUMBER HOST: says who this is, and refuses to run on another host, where nobody would find its processes.
node() {
  number=$1 expected=$2 actual=$(uname -n)
  record=$dir/results/node_$number.json attempt=1
  if [ -f "$record" ]; then
    attempt=$(sed -n 's/^ "attempt": \([0-9]\{1,9\}\),$/\1/p' "$record")
    attempt=$((${attempt:-0} + 1))
  fi
  mkdir -p "$beats" "$dir/logs" "$dir/results" || exit 1
  exec 3>&2 2>> "$dir/logs/node_$number.log"  # what bash itself says about jobs that it ends
  trap 'caught=143' TERM
  trap 'caught=130' INT
  if [ "$expected" != localhost ] && [ "${actual%%.*}" != "${expected%%.*}" ]; then
    fail 1 "started on $actual, but node $number is $expected"
  fi
  cd -- "$workdir" || fail 1 "the working directory is missing"
  given=${CUDA_VISIBLE_DEVICES+yes}
  IFS=', ' read -ra granted <<< "${CUDA_VISIBLE_DEVICES-${SLURM_STEP_GPUS:-$devices}}"
  if [ "${granted[0]-}" = NoDevFiles ]; then granted=(); fi
  beat "$SECONDS"
  tell running null
}

# start ROLE INDEX DEVICE: a parameter server or a worker in a process group of its own; DEVICE counts what was granted.
start() {
  local i=${#pid[@]} name=$1-$2 own= workers=0 one
  for one in ${role[@]+"${role[@]}"}; do [ "$one" = worker ] && workers=$((workers + 1)); done
  if [ "$3" = granted ]; then
    own=${CUDA_VISIBLE_DEVICES-}
  elif [ "$3" != none ]; then
    [ "$3" -lt "${#granted[@]}" ] || fail 1 "$name needs device number $3, granted here: ${granted[*]:-none}"
    own=${granted[$3]}
  fi
  role[i]=$1 index[i]=$2 device[i]=$own given_as[i]=$3 local[i]=$workers again[i]=0
  : > "$dir/logs/$name.log"
  launch "$i"
}

# launch I: begins process I, for the first time or again.
launch() {
  local i=$1
  started[i]=$(now) ended[i]= code[i]= stopped[i]=false
  (
    trap - TERM INT
    export CUDA_VISIBLE_DEVICES=${device[i]} HPCSYNAPSE_ROLE=${role[i]} HPCSYNAPSE_TASK_INDEX=${index[i]}
    if [ "${given_as[i]}" = granted ] && [ -z "$given" ]; then unset CUDA_VISIBLE_DEVICES; fi
    if [ "$ranks" -gt 0 ] && [ "${role[i]}" = worker ]; then
      export HPCSYNAPSE_TASK_RANK=${index[i]} HPCSYNAPSE_TASK_RANKS=$ranks HPCSYNAPSE_TASK_LOCAL_RANK=${local[i]}
      export HPCSYNAPSE_TASK_NODE=$number
    fi
    if [ "$flags" = yes ]; then
      command+=(--ps_hosts="$ps_hosts" --worker_hosts="$worker_hosts" --job_name="${role[i]}" --task_index="${index[i]}")
    fi
    exec "${command[@]}"
  ) < /dev/null >> "$dir/logs/${role[i]}-${index[i]}.log" 2>&1 3>&- &
  pid[i]=$!
}

# relaunch I: begins a lost process again, with all workers of the node where they go together; false when it may not.
relaunch() {
  local i=$1 one
  if [ "$restarts" = 0 ] || [ "${again[i]}" -ge "$restarts" ] || [ "$together" = world ] || told; then return 1; fi
  echo "hpcsynapse: ${role[i]} ${index[i]} ended with exit code ${code[i]}; starting it again" >&3
  again[i]=$((again[i] + 1))
  if [ "$together" = rank ] || [ "${role[i]}" = ps ]; then launch "$i"; return; fi
  stop worker
  for one in "${!pid[@]}"; do
    if [ "${role[one]}" = worker ]; then again[one]=${again[i]}; launch "$one"; fi
  done
}

# await: until every worker has ended, here and, where this node has servers, on all others; then the servers end.
await() {
  while alive worker && ! told; do
    look
    if [ "$together" = world ] && [ "$first" = 0 ] && [ -e "$beats/failed" ]; then
      first=143 reason="ended because a rank of another node failed"
      stop worker
    fi
    alive worker && sleep 0.2
  done
  look
  if [ -n "$caught" ]; then stop worker ps; finish "$caught"; fi
  beat "done"
  await_others
  stop ps
  finish "${caught:-$first}"
}

# look: notes who has ended; a server that fails ends this node's workers, which could only wait for it, and a rank
# that fails ends all others.
look() {
  local i
  for i in "${!pid[@]}"; do
    if [ -n "${code[i]-}" ] || kill -0 "${pid[i]}" 2> /dev/null; then continue; fi
    wait "${pid[i]}" 2> /dev/null
    code[i]=$? ended[i]=$(now)
    if [ "${code[i]}" != 0 ] && [ "${stopped[i]}" = false ] && ! relaunch "$i"; then
      if [ "$first" = 0 ]; then first=${code[i]} reason="${role[i]} ${index[i]} ended with exit code ${code[i]}"; fi
      if [ "$together" = world ]; then printf 'failed\n' > "$beats/failed"; fi
      if [ "${role[i]}" = ps ] || [ "$together" != rank ]; then stop worker; fi
    fi
  done
  if [ $((SECONDS - beaten)) -ge 5 ]; then beat "$SECONDS"; fi
}

alive() {
  local i
  for i in "${!pid[@]}"; do
    if [ "${role[i]}" = "$1" ] && [ -z "${code[i]-}" ]; then return 0; fi
  done
  return 1
}

told() {
  if [ -z "$caught" ] && [ "$limit" -gt 0 ] && [ "$SECONDS" -ge "$limit" ]; then
    caught=124 reason="not done within $limit s"
  fi
  [ -n "$caught" ]
}

# Servers are for all workers: they stay until the workers of every node have ended, or were not heard of for too long.
await_others() {
  local other word pending=() left last=() heard=() silent=()
  for ((other = 0; other < nodes; other++)); do
    if [ "$other" != "$number" ]; then pending+=("$other"); fi
  done
  while alive ps && [ "${#pending[@]}" -gt 0 ] && ! told; do
    left=()
    for other in "${pending[@]}"; do
      word=
      { read -r word < "$beats/$other"; } 2> /dev/null
      if [ "$word" = "done" ]; then continue; fi
      if [ "$word" != "${last[other]-unheard}" ]; then last[other]=$word heard[other]=$SECONDS; fi
      if [ $((SECONDS - heard[other])) -gt "$patience" ]; then silent+=("$other"); else left+=("$other"); fi
    done
    pending=(${left[@]+"${left[@]}"})
    look
    sleep 0.3
  done
  if [ "${#silent[@]}" -gt 0 ]; then reason="${reason:+$reason; }no word from nodes ${silent[*]} for $patience s"; fi
}

# stop ROLE...: SIGTERM, then SIGKILL, to all that is left of these roles.
stop() {
  local i name end=$((SECONDS + grace))
  for name in "$@"; do
    for i in "${!pid[@]}"; do
      if [ "${role[i]}" = "$name" ] && [ -z "${code[i]-}" ]; then
        stopped[i]=true
        kill -TERM -- "-${pid[i]}" 2> /dev/null
      fi
    done
  done
  for name in "$@"; do
    while alive "$name" && [ "$SECONDS" -lt "$end" ]; do look; alive "$name" && sleep 0.1; done
    for i in "${!pid[@]}"; do
      if [ "${role[i]}" = "$name" ] && [ "${stopped[i]}" = true ]; then kill -KILL -- "-${pid[i]}" 2> /dev/null; fi
    done
    while alive "$name"; do look; alive "$name" && sleep 0.1; done
  done
}

beat() {
  beaten=$SECONDS
  printf '%s\n' "$1" > "$beats/.$number.$$" && mv "$beats/.$number.$$" "$beats/$number"
}

fail() {
  reason=$2
  echo "hpcsynapse: $2" | tee /dev/fd/3 >&2
  stop worker ps
  finish "$1"
}

finish() {
  trap '' TERM INT
  beat "done"
  tell ended "$1"
  exit "$1"
}

signal_of() {
  local name
  if [ "$1" != null ] && [ "$1" -gt 128 ] && name=$(kill -l "$(($1 - 128))" 2> /dev/null); then
    printf '"%s"' "$name"
  else
    printf null
  fi
}

# tell STATE EXIT_CODE: the record of this node, replaced in one step.
tell() {
  local i comma= end=null
  if [ "$1" = ended ]; then end=$(now); fi
  {
    printf '{\n "node": %d,\n "line": %d,\n "attempt": %d,\n' "$number" $((number + 1)) "$attempt"
    printf ' "host": "%s",\n "expected": "%s",\n "pid": %d,\n' "$(plain "$actual")" "$(plain "$expected")" $$
    printf ' "state": "%s",\n "exit_code": %s,\n "signal": %s,\n' "$1" "$2" "$(signal_of "$2")"
    printf ' "start": %s,\n "end": %s,\n' "$begin" "$end"
    printf ' "reason": "%s",\n "tasks": [' "${reason//[^A-Za-z0-9 :;.,_\/-]/?}"
    for i in "${!pid[@]}"; do
      printf '%s\n  {"role": "%s", "index": %d, "device": "%s", "exit_code": %s, "signal": %s, "stopped": %s, "start": %s, "end": %s}' \
        "$comma" "${role[i]}" "${index[i]}" "$(plain "${device[i]}")" "${code[i]-null}" "$(signal_of "${code[i]-null}")" \
        "${stopped[i]}" "${started[i]}" "${ended[i]-null}"
      comma=,
    done
    printf '\n ]\n}\n'
  } > "$record.$$" && mv "$record.$$" "$record"
}
