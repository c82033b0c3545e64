"""Every code that a refusal (E_) or a warning (W_) carries: what it means, and what a site can do about it.

`explain` and docs/codes.md read this registry. No other code is used anywhere; a test checks that.
"""

from dataclasses import dataclass

_SEND_AGAIN = "Send the series again from the scanner."


@dataclass(frozen=True)
class Code:
    meaning: str
    advice: str | None = None
    """What a site can do. None where nothing can be done or needs to be: the model was not made for such images, or the
    warning only informs."""


STUDY_CODES = {
    "E_NO_IMAGES": Code(
        "The study holds no image.",
        "Send the images of the study, not only its reports or presentation states.",
    ),
    "E_NO_REFERENCE": Code(
        "The study has a target, but no reference that fits it came in time.",
        "Acquire or send a reference of the same examination that covers the slices of the target, without moving the "
        "patient in between. If a PACS holds it, configure [fetch]. If it comes late, raise [completion] "
        "study_max_wait_s.",
    ),
    "E_NO_TARGET": Code(
        "The study has a reference, but no target came in time.",
        "Send the low-resolution series that is to be super-resolved. If the study has none, nothing needs to be done.",
    ),
    "E_NOTHING_USABLE": Code("No series of the study can be used, each for a reason of its own."),
}

SERIES_CODES = {
    "E_NOT_MR": Code("The images are not MR images."),
    "E_OWN_OUTPUT": Code(
        "The images are results of this node that came back. They are kept and never processed again."
    ),
    "E_AI_OUTPUT": Code("The images are marked as made by artificial intelligence, not measured by a scanner."),
    "E_ENHANCED_NO_FUNCTIONAL_GROUPS": Code(
        "An Enhanced MR instance has no per-frame functional groups, so the positions of its slices are unknown.",
        "Send the series again from the scanner, or as classic MR images.",
    ),
    "E_MULTIFRAME": Code(
        "A multi-frame instance is not Enhanced MR, so the positions of its slices are unknown.",
        "Send the series as Enhanced MR or as classic (single-frame) MR images.",
    ),
    "E_NO_PIXELS": Code("The series has headers without pixels.", _SEND_AGAIN),
    "E_ATTRIBUTES_MISSING": Code("Attributes that the node needs are missing or unusable.", _SEND_AGAIN),
    "E_SERIES_PATIENTS": Code(
        "Slices of the series contradict each other in the patient record: it was changed while the series was sent, or "
        "slices of two patients share the series.",
        "Send the whole series again with one patient record.",
    ),
    "W_PATIENT_RECORD_INCOMPLETE": Code(
        "Some slices of the series do not have a part of the patient record that others have."
    ),
    "E_SERIES_DAMAGED": Code(
        "The series also has images whose position is unknown, so the stack may be incomplete.", _SEND_AGAIN
    ),
    "E_COLOUR": Code("The images are in colour, such as a fused overlay or a report page."),
    "E_PIXEL_FORMAT": Code("The pixels are stored with a number of bits that MR images do not use."),
    "E_MATRIX_ABSURD": Code("The header claims a matrix that no scanner produces.", _SEND_AGAIN),
    "E_MOSAIC": Code(
        "The images are Siemens mosaics: many slices tiled in one image.", "Switch mosaic off in the protocol."
    ),
    "E_NOT_MAGNITUDE": Code(
        "The images show phase, or a real or imaginary part, not magnitude.", "Send the magnitude images."
    ),
    "E_COMPUTED_IMAGE": Code(
        "The images were computed from other images: a map, a projection or a reformat.",
        "Send the series from which they were computed.",
    ),
    "E_DIFFUSION": Code("The images are diffusion-weighted."),
    "E_ECHO_PLANAR": Code("The images are echo-planar. Their distortion keeps a reference from matching them."),
    "E_ANGIOGRAPHY": Code("The images are an angiography: they show flow, not tissue."),
    "E_BURNED_IN": Code("Text is burned into the pixels. Super-resolution would alter it."),
    "E_LOCALIZER": Code("The series is a localizer: it is marked as one, or its slices are in several planes."),
    "E_DESCRIPTION_VETO": Code(
        "The series description contains a word of [match] description_vetoes.",
        "Describe the series differently, or remove the word from [match] description_vetoes.",
    ),
    "E_TOO_FEW_SLICES": Code(
        "The stack has fewer slices than [match.stack] min_slices.",
        "Send the whole series again, unless it is a localizer.",
    ),
    "E_DUPLICATE_SLICES": Code(
        "Several slices of the stack are at the same position: a repeat or a dynamic scan in one series.",
        "Send repeats and time points as series of their own.",
    ),
    "E_MISSING_SLICES": Code("A slice is missing between others.", "Send the whole series again."),
    "E_IRREGULAR_SPACING": Code(
        "The slices are unevenly spaced.",
        "Send the whole series again. If it was acquired with uneven spacing, it cannot be used.",
    ),
    "E_SHEARED_STACK": Code(
        "The slices are shifted sideways against each other.",
        "Send the series as acquired, with straight slices, before any reformatting.",
    ),
    "E_AMBIGUOUS_STACKS": Code(
        "Several stacks of the series match equally well.",
        "Send only one of the stacks, or each as a series of its own; or veto all but one by a rule in [[match.rules]].",
    ),
    "E_LOSSY": Code(
        "The images were compressed with loss.",
        "Send the images as the scanner made them, or set [match] lossy to accept them.",
    ),
    "W_LOSSY": Code("The images were compressed with loss. The result keeps that loss."),
    "W_DERIVED": Code("The images were processed after reconstruction."),
    "W_FEWER_THAN_ANNOUNCED": Code(
        "Fewer images were received than the scanner announced.", "Send the whole series, if images were left out."
    ),
    "W_EVERY_SECOND_IMAGE": Code(
        "Only images with odd numbers, or only with even ones, were received: perhaps one half of an interleaved series.",
        "Send the whole series, if the other half was left out.",
    ),
    "W_RATIO_IMAGE": Code("The images are a ratio of two others (MP2RAGE UNI), with noise in air."),
    "W_DEEP_LEARNING": Code(
        "A network of the vendor took part in the reconstruction, so some detail is not measured.",
        "To leave such series out, set [match] deep_learning.",
    ),
    "E_DEEP_LEARNING": Code(
        "A network of the vendor took part in the reconstruction, and [match] deep_learning refuses that.",
        "Send the series as reconstructed without the network.",
    ),
    "E_CONTRAST_UNSUPPORTED": Code(
        "The scanner names a contrast that the node does not process, or the preparation of the sequence gives one: a late "
        "inversion, a small flip angle, magnetisation transfer, a field map, time of flight."
    ),
    "W_SINGLE_SHOT": Code("The target is single-shot (HASTE, SSFSE): blurred along the phase encoding."),
    "E_CONTRAST_UNKNOWN": Code(
        "The timing of the acquisition fits no contrast that the node knows.",
        "Compare the times of the protocol with the rules of [match.contrast]. If the protocol is just outside a limit, "
        "a site may move it.",
    ),
    "E_CONTRAST_NOT_WANTED": Code(
        "The contrast is neither a target nor a reference of the configuration.",
        "If this contrast is wanted, name it in [match] targets or references, with a model that was trained for it.",
    ),
    "E_NOT_TRAINED_FOR": Code(
        "The model was not trained for this target contrast with this reference contrast.",
        "Name weights in [model] path that were trained for this pair of contrasts.",
    ),
    "E_SITE_RULE": Code("A rule of the site in [[match.rules]] refuses the series."),
    "E_SITE_RULES_DISAGREE": Code(
        "Several rules in [[match.rules]] apply to the series and contradict each other.",
        "Narrow one of the rules in [[match.rules]], so that they never apply together.",
    ),
    "W_SITE_RULE": Code("A rule of the site in [[match.rules]] sets the contrast or the role of the series."),
    "E_MATRIX_TOO_SMALL": Code(
        "The acquired matrix, by the header or the images, is too small for the model to see the anatomy.",
        "Acquire a larger matrix. If the scanner did, and the header or the spectrum of the images is misread, set header, "
        "spectrum or crop in [acquisition] to false.",
    ),
    "E_MATRIX_TOO_LARGE": Code("The result would exceed [match.stack] max_matrix: the series is not low-resolution."),
    "E_TARGET_ALREADY_FINE": Code(
        "The pixels of the result would be smaller than [match.target] min_output_spacing_mm: the series already has a "
        "high resolution."
    ),
    "E_INTERPOLATED": Code("The scanner interpolated the target.", "Switch interpolation off in the protocol."),
    "W_INTERPOLATED": Code(
        "The scanner interpolated the target by more than [match.target] max_interpolation. With [acquisition] crop the "
        "network works on the acquired matrix; the result has less detail than its pixels suggest."
    ),
    "W_ACQUIRED_MATRIX_UNKNOWN": Code(
        "The header does not give the acquired matrix. Only the spectrum of the images can show it.",
        "Let the scanner write AcquisitionMatrix and InPlanePhaseEncodingDirection, and keep them where series are "
        "anonymised.",
    ),
}

PAIR_CODES = {
    "E_OTHER_PATIENT": Code(
        "The two series contradict each other in the patient record: the sentence names the attributes.",
        "Have the records corrected in the PACS, and send both series again.",
    ),
    "E_OTHER_STUDY": Code(
        "The two series belong to different studies.",
        "Send both series under one study, or have the studies merged in the PACS.",
    ),
    "E_FRAME_OF_REFERENCE": Code(
        "The two series do not share a frame of reference: the patient was repositioned between them, or the scanner "
        "does not name it.",
        "Acquire both series in one session, without a new localizer in between.",
    ),
    "E_NOT_PARALLEL": Code(
        "The slices of the two series are tilted against each other, and the reference is not a volume.",
        "Plan the reference in the planes of the target, or acquire it in 3-D.",
    ),
    "E_PLANES_APART": Code(
        "A slice of the target is too far from the nearest slice of the reference.",
        "Cover the same slices with both series.",
    ),
    "E_FIELD_OF_VIEW": Code(
        "The reference covers too little of the target's field of view.",
        "Give the reference at least the field of view of the target, with the same centre. Where only air is outside, "
        "lower [match.pairing] min_coverage, or min_volume_coverage for a volume.",
    ),
    "E_REFERENCE_COARSE": Code(
        "The pixels of the reference are so much larger than those of the result that it has no detail to give.",
        "Acquire the reference with a finer matrix. If the target is not a low-resolution series, acquire it with a "
        "coarser matrix.",
    ),
    "W_FIELD_OF_VIEW": Code(
        "The reference is a volume that covers only a part of the target's field of view. That the rest is air is checked on "
        "the images."
    ),
    "W_REFERENCE_COARSE": Code(
        "The pixels of the reference are larger than those of the result, so the finest details have no guide.",
        "For finer detail acquire the reference with a finer matrix.",
    ),
    "W_REFERENCE_INTERPOLATED": Code(
        "The scanner interpolated the reference. It is judged by the pixels that were acquired."
    ),
    "W_CONTRAST_AGENT": Code(
        "The reference was acquired with a contrast agent. Enhancing tissue looks different from the training data."
    ),
}

PIXEL_CODES = {
    "E_PIXELS_NONE": Code("An instance has no pixel data.", _SEND_AGAIN),
    "E_PIXELS_UNREADABLE": Code(
        "The pixels of an instance cannot be decoded.",
        "Send the series again. The sentence names the decoder where one has to be installed.",
    ),
    "E_PIXELS_INCONSISTENT": Code("The images of a stack do not belong together, or some are missing.", _SEND_AGAIN),
    "E_PIXELS_NO_GEOMETRY": Code("An image has no usable position, orientation or pixel spacing.", _SEND_AGAIN),
    "E_PIXELS_NEGATIVE": Code("The pixels have negative values, so the image is not a magnitude image."),
    "E_PIXELS_MULTIFRAME": Code("A multi-frame instance does not give the positions of its frames."),
    "E_PIXELS_COLOUR": Code("An image is not monochrome."),
    "E_PIXELS_SIZE": Code("The images are larger than the node can process."),
}

RESULT_CODES = {
    "W_ACQUISITION": Code(
        "The header and the spectrum of the images contradict each other about how the target was acquired, and the spectrum "
        "was used; or a filter that only the spectrum showed was taken back, because the result contradicted the images.",
        "Compare the facts in the report with the protocol. If the header is right, set [acquisition] spectrum to false.",
    ),
    "E_MODEL_INPUT": Code("The model cannot process a stack of this size."),
    "E_NO_OVERLAP": Code("The reference does not reach any slice of the target."),
    "E_TISSUE_NOT_COVERED": Code(
        "The reference leaves out tissue that the images of the target show, not only air.",
        "Give the reference at least the field of view of the target, with the same centre.",
    ),
    "E_MISALIGNED": Code(
        "The patient moved between the two series by more than [registration] allows.",
        "Acquire one of the two series again.",
    ),
    "W_MISALIGNED": Code("The patient moved between the two series. The reference was used where it is."),
    "W_REFERENCE_MOVED": Code("The patient moved between the two series. The reference was moved onto the target."),
    "W_REGISTRATION_UNSURE": Code(
        "The displacement of the reference could not be estimated reliably. The reference was used where it is."
    ),
    "W_COVERAGE": Code(
        "The reference covers only part of a target slice. The rest was super-resolved without a guide."
    ),
    "W_ATTRIBUTES_CORRECTED": Code(
        "Attributes of the source that do not conform to the standard were corrected or left out in the result."
    ),
}

STORED_CODES = {
    "E_STORED_DAMAGED": Code(
        "What the archive kept no longer matches its digest, so it is not used.",
        "Check the disk. Results and derived series are made again by themselves. Send a damaged instance again; the "
        "jobs that failed for it then continue.",
    ),
    "E_STORED_MISSING": Code(
        "What the archive kept is missing.",
        "As for E_STORED_DAMAGED. If much is missing, check that [storage] archive is the right folder or bucket.",
    ),
}

WORK_CODES = {
    "E_WORKER_DIED": Code(
        "Twenty workers in a row died while they held the job: it ends the process that works on it.",
        "See the log of the service for how they ended: out of memory, a fault of the GPU or its driver. When that is "
        "corrected, retry the job.",
    ),
}

GROUPS = {
    "Of a study": STUDY_CODES,
    "Of a series": SERIES_CODES,
    "Of a target with a reference": PAIR_CODES,
    "Of pixels": PIXEL_CODES,
    "Of a result": RESULT_CODES,
    "Of what is stored": STORED_CODES,
    "Of work": WORK_CODES,
}

CODES: dict[str, Code] = {name: code for group in GROUPS.values() for name, code in group.items()}


def codes_document() -> str:
    """The registry as a document: docs/codes.md, and what `diffmsr-node codes` prints."""
    lines = [
        "# Codes",
        "",
        "Every refusal (E_) and every warning (W_) carries one of these codes. Printed by `diffmsr-node codes`.",
    ]
    for heading, group in GROUPS.items():
        lines += ["", f"## {heading}", "", "| Code | Meaning | What you can do |", "|---|---|---|"]
        lines += [f"| `{name}` | {code.meaning} | {code.advice or ''} |" for name, code in group.items()]
    return "\n".join(lines) + "\n"
