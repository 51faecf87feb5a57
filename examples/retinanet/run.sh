#!/bin/sh
# Draws receipts, trains a small RetinaNet on this machine and tests it: mean average precision and a picture.
# Options go to `hpcsynapse submit`, e.g. --ranks-per-node 2 --batch 2
set -eu
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
example=examples/retinanet
[ -d $example/receipts ] || python $example/generate.py $example/receipts
name=receipts-$(date +%H%M%S)
hpcsynapse submit $example/run.toml --scheduler local --follow "$@" --name "$name"
python $example/detect.py "${HPCSYNAPSE_RUNS:-runs}/$name" --out $example/detections.png
