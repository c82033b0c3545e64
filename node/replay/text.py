"""A replay in plain lines: what `replay` prints."""

from collections.abc import Iterator

from node.replay.compare import SeriesComparison
from node.replay.replay import GivenAnswer, Replay


def replay_lines(replay: Replay) -> Iterator[str]:
    """The conclusion first, then every difference."""
    yield f"Study {replay.study_uid}: {'the same' if replay.identical else 'different'}"
    yield f"  {replay.sentence}"
    for answer in replay.answers:
        yield f"  {answer.where}, {answer.question}: then {_answer(answer.kept)}; now {_answer(answer.now)}"
    for outcome in replay.outcomes:
        pair = f"series {outcome.target_series_uid} guided by {outcome.reference_series_uid}"
        if outcome.kept == outcome.now:
            yield f"  {pair}: {outcome.now}, as then"
        else:
            yield f"  {pair}: then {outcome.kept or 'not requested'}; now {outcome.now or 'not requested'}"
    for series in replay.series:
        yield f"  derived series {series.series_uid or series.kept_series_uid}: {_counts(series)}"
        if series.pixels is not None:
            psnr = "the same" if series.pixels.psnr_db is None else f"PSNR {series.pixels.psnr_db:.2f} dB"
            yield f"    pixels: largest difference {series.pixels.largest:g}, mean {series.pixels.mean:.4g}, {psnr}"
        for attribute in series.attributes:
            values = "" if attribute.kept == attribute.now else f": then {attribute.kept}; now {attribute.now}"
            yield f"    {attribute.name} differs{values}"


def _answer(answer: GivenAnswer | None) -> str:
    if answer is None:
        return "not asked"
    found = [] if answer.value is None else [f"found {answer.value}"]
    limit = [] if answer.threshold is None else [f"limit {answer.threshold}"]
    numbers = f" ({'; '.join(found + limit)})" if found or limit else ""
    return answer.outcome + (f" {answer.code}" if answer.code else "") + numbers


def _counts(series: SeriesComparison) -> str:
    counts = [
        (series.identical, "the same byte for byte"),
        (series.different, "different"),
        (series.only_kept, "only kept, not made again"),
        (series.only_now, "made now, not kept"),
    ]
    return ", ".join(f"{count} {what}" for count, what in counts if count)
