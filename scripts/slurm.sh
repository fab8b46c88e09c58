#!/usr/bin/env bash
# A job of a SLURM cluster: kdx train with the words behind it, one run or, with -m, a sweep. Hand it in where the
# environment with kdx is active, or in a clone of kdx, from a folder that every node sees:
#     sbatch scripts/slurm.sh dataset=cifar10 teacher=resnet50 student=mobilenet device=cuda
#     sbatch --gpus-per-node=4 scripts/slurm.sh dataset=cifar10 device=cuda device.gpus=4
#     sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 scripts/slurm.sh dataset=cifar10 device=cuda
# The first is one process, the second four on one machine, the third eight on two that train one network together
# (docs/device.md). A job for each run of a sweep: kdx train -m ... launcher=slurm (docs/sweeps.md).
# Options of sbatch go over these lines:
#SBATCH --job-name=kdx
#SBATCH --output=kdx-%j.log --open-mode=append
#SBATCH --time=04:00:00
#SBATCH --nodes=1 --ntasks-per-node=1 --cpus-per-task=8 --gpus-per-node=1
# Two minutes before the end the job's own process hears USR1, so that it can keep a checkpoint and go back into the
# queue; the same words then go on from that checkpoint. Hence `exec` below: kdx, or srun, which hands signals on to
# its tasks, takes this shell's place.
#SBATCH --signal=B:USR1@120 --requeue
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"

kdx=$(command -v kdx || true)
[[ -n $kdx ]] || kdx=$PWD/.venv/bin/kdx
[[ -x $kdx ]] || { echo "slurm.sh: no kdx here: activate its environment before sbatch, or call ./scripts/kdx once" >&2; exit 1; }
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
export SRUN_CPUS_PER_TASK=$OMP_NUM_THREADS # since Slurm 22.05 srun does not take the job's by itself

if ((${SLURM_NTASKS:-1} == 1)); then
    exec "$kdx" train "$@"
fi
# One process a task: each is given what torchrun would give it.
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export WORLD_SIZE=$SLURM_NTASKS LOCAL_WORLD_SIZE=$((SLURM_NTASKS / SLURM_NNODES))
# shellcheck disable=SC2016 # the inner shell expands it, on each node
exec srun --kill-on-bad-exit=1 bash -c 'RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID exec "$@"' bash "$kdx" train "$@"
