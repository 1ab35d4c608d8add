"""Small tokenizers that treat pairs as published ones do."""

from __future__ import annotations

import tokenizers
from tokenizers import models, pre_tokenizers, processors

from longread.data.tokenizer import Tokenizer


def roberta_like() -> Tokenizer:
    """No token types for pairs: those of both texts are 0."""
    inner = tokenizers.Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "a": 2, "b": 3}, unk_token="a"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return Tokenizer(inner)
