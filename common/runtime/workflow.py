"""What ``python -m monai.bundle run`` does, for programs: a bundle's workflow with overlays and overrides."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow

from common.bundle import configuration_files


def run_bundle(folder: Path, configs: Sequence[str], run_id: str, **override: Any) -> ConfigWorkflow:
    """Run ``training``, ``evaluating`` or ``inferring`` of a bundle.

    Args:
        folder: the bundle.
        configs: names of its configuration files, later ones on top of earlier ones.
        run_id: what to run.
        override: ids of the configuration and their values.

    Raises:
        UserError: a configuration is not there, or what the run finds wrong.
    """
    return run_files(folder, configuration_files(folder, configs), run_id, **override)


def run_files(folder: Path, files: Sequence[str], run_id: str, **override: Any) -> ConfigWorkflow:
    """As :func:`run_bundle`, of configuration files that may lie elsewhere than in the bundle."""
    workflow = ConfigWorkflow(
        list(files),
        str(folder / "configs" / "metadata.json"),
        logging_file=str(folder / "configs" / "logging.conf"),
        run_id=run_id,
        workflow_type=None,
        bundle_root=str(folder),
        **override,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


def merged_config(folder: Path, names: Sequence[str], override: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Configurations of a bundle as one, fit for JSON.

    Args:
        folder: the bundle.
        names: of its configuration files, later ones on top of earlier ones.
        override: ids and their values; those whose first part no file has are left out.

    Raises:
        UserError: a configuration is not there.
    """
    parser = ConfigParser()
    parser.read_config(configuration_files(folder, names))
    known = parser.get()
    given = (override or {}).items()
    parser.update({key: value for key, value in given if key.replace("#", "::").split("::")[0] in known})
    return copy.deepcopy(parser.get())
