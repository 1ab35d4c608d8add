"""The files of a checkpoint: what is wrong with them is said in a line, and they are written whole."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import POSTNORM, edit, random_model, rewrite, save_bert
from longread.data.tokenizer import byte_tokenizer
from longread.errors import UserError
from longread.models.checkpoint import from_pretrained, save_pretrained
from longread.models.weights import CHECKSUMS, weights_fingerprint


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return save_bert(tmp_path / "bert")


def test_missing_and_left_over_keys_are_listed(bert: Path) -> None:
    def broken(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor] | None:
        if name == "bert.encoder.layer.1.output.dense.bias":
            return None
        return name.replace("layer.0.attention.self.query.weight", "layer.0.attention.self.wrong"), tensor

    rewrite(bert, broken)
    with pytest.raises(UserError) as caught:
        from_pretrained(bert)
    message = str(caught.value)
    assert "\n" not in message
    assert "missing bert.encoder.layer.0.attention.self.query.weight, bert.encoder.layer.1.output.dense.bias" in message
    assert "left over bert.encoder.layer.0.attention.self.wrong" in message


def test_shards_and_pickles(bert: Path) -> None:
    expected = from_pretrained(bert).state_dict()
    tensors = load_file(bert / "model.safetensors")
    (bert / "model.safetensors").unlink()
    names = sorted(tensors)
    torch.save(tensors, bert / "pytorch_model.bin")
    assert all(torch.equal(expected[k], v) for k, v in from_pretrained(bert).state_dict().items())
    (bert / "pytorch_model.bin").unlink()
    parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, own in parts.items():
        save_file({name: tensors[name] for name in own}, bert / file)
    weight_map = {name: file for file, own in parts.items() for name in own}
    (bert / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert all(torch.equal(expected[k], v) for k, v in from_pretrained(bert).state_dict().items())
    (bert / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"names model-00002-of-00002\.safetensors, which is not there"):
        from_pretrained(bert)
    (bert / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../a.safetensors"}}))
    with pytest.raises(UserError, match="lie beside its index"):
        from_pretrained(bert)


class Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("trapped"),)


def test_nothing_but_tensors_is_unpickled(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bert / "model.safetensors").unlink()
    torch.save({"bert.embeddings.LayerNorm.weight": Trap()}, bert / "pytorch_model.bin")
    monkeypatch.chdir(bert)
    with pytest.raises(UserError, match=r"pytorch_model\.bin: cannot be read as weights"):
        from_pretrained(bert)
    assert not (bert / "trapped").exists()


BROKEN: dict[str, tuple[Any, str]] = {
    "no config": (lambda d: (d / "config.json").unlink(), "has no config.json"),
    "broken config": (lambda d: (d / "config.json").write_text("{"), "cannot be read as JSON"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "has no weights; one of model.safetensors"),
    "cut weights": (
        lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:999]),
        "cannot be read as weights",
    ),
    "family": (lambda d: edit(d, model_type="gpt2"), "model_type is 'gpt2'; longread reads .* bert, roberta"),
    "deberta": (
        lambda d: edit(d, model_type="deberta-v2"),
        "model_type is 'deberta-v2' .*content and position apart.*longread reads .* camembert",
    ),
    "a list for a family": (lambda d: edit(d, model_type=["bert"]), r"model_type is \['bert'\]"),
    "a folder of checksums": (lambda d: (d / CHECKSUMS).mkdir(), "is no file; restore it, or delete it"),
    "no family": (lambda d: edit(d, model_type=None), "model_type is None"),
    "activation": (lambda d: edit(d, hidden_act="mish"), "hidden_act is 'mish'; known are gelu"),
    "positions": (lambda d: edit(d, position_embedding_type="relative_key"), "only absolute is read"),
    "decoder": (lambda d: edit(d, is_decoder=True), "only encoders"),
    "heads": (lambda d: edit(d, num_attention_heads=5), "no multiple of num_attention_heads 5"),
    "text for a number": (lambda d: edit(d, hidden_size="large"), "hidden_size is 'large'; it must be a number"),
    "labels without end": (lambda d: edit(d, id2label=None, num_labels=10**12), "num_labels is 10000000"),
    "layers without end": (lambda d: edit(d, num_hidden_layers=10**12), "asks for 1000000000000 layers of 41 tensors"),
    "a width beyond memory": (lambda d: edit(d, intermediate_size=10**13), "of another shape"),
    "a width beyond numbers": (lambda d: edit(d, intermediate_size=10**30), "config.json describes no model"),
    "no number": (lambda d: edit(d, layer_norm_eps=float("nan")), "layer_norm_eps is nan"),
    "nested without end": (lambda d: (d / "config.json").write_text("[" * 10**6), "cannot be read as JSON"),
    "a pipe": (lambda d: ((d / "config.json").unlink(), os.mkfifo(d / "config.json")), "has no config.json"),
    "a link": (
        lambda d: (d / "model.safetensors").rename(d.parent / "w") and (d / "model.safetensors").symlink_to("../w"),
        r"model\.safetensors: is a link out of its directory",
    ),
    "not a number among the weights": (
        lambda d: rewrite(
            d, lambda name, tensor: (name, tensor.fill_(math.nan) if "1.output.dense.b" in name else tensor)
        ),
        r"bert\.encoder\.layer\.1\.output\.dense\.bias holds NaN",
    ),
    "infinity among the weights": (
        lambda d: rewrite(d, lambda name, tensor: (name, tensor.index_fill(0, torch.tensor(1), -math.inf))),
        "holds NaN or infinite",
    ),
    "whole numbers for weights": (
        lambda d: rewrite(d, lambda name, tensor: (name, tensor.long() if "pooler.dense.bias" in name else tensor)),
        r"bert\.pooler\.dense\.bias is torch\.int64",
    ),
    "labels": (lambda d: edit(d, id2label={"a": "b"}), "id2label"),
    "labels of one name": (
        lambda d: edit(d, id2label={"0": "a", "1": "b", "2": "a"}),
        "2 labels are named 'a'; rename",
    ),
}


@pytest.mark.parametrize("key", BROKEN)
def test_wrong_directories_are_named(key: str, bert: Path) -> None:
    change, message = BROKEN[key]
    change(bert)
    with pytest.raises(UserError, match=message) as caught:
        from_pretrained(bert)
    assert "\n" not in str(caught.value)
    assert str(bert) in str(caught.value)


def test_names_of_another_number_of_labels_are_refused(tmp_path: Path) -> None:
    save_pretrained(random_model(POSTNORM), tmp_path, layout="longread")
    edit(tmp_path, id2label={"0": "a"})
    with pytest.raises(UserError, match=r"id2label names 1 labels and num_labels is \d; make them agree"):
        from_pretrained(tmp_path)


def test_a_name_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such directory"):
        from_pretrained(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no such directory, and the Hugging Face Hub is switched off"):
        from_pretrained("no-such-owner/no-such-model")


def test_saving_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(POSTNORM)
    save_pretrained(model, tmp_path / "old")
    monkeypatch.setattr("longread.models.weights.write_atomically", _fail_at("config.json"))
    with pytest.raises(OSError, match="disk full"):
        save_pretrained(model, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    with pytest.raises(OSError, match="disk full"):
        save_pretrained(random_model(POSTNORM, seed=1), tmp_path / "old")
    with pytest.raises(UserError, match=r"model\.safetensors: is not what was saved"):
        from_pretrained(tmp_path / "old")  # other weights beside the configuration of before


def _fail_at(name: str) -> Any:
    from longread.records import write_atomically

    def write(path: Path, data: bytes | str) -> None:
        if path.name == name:
            raise OSError("disk full")
        write_atomically(path, data)

    return write


@pytest.mark.parametrize("layout", ["huggingface", "longread"])
def test_a_flipped_bit_is_noticed_in_every_file(layout: str, tmp_path: Path) -> None:
    save_pretrained(random_model(POSTNORM), tmp_path, layout=layout, tokenizer=byte_tokenizer())
    from_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()} - {CHECKSUMS}
    assert names >= {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"}
    for name in names:
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        with pytest.raises(UserError, match=f"{name}: is not what was saved .*; restore it, or delete {CHECKSUMS}"):
            from_pretrained(tmp_path)
        os.truncate(tmp_path / name, 2**36)  # without content, so that it takes no room: not read to its end
        with pytest.raises(UserError, match=f"{name}: is not what was saved"):
            from_pretrained(tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(UserError, match=f"{name}: cannot be read"):
            from_pretrained(tmp_path)
        os.mkfifo(tmp_path / name)
        with pytest.raises(UserError, match=name):
            from_pretrained(tmp_path)
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(whole)
    (tmp_path / CHECKSUMS).write_text('{"../config.json": ""}')
    with pytest.raises(UserError, match="lie beside it"):
        from_pretrained(tmp_path)


def test_the_cache_of_the_hub_is_made_of_links(bert: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0"
    (tmp_path / "models--a--b" / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (bert / name).rename(tmp_path / "models--a--b" / "blobs" / name)
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    assert from_pretrained(snapshot).config.num_labels == 3


def test_the_tokenizer_goes_along(bert: Path, tmp_path: Path) -> None:
    assert from_pretrained(bert).tokenizer_file is None
    tokenizer = byte_tokenizer()
    tokenizer.inner.enable_truncation(7)
    tokenizer.save(bert / "tokenizer.json")
    model = from_pretrained(bert)
    assert model.tokenizer_file == bert / "tokenizer.json"
    save_pretrained(model, tmp_path / "copy")
    again = from_pretrained(tmp_path / "copy")
    assert again.tokenizer_file == tmp_path / "copy" / "tokenizer.json"
    save_pretrained(again, tmp_path / "copy")  # over itself
    written = json.loads((tmp_path / "copy" / "tokenizer.json").read_text())
    assert written["truncation"] is None
    assert len(written["model"]["vocab"]) == tokenizer.vocab_size
    (bert / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        save_pretrained(model, tmp_path / "gone")


def test_every_weight_counts_in_the_fingerprint() -> None:
    """Run identities rest on it: the last bias of the last block, a buffer, a name, a shape, a type."""
    settings = POSTNORM | {"attention": "performer", "attention_dropout": 0.0, "num_features": 9}
    model = random_model(settings)
    found = {weights_fingerprint(model)}
    assert found == {weights_fingerprint(random_model(settings))}
    for tensor in model.state_dict().values():
        kept = tensor.clone()
        tensor.view(-1)[-1] += 1
        found.add(weights_fingerprint(model))
        tensor.copy_(kept)
    assert len(found) == 1 + len(model.state_dict())
    assert weights_fingerprint(model.bfloat16()) not in found
    pair = [torch.nn.Linear(2, 3, bias=False), torch.nn.Linear(3, 2, bias=False)]
    for layer in pair:
        torch.nn.init.ones_(layer.weight)
    assert len({weights_fingerprint(layer) for layer in pair}) == 2


def test_a_bias_over_offsets_without_end_is_refused(tmp_path: Path) -> None:
    """A table of all of them would be made before the weights are looked at."""
    save_pretrained(random_model(POSTNORM | {"relative_buckets": 8}), tmp_path, layout="longread")
    edit(tmp_path, relative_max_distance=10**15)
    with pytest.raises(UserError, match="relative_max_distance is 1000000000000000; it must be at most 65536"):
        from_pretrained(tmp_path)
