"""The curves of a training in MLflow, where somebody asked for it."""

import logging
import time
from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from acclimate.errors import reason
from acclimate.models.classifier import Classifier
from acclimate.progress import Progress

for _logger in ("alembic", "mlflow"):  # they tell of every table they make
    logging.getLogger(_logger).setLevel(logging.WARNING)

_EXPERIMENT = "acclimate"
_PER_REQUEST = 1000
"""Metrics that MLflow takes in one request."""


def track(uri: str, name: str, classifier: Classifier, progress: Progress) -> str | None:
    """Makes an MLflow run with one metric a figure, stage and epoch.

    What cannot be sent is told and costs nothing else: the model is saved by then.

    Args:
        uri: Of the tracking server or its database.
        name: Of the run.
        classifier: Whose card holds the curves.
        progress: Hears where they are, or why not.

    Returns:
        The id of the MLflow run; None where nothing was trained or sent.
    """
    metrics = list(_metrics(classifier))
    if not metrics:
        return None
    try:
        run = _send(uri, name, classifier, metrics)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        progress.info(f"curves were not sent to MLflow at {uri} ({reason(error)})")
        return None
    progress.info(f"curves are in MLflow at {uri}, experiment {_EXPERIMENT}, run {run}")
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
    for start in range(0, len(metrics), _PER_REQUEST):
        client.log_batch(run, metrics=metrics[start : start + _PER_REQUEST])
    client.set_terminated(run)
    return run


def _metrics(classifier: Classifier) -> Iterator[Metric]:
    now = int(time.time() * 1000)
    for step in classifier.card.steps:
        for epoch in step.curve:
            for name, value in epoch.items():
                if name != "epoch" and value is not None:
                    yield Metric(f"{step.stage}/{name}", value, now, int(epoch["epoch"] or 0))
