"""Data sets as MONAI datalists: dictionaries of image, label, text_prompt, laterality, subject and source."""

from common.datasets.load import by_dataset, list_dataset, load_dataset, load_training
from common.datasets.unlabelled import load_unlabelled

__all__ = ["by_dataset", "list_dataset", "load_dataset", "load_training", "load_unlabelled"]
