"""The tokenizer a checkpoint brings: its tokenizer.json, made from older vocabulary files where there is none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longread.data.tokenizer_config import (
    CONFIG_FILE,
    OF_MPNET,
    SPECIAL_FILE,
    check_ids,
    files_of,
    read_json,
    read_tokenizer_config,
    tokenizer_kind,
)
from longread.errors import UserError
from longread.records import fingerprint, write_atomically

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Files that a tokenizer may consist of, in the order in which they are looked for.
TOKENIZER_FILES = (
    "tokenizer.json",
    CONFIG_FILE,
    SPECIAL_FILE,
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
OF_MPNETS_VOCABULARY = {"pad": "<pad>", "unk": "[UNK]", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}


def tokenizer_file(directory: Path) -> Path | None:
    """A tokenizer.json for the checkpoint in `directory`; None if it brings no tokenizer.

    One that has to be made is written to the cache (LONGREAD_CACHE, else XDG_CACHE_HOME/longread) with its
    configuration, never beside the checkpoint. UserError for files that cannot be read.
    """
    own = directory / "tokenizer.json"
    if own.is_file():
        return own
    sources = [directory / name for name in TOKENIZER_FILES if (directory / name).is_file()]
    names = {path.name for path in sources}
    try:
        if "vocab.txt" in names:
            tokenizer = _wordpiece(directory)
        elif {"vocab.json", "merges.txt"} <= names:
            tokenizer = _byte_level(directory)
        elif names & {"spiece.model", "sentencepiece.bpe.model"}:
            tokenizer = _sentencepiece(directory)
        else:
            return None
    except UserError:
        raise
    except Exception as error:  # the tokenizers library raises bare Exceptions
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{directory}: its tokenizer files cannot be read ({reason}); add a tokenizer.json") from error
    if not names & {"spiece.model", "sentencepiece.bpe.model"}:
        _add_tokens(tokenizer, directory)
    check_ids(tokenizer, directory)
    return _cached(sources, files_of(tokenizer, read_tokenizer_config(directory)))


def _cached(sources: list[Path], files: Mapping[str, str]) -> Path:
    root = os.environ.get("LONGREAD_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "longread"
    )
    folder = Path(root) / "tokenizers" / fingerprint(*files.values(), *(path.name for path in sources))
    if not all((folder / name).is_file() for name in files):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:  # no home directory that can be written
            folder = Path(tempfile.mkdtemp(prefix="longread-"))
        for name, text in files.items():
            write_atomically(folder / name, text)
    return folder / "tokenizer.json"


def _settings(directory: Path) -> dict[str, Any]:
    return read_json(directory / SPECIAL_FILE) | read_json(directory / CONFIG_FILE)


def _wordpiece(directory: Path) -> Tokenizer:
    """BERT and MPNet: vocab.txt, one token a line. MPNet's special tokens, and what is between two texts, are its own.

    UserError for a vocabulary without the tokens that begin and end a text.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    settings = _settings(directory)
    vocabulary = models.WordPiece.read_file(str(directory / "vocab.txt"))
    mpnet = tokenizer_kind(directory) in OF_MPNET
    usual = OF_MPNETS_VOCABULARY if mpnet else {name: f"[{name.upper()}]" for name in OF_MPNETS_VOCABULARY}
    special = {name: _content(settings.get(f"{name}_token"), text) for name, text in usual.items()}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=special["unk"], max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    cls, sep = special["cls"], special["sep"]
    for token in (cls, sep):
        if token not in vocabulary:
            raise UserError(
                f"{directory / 'vocab.txt'}: has no {token}; name its special tokens in tokenizer_config.json"
            )
    begin, end = (cls, vocabulary[cls]), (sep, vocabulary[sep])
    if mpnet:
        tokenizer.post_processor = processors.RobertaProcessing(end, begin, trim_offsets=True, add_prefix_space=False)
    else:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B:1 {sep}:1", special_tokens=[begin, end]
        )
    mask = AddedToken(special["mask"], lstrip=mpnet, special=True)
    known = [text for text in special.values() if text in vocabulary]
    tokenizer.add_special_tokens([mask if text == special["mask"] else text for text in known])
    return tokenizer


def _byte_level(directory: Path) -> Tokenizer:
    """RoBERTa and Longformer: vocab.json and merges.txt, byte-level BPE."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    settings = _settings(directory)
    space = bool(settings.get("add_prefix_space", False))
    vocabulary, merges = models.BPE.read_file(str(directory / "vocab.json"), str(directory / "merges.txt"))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    tokenizer.decoder = decoders.ByteLevel()
    cls, sep = _content(settings.get("cls_token"), "<s>"), _content(settings.get("sep_token"), "</s>")
    for token in (cls, sep):
        if token not in vocabulary:
            raise UserError(f"{directory / 'vocab.json'}: has no {token}; it is no RoBERTa vocabulary")
    tokenizer.post_processor = processors.RobertaProcessing(
        (sep, vocabulary[sep]), (cls, vocabulary[cls]), trim_offsets=True, add_prefix_space=space
    )
    special = [_content(settings.get(f"{name}_token"), f"<{name}>") for name in ("pad", "unk")]
    mask = _content(settings.get("mask_token"), "<mask>")
    tokens: list[str | AddedToken] = [token for token in (cls, *special, sep) if token in vocabulary]
    if mask in vocabulary:
        tokens.append(AddedToken(mask, lstrip=True, special=True))
    tokenizer.add_special_tokens(tokens)
    return tokenizer


def _add_tokens(tokenizer: Tokenizer, directory: Path) -> None:
    """Those behind the vocabulary, by the older and the newer file. UserError for ids that are not the next ones."""
    from tokenizers import AddedToken

    flags = ("lstrip", "rstrip", "normalized", "single_word", "special")
    added: dict[int, AddedToken] = {}
    for text, number in read_json(directory / "added_tokens.json").items():
        added[int(number)] = AddedToken(text)
    for number, told in (_settings(directory).get("added_tokens_decoder") or {}).items():
        added[int(number)] = AddedToken(told["content"], **{name: told[name] for name in flags if name in told})
    for number, token in sorted(added.items(), key=lambda pair: pair[0]):
        if tokenizer.token_to_id(token.content) is None:
            (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
            if tokenizer.token_to_id(token.content) != number:
                raise UserError(f"{directory}: the id of its added token {token.content!r} is {number}, which is not "
                                "the next one; add a tokenizer.json")  # fmt: skip


def _sentencepiece(directory: Path) -> Tokenizer:
    """Others: transformers knows how to convert them."""
    mend = f"{directory}: has no tokenizer.json and its spiece.model needs transformers, sentencepiece and protobuf"
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise UserError(f"{mend}; pip install 'longread[hf]'") from error
    try:
        return AutoTokenizer.from_pretrained(directory, local_files_only=True).backend_tokenizer
    except (ImportError, ValueError, OSError, AttributeError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"{mend} ({reason[:120]}); pip install 'longread[hf]'") from error


def _content(token: Any, default: str) -> str:
    """A special token in tokenizer_config.json: text, or a record with its text."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else default
