"""The prune stage: removes channels, then recovers accuracy by distillation."""

import copy
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch_pruning as tp
from torch import nn

from acclimate.augmentation.policy import Policy, choose_policy
from acclimate.compression.acceptance import assess_compression
from acclimate.compression.calibration import calibration_rows
from acclimate.compression.importance import IMPORTANCES
from acclimate.compression.settings import Prune
from acclimate.context import Context
from acclimate.data.dataset import Dataset, Rows
from acclimate.distillation.objective import distillation_objective
from acclimate.distillation.settings import Distill
from acclimate.distillation.teachers import Teachers
from acclimate.errors import ModelFileError, reason
from acclimate.features.discriminant import with_statistics
from acclimate.features.probe import check_trainable
from acclimate.models.batch_norm import reestimate
from acclimate.models.classifier import Classifier, StepRecord, plain
from acclimate.models.onnx.export import to_onnx
from acclimate.models.rebuild import build
from acclimate.models.runtime import run_onnx
from acclimate.models.structure import counts_beyond_shapes, head_names
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.session import Session

_SAMPLE_IMAGES = 256
_RECOVERY = Distill(method="soft", temperature=2.0, hard_label_weight=0.3)
_DEFAULT = Prune()
_HERE = Context()


def prune(
    classifier: Classifier,
    dataset: Dataset,
    policy: Policy | None = None,
    settings: Prune = _DEFAULT,
    *,
    context: Context = _HERE,
) -> Classifier:
    """Removes whole channels, then trains the pruned network with the unpruned model as teacher.

    The result is kept only if it is smaller or faster on this machine and its val accuracy drops
    by no more than the settings allow. Otherwise the given classifier is returned, with the reason
    on its card.

    Args:
        classifier: Convolutional, with a PyTorch network.
        dataset: Cleaned and split.
        policy: Augmentation during recovery; the default policy if None.
        settings: Pruning ratio, importance, allowed drop and length of the recovery.
        context: Seed, device, workspace, progress.

    Returns:
        The pruned classifier, or the given one.

    Raises:
        DataError: The classifier lacks classes of the data.
    """
    check_trainable(dataset)
    dataset = dataset.with_classes(classifier.classes, classifier.name)
    try:
        pruned = pruned_and_recovered(classifier, dataset, policy, settings, context=context)
    except ModelFileError as error:
        return _keep_original(classifier, settings, {}, f"Not pruned: {error.message}", context)
    context.progress.info("prune: exporting and measuring both models")
    exported = [replace(model, graph=to_onnx(model)) for model in (classifier, pruned)]
    acceptance = assess_compression(
        ("the unpruned model", "pruned"),
        (exported[0], exported[1]),
        (run_onnx(exported[0], "cpu"), run_onnx(exported[1], "cpu")),
        dataset,
        settings.max_accuracy_drop,
        must_not_slow_down=True,
    )
    if not acceptance.keep:
        return _keep_original(classifier, settings, acceptance.figures, acceptance.reason, context)
    context.progress.info(f"prune: {acceptance.reason}")
    step = pruned.card.steps[-1]
    figures, notes = {**step.figures, **acceptance.figures}, (*step.notes, acceptance.reason)
    step = replace(step, figures=figures, notes=notes)
    made = classifier.after(step, network=pruned.network, trained_on=dataset)
    return with_statistics(made, dataset, context) if settings.class_statistics else made


def pruned_and_recovered(
    classifier: Classifier,
    dataset: Dataset,
    policy: Policy | None = None,
    settings: Prune = _DEFAULT,
    *,
    context: Context = _HERE,
) -> Classifier:
    """Removes channels and trains the pruned network, whatever that does to its accuracy.

    Args:
        classifier: As for `prune`.
        dataset: With the classes of the classifier, in the same order.
        policy: Augmentation during recovery; the default policy if None.
        settings: Pruning ratio, importance and length of the recovery.
        context: Seed, device, workspace, progress.

    Returns:
        The pruned classifier, without statistics of its classes.

    Raises:
        ModelFileError: The network cannot be pruned.
    """
    began = time.monotonic()
    context.progress.info(f"prune: ranking channels by {settings.importance} importance")
    network = PRUNERS[settings.method](classifier, dataset, settings, context)
    before = sum(p.numel() for p in classifier.module().parameters())
    after = sum(p.numel() for p in network.parameters())
    context.progress.info(f"prune: {before:,} -> {after:,} parameters, now recovering accuracy")
    session = Session("prune", settings, len(dataset.rows("train")), context, began=began)
    contract = classifier.contract
    teacher = Teachers([classifier], classifier.classes, contract, device=context.device)
    images = TrainingImages(dataset, policy or choose_policy(), classifier.contract)
    # The freshly pruned network is never kept, even if it is best on val. It may be as accurate as
    # before on clean val images (0.993 on digits) and fail on augmented ones (0.62 on shifted
    # digits, 0.95 after recovery).
    fit = session.fit(
        network, images, distillation_objective(teacher, _RECOVERY), keep_start=False,
        fingerprint={"model": classifier.digest}, recorded={"policy": images.policy.as_record()},
    )  # fmt: skip
    counts = {"parameters": after, "parameters_before": before}
    step = replace(fit.step, figures={**fit.step.figures, **counts})
    return classifier.after(step, network=fit.network, trained_on=dataset)


def _keep_original(
    classifier: Classifier,
    settings: Prune,
    figures: dict[str, float],
    reason: str,
    context: Context,
) -> Classifier:
    context.progress.info(f"prune: {reason}")
    step = StepRecord("prune", plain(settings), figures, (reason,))
    return classifier.after(step, graph=classifier.graph)


def structured(
    classifier: Classifier, dataset: Dataset, settings: Prune, context: Context
) -> nn.Module:
    """Removes the least important channels of coupled layers (Fang et al. 2023, 2301.12900).

    Args:
        classifier: Not changed.
        dataset: Images for importances that need the loss.
        settings: Ratio, importance, rounding.
        context: Its seed chooses the images.

    Returns:
        A smaller network on the CPU, in evaluation mode, before recovery.

    Raises:
        ModelFileError: The network cannot be pruned, or not rebuilt from the shapes of its weights.
    """
    network = copy.deepcopy(classifier.module()).to("cpu").eval()
    if any("attention" in type(m).__name__.lower() for m in network.modules()):
        raise ModelFileError("pruning networks with attention is not supported.")
    rows = calibration_rows(dataset, _SAMPLE_IMAGES, context)
    try:
        _remove_channels(network, classifier, dataset, rows, settings)
        # Removing channels changes the statistics of later layers. Without re-estimation, removing
        # 20 % of the channels by magnitude left digits at chance, even after recovery. If pruning
        # did little harm, the old statistics are better: with Taylor importance, always
        # re-estimating cost 7 points on shifted digits.
        contract = classifier.contract
        reestimate(network, contract, None, dataset, statistics_rows=rows, loss_rows=rows)
        _check_rebuilt(network, classifier)
    except ModelFileError:
        raise
    except Exception as error:  # Torch-Pruning raises many kinds of errors on unknown layers
        raise ModelFileError(f"{classifier.name} cannot be pruned ({reason(error)}).") from error
    return network.eval()


def _remove_channels(
    network: nn.Module, classifier: Classifier, dataset: Dataset, rows: Rows, settings: Prune
) -> None:
    """Removes channels from the network, in place."""
    importance = IMPORTANCES[settings.importance](network, classifier.contract, dataset, rows)
    with warnings.catch_warnings():
        # Torch-Pruning guesses how bare parameters (the layer scale of ConvNeXt) are pruned. The
        # guess is checked below: the network must be the same when rebuilt from its shapes.
        warnings.filterwarnings("ignore", "Unwrapped parameters detected")
        pruner = tp.pruner.MetaPruner(
            network,
            torch.zeros(1, *classifier.contract.input_shape),
            importance=importance,
            global_pruning=True,
            pruning_ratio=settings.ratio,
            max_pruning_ratio=0.7,  # keeps 30 % of each layer
            round_to=settings.round_to,
            ignored_layers=[network.get_submodule(name) for name in head_names(network)],
            # New dictionaries each time: Torch-Pruning 1.6.1 shares its mutable defaults.
            num_heads={},
            in_channel_groups={},
            out_channel_groups={},
        )
    pruner.step()
    network.zero_grad()


def _check_rebuilt(network: nn.Module, classifier: Classifier) -> None:
    """Raises if the pruned network cannot be rebuilt from its weights, as loading does."""
    if not classifier.architecture.startswith("timm:"):
        return
    weights = {name: t.detach() for name, t in network.state_dict().items()}
    counts, here = counts_beyond_shapes(network), Path(classifier.name)
    size = classifier.contract.image_size
    again = build(classifier.architecture, len(classifier.classes), weights, counts, here, size)
    shape = classifier.contract.input_shape
    example = torch.linspace(-1, 1, math.prod(shape)).view(1, *shape)
    with torch.inference_mode():
        same = torch.allclose(again(example), network(example), atol=1e-4)
    if not same:
        raise ModelFileError(f"{classifier.name} cannot be rebuilt from the shapes of its weights.")


PRUNERS: dict[str, Callable[[Classifier, Dataset, Prune, Context], nn.Module]] = {
    "structured": structured
}
"""(classifier, data, settings, context) to a smaller network."""
