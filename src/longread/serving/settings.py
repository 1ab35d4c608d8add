"""What `longread serve` may be told."""

from __future__ import annotations

from dataclasses import dataclass

from longread.errors import UserError, option_name


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Limits of the service.

    Parameters
    ----------
    host:
        Address to listen on; 0.0.0.0 is every address of this machine.
    port:
        Port to listen on.
    tokens_per_batch:
        Tokens that the model reads at once. Default: 16384 on an accelerator; 1024 on a processor, where more are no
        faster and answer later.
    max_concurrent:
        Texts that may wait; further ones are answered with 429.
    max_texts:
        Texts of one request.
    max_body_bytes:
        Largest body of a request; larger ones are answered with 413.
    timeout:
        Seconds after which a request is answered with 504.
    threads:
        Processor threads of the model; one of them answers short texts. Default: all cores, shared by the workers.
    workers:
        Processes behind the port, each with the model in its memory and with the limits above.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    tokens_per_batch: int | None = None
    max_concurrent: int = 512
    max_texts: int = 32
    max_body_bytes: int = 2_000_000
    timeout: float = 60.0
    threads: int | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        for name in (
            "tokens_per_batch",
            "max_concurrent",
            "max_texts",
            "max_body_bytes",
            "timeout",
            "threads",
            "workers",
        ):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UserError(f"{option_name(name)} {value}: must be above 0")
        if not 0 <= self.port < 65_536:
            raise UserError(f"--port {self.port}: must lie between 0 and 65535 (0: any free one)")
