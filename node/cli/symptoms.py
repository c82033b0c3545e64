"""Troubleshooting by symptom: what an administrator sees, where to look first, and the codes behind it.

docs/troubleshooting.md is made from this, and `diffmsr-node codes --symptoms` prints it. Every code belongs to one symptom.
"""

from dataclasses import dataclass

from node.codes import CODES


@dataclass(frozen=True)
class Symptom:
    """What is seen, and what to do about it."""

    seen: str
    first: str
    """Where to look, and the fix where it does not depend on a code."""
    codes: tuple[str, ...] = ()


SYMPTOMS = {
    "The service": (
        Symptom(
            "The service does not start",
            "The last line of `journalctl -u diffmsr-node -n 20` says why, in one sentence. `diffmsr-node config check` finds "
            "faults of the configuration, `diffmsr-node doctor` everything else: a folder that its account may not write, a "
            "port that is taken, a database that does not answer or is newer than the program.",
        ),
        Symptom(
            "A command says that it cannot read the data folder",
            "It belongs to the account of the service: `sudo -u diffmsr diffmsr-node status`.",
        ),
        Symptom(
            "`diffmsr-node status` says degraded, and its exit code is 1",
            "The sentence after it names the precondition that does not hold. Most often the disk is below "
            "`[storage] reserve_gb`.",
        ),
        Symptom(
            "Work waits although the service runs",
            "`diffmsr-node status` names work that no worker takes: something is paused (`diffmsr-node queue resume inference`), "
            "or no host runs the role.",
        ),
        Symptom(
            "The service refuses its tracker",
            "It is damaged, empty, or not the one of this data folder. `diffmsr-node db restore` puts a backup in its place, "
            "`diffmsr-node db rebuild` makes a new one from what is stored: see [operate](operate.md#after-an-accident).",
        ),
        Symptom(
            "The disk fills",
            "`diffmsr-node storage free --dry-run` shows what `[storage] retention_days` and `watermark_percent` would free. Without "
            "them everything stays.",
        ),
        Symptom(
            "Inference is slow",
            "`diffmsr-node doctor` compares a known study with its first run on this machine. See `[model] device` and "
            "[tuning](tuning.md).",
        ),
        Symptom(
            "A certificate expires",
            "`diffmsr-node doctor` names the file and the day. Put the new file in its place, and restart the service.",
        ),
        Symptom(
            "The archive lost or damaged something",
            "`diffmsr-node queue list --state failed` shows the jobs.",
            ("E_STORED_DAMAGED", "E_STORED_MISSING"),
        ),
        Symptom(
            "Each worker dies that takes a certain job",
            "`diffmsr-node queue list --state failed` shows the job, the log of the service how its workers ended.",
            ("E_WORKER_DIED",),
        ),
    ),
    "A scanner sends": (
        Symptom(
            "The scanner's test fails",
            "`diffmsr-node status`: does the service run, and on which port? Then the firewall, the AE title, and `[[sources]]`. "
            "The journal has one line for each association that was rejected, with the reason.",
        ),
        Symptom(
            "Images are refused with 0xA700",
            "The disk of the archive is below `[storage] reserve_gb`, or the database does not answer: `diffmsr-node status`. "
            "New associations are rejected temporarily meanwhile. Make room; the scanner can then send again.",
        ),
        Symptom(
            "Images are refused with 0xC111",
            "The same SOP instance UID came before, with other pixels, and the first is kept. `diffmsr-node explain STUDY_UID` "
            "names the instances. If the new pixels are right, make room for them: `diffmsr-node queue drop STUDY_UID`.",
        ),
        Symptom(
            "Images are refused with 0x0122, 0xA900, 0xC000 or 0x0117",
            "The sender contradicts itself, or the data set cannot be read. The journal names the instance and what is wrong.",
        ),
        Symptom(
            "An association ends in the middle of a transfer",
            "The journal has the reason: a time limit or a size limit of `[scp]`, or more associations than "
            "`max_associations_per_address` or `max_associations_per_ae_title`, which a router needs to be higher.",
        ),
    ),
    "A study was received, but it has no result": (
        Symptom(
            "Nothing at all happened",
            "`diffmsr-node studies` shows whether the study is there, and `diffmsr-node explain STUDY_UID` what was decided. "
            "While a series still arrives the study is `receiving`.",
            ("E_NO_IMAGES", "E_NOTHING_USABLE"),
        ),
        Symptom(
            "The study waits for its partner, or was refused for lack of one",
            "`diffmsr-node explain STUDY_UID` shows for each series which question it failed.",
            ("E_NO_REFERENCE", "E_NO_TARGET"),
        ),
        Symptom(
            "T1 and T2 are there, but do not make a pair",
            "`diffmsr-node explain STUDY_UID` shows each pair that was tried, with measured values and limits. The limits are in "
            "`[match.pairing]`.",
            (
                "E_OTHER_PATIENT",
                "E_OTHER_STUDY",
                "E_FRAME_OF_REFERENCE",
                "E_NOT_PARALLEL",
                "E_PLANES_APART",
                "E_FIELD_OF_VIEW",
                "E_TISSUE_NOT_COVERED",
                "E_REFERENCE_COARSE",
                "E_NO_OVERLAP",
                "E_MISALIGNED",
            ),
        ),
        Symptom(
            "The contrast of a series is not recognised, or not wanted",
            "`diffmsr-node explain STUDY_UID` shows the times of the sequence and the rule that decided.",
            (
                "E_CONTRAST_UNKNOWN",
                "E_CONTRAST_UNSUPPORTED",
                "E_CONTRAST_NOT_WANTED",
                "E_NOT_TRAINED_FOR",
                "E_DESCRIPTION_VETO",
                "E_SITE_RULE",
                "E_SITE_RULES_DISAGREE",
            ),
        ),
        Symptom(
            "A series is left out, because its images are of another kind",
            "Send the series from which they were made, where there is one.",
            (
                "E_NOT_MR",
                "E_OWN_OUTPUT",
                "E_AI_OUTPUT",
                "E_NOT_MAGNITUDE",
                "E_COMPUTED_IMAGE",
                "E_DIFFUSION",
                "E_ECHO_PLANAR",
                "E_ANGIOGRAPHY",
                "E_BURNED_IN",
                "E_LOCALIZER",
                "E_COLOUR",
                "E_MOSAIC",
                "E_LOSSY",
                "E_DEEP_LEARNING",
            ),
        ),
        Symptom(
            "A series is left out, because it is incomplete or damaged",
            "Compare the number of images at the scanner with that of `diffmsr-node studies`, and send the series again.",
            (
                "E_TOO_FEW_SLICES",
                "E_DUPLICATE_SLICES",
                "E_MISSING_SLICES",
                "E_IRREGULAR_SPACING",
                "E_SHEARED_STACK",
                "E_AMBIGUOUS_STACKS",
                "E_SERIES_PATIENTS",
                "E_SERIES_DAMAGED",
                "E_NO_PIXELS",
                "E_ATTRIBUTES_MISSING",
                "E_ENHANCED_NO_FUNCTIONAL_GROUPS",
                "E_MULTIFRAME",
                "E_MATRIX_ABSURD",
            ),
        ),
        Symptom(
            "The target has the wrong matrix",
            "The node is for series of low resolution. `diffmsr-node explain STUDY_UID` shows the stored and the acquired matrix.",
            (
                "E_MATRIX_TOO_SMALL",
                "E_MATRIX_TOO_LARGE",
                "E_TARGET_ALREADY_FINE",
                "E_INTERPOLATED",
                "E_MODEL_INPUT",
            ),
        ),
        Symptom(
            "The pixels cannot be read",
            "`diffmsr-node queue show 3` has the sentence. JPEG Lossless needs the extra `gdcm`: see [install](install.md).",
            (
                "E_PIXELS_NONE",
                "E_PIXELS_UNREADABLE",
                "E_PIXELS_INCONSISTENT",
                "E_PIXELS_NO_GEOMETRY",
                "E_PIXELS_NEGATIVE",
                "E_PIXELS_MULTIFRAME",
                "E_PIXELS_COLOUR",
                "E_PIXELS_SIZE",
                "E_PIXEL_FORMAT",
            ),
        ),
    ),
    "There is a result": (
        Symptom(
            "The report has a warning",
            "`diffmsr-node queue report 3` prints where the report is. A warning does not keep a result from being delivered.",
            (
                "W_PATIENT_RECORD_INCOMPLETE",
                "W_LOSSY",
                "W_DERIVED",
                "W_FEWER_THAN_ANNOUNCED",
                "W_EVERY_SECOND_IMAGE",
                "W_RATIO_IMAGE",
                "W_DEEP_LEARNING",
                "W_SINGLE_SHOT",
                "W_SITE_RULE",
                "W_INTERPOLATED",
                "W_ACQUIRED_MATRIX_UNKNOWN",
                "W_FIELD_OF_VIEW",
                "W_REFERENCE_COARSE",
                "W_REFERENCE_INTERPOLATED",
                "W_CONTRAST_AGENT",
                "W_ACQUISITION",
                "W_MISALIGNED",
                "W_REFERENCE_MOVED",
                "W_REGISTRATION_UNSURE",
                "W_COVERAGE",
                "W_ATTRIBUTES_CORRECTED",
            ),
        ),
        Symptom(
            "A result is held",
            "It was graded not usable, and `[report] hold` is on. Look at it in the viewer of [the page](page.md), then "
            "`diffmsr-node queue release 3`, or `diffmsr-node queue cancel 3`.",
        ),
        Symptom(
            "A result does not reach the PACS",
            "`diffmsr-node echo pacs`, then `diffmsr-node queue list --kind deliver` and `diffmsr-node queue show 3`: the status of "
            "each instance, in hexadecimal and in words.",
        ),
        Symptom(
            "The job is done, but nothing was sent",
            "No destination was configured, or `only` of each destination excludes the grade. Configure one, then "
            "`diffmsr-node queue resend 3`.",
        ),
        Symptom("The PACS lost a result", "`diffmsr-node queue resend STUDY_UID` sends it again, with the same identifiers."),
        Symptom(
            "There are two results of one study",
            "The target grew or was corrected after the first. The description of the second says which series it replaces. "
            "`[output] rejection_note` has a PACS that follows IHE IOCM hide the first.",
        ),
    ),
    "The page": (
        Symptom(
            "The page asks for a log-in, and nobody has one",
            "`diffmsr-node users set NAME`: see [the page](page.md).",
        ),
        Symptom(
            "The page cannot be reached from another machine",
            "It listens on loopback until people log in: `[web] host` and `users_file`. Then the firewall.",
        ),
        Symptom(
            "A button is missing",
            "It needs the role `operate`, and names of patients need `phi`: `diffmsr-node users list`.",
        ),
    ),
}  # fmt: skip


def symptoms_document() -> str:
    """The symptoms as a document: docs/troubleshooting.md, and what `diffmsr-node codes --symptoms` prints."""
    lines = [
        "# Troubleshooting",
        "",
        "Begin with `diffmsr-node doctor`. It finds most causes, and says what to do. In the commands below, 3 is the number of a "
        "job and STUDY_UID the UID of a study or its beginning. Printed by `diffmsr-node codes --symptoms`; the list by code is in "
        "[codes](codes.md).",
    ]
    for heading, symptoms in SYMPTOMS.items():
        lines += ["", f"## {heading}"]
        for symptom in symptoms:
            lines += ["", f"### {symptom.seen}", "", symptom.first]
            if symptom.codes:
                lines += ["", "| Code | Meaning | What you can do |", "|---|---|---|"]
                lines += [
                    f"| `{name}` | {CODES[name].meaning} | {CODES[name].advice or ''} |" for name in symptom.codes
                ]
    return "\n".join(lines) + "\n"
