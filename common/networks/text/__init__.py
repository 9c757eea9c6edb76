"""Text encoders: from token ids to states of the words."""

from common.networks.text.bert import BertText
from common.networks.text.clip_text import ClipText
from common.networks.text.frozen import FrozenText

__all__ = ["BertText", "ClipText", "FrozenText"]
