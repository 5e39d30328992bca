# To be sourced in bash on a machine without network (". .bundle/enter.sh"): Deno on the PATH, its npm packages, and a
# Vulkan loader where the machine has none. Unpacked once, into BUNDLE_PREFIX (/tmp/simpo-bundle unless set).
_bundle=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
_prefix=${BUNDLE_PREFIX:-/tmp/simpo-bundle}
_unpack() {
  mkdir -p "$_prefix/bin" "$_prefix/deno_dir" "$_prefix/loader" &&
    gzip -dc "$_bundle/deno.gz" > "$_prefix/bin/deno" && chmod +x "$_prefix/bin/deno" &&
    tar -xzf "$_bundle/packages.tar.gz" -C "$_prefix/deno_dir" || return
  for _deb in "$_bundle"/loader/*.deb; do
    [ ! -e "$_deb" ] || dpkg-deb --extract "$_deb" "$_prefix/loader" || return
  done
  touch "$_prefix/complete"
}
[ -e "$_prefix/complete" ] || _unpack
export PATH="$_prefix/bin:$PATH" DENO_DIR="$_prefix/deno_dir" DENO_NO_UPDATE_CHECK=1
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}"
if ! ldconfig -p 2> /dev/null | grep -q 'libvulkan\.so\.1'; then
  export LD_LIBRARY_PATH="$_prefix/loader/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
# some container runtimes put NVIDIA's driver where the loader does not look
if [ -z "${VK_DRIVER_FILES:-}" ]; then
  for _icd in /etc /usr/share /usr/local/nvidia/share; do
    if [ -f "$_icd/vulkan/icd.d/nvidia_icd.json" ]; then
      export VK_DRIVER_FILES="$_icd/vulkan/icd.d/nvidia_icd.json"
      break
    fi
  done
fi
unset -f _unpack
unset _bundle _prefix _deb _icd
