"""The same pipeline behind LitServe, which makes a batch of what comes within a hundredth of a second."""

from __future__ import annotations

from typing import Any

import litserve

BATCH = 8  # a larger one pads more sentences up to a review


class Classify(litserve.LitAPI):  # type: ignore[misc]
    def __init__(self, checkpoint: str) -> None:
        super().__init__(max_batch_size=BATCH, batch_timeout=0.01)
        self.checkpoint = checkpoint

    def setup(self, device: str) -> None:
        from transformers import pipeline

        self.classify = pipeline("text-classification", model=self.checkpoint, device="cpu")

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe reads an annotation here
        return request["inputs"]

    def predict(self, texts: list[str]) -> Any:
        return self.classify(texts, truncation=True, top_k=None, batch_size=len(texts))

    def encode_response(self, output: Any) -> Any:
        return output


def serve(checkpoint: str, port: int) -> None:
    server = litserve.LitServer(Classify(checkpoint), accelerator="cpu", timeout=False, healthcheck_path="/ready")
    server.run(host="127.0.0.1", port=port, log_level="error", generate_client_file=False)
