"""The command `weakfish serve`: its options become `Settings`; nothing heavy is imported before it runs."""

from __future__ import annotations

import click

from weakfish.project.paths import Project

MEBIBYTE = 1 << 20


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=6567, show_default=True, type=click.IntRange(0, 65535), help="Port; 0: a free one.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 256), help="Processes that answer.")
@click.option(
    "--threads", default=8, show_default=True, type=click.IntRange(1, 256), help="Requests a process works on at once."
)
@click.option(
    "--max-entities", default=10_000, show_default=True, type=click.IntRange(1), help="Entities in one request."
)
@click.option(
    "--max-body", default=8 * MEBIBYTE, show_default=True, type=click.IntRange(1), help="Bytes of one request's body."
)
@click.option(
    "--store-timeout",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0.01, 600),
    help="Seconds that the online store may take.",
)
def serve(
    host: str, port: int, workers: int, threads: int, max_entities: int, max_body: int, store_timeout: float
) -> None:
    """Serve online features over HTTP, as `feast serve` does.

    Clients send Feast's requests to /get-online-features; /openapi.json describes them. If WEAKFISH_SERVE_TOKEN is set,
    they have to show it. The address is printed on stdout, what happens on stderr; SIGTERM ends the server when it has
    answered what it was asked.
    """
    from weakfish.feast.serving import processes
    from weakfish.feast.serving.processes import ServeSettings, token

    settings = ServeSettings(host, port, workers, threads, max_entities, max_body, store_timeout, token())
    processes.serve(Project.find(), settings)
