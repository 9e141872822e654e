#!/bin/sh
# Makes sure that PostgreSQL's programs are on this machine, for the demo and the
# tests: silent when they are, installs them where that is allowed, else says what
# to type and exits 69.
set -u

# The same search as findPrograms in internal/embedded/programs.go.
places() {
	saved=$IFS
	IFS=:
	for dir in ${PATH:-}; do
		printf '%s\n' "${dir:-.}"
	done
	IFS=$saved
	for dir in \
		/usr/lib/postgresql/*/bin \
		/usr/pgsql-*/bin \
		/usr/libexec/postgresql* \
		/usr/local/pgsql/bin \
		/opt/homebrew/opt/postgresql*/bin \
		/usr/local/opt/postgresql*/bin \
		/home/linuxbrew/.linuxbrew/opt/postgresql*/bin \
		/Applications/Postgres.app/Contents/Versions/*/bin \
		; do
		printf '%s\n' "$dir"
	done
}

found() {
	places | {
		while IFS= read -r dir; do
			# A lone postgres may be a wrapper: the set lies where a link leads.
			target=$(readlink -f "$dir/postgres" 2>/dev/null) && dir=${target%/*}
			[ -x "$dir/postgres" ] && [ -x "$dir/initdb" ] && [ -x "$dir/pg_ctl" ] || continue
			major=$("$dir/postgres" -V 2>/dev/null | sed -n 's/.*PostgreSQL) \([0-9][0-9]*\).*/\1/p')
			[ "${major:-0}" -ge 14 ] && exit 0
		done
		exit 1
	}
}

say() { printf '%s\n' "$*" >&2; }

has() { command -v "$1" >/dev/null 2>&1; }

# Debian's package makes a cluster and starts it on port 5432, which nobody asked
# for and which may be taken. Its own switch for that is put beside its
# configuration for the time of the installation, and taken away again.
install_debian() {
	switch=/etc/postgresql-common/createcluster.d/pushwatch.conf
	mkdir -p "${switch%/*}" || return 1
	trap 'rm -f "$switch"' EXIT
	trap 'exit 69' HUP INT TERM
	printf 'create_main_cluster = false\n' >"$switch" || return 1
	DEBIAN_FRONTEND=noninteractive
	export DEBIAN_FRONTEND
	apt-get -q update >&2 && apt-get -q -y --no-install-recommends install postgresql >&2
}

found && exit 0

root=no
[ "$(id -u)" = 0 ] && root=yes
missing="PostgreSQL's programs (initdb, postgres, pg_ctl; 14 or newer) are missing"
sudo=
[ $root = yes ] || sudo='sudo '

if has apt-get; then
	remedy="${sudo}apt-get install postgresql"
	if [ $root = yes ]; then
		say "$missing: installing the package postgresql with apt-get, without a server on port 5432"
		install_debian
	fi
elif has dnf; then
	remedy="${sudo}dnf install postgresql-server"
	if [ $root = yes ]; then
		say "$missing: installing the package postgresql-server with dnf"
		dnf -q -y install postgresql-server >&2
	fi
elif has apk; then
	remedy="${sudo}apk add postgresql"
	if [ $root = yes ]; then
		say "$missing: installing the package postgresql with apk"
		apk add -q postgresql >&2
	fi
elif has brew; then
	remedy='brew install postgresql@17'
	if [ $root = no ]; then # Homebrew refuses root
		say "$missing: installing the formula postgresql@17 with brew"
		brew install -q postgresql@17 >&2
	fi
else
	remedy='apt-get install postgresql (as root, or what your system has for it)'
fi

found && exit 0
say "$missing: type: $remedy"
exit 69
