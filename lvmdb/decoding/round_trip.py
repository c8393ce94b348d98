"""The round trip that training may send predictions on: to text by vec2text, and back to vectors.

    with round_trip_of(database, settings, run) as round_trip:     # None unless the run asks for it
        train(database, run.run_id, round_trip=round_trip)

The decoding service makes both ways: what it answers are texts and their vectors, by the encoder
that is known to be that of the run's dataset.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from sqlalchemy import select
from torch import Tensor

from lvmdb.corpus.articles import Vectors
from lvmdb.db.engine import Database
from lvmdb.db.runs import Run
from lvmdb.db.schema.corpus import encoder
from lvmdb.decoding.spaces import Space, fingerprint_of, stored_fingerprint
from lvmdb.decoding.vec2text import Vec2Text
from lvmdb.errors import EndpointError, RunError
from lvmdb.sequences import sets
from lvmdb.settings import Settings
from lvmdb.training.round_trip import RoundTrip

STEPS, BEAM = 5, 1
"""Of each decoding: a term of the loss, made again and again, has no time for the best text."""


class ThroughText:
    """From vectors to text and back, by the decoding service.

    Args:
        client: of the service.
        space: whose vectors they are predictions of.
        probe: `(1, 768)`, a vector of that space.

    Attributes:
        stamps: which inverter and corrector write, and how, for the run's row.

    Raises:
        EncoderError: the service decodes the vectors of another encoder.
        EndpointError: it is not there, or not ready.
    """

    def __init__(self, client: Vec2Text, space: Space, probe: Vectors) -> None:
        self._client, self._space = client, space
        by = client.written_by(probe, space)
        self.stamps = [f"round_trip={by},steps={client.steps},beam={client.beam}"]

    def __call__(self, vectors: Tensor) -> Tensor:
        """The vectors `(n, 768)` of the texts that are found for `vectors` `(n, 768)`."""
        found = self._client.decode(vectors.cpu().numpy(), self._space)
        return torch.tensor([each.vector.tolist() for each in found]).to(vectors)


@contextmanager
def round_trip_of(
    db: Database, settings: Settings, run: Run, *, again: bool = False
) -> Iterator[RoundTrip | None]:
    """The round trip of a run that asks for one and is not trained yet; else None.

    Args:
        db: where the run and its encoder are described.
        settings: where the decoding service is.
        run: the run.
        again: it is trained again, though it has succeeded.

    Raises:
        EncoderError: the service decodes the vectors of another encoder than the run's, or that
            encoder has no fingerprint.
        RunError: the decoding service is not there, or not ready.
    """
    if (run.status == "succeeded" and not again) or not run.hyperparameters.get("roundtrip_every"):
        yield None
        return
    with db.connect() as connection:
        encoder_id = sets.get_by_id(connection, run.sequence_set_id).encoder_id
        name = connection.execute(
            select(encoder.c.name).where(encoder.c.encoder_id == encoder_id)
        ).scalar_one()
        fingerprint = stored_fingerprint(connection, name)
    with Vec2Text.from_settings(settings, steps=STEPS, beam=BEAM) as client:
        space = Space(name, fingerprint_of(fingerprint))
        try:
            trip = ThroughText(client, space, fingerprint[:1])
        except EndpointError as error:
            raise RunError(
                f"run {run.run_id} sends predictions through text and back (roundtrip_every), for "
                f"which 'lvmdb serve decoding' must run: {error}"
            ) from error
        yield trip
