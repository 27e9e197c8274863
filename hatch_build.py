"""Hatchling's hook that compiles ``harmonize.store._kernels`` where there is a C compiler. Without it all works alike,
slower (``harmonize.store.kernels``)."""

from __future__ import annotations

import os
import sysconfig
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext

FLAGS = [] if os.name == "nt" else ["-O3", "-g0", "-std=c11", "-ffp-contract=off"]


class CustomBuildHook(BuildHookInterface[Any]):
    """Compile next to the source, also for an editable install; the wheel is then one of this platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See ``BuildHookInterface``."""
        name = "harmonize.store._kernels"
        source = Path("harmonize/store/_kernels.c")
        extension = Extension(name, [str(source)], extra_compile_args=FLAGS, py_limited_api=True, optional=True)
        command = build_ext(Distribution({"name": "harmonize", "ext_modules": [extension]}))
        command.inplace = True
        with TemporaryDirectory() as scratch, chdir(self.root):
            command.build_lib = command.build_temp = scratch
            command.ensure_finalized()
            built = Path(command.get_ext_fullpath(name))
            built.unlink(missing_ok=True)
            command.run()
        if not built.exists():
            self.app.display_warning(f"{name} was not compiled: numpy does its work")
            return
        build_data["artifacts"].append(str(built.relative_to(self.root)))
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"], build_data["pure_python"] = f"cp311-abi3-{platform}", False
