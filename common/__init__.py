"""Text-guided segmentation of chest images: what the MONAI bundles in ``bundles/`` share.

>>> model = load("unet")                                                        # doctest: +SKIP
>>> result = model("chest.dcm", "Opacity in the left lower lobe.", laterality="patient")  # doctest: +SKIP
"""

from typing import Any

from ._version import __version__

__all__ = ["__version__", "load"]


def load(bundle: str, *args: Any, **kwargs: Any) -> Any:
    """A trained bundle as a function; see :func:`common.runtime.load`."""
    from common.runtime.model import load as load_model  # MONAI takes seconds to import

    return load_model(bundle, *args, **kwargs)
