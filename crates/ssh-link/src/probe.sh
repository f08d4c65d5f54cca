# Prints what this machine is, as lines `key=value`. Unknown values are left out.
dir=$(at "$1")
PATH=$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin:$HOME/.local/bin
say() { printf '%s=%s\n' "$1" "$2"; }
say directory "$dir"
say os "$(uname -s)"
say arch "$(uname -m)"
say hostname "$(uname -n)"
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || libc=
[ -n "$libc" ] || for loader in /lib/ld-musl-*; do [ ! -e "$loader" ] || libc=musl; done
say libc "$libc"
say cpus "$(getconf _NPROCESSORS_ONLN 2>/dev/null)"
while read -r key kib unit; do
  case $key in
    MemTotal:) say ram_total_kib "$kib";;
    MemAvailable:) say ram_available_kib "$kib";;
  esac
done </proc/meminfo 2>/dev/null
if [ "$(uname -s)" = Darwin ]; then
  bytes=$(sysctl -n hw.memsize 2>/dev/null) && say ram_total_kib $((bytes / 1024))
  vm_stat 2>/dev/null | while read -r line; do say vm_stat "$line"; done
  # Apple's own processors have a GPU with the memory of the machine.
  say metal "$(sysctl -n machdep.cpu.brand_string 2>/dev/null)"
fi
near=$dir
while [ -n "$near" ] && [ ! -d "$near" ]; do near=${near%/*}; done
df -Pk "${near:-/}" 2>/dev/null | { read -r _; read -r _ _ _ kib _; say disk_free_kib "$kib"; }
for tool in git cargo curl systemctl loginctl nvidia-smi; do
  if command -v "$tool" >/dev/null; then say tool "$tool"; fi
done
say linger "$(loginctl show-user "$(id -un)" --property=Linger --value 2>/dev/null)"
nvidia-smi --query-gpu=index,name,memory.total --format=csv,noheader,nounits 2>/dev/null |
  while read -r line; do say nvidia "$line"; done
for file in /sys/class/drm/card[0-9]*/device/mem_info_vram_total; do
  [ -e "$file" ] || continue
  IFS= read -r bytes <"$file" && say amd_vram_bytes "$bytes"
done
if [ -x "$dir/bin/current/rbee-hive" ]; then
  say hive "$("$dir/bin/current/rbee-hive" --version 2>&1 </dev/null)"
fi
say end 1
