"""What people write first: transformers' pipeline behind FastAPI, one text a call, in FastAPI's threads."""

from __future__ import annotations

from typing import Any


def serve(checkpoint: str, port: int) -> None:
    import uvicorn
    from fastapi import FastAPI
    from transformers import pipeline

    classify = pipeline("text-classification", model=checkpoint, device="cpu")
    app = FastAPI()

    @app.post("/predict")
    def predict(body: dict[str, Any]) -> Any:
        return classify(body["inputs"], truncation=True, top_k=None)

    @app.get("/ready")
    def ready() -> dict[str, str]:
        return {"status": "ok"}

    uvicorn.run(app, port=port, log_level="error")
