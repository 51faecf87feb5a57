"""What starts a program in a container: the runtime's words, what is mounted there, and whose packages come first."""

from __future__ import annotations

from pathlib import Path

from hpcsynapse.spec.job import JobSpec
from hpcsynapse.usercode.checks import FOLDER_ARGUMENTS


def inside(spec: JobSpec, run_dir: Path) -> list[str]:
    """Return what starts a program in the container, where there is one; srun has done it under pyxis."""
    return [*_container(spec, run_dir), *_own_packages(spec)]


def step_options(spec: JobSpec, run_dir: Path) -> list[str]:
    """Return the options by which a job step starts its program in the container, for sites with pyxis."""
    launch = spec.launch
    if not launch.container or launch.container_runtime != "pyxis":
        return []
    mounts = [bind if ":" in bind else f"{bind}:{bind}" for bind in _binds(spec, run_dir)]
    return [
        f"--container-image={launch.container}",
        f"--container-mounts={','.join(mounts)}",
        f"--container-workdir={_workdir(spec, run_dir)}",
    ]


def package_parent() -> Path:
    """Return the folder that holds this package, for interpreters that do not have it installed."""
    return Path(__file__).resolve().parents[2]


def _own_packages(spec: JobSpec) -> list[str]:
    """Return what keeps ~/.local, which runtimes mount, from coming before the packages of a container's image."""
    said = "PYTHONNOUSERSITE" in spec.launch.env
    return ["env", "PYTHONNOUSERSITE=1"] if spec.launch.container and not said else []


def image_file(spec: JobSpec) -> Path | None:
    """Return the file or folder that is a container's image; None without one, or for a name in a registry."""
    image = spec.launch.container or ""
    is_path = image.startswith(("/", "./", "../")) or image.endswith((".sif", ".simg", ".sqsh", ".img"))
    if spec.launch.container_runtime != "pyxis":  # for which NAME is one of Docker's hub (enroot-import(1))
        is_path = "://" not in image
    return Path(_workdir(spec, Path()), image) if image and is_path else None


def _container(spec: JobSpec, run_dir: Path) -> list[str]:
    launch = spec.launch
    if not launch.container or launch.container_runtime == "pyxis":
        return []
    gpu = {"nvidia": ["--nv"], "amd": ["--rocm"]}[spec.site.gpu_vendor] if spec.resources.gpus else []
    binds = [word for bind in _binds(spec, run_dir) for word in ("--bind", bind)]
    return [launch.container_runtime, "exec", *gpu, *binds, "--pwd", _workdir(spec, run_dir), launch.container]


def _workdir(spec: JobSpec, run_dir: Path) -> str:
    return spec.workdir or str(run_dir)


def _binds(spec: JobSpec, run_dir: Path) -> list[str]:
    """Return what every container sees of this machine: run, package, working directory, data, the site's and user's.

    Nothing is mounted over a place that the user or the site says; a path with a colon or comma cannot be named.
    """
    train = spec.train
    folders = [train.data_args.get(name) for name in FOLDER_ARGUMENTS]
    named = [] if spec.command else [train.data_path, train.model, train.data, *folders]
    needed = [str(run_dir), str(package_parent()), _workdir(spec, run_dir)]
    needed += [path for path in named if isinstance(path, str) and path.startswith("/")]
    asked = [*spec.site.container_binds, *spec.launch.container_mounts]
    taken = {bind.split(":")[1] for bind in asked if ":" in bind}
    return list(dict.fromkeys([*(path for path in needed if path not in taken and not set(path) & set(":,")), *asked]))
