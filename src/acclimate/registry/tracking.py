"""Sends training curves to MLflow."""

import logging
import time
from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from acclimate.data.blocks import blocks
from acclimate.errors import reason
from acclimate.models.classifier import Classifier
from acclimate.progress import Progress

for _logger in ("alembic", "mlflow"):  # they log every table that they create
    logging.getLogger(_logger).setLevel(logging.WARNING)

_EXPERIMENT = "acclimate"
_PER_REQUEST = 1000
"""Largest number of metrics in one MLflow request."""


def track(uri: str, name: str, classifier: Classifier, progress: Progress) -> str | None:
    """Creates an MLflow run with one metric per stage and figure, and one value per epoch.

    If that fails, a message says so; the model is already saved then.

    Args:
        uri: URI of the tracking server or its database.
        name: Name of the run.
        classifier: Its card has the curves.
        progress: Receives one message.

    Returns:
        The id of the MLflow run; None if there are no curves, or they could not be sent.
    """
    metrics = list(_metrics(classifier))
    if not metrics:
        return None
    try:
        run = _send(uri, name, classifier, metrics)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        progress.info(f"training curves were not sent to MLflow at {uri} ({reason(error)})")
        return None
    progress.info(f"training curves are in MLflow at {uri}, experiment {_EXPERIMENT}, run {run}")
    return run


def _send(uri: str, name: str, classifier: Classifier, metrics: list[Metric]) -> str:
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(_EXPERIMENT)
    experiment = found.experiment_id if found else client.create_experiment(_EXPERIMENT)
    run = str(client.create_run(experiment, run_name=name).info.run_id)
    facts = {
        "model": classifier.name,
        "digest": classifier.digest,
        "dataset": str(classifier.card.dataset),
        "stages": ", ".join(step.stage for step in classifier.card.steps),
    }
    client.log_batch(run, params=[Param(key, value) for key, value in facts.items()])
    for block in blocks(len(metrics), _PER_REQUEST):
        client.log_batch(run, metrics=metrics[block])
    client.set_terminated(run)
    return run


def _metrics(classifier: Classifier) -> Iterator[Metric]:
    now = int(time.time() * 1000)
    for step in classifier.card.steps:
        for epoch in step.curve:
            for name, value in epoch.items():
                if name != "epoch" and value is not None:
                    yield Metric(f"{step.stage}/{name}", value, now, int(epoch["epoch"] or 0))
