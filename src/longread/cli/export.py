"""`longread export`: a checkpoint as a graph for other programs."""

from __future__ import annotations

from pathlib import Path

from longread.cli import logs


def export(checkpoint: str, /, *, out: Path, int8: bool = False, overwrite: bool = False) -> int:
    """A checkpoint as one file that runs without longread: ONNX, or a torch.export archive.

    Example: longread export out/runs/0123456789abcdef --out model.onnx

    Parameters
    ----------
    checkpoint:
        A run's folder, a checkpoint's folder, or a Hub id.
    out:
        File to write: NAME.onnx, or NAME.pt2 for torch.export.
    int8:
        ONNX only: linear layers compute with weights of eight bits. Smaller and often faster; answers change a little.
    overwrite:
        Replace an --out that is there already.
    """
    from longread.cli.places import check_new_file
    from longread.errors import UserError
    from longread.models.export import FORMATS

    if out.suffix not in FORMATS:
        raise UserError(
            f"--out {out}: the format is read from the ending; write NAME.onnx, or NAME.pt2 for torch.export"
        )
    check_new_file(out, overwrite)
    from longread.inference.predictor import load
    from longread.models.export import export as write

    found = load(checkpoint, device="cpu")
    trained_on = found.origin.to_json() if found.origin else None
    path = write(found.model, out, int8=int8, trained_on=trained_on)
    logs.result(f"{path}: {path.stat().st_size / 2**20:.1f} MiB", file=path)
    return 0
