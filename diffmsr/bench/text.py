"""The figures for reading."""

from collections.abc import Mapping
from typing import Any


def text(figures: Mapping[str, Any]) -> str:
    """The lines for what `measure` found."""
    where, size = figures["machine"], figures["size"]
    wide = max(12, *(len(row["preset"]) for row in figures["counts"]))
    lines = [
        f"$ {figures['command']}",
        f"{where['device']}, {where['threads']} threads, torch {where['torch']}",
        "",
        f"Counts at {size} x {size}. {figures['method']}.",
        f"{'preset':{wide}}  variant   parameters   + training       plain        fast",
    ]
    for row in figures["counts"]:
        lines.append(
            f"{row['preset']:{wide}}  {row['variant']:8} {row['parameters']:9.3f} M  {row['training_only']:9.3f} M {row['gflop']:8.2f} GF {row['gflop_fast']:8.2f} GF"
        )
    lines += [
        "",
        f"Inference, {figures['preset']}, fast in {figures['precision']}, {figures['rounds']} rounds in turns",
    ]
    lines.append("batch  way           median       min  processor  of ceiling   peak memory   fast is faster by")
    for row in figures["inference"]:
        for way, of in ((way, of) for way, of in row.items() if isinstance(of, dict) and "peak_mib" in of):
            gain = row.get(f"fast_over_{way}")
            memory = "-" if of["peak_mib"] is None else f"{of['peak_mib']:.0f} MiB"
            faster = _ratio(gain) if gain else ""
            lines.append(
                f"{row['batch']:5}  {way:11} {1e3 * of['median']:6.1f} ms {1e3 * of['min']:6.1f} ms {1e3 * of['processor']:7.1f} ms {of['share_of_ceiling']:10.0%} {memory:>13}   {faster}"
            )
        lines.append(
            f"       ceiling {row['ceiling_gflops']:.0f} GFLOP/s (per thread on a CPU); fast differs from plain by {row['difference']:.1e} of the maximum"
        )
    trained = figures["training"]
    gain = trained["product_over_straightforward"]
    lines += ["", f"Training in the last stage, {trained['batch']} patches of {trained['patch']} per step"]
    for way in ("straightforward", "product"):
        lines.append(f"{way:15} {trained[way]['slices_per_second']:6.2f} slices/s (best {trained[way]['best']:.2f})")
    lines.append(f"product is faster by {_ratio(gain)}")
    return "\n".join(lines)


def _ratio(gain: Mapping[str, float]) -> str:
    return f"{gain['median']:.2f} (fastest rounds {gain['min']:.2f}, in processor time {gain['processor']:.2f})"
