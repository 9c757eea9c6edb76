"""Small phantoms, and a tiny training of each bundle, once a session."""

import shutil

import numpy as np
import pytest
from PIL import Image

import common
from common.datasets import phantoms

from .base import BUNDLES, SIZE, Bundle, trained


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms")
    phantoms.write(root, count=20, size=SIZE, seed=1, inbox=6)
    return root


@pytest.fixture(scope="session", params=BUNDLES)
def bundle(request):
    return Bundle(request.param)


@pytest.fixture(scope="session")
def run(bundle, data, tmp_path_factory):
    return trained(bundle, data, tmp_path_factory.mktemp(bundle.name))


@pytest.fixture(scope="session")
def exported(bundle, run, tmp_path_factory):
    """A folder with the trained weights, and all that is exported of them."""
    from common.runtime.export.export import export

    folder = tmp_path_factory.mktemp(f"exported_{bundle.name}")
    shutil.copy(run["weights"], folder / "model.pt")
    size = run["image_size"]
    export(common.load(bundle.root, ["demo"], "cpu", image_size=size, weights=str(folder / "model.pt")))
    return folder


@pytest.fixture(scope="module")
def polyps(tmp_path_factory):
    """Pictures in colour with a table of sentences, called so that no published set is taken for it."""
    folder = tmp_path_factory.mktemp("colon")
    rng = np.random.default_rng(0)
    rows = ["image,mask,text,laterality,split"]
    for number in range(8):
        picture = rng.integers(0, 255, (70, 80, 3), dtype=np.uint8)
        mask = np.zeros((70, 80), np.uint8)
        mask[10:30, 40:60] = 255
        Image.fromarray(picture).save(folder / f"{number}.png")
        Image.fromarray(mask).save(folder / f"{number}_mask.png")
        split = "train" if number < 6 else "validation"
        rows.append(
            f'{number}.png,{number}_mask.png,"one small round polyp, located in top right of the image",image,{split}'
        )
    (folder / "captions.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def polyp_run(polyps, tmp_path_factory):
    """The folder of one step on them."""
    out = tmp_path_factory.mktemp("polyp_run")
    flow = Bundle("c2seg").workflow(
        "train",
        "demo",
        "polyp",
        kind="train",
        dataset_dir=str(polyps),
        output_dir=str(out),
        image_size=[SIZE, SIZE],
        max_epochs=1,
        epoch_length=1,
        batch_size=4,
    )
    flow.run()
    flow.finalize()
    return out
