"""Int8 candidates of one float model: integer types, ranges of activations, float islands.

All are ranked without labels, by the divergence of their outputs from the float model's. Only the
best few are compared on val afterwards.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from acclimate.compression.calibration import calibration_rows
from acclimate.compression.candidates import Candidate
from acclimate.compression.divergence import Reference
from acclimate.compression.search_job import SearchJob
from acclimate.compression.static_int8 import (
    CALIBRATIONS,
    MIN_MAX,
    S8S8,
    U8S7,
    U8S8,
    U8U8,
    Calibration,
    Scheme,
    StaticQuantizer,
)
from acclimate.models.classifier import Classifier, StepRecord
from acclimate.models.onnx.export import with_metadata
from acclimate.models.runtime import run_onnx

_ISLANDS = (1, 2, 4, 8, 16)
"""Numbers of most sensitive layers that stay in float32."""
_SENSITIVITY_IMAGES = 64
_AS_GOOD = 1.5
"""Types whose divergence is at most this much above the least count as equally good: then the
fastest is taken."""


@dataclass(frozen=True)
class Form:
    """A way to quantize.

    Attributes:
        scheme: Integer types.
        calibration: Ranges of activations.
        float_layers: Names of layers that stay in float32.
    """

    scheme: Scheme
    calibration: Calibration = MIN_MAX
    float_layers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its part of a candidate's name, such as "int8-u8s7-p99.999-float2"."""
        parts = ["int8", self.scheme.short, self.calibration.name]
        parts += [f"float{len(self.float_layers)}"] if self.float_layers else []
        return "-".join(parts)

    def as_record(self) -> dict[str, object]:
        """The form as JSON."""
        return {
            "scheme": self.scheme.name,
            "calibration": self.calibration.name,
            "float_layers": list(self.float_layers),
        }


class Int8Search:
    """Makes and ranks int8 candidates of one float model.

    Args:
        job: The search.
        base: The float candidate.
        model: Its model, exported.
    """

    def __init__(self, job: SearchJob, base: Candidate, model: Classifier) -> None:
        self._job, self._base, self._model = job, base, model

    @cached_property
    def _reference(self) -> Reference:
        rows = self._job.ranking_rows()
        run = run_onnx(self._model, "cpu")
        return Reference(self._model, run, self._job.dataset, rows)

    def all_forms(self) -> list[tuple[Candidate, Form]]:
        """Tries integer types, then ranges, then float islands if predictions still change.

        Returns:
            Candidates that are worth comparing on val, those with the least divergence first.
        """
        with self._quantizer() as quantizer:
            tried = self._timed([self._rank(quantizer, Form(one)) for one in self._schemes()])
            useful = [one for one in tried if self._useful(one)]
            if not useful:
                return []
            start = _fastest_of_the_best(useful)
            more = [
                self._rank(quantizer, replace(start, calibration=calibration))
                for calibration in CALIBRATIONS
                if calibration != start.calibration
            ]
            closest = min([*useful, *more], key=_kl)
            more += self._with_islands(quantizer, closest)
            found = [one for one in self._timed(more) if self._useful(one)]
        return sorted([*useful, *found], key=_kl)

    def _useful(self, one: tuple[Candidate, Form]) -> bool:
        """Whether it is smaller, as all are, or faster, whichever is wanted."""
        if self._job.settings.target == "size":
            return True
        return (one[0].speedup or 0.0) > 1

    def one_form(self, form: Form) -> Candidate:
        """Quantizes in one way only.

        Args:
            form: That of another model.

        Returns:
            The candidate, timed.
        """
        with self._quantizer() as quantizer:
            ((candidate, _),) = self._timed([self._rank(quantizer, form)])
        return candidate

    def _quantizer(self) -> StaticQuantizer:
        images = self._job.settings.calibration_images
        rows = calibration_rows(self._job.dataset, images, self._job.context)
        return StaticQuantizer(self._model, self._job.dataset, rows)

    def _schemes(self) -> Sequence[Scheme]:
        return (U8S7, U8U8) if self._job.portable else (U8S8, U8S7, U8U8, S8S8)

    def _rank(self, quantizer: StaticQuantizer, form: Form) -> tuple[Candidate, Form]:
        """Makes a candidate and measures its divergence."""
        whole = self._base.recipe
        prefix = f"{self._base.name}-" if whole else ""
        name = f"{prefix}{form.name}"
        images = self._job.settings.calibration_images
        recipe = {**whole, "quantize": {**form.as_record(), "calibration_images": images}}

        def build() -> Classifier:
            graph = quantizer.quantize(
                form.scheme,
                form.calibration,
                keep_float=form.float_layers,
            )
            graph = with_metadata(graph, self._model)
            small = replace(self._model, graph=graph, network=None, precision="int8")
            return replace(small, card=self._model.after(StepRecord("quantize", recipe)).card)

        candidate, made = self._job.folder.make(name, recipe, build)
        if candidate.divergence is None:
            found = self._reference.divergence(run_onnx(made, "cpu"))
            candidate = self._job.folder.update(candidate, divergence=found, looks=self._base.looks)
        assert candidate.divergence is not None
        self._job.info(
            f"{name}: divergence {candidate.divergence.kl:.2g}, "
            f"{candidate.divergence.flips:.1%} of predictions change"
        )
        return candidate, form

    def _timed(self, some: list[tuple[Candidate, Form]]) -> list[tuple[Candidate, Form]]:
        timed = self._job.timed([candidate for candidate, _ in some])
        return [(candidate, form) for candidate, (_, form) in zip(timed, some, strict=True)]

    def _with_islands(
        self, quantizer: StaticQuantizer, closest: tuple[Candidate, Form]
    ) -> Iterator[tuple[Candidate, Form]]:
        """Leaves more and more of the sensitive layers in float32, until it is close enough."""
        candidate, form = closest
        if self._close_enough(candidate):
            return
        self._job.info("measuring how sensitive each layer is to quantization")
        order = self._sensitivities(quantizer, form)
        for number in _ISLANDS:
            if number >= len(order) or self._job.seconds_left() <= 0:
                return
            found, island = self._rank(quantizer, replace(form, float_layers=order[:number]))
            yield found, island
            if self._close_enough(found):
                return

    def _close_enough(self, candidate: Candidate) -> bool:
        """Whether so few predictions change that accuracy can hardly drop by half the budget."""
        assert candidate.divergence is not None
        return 100 * candidate.divergence.flips <= self._job.settings.max_accuracy_drop / 2

    def _sensitivities(self, quantizer: StaticQuantizer, form: Form) -> tuple[str, ...]:
        """The layers, most sensitive first: by the divergence if only that one is quantized."""
        found: dict[str, float] = {}
        with self._job.context.progress.task(
            "sensitivity", len(quantizer.weighted_nodes), unit="layers"
        ) as task:
            for name in quantizer.weighted_nodes:
                graph = quantizer.quantize(form.scheme, form.calibration, only=(name,))
                run = run_onnx(replace(self._model, graph=graph), "cpu")
                found[name] = self._reference.divergence(run, _SENSITIVITY_IMAGES).kl
                task.advance(1)
        return tuple(sorted(found, key=lambda name: -found[name]))


def _kl(one: tuple[Candidate, Form]) -> float:
    assert one[0].divergence is not None
    return one[0].divergence.kl


def _fastest_of_the_best(tried: Sequence[tuple[Candidate, Form]]) -> Form:
    least = min(_kl(one) for one in tried)
    best = [one for one in tried if _kl(one) <= _AS_GOOD * least]
    return max(best, key=lambda one: one[0].speedup or 0.0)[1]
