"""Every number that is said about an edit: its name, its unit, and which way is better."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A column of a table.

    Attributes:
        name: as it is written in files.
        help: what it says, in few words.
        better: "higher" or "lower".
        unit: "dB", "s", ...; empty for a pure number.
    """

    name: str
    help: str
    better: str
    unit: str = ""

    @property
    def sign(self) -> int:
        """+1 where more is better, -1 where less is."""
        return 1 if self.better == "higher" else -1


def _metrics(*all_of_them: Metric) -> dict[str, Metric]:
    return {each.name: each for each in all_of_them}


#: What a `Judge` measures, by name, in the order of tables.
METRICS = _metrics(
    Metric("mse", "mean squared error to the source", "lower"),
    Metric("psnr", "peak signal-to-noise ratio to the source", "higher", "dB"),
    Metric("ssim", "structural similarity to the source", "higher"),
    Metric("lpips", "perceptual distance to the source", "lower"),
    Metric("structure", "structure distance to the source", "lower"),
    Metric("outside_mse", "mean squared error to the source outside the mask", "lower"),
    Metric("outside_psnr", "peak signal-to-noise ratio to the source outside the mask", "higher", "dB"),
    Metric("outside_ssim", "structural similarity to the source outside the mask", "higher"),
    Metric("outside_lpips", "perceptual distance to the source outside the mask", "lower"),
    Metric("target_mse", "mean squared error to the target picture", "lower"),
    Metric("target_psnr", "peak signal-to-noise ratio to the target picture", "higher", "dB"),
    Metric("target_ssim", "structural similarity to the target picture", "higher"),
    Metric("target_lpips", "perceptual distance to the target picture", "lower"),
    Metric("clip", "cosine of the edit with the target text", "higher"),
    Metric("clip_region", "the same with all outside the mask black", "higher"),
    Metric("clip_margin", "cosine with the target text less that with the source text", "higher"),
    Metric("clip_nearer", "1 where the target text is nearer than the source text", "higher"),
    Metric("clip_direction", "cosine of the change of picture with the change of text", "higher"),
)
