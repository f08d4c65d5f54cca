# Prints the versions of what a build needs, as lines `tool=version`.
PATH=$PATH:$HOME/.cargo/bin
for tool in git cargo cc; do
  if command -v "$tool" >/dev/null; then
    printf '%s=%s\n' "$tool" "$("$tool" --version 2>&1 </dev/null | head -n 1)"
  fi
done
if command -v rustup >/dev/null; then echo rustup=1; fi
exit 0
