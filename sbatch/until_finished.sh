#!/usr/bin/env bash
# Runs a command as a SLURM job that resumes until it is finished: sbatch/until_finished.sh COMMAND [ARGUMENT ...]
#
# SLURM sends USR1 before the time limit or a preemption (#SBATCH --signal=B:USR1@120), to this shell and not to the
# command. It is passed on; the command writes its checkpoint and exits with 75, and the job is put into the queue again.
# Any other end is an end: exit codes 0 (finished), 2 (bad input) and 3 (diverged) would be the same again, and scancel
# (TERM) means it. `python -m batchnorm.study submit` takes up whatever is left.

echo "$(date '+%F %T') ${SLURM_JOB_ID:-no job} on $(hostname), restart ${SLURM_RESTART_COUNT:-0}: $*"

warned=false
cancelled=false
pass_on() { kill -s "$1" "$command" 2>/dev/null; }
trap 'warned=true; pass_on USR1' USR1
trap 'cancelled=true; pass_on TERM' TERM

"$@" &
command=$!
wait "$command"
code=$?
while kill -0 "$command" 2>/dev/null; do # a trapped signal ends `wait`, not the command
    wait "$command"
    code=$?
done

# 138: USR1 came before Python listened to it; nothing had begun.
if [[ $code == 75 || $code == 138 ]] && { $warned || ! $cancelled; }; then
    job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}}
    scontrol requeue "${job:-$SLURM_JOB_ID}" && echo "$(date '+%F %T') in the queue again"
fi
echo "$(date '+%F %T') exit code $code"
exit "$code"
