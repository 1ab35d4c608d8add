"""What stands beside a tokenizer.json: what a tokenizer gives its model, how much of a text, and its special tokens.

transformers decides this by tokenizer_config.json and, where that is silent, by the tokenizer's class or the model's
type. Here it is read the same way, and written so that nothing is left to a class.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longread.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONFIG_FILE = "tokenizer_config.json"
SPECIAL_FILE = "special_tokens_map.json"
# Classes and model types whose pairs are told apart by token types; the others' models see type 0 throughout.
WITH_TOKEN_TYPES = ("BertTokenizer", "ElectraTokenizer", "BertJapaneseTokenizer", "bert", "electra")
OF_MPNET = ("MPNetTokenizer", "mpnet")
# Those whose flags stand above the normalizer of tokenizer.json.
WITH_FLAGS = (*WITH_TOKEN_TYPES, *OF_MPNET, "DistilBertTokenizer", "distilbert")
# The name of a special token's role -> its usual texts.
SPECIAL_TOKENS = {
    "pad_token": ("<pad>", "[PAD]"),
    "unk_token": ("<unk>", "[UNK]"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("<mask>", "[MASK]"),
    "bos_token": ("<s>",),
    "eos_token": ("</s>",),
}
# What these flags are called there.
BERT_FLAGS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
KEPT = (*SPECIAL_TOKENS, *BERT_FLAGS, "clean_up_tokenization_spaces", "padding_side")
LARGEST_FILE = 2**26  # bytes; a list of many added tokens has a tenth of that
HIGHEST_ID = 10_000_000
LONGEST = 10**9  # transformers writes 1e30 for "no limit"


@dataclass(frozen=True)
class TokenizerConfig:
    """token_types: whether a pair's partner has type 1. max_length: tokens of the longest input; None: not said.

    truncation_side: the end at which a text is cut, "right" or "left". kept: what is written again as it was read.
    """

    token_types: bool = True
    max_length: int | None = None
    truncation_side: str = "right"
    kept: Mapping[str, Any] = field(default_factory=dict)

    def names(self, role: str) -> tuple[str, ...]:
        """What a special token may be called: as read, else as usual."""
        given = self.kept.get(role)
        given = given.get("content") if isinstance(given, dict) else given
        return (given, *SPECIAL_TOKENS[role]) if isinstance(given, str) else SPECIAL_TOKENS[role]


def read_tokenizer_config(directory: Path) -> TokenizerConfig:
    """Of a checkpoint or a tokenizer's directory. UserError for files that are no JSON objects."""
    told = read_json(directory / CONFIG_FILE)
    special = read_json(directory / SPECIAL_FILE)
    length, side = told.get("model_max_length"), told.get("truncation_side") or "right"
    if side not in ("right", "left"):
        raise UserError(f"{directory / CONFIG_FILE}: truncation_side is {side!r}; it must be right or left")
    kept = {name: told.get(name, special.get(name)) for name in KEPT}
    if tokenizer_kind(directory) not in WITH_FLAGS:
        kept |= dict.fromkeys(BERT_FLAGS)  # means nothing to another class
    return TokenizerConfig(
        _token_types(told, read_json(directory / "config.json")),
        int(length) if isinstance(length, int | float) and 1 <= length < LONGEST else None,
        side,
        {name: value for name, value in kept.items() if value is not None},
    )


def tokenizer_kind(directory: Path) -> str | None:
    """The tokenizer's class without "Fast", else the model's type; None where no file names one."""
    return _kind(read_json(directory / CONFIG_FILE), read_json(directory / "config.json"))


def _kind(told: Mapping[str, Any], model: Mapping[str, Any]) -> str | None:
    kind = told.get("tokenizer_class") or model.get("tokenizer_class") or model.get("model_type")
    return None if kind is None else str(kind).removesuffix("Fast")


def _token_types(told: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    own = model.get("model_type") == "longread" or isinstance(model.get("longread"), dict)
    if not own and model.get("type_vocab_size") == 1:
        return False
    names = told.get("model_input_names")
    if isinstance(names, list):
        return "token_type_ids" in names
    kind = _kind(told, model)
    return own or kind is None or kind in WITH_TOKEN_TYPES


def set_flags(tokenizer: Tokenizer, config: TokenizerConfig) -> None:
    """tokenizer_config.json's word on case and accents, which for BERT's class stands above tokenizer.json's."""
    from tokenizers import normalizers

    normalizer = tokenizer.normalizer
    if isinstance(normalizer, normalizers.BertNormalizer):
        for name, attribute in BERT_FLAGS.items():
            if name in config.kept and getattr(normalizer, attribute) != config.kept[name]:
                setattr(normalizer, attribute, config.kept[name])


def files_of(tokenizer: Tokenizer, config: TokenizerConfig) -> dict[str, str]:
    """Name -> text of the files that transformers' AutoTokenizer needs to do what `tokenizer` does here.

    The class is the one that takes tokenizer.json as it stands; BertTokenizer and its like would make their own.
    """
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    special = {}
    for role in SPECIAL_TOKENS:
        found = next((text for text in config.names(role) if text in vocabulary), None)
        if found is not None:
            special[role] = found
    told = {"tokenizer_class": "PreTrainedTokenizerFast"} | dict(config.kept) | special
    told = {name: value for name, value in told.items() if name not in SPECIAL_TOKENS or name in special}
    text = plain(tokenizer)
    space = (json.loads(text)["pre_tokenizer"] or {}).get("add_prefix_space")
    if space is not None:
        told["add_prefix_space"] = space
    told["model_input_names"] = ["input_ids", *(["token_type_ids"] if config.token_types else []), "attention_mask"]
    told["truncation_side"] = config.truncation_side
    if config.max_length is not None:
        told["model_max_length"] = config.max_length
    return {
        "tokenizer.json": text,
        CONFIG_FILE: json.dumps(told, indent=2, ensure_ascii=False) + "\n",
        SPECIAL_FILE: json.dumps(special, indent=2, ensure_ascii=False) + "\n",
    }


def check_ids(tokenizer: Tokenizer, source: Path) -> None:
    """UserError for an id so high that the library, which makes a table of all below it, would take all memory."""
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if highest > HIGHEST_ID:
        raise UserError(f"{source}: has a token with the id {highest}; no vocabulary is so large")


def plain(tokenizer: Tokenizer) -> str:
    """The text of tokenizer.json without truncation and padding."""
    import tokenizers

    copy = tokenizers.Tokenizer.from_str(tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy.to_str(pretty=True)


def read_json(path: Path) -> dict[str, Any]:
    """{} where there is no such file."""
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path}: is larger than {LARGEST_FILE >> 20} MiB; it is no configuration")
        value = json.loads(path.read_text(encoding="utf-8"))
    except UserError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold a JSON object")
    return value
