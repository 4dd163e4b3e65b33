#!/usr/bin/env bash
# Installs what is missing of apt-packages.txt: as root, on Debian and its kin; elsewhere says what it did not do.
set -euo pipefail
cd "$(dirname "$0")"
mapfile -t missing < <(grep -v '^#' apt-packages.txt | while read -r package; do
  dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
done)
if [ ${#missing[@]} = 0 ]; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "not installed, for want of root or apt-get: ${missing[*]}" >&2
  exit 0
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
options=(-o Acquire::Retries=5 -o DPkg::Lock::Timeout=300)
apt-get "${options[@]}" update --quiet=2
apt-get "${options[@]}" install --quiet=2 --yes --no-install-recommends "${missing[@]}" >/dev/null
