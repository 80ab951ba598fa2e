#!/bin/sh
# Checks and measures acclimate on a machine with one NVIDIA GPU, in one command of some eight
# minutes that needs no network:
#
#   benchmarks/gpu_check.sh            # prints a table for benchmarks/RESULTS.md
#   benchmarks/gpu_check.sh cpu        # tries the script itself, small, where there is no GPU
#
# It runs from a checkout, with the packages of $PYTHON (python3); acclimate need not be installed.
# Packages that are missing are named, with the command that fetches them on another machine.
set -eu
cd "$(dirname "$0")/.."
device=${1:-cuda}
python=${PYTHON:-python3}
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

"$python" - "$device" <<'PY'
import sys
from importlib.metadata import PackageNotFoundError, version

# What the tests and the benchmark import, with what pip would not find on a machine with PyTorch.
needed = """torch torchvision timm numpy scipy scikit-learn pyarrow pillow pandas onnx onnxruntime
onnxscript safetensors pyyaml pydantic pydantic-core annotated-types typing-inspection rich filelock
threadpoolctl huggingface-hub lightning-fabric lightning-utilities schedulefree pytest
pytest-timeout hypothesis""".split()
missing = []
for name in needed:
    try:
        version(name)
    except PackageNotFoundError:
        missing.append(name)
if missing:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    print(f"Missing here: {', '.join(missing)}. On a machine with a network run", file=sys.stderr)
    print(
        f"  pip download --no-deps --only-binary=:all: --python-version {here} "
        f"--platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 "
        f"-d wheels {' '.join(missing)}\n"
        "and here  pip install --no-index --no-deps wheels/*.whl",
        file=sys.stderr,
    )
    sys.exit(2)
import torch

if sys.argv[1] == "cuda" and not torch.cuda.is_available():
    print("PyTorch sees no GPU here; `gpu_check.sh cpu` tries the script.", file=sys.stderr)
    sys.exit(2)
where = torch.cuda.get_device_name(0) if sys.argv[1] == "cuda" else "the CPU"
print(f"\nOn {where}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}.\n", flush=True)
PY

# A failed test does not keep the figures back; the exit status tells of it in the end.
status=0
"$python" -m pytest -q -p no:cacheprovider -p no:randomly -m gpu tests/test_gpu.py || status=$?
if [ "$device" = cuda ]; then
    "$python" benchmarks/gpu_speed.py || status=$?
    "$python" benchmarks/augmentation_device.py --device cuda || status=$?
else
    "$python" benchmarks/gpu_speed.py --device "$device" --networks test_efficientnet \
        --images 64 --size 64 --batch 16 --steps 2 --rows step timm acclimate || status=$?
fi
exit $status
