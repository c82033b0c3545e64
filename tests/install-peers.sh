#!/usr/bin/env bash
# The real peers the tests talk to, from Debian's packages, when they are missing and we may install them. On another
# machine install them by hand; tests of a peer that is missing are skipped, loudly, and fail in CI.
set -u
declare -A package=(
    [Orthanc]=orthanc [dcmsend]=dcmtk [dciodvfy]=dicom3tools [ojph_compress]=openjph-tools [pg_ctlcluster]=postgresql
    [DicomSRValidator]=pixelmed-apps [chromium]=chromium [npm]=npm
)
missing=()
for program in "${!package[@]}"; do
    command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || missing+=("${package[$program]}")
done
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        echo "installing test peers: ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    else
        echo "missing test peers: ${missing[*]} (their tests will be skipped)" >&2
    fi
fi

# axe-core checks the pages for accessibility. Its licence (MPL-2.0) keeps it out of this repository, so it is fetched once
# into the user's cache.
axe_version=4.14.1
axe_folder="${XDG_CACHE_HOME:-$HOME/.cache}/diffmsr-node/axe-core-$axe_version"
if [ ! -f "$axe_folder/package/axe.min.js" ] && command -v npm >/dev/null; then
    mkdir -p "$axe_folder"
    (cd "$axe_folder" && npm pack --silent "axe-core@$axe_version" >/dev/null && tar xzf ./*.tgz package/axe.min.js package/LICENSE) ||
        echo "axe-core cannot be fetched (its tests will be skipped)" >&2
fi
exit 0
