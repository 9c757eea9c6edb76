"""The rest of a training set, of which only a fraction is labelled: images and sentences, no masks."""

from __future__ import annotations

from pathlib import Path

from common.datasets.load import load_training


def load_unlabelled(
    name: str,
    root: str | Path,
    *,
    fraction: float,
    seed: int = 0,
    limit: int | None = None,
    laterality: str | None = None,
    draw: str = "rounded",
    train_split: str = "train",
    splits: str = "published",
) -> list[dict[str, str]]:
    """The training rows that :func:`common.datasets.load_training` with the same arguments leaves out.

    The rows have no ``label``: whatever is done with them cannot read a mask. (A data set names a mask for each image,
    and the file must be there; what is in it does not matter.)

    Args:
        name: of the data set.
        root: its folder.
        fraction: the labelled part of the rows; of 1.0 nothing is left.
        seed: of the draws.
        limit: of labelled and unlabelled rows together, drawn before ``fraction``.
        laterality: as for ``load_dataset``.
        draw: as for ``load_dataset``.
        train_split: as for :func:`common.datasets.load_training`.
        splits: as for ``load_dataset``.

    Returns:
        Dictionaries as of ``load_dataset``, without ``label``. An image of a labelled row is in none of them, with
        whatever sentence.
    """
    if fraction == 1:
        return []
    same = {"train_split": train_split, "seed": seed, "limit": limit, "laterality": laterality, "splits": splits}
    labelled = {row["image"] for row in load_training(name, root, fraction=fraction, draw=draw, **same)}
    return [
        {key: value for key, value in row.items() if key != "label"}
        for row in load_training(name, root, **same)
        if row["image"] not in labelled
    ]
