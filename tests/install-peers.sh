#!/usr/bin/env bash
# The real peers the tests talk to, from Debian's packages, when they are missing and we may install them. On another
# machine install them by hand; tests of a peer that is missing are skipped, loudly, and fail in CI.
set -u
declare -A package=(
    [Orthanc]=orthanc [dcmsend]=dcmtk [dciodvfy]=dicom3tools [ojph_compress]=openjph-tools [pg_ctlcluster]=postgresql
    [DicomSRValidator]=pixelmed-apps [chromium]=chromium [libOrthancDicomWeb.so]=orthanc-dicomweb [systemd-analyze]=systemd
    [promtool]=prometheus [strace]=strace
)
missing=()
for program in "${!package[@]}"; do
    command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || [ -e "/usr/share/orthanc/plugins/$program" ] || missing+=("${package[$program]}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "installing test peers: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
    echo "missing test peers: ${missing[*]} (their tests will be skipped)" >&2
fi
exit 0
